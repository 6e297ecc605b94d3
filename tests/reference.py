"""docs/parsing.md a second time: from a payload to symbols, in plain integers.

It shares no code with the package, so one of the tests that compare both fails wherever document and program differ.
"""

import hashlib
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

DOCUMENT = Path(__file__).parent.parent / "docs" / "parsing.md"
CONSTANTS = {
    name: int(value)
    for name, value in re.findall(r"^\| ([A-Z_]+) \| (\d+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
}
FIRST_SCALE, STEP, LANE = (CONSTANTS[name] for name in ("FIRST_SCALE", "STEP", "LANE"))

TOP = 2**19 - 1  # the largest activation
LATENT = 2**25  # limit of means and of what is decoded
POSITIONS = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))  # of each channel group in each step

Array = NDArray[np.int64]
Entries = dict[str, NDArray[Any]]
Area = tuple[slice, slice, slice]
Read = Callable[[list[Area], Array, Array], Array]  # areas of a step, mean, scale index → values, [M, h, w] each


class Unreadable(Exception):
    """A payload that a reader must refuse, according to the document."""


def refuse(why: str) -> NoReturn:
    raise Unreadable(why)


def parse_id(entries: Entries, *prefixes: str) -> bytes:
    """The id over the tensors of a weights file whose names have these prefixes."""
    digest = hashlib.sha256(b"ldcodec-weights-1")
    for name in sorted(name for name in entries if name.startswith(prefixes)):
        array = entries[name]
        digest.update(f"{name} torch.{array.dtype} {array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:8]


def entries_of(identity: bytes, entries: Entries) -> Entries:
    """The tensors that say how files with this parse id are parsed."""
    kinds = ("integer.", "coder.", "trellis.", "neighbours.")
    known = next(kinds[:count] for count in (4, 3, 2) if parse_id(entries, *kinds[:count]) == identity)
    return {name: array for name, array in entries.items() if name.startswith(known)}


class Networks:
    """Features and steps; entries: the tensors `integer.*`, named without that prefix.

    floats: those of the steps of a one-shot model, named as `0.mix.weight`.
    """

    def __init__(self, entries: Entries, floats: Entries | None = None) -> None:
        self.entries = {name: np.asarray(array, np.int64) for name, array in entries.items()}
        self.floats = {name: np.asarray(array, np.float64) for name, array in (floats or {}).items()}
        self.one_shot = "scale.weight" in entries

    def layer(self, name: str, x: Array) -> Array:
        weight, bias, shift = (self.entries[f"{name}.{part}"] for part in ("weight", "bias", "shift"))
        return np.floor_divide(correlated(weight, x) + bias[:, None, None], 2 ** int(shift))

    def in_floats(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        return correlated(self.floats[f"{name}.weight"], x) + self.floats[f"{name}.bias"][:, None, None]

    def hidden(self, name: str, x: Array) -> Array:
        y = self.layer(name, x)
        return np.clip(np.maximum(y, y >> 3), -TOP, TOP)

    def row(self, table: str, index: int) -> Array:
        return interpolated(self.entries[f"table.{table}"], index)[:, None, None]

    def features(self, hyper: Array, index: int) -> Array:
        x = hyper * self.row("unscale", index) if self.one_shot else hyper
        x = doubled(self.hidden("hyper.0", np.clip(x, -TOP, TOP)))
        x = self.hidden("hyper.2", doubled(self.hidden("hyper.1", x)))
        return np.clip((x * self.row("factor", index)) >> 10, -TOP, TOP)

    def priors(self, hyper: Array, index: int, read: Read) -> tuple[Array, Array]:
        """Mean and scale index of every element, [M, h, w]; read: gives the values v of each step's areas."""
        features = self.features(hyper, index)
        shape = len(self.row("floor", index)), *features.shape[1:]
        decoded, mean, scale = (np.zeros(shape, np.int64) for _ in range(3))
        for step, positions in enumerate(POSITIONS):
            heads = self.one_shot_heads if self.one_shot else self.heads
            means, scales = heads(step, features, decoded, index)
            here = areas(shape[0], positions)
            for area in here:
                mean[area], scale[area] = means[area], scales[area]
            values = read(here, mean, scale)
            for area in here:
                decoded[area] = np.clip(values[area] + means[area], -LATENT, LATENT)
        return mean, scale

    def heads(self, step: int, features: Array, decoded: Array, index: int) -> tuple[Array, Array]:
        """Means and scale indices that a step says of all elements."""
        ratio = np.clip((decoded * self.row("reciprocal", index)) >> 11, -TOP, TOP)
        x = self.hidden(f"steps.{step}.mix", np.concatenate([features, ratio]) if step else features)
        x = self.hidden(f"steps.{step}.spatial", x)
        mean, scale = (np.clip(self.layer(f"steps.{step}.{head}", x), -(2**23), 2**23) for head in ("mean", "scale"))
        means = np.clip((mean * self.row("floor", index)) >> 15, -LATENT, LATENT)
        return means, np.clip((scale + self.row("log_expected", index)) >> 8, 0, 63)

    def one_shot_heads(self, step: int, features: Array, decoded: Array, index: int) -> tuple[Array, Array]:
        """The same in a one-shot model, where scales come from the features alone and means from floats."""
        scale = np.clip(self.layer("scale", features), -(2**23), 2**23)
        deviation = self.row("floor", index) / 2**10
        x: NDArray[Any] = np.concatenate([features / 2**12, decoded / 2**9 / deviation]) if step else features / 2**12
        for part in ("mix", "spatial"):
            x = self.in_floats(f"{step}.{part}", x)
            x = np.maximum(x, x / 8)
        means = np.rint(0.3 * self.in_floats(f"{step}.head", x) * deviation * 2**9)
        scales = np.clip((scale + self.row("log_expected", index)) >> 8, 0, 63)
        return np.clip(means, -LATENT, LATENT).astype(np.int64), scales


def correlated(weight: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """[n, m, k, k] and [m, h, w] → [n, h, w], with zero padding."""
    size, (height, width) = weight.shape[2], x.shape[1:]
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    total = np.zeros((len(weight), height, width), x.dtype)
    for row in range(size):
        for column in range(size):
            window = padded[:, row : row + height, column : column + width]
            total += np.tensordot(weight[:, :, row, column], window, 1)
    return total


def doubled(x: Array) -> Array:
    """[4n, h, w] → [n, 2h, 2w]: channel 4c + 2i + j becomes row i, column j of every cell of channel c."""
    out = np.zeros((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]), np.int64)
    for i in range(2):
        for j in range(2):
            out[:, i::2, j::2] = x[2 * i + j :: 4]
    return out


def areas(channels: int, positions: tuple[int, ...]) -> list[Area]:
    size = channels // 4
    return [
        (slice(group * size, (group + 1) * size), slice(p // 2, None, 2), slice(p % 2, None, 2))
        for group, p in enumerate(positions)
    ]


class Words:
    """The words of a payload, and the symbols that the range coder makes of them."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            refuse("no whole words")
        self.words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
        self.low, self.range, self.taken = 0, 2**64 - 1, 0
        self.point = self.next() << 32
        self.point |= self.next()

    def next(self) -> int:
        self.taken += 1
        return self.words[self.taken - 1] if self.taken <= len(self.words) else 0

    def entry(self, ends: list[int]) -> int:
        """A symbol of a table, whose counts end at these numbers."""
        unit = self.range >> 24
        found = (self.point - self.low) % 2**64 // unit
        if found >= 2**24:
            refuse("no symbol")
        entry = bisect_right(ends, found)
        begin = ends[entry - 1] if entry else 0
        self.low, self.range = (self.low + unit * begin) % 2**64, unit * (ends[entry] - begin)
        if self.range < 2**32:
            self.low, self.range = (self.low << 32) % 2**64, self.range << 32
            self.point = (self.point << 32) % 2**64 | self.next()
        return entry

    def finish(self) -> None:
        if self.taken < len(self.words) or (self.point - self.low) % 2**64 >= 2**33 - 1:
            refuse("more than the symbols")

    def bit(self) -> int:
        return self.entry([2**23, 2**24])

    def escaped(self, reach: int) -> int:
        zeros = 0
        while not self.bit():
            zeros = zeros + 1 if zeros < 15 else refuse("an escape too long")
        value = 1
        for _ in range(zeros):
            value = 2 * value + self.bit()
        if value + reach > 32767:
            refuse("a symbol too large")
        return -(value + reach) if self.bit() else value + reach

    def listed(self, tables: list[list[int]], numbers: list[int]) -> list[int]:
        """A list of symbols, given the table number of each."""
        order = sorted(range(len(numbers)), key=lambda place: numbers[place])
        found = [0] * len(numbers)
        for place in order:
            found[place] = self.entry(tables[numbers[place]]) - reach_of(tables[numbers[place]])
        for place in order:
            reach = reach_of(tables[numbers[place]])
            if found[place] > reach:
                found[place] = self.escaped(reach)
        return found


def reach_of(ends: list[int]) -> int:
    return len(ends) // 2 - 1


def mirrored(counts: NDArray[Any], reach: NDArray[Any]) -> Iterator[list[int]]:
    """Where the counts of each table end, from those of 0, 1 … K and of the escape symbol."""
    stored, start = counts.tolist(), 0
    for size in reach.tolist():
        half = stored[start : start + size + 2]
        start += size + 2
        yield list(accumulate([*half[size:0:-1], *half]))


def lanes_of(count: int) -> list[range]:
    """The places of each lane in a list of elements."""
    number = -(-count // LANE)
    length = -(-count // number) if number else 0
    return [range(lane * length, min((lane + 1) * length, count)) for lane in range(number)]


def state_after(state: int, symbol: int) -> int:
    flipped = CONSTANTS["QUANTISER_TAPS"] if state & 1 else 0
    return (state >> 1) ^ flipped ^ (CONSTANTS["PARITY_TAPS"] if symbol % 2 else 0)


def value_of(symbol: int, quantiser: int | None) -> int:
    """v(s) in units of 2⁻⁹ step; quantiser: of the trellis, or None for the scalar one."""
    if quantiser is None:
        return 512 * symbol
    sign = (symbol > 0) - (symbol < 0)
    return 2 * symbol * STEP if quantiser == 0 else (2 * symbol - sign) * STEP


@dataclass(frozen=True)
class Found:
    """A slice: symbols of the hyper-latent [hyper, h/4, w/4], symbols, means and scale indices [M, h, w]."""

    hyper: Array
    symbols: Array
    mean: Array
    index: Array

    @property
    def stored(self) -> bytes:
        """What the symbols' CRC runs over."""
        return self.hyper.astype("<i2").tobytes() + self.symbols.astype("<i2").tobytes()


class Parser:
    """What parses the files with one parse id, from its tensors of a weights file; floats: see `Networks`."""

    def __init__(self, entries: Entries, floats: Entries | None = None) -> None:
        self.entries = entries
        self.networks = Networks(
            {name.removeprefix("integer."): array for name, array in entries.items() if name.startswith("integer.")},
            floats,
        )
        self.tables = list(mirrored(entries["coder.counts"], entries["coder.reach"]))
        self.predicted = "neighbours.counts" in entries
        own = "neighbours.counts" if self.predicted else "coder.hyper_counts"
        self.tables += [list(accumulate(row)) for row in entries[own].tolist()] if own in entries else []
        none = np.zeros(0, np.int32)
        counts, reach, odd = (entries.get(f"trellis.{name}", none) for name in ("counts", "reach", "odd"))
        self.halves, self.odd = list(mirrored(counts, reach)), odd.tolist()

    def parse(
        self, payload: bytes, quality: int, size: tuple[int, int], coded: tuple[int, int], trellis: bool
    ) -> Found:
        """Parse a slice. size: latent rows and columns; coded: those of them that hold symbols."""
        words = Words(payload)
        hyper = self.hyper_latent(words, quality, (size[0] // 4, size[1] // 4))
        channels = len(self.networks.row("floor", quality))
        symbols, values = (np.zeros((channels, *size), np.int64) for _ in range(2))

        def read(here: list[Area], mean: Array, scale: Array) -> Array:
            inside = np.zeros(symbols.shape, bool)
            inside[:, : coded[0], : coded[1]] = True
            numbers = np.arange(symbols.size).reshape(symbols.shape)
            places = [place for area in here for place in numbers[area][inside[area]].tolist()]
            found = self.step(words, scale.flat[places].tolist(), trellis)
            symbols.flat[places] = [symbol for symbol, _ in found]
            values.flat[places] = [value for _, value in found]
            return values

        mean, index = self.networks.priors(hyper, quality, read)
        words.finish()
        return Found(hyper, symbols, mean, index)

    def hyper_latent(self, words: Words, quality: int, size: tuple[int, int]) -> Array:
        (height, width), channels = size, len(self.entries["integer.z_index"])
        found = np.zeros((channels, height, width), np.int64)
        if self.predicted:
            return self.from_neighbours(words, quality, found)
        if "coder.hyper_choice" not in self.entries:
            numbers = [int(number) for number in self.entries["integer.z_index"] for _ in range(height * width)]
            found.flat[:] = words.listed(self.tables, numbers)
            return found
        choice = self.entries["coder.hyper_choice"]
        band = quality * len(choice) // 4096
        for diagonal in range(height + width - 1):
            rows = [row for row in range(height) if 0 <= diagonal - row < width]
            places = [(channel, row, diagonal - row) for channel in range(channels) for row in rows]
            numbers = [int(choice[band, place[0], context(found, place)]) for place in places]
            for place, symbol in zip(places, words.listed(self.tables, numbers), strict=True):
                found[place] = symbol
        return found

    def from_neighbours(self, words: Words, quality: int, found: Array) -> Array:
        """The hyper-latent of a model with `neighbours.*`, given zeros of its shape."""
        channels, height, width = found.shape
        for diagonal in range(height + width - 1):
            rows = [row for row in range(height) if 0 <= diagonal - row < width]
            for group in range(4):
                own = [channel for channel in range(channels) if 4 * channel // channels == group]
                places = [(channel, row, diagonal - row) for channel in own for row in rows]
                guesses = {row: self.guess(found, row, diagonal - row, own, quality) for row in rows}
                pairs = [guesses[row][channel] for channel, row, _ in places]
                differences = words.listed(self.tables, [number for _, number in pairs])
                for place, (whole_mean, _), difference in zip(places, pairs, differences, strict=True):
                    found[place] = whole_mean + difference
                    if abs(found[place]) > 32767:
                        refuse("a symbol too large")
        return found

    def guess(self, found: Array, row: int, column: int, own: list[int], quality: int) -> dict[int, tuple[int, int]]:
        """The whole mean and the table number of each of a group's channels at a position."""
        entries = {
            name.removeprefix("neighbours."): np.asarray(array, np.int64)
            for name, array in self.entries.items()
            if name.startswith("neighbours.")
        }
        seen = np.clip(found, -8, 8)
        zeros, channels = np.zeros(len(found), np.int64), len(found)
        left = seen[:, row, column - 1] if column else zeros
        above = seen[:, row - 1, column] if row else zeros
        here = np.where(np.arange(channels) < min(own, default=0), seen[:, row, column], 0)
        hidden = entries["near"] @ np.concatenate([left, above, abs(left), abs(above)])
        hidden += entries["here"] @ np.concatenate([here, abs(here)]) + interpolated(entries["quality"], quality)
        hidden = np.clip(np.maximum(hidden, hidden >> 3), -TOP, TOP)
        out = (entries["weight"] @ hidden + entries["bias"]) >> int(entries["shift"])
        guesses = {}
        for channel in own:
            mean = max(-128, min(128, int(out[channel])))
            scale = max(int(entries["floor"][channel]), min(23, int(out[channels + channel])))
            whole_mean = (mean + 4) >> 3
            guesses[channel] = whole_mean, 64 + 24 * (mean + 4 - 8 * whole_mean) + scale
        return guesses

    def step(self, words: Words, scales: list[int], trellis: bool) -> list[tuple[int, int]]:
        """Symbol and value of each coded element of a step, given their scale indices."""
        found = [(0, 0)] * len(scales)
        chosen = [place for place, scale in enumerate(scales) if trellis and scale >= FIRST_SCALE]
        plain = [place for place in range(len(scales)) if scales[place] >= 2 and place not in set(chosen)]
        for place, symbol in zip(plain, words.listed(self.tables, [scales[place] for place in plain]), strict=True):
            found[place] = symbol, value_of(symbol, None)
        for place, pair in zip(chosen, self.path(words, [scales[place] for place in chosen]), strict=True):
            found[place] = pair
        return found

    def path(self, words: Words, scales: list[int]) -> list[tuple[int, int]]:
        """The same for the elements with a trellis."""
        lanes, count = lanes_of(len(scales)), len(scales)
        states, quantisers, parities = [0] * len(lanes), [0] * count, [0] * count
        for position in range(len(lanes[0]) if lanes else 0):
            for lane, places in enumerate(lanes):
                if position < len(places):
                    place, quantiser = places[position], states[lane] & 1
                    even = 2**24 - self.odd[scales[place] - FIRST_SCALE][quantiser]
                    quantisers[place], parities[place] = quantiser, words.entry([even, 2**24])
                    states[lane] = state_after(states[lane], parities[place])
        numbers = [
            4 * (scale - FIRST_SCALE) + 2 * quantiser + parity
            for scale, quantiser, parity in zip(scales, quantisers, parities, strict=True)
        ]
        halves = words.listed(self.halves, numbers)
        symbols = [whole(half, parity) for half, parity in zip(halves, parities, strict=True)]
        return [(symbol, value_of(symbol, quantiser)) for symbol, quantiser in zip(symbols, quantisers, strict=True)]


def interpolated(table: Array, index: int) -> Array:
    """The row of a table at a quality index."""
    knot, rest = divmod(index * 64, 4095)
    pairs = zip(table[knot].tolist(), table[min(knot + 1, 64)].tolist(), strict=True)
    return np.array([(a * (4095 - rest) + b * rest) // 4095 for a, b in pairs])


def context(symbols: Array, place: tuple[int, int, int]) -> int:
    """The context of a symbol of the hyper-latent, 0 … 8."""
    channel, row, column = place
    left = symbols[channel, row, column - 1] if column else 0
    above = symbols[channel, row - 1, column] if row else 0
    near = max(-3, min(3, int(left))) + max(-3, min(3, int(above)))
    return max(-4, min(4, near)) + 4


def whole(half: int, parity: int) -> int:
    """The symbol of a half."""
    magnitude = 2 * abs(half) - parity
    if magnitude < 0 or magnitude > 32767:
        refuse("no symbol has this half")
    return magnitude if half > 0 else -magnitude

"""The rate model in integers, by which a file yields the same symbols on every machine (docs/parsing.md).

All values are whole numbers in float64, which represents every integer below 2⁵³. A matrix product whose sums stay
below that is exact in any order of summation, and so with any BLAS, thread count, instruction set or device. Each layer
checks its bound when it is built. (Split float32 products were slower, see docs/experiments.md.)

The same steps run in PyTorch and in NumPy alone, on the arrays of an `Arithmetic`.

Fixed point (value = integer × unit):

    activations, |x| < 2¹⁹          2⁻¹²         weights, 16 bits          2⁻¹² (or coarser where a layer needs it)
    mean from a head                2⁻¹⁴         scale index from a head   2⁻⁸ of an index
    latent: mean, symbol + mean     2⁻⁹ step     expected deviation        2⁻¹⁰, its reciprocal 2⁻¹⁴
                                                 quality factors           2⁻¹⁰

In a one-shot model the features name the scales of all elements at once, and so all tables. The context steps then add
means alone, which no symbol that is read depends on: any floats will do, rounded to the units above.

Shifts round down; export adds half a unit to the bias, so that a layer's output is rounded. Units must be fine all the
same: activations in units of 2⁻⁸ cost one percent of the bits at low rates; with these the integers predict as well as
the floats.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.entropy.arithmetic import Arithmetic, Array
from ldcodec.entropy.config import Config
from ldcodec.entropy.tables import SCALE_COUNT
from ldcodec.entropy.trellis import UNIT_BITS, Quantised, reconstructed
from ldcodec.errors import ModelError

# ORDER[k][j]: the position that channel group j decodes in step k, 0..3 in reading order within each 2×2 cell. Every
# step thus decodes one group at each position (Li et al. 2023, section 3.3).
ORDER = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))
ACTIVATION_BITS = 12  # fractional bits, here and in the next two lines
MEAN_BITS, INDEX_BITS, LATENT_BITS = 14, 8, UNIT_BITS
FLOOR_BITS, RECIPROCAL_BITS, FACTOR_BITS = 10, 14, 10
FINENESS_BITS = 10  # of what undoes the fineness of the hyper-latent
LIMIT = 2**19 - 1  # clamp of activations
HEAD_LIMIT = 2**23  # clamp of head outputs
LATENT_LIMIT = 2**25  # clamp of mean and symbol + mean, in units of 2⁻⁹ step
EXACT = 2**53
TABLE_LIMIT = 2**27  # of quality table entries: exact even times LATENT_LIMIT, the largest value they multiply
KNOTS = 65  # of the tables over the quality


def at_quality(table: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    """Interpolate a table over the quality, [65, n], at an index in 0..4095: [n], rounded down."""
    knot, rest = divmod(index * (KNOTS - 1), TOP_INDEX)
    following = table[min(knot + 1, KNOTS - 1)]  # index 4095 is the last knot, with a rest of 0
    row: NDArray[np.int64] = (table[knot] * (TOP_INDEX - rest) + following * rest) // TOP_INDEX
    return row


class Layer:
    """One integer layer: out = ⌊(W∗x + b) / 2^shift⌋ with W [n, m, k, k], k = 1 or 3.

    Computed as one matrix product per tap. conv2d will not do: its backends may choose Winograd or FFT algorithms,
    which are not exact.
    """

    def __init__(self, name: str, weight: NDArray[Any], bias: NDArray[Any], shift: int, arithmetic: Arithmetic) -> None:
        """Raise ModelError if a sum could leave the exact range."""
        largest = np.abs(weight.astype(np.int64)).sum((1, 2, 3)) * float(LIMIT)
        bound = largest + np.abs(bias.astype(np.float64))  # of partial sums as well
        if not 0 <= shift <= 30 or bound.max() >= EXACT:
            raise ModelError(f"integer layer {name}: its sums are not exact in float64")
        self._arithmetic, self.shift, self.size = arithmetic, shift, weight.shape[2]
        self.bias = arithmetic.array(bias[:, None])
        self.taps = [arithmetic.matrix(tap) for tap in weight.transpose(2, 3, 0, 1).reshape(-1, *weight.shape[:2])]

    def __call__(self, x: Array) -> Array:
        """Apply to whole numbers [m, h, w], |x| ≤ LIMIT: → [n, h, w], a new array, not clamped."""
        height, width = x.shape[1:]
        if self.size == 3:
            x = self._arithmetic.padded(x)
        # Rows keep their padding, so the input of each tap is a contiguous run of the flattened planes and nothing is
        # copied. The outputs at the padding's columns are nonsense and cut off at the end; the run of the last tap
        # ends in the extra row at the bottom.
        stride, flat = x.shape[2], x.reshape(len(x), -1)
        total = self._arithmetic.zeros(len(self.bias), height * stride)
        total += self.bias
        offsets = (number // self.size * stride + number % self.size for number in range(len(self.taps)))
        runs = (flat[:, offset : offset + height * stride] for offset in offsets)
        self._arithmetic.summed(total, zip(self.taps, runs, strict=True))
        total *= 2.0**-self.shift  # exact: a power of two only changes the exponent
        return self._arithmetic.floored(total).reshape(-1, height, stride)[:, :, :width]


def table_widths(config: Config) -> dict[str, int]:
    """The tables over the quality and their widths."""
    widths = {"factor": config.context, "floor": config.latent, "log_expected": config.latent}
    return widths | ({"unscale": config.hyper} if config.one_shot else {"reciprocal": config.latent})


@lru_cache
def is_exact(arithmetic: Arithmetic) -> bool:
    """Whether an arithmetic multiplies float64 matrices exactly, by one product that NumPy's integers check.

    Integer products are slow, so both sides are multiplied by a vector (Freivalds 1979, "Fast probabilistic
    algorithms"). They wrap around at 2⁶⁴, the same on both sides.
    """
    left, right, vector = _scattered(64, 1728), _scattered(1728, 320), _scattered(320, 1)
    left[0], right[:, 0] = LIMIT, LIMIT  # the largest possible sum
    with arithmetic.exact():
        total = arithmetic.summed(arithmetic.zeros(64, 320), [(arithmetic.matrix(left), arithmetic.array(right))])
    return bool((arithmetic.numbers(total, np.int64) @ vector == left @ (right @ vector)).all())


def _scattered(*shape: int) -> NDArray[np.int64]:
    """Whole numbers in ±LIMIT without a visible order. To import `numpy.random` takes longer than the whole test."""
    k = np.arange(math.prod(shape), dtype=np.int64)
    scattered: NDArray[np.int64] = k * k * 2_654_435_761 % (2 * LIMIT + 1) - LIMIT
    return scattered.reshape(shape)


@dataclass(frozen=True)
class Prior:
    """The prior of the elements of one context step: mean (int32, in units of 2⁻⁹ quantisation step) and scale index
    (uint8), each [n], and the elements' positions in the flattened latent.
    """

    mean: NDArray[np.int32]
    index: NDArray[np.uint8]
    places: NDArray[np.intp]


@dataclass(frozen=True)
class Parsed:
    """A parsed latent, each [M, h, w]: symbols (int32), means (int32, 2⁻⁹ step), scale indices (uint8) and the kind of
    quantiser (uint8, see `entropy.trellis`).
    """

    symbols: NDArray[np.int32]
    mean: NDArray[np.int32]
    index: NDArray[np.uint8]
    kind: NDArray[np.uint8]


CodeSymbols = Callable[[Prior], Quantised]

# A context step of a one-shot model: its number, the features [ctx, h, w] and the latent decoded so far over its
# expected deviation [M, h, w] → means over that deviation, [M, h/2, w/2], of channel group j at ORDER[step][j].
MeanStep = Callable[[int, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
_Priors = list[tuple[tuple[slice, slice, slice], Array, Array]]  # area, means and scale indices of each channel group


class IntegerRateModel:
    """The integer hyper synthesis, context steps and quality tables of one model."""

    def __init__(
        self, config: Config, tensors: dict[str, NDArray[Any]], arithmetic: Arithmetic, means: MeanStep | None = None
    ) -> None:
        """Build the layers from the tensors `integer.*` of a weights file, named without that prefix.

        means: the context steps of a one-shot model. Raises ModelError if the weights or the arithmetic are not exact.
        """
        if not is_exact(arithmetic):
            raise ModelError(
                f"{arithmetic.name} does not multiply float64 matrices exactly; no file could be parsed with it"
            )
        self.config, self.arithmetic, self._means = config, arithmetic, means
        self._tensors = tensors
        self.hyper = [self._layer(f"hyper.{k}") for k in range(3)]
        if config.one_shot:
            self.scale = self._layer("scale")
        else:
            self.steps = [[self._layer(f"steps.{k}.{part}") for part in ("mix", "spatial")] for k in range(4)]
            self.heads = [self._heads(k) for k in range(4)]
        self.tables = {name: tensors[f"table.{name}"].astype(np.int64) for name in table_widths(config)}
        if any(np.abs(table).max() >= TABLE_LIMIT for table in self.tables.values()):
            raise ModelError("integer tables: their products are not exact in float64")
        self.z_index = tensors["z_index"].astype(np.uint8)
        if self.z_index.max() >= SCALE_COUNT:
            raise ModelError("scale index of the hyper-latent out of range")
        del self._tensors  # the layers hold copies

    def _layer(self, name: str, rows: slice = slice(None)) -> Layer:
        weight, bias = self._tensors[f"{name}.weight"][rows], self._tensors[f"{name}.bias"][rows]
        return Layer(name, weight, bias, int(self._tensors[f"{name}.shift"]), self.arithmetic)

    def _heads(self, step: int) -> list[tuple[Layer, Layer]]:
        """Mean and scale layers of each channel group, separate because a step needs one group at each position."""
        size = self.config.latent // 4
        groups = [slice(group * size, (group + 1) * size) for group in range(4)]
        return [(self._layer(f"steps.{step}.mean", g), self._layer(f"steps.{step}.scale", g)) for g in groups]

    def features(self, symbols: NDArray[np.int32], quality: int) -> Array:
        """Hyper synthesis: hyper-latent symbols [hyper, h/4, w/4] at a quality index → features [ctx, h, w]."""
        x = self.arithmetic.array(symbols)
        if self.config.one_shot:
            x *= self.arithmetic.array(at_quality(self.tables["unscale"], quality)[:, None, None])
        x = self.arithmetic.limited(x, -LIMIT, LIMIT)
        for k, layer in enumerate(self.hyper):
            x = self._activated(layer(x))
            x = self.arithmetic.doubled(x) if k < 2 else x
        x *= self.arithmetic.array(at_quality(self.tables["factor"], quality)[:, None, None])
        return self.shifted(x, FACTOR_BITS, LIMIT)

    def parse(
        self, hyper_symbols: NDArray[np.int32], quality: int, coded: tuple[int, int], code: CodeSymbols
    ) -> Parsed:
        """Run the four context steps and return the latent [M, h, w].

        hyper_symbols: [hyper, h/4, w/4]; quality: the index; coded: how many rows and columns hold symbols.
        code: takes the prior of a step's elements and returns their symbols: an encoder chooses and writes them, a
        decoder reads them. Symbols outside the coded area are zero and never requested.
        """
        with self.arithmetic.exact():
            features = self.features(hyper_symbols, quality)
            state = _State(self, features.shape[1:], quality, coded)
            priors = self._in_floats(features, state) if self.config.one_shot else self._in_integers(features, state)
            for step in priors:
                state.take(step, code)
            return state.parsed()

    def _in_integers(self, features: Array, state: "_State") -> Iterator[_Priors]:
        """Means and scales of one context step after the other; each step reads what was decoded before."""
        for step in range(4):
            hidden, priors = self._hidden(step, features, state), []
            for group, (mean_head, scale_head) in enumerate(self.heads[step]):
                channels, rows, columns = area = state.area(step, group)
                positions = hidden[:, rows, columns]
                mean = state.mean_of(mean_head(positions), channels)
                priors.append((area, mean, state.index_of(scale_head(positions), channels)))
            yield priors

    def _in_floats(self, features: Array, state: "_State") -> Iterator[_Priors]:
        """The same for a one-shot model: all scales at once, and means by the context steps in floats."""
        if self._means is None:
            raise ModelError("a one-shot model needs its context steps")
        index = state.index_of(self.scale(features), slice(None))
        known = _floats(self.arithmetic.numbers(features, np.int32), ACTIVATION_BITS)
        for step in range(4):
            means = state.whole(self._means(step, known, state.ratio()))
            areas = [state.area(step, group) for group in range(4)]
            yield [(area, means[area[0]], index[area]) for area in areas]

    def _hidden(self, step: int, features: Array, state: "_State") -> Array:
        mix, spatial = self.steps[step]
        mixed = mix(state.appended_to(features) if step else features)
        return self._activated(spatial(self._activated(mixed)))

    def _activated(self, x: Array) -> Array:
        """LeakyReLU with slope 1/8, rounded down, then clamped to ±LIMIT; in place."""
        rest = self.arithmetic.floored(x * 2.0**-3)
        return self.arithmetic.limited(self.arithmetic.larger(x, rest), -LIMIT, LIMIT)

    def shifted(self, x: Array, bits: int, limit: float) -> Array:
        """⌊x / 2^bits⌋ clamped to ±limit; in place, and exact as in `Layer`."""
        x *= 2.0**-bits
        return self.arithmetic.limited(self.arithmetic.floored(x), -limit, limit)


class _State:
    """The latent decoded so far, while the context steps run."""

    def __init__(self, model: IntegerRateModel, size: tuple[int, int], quality: int, coded: tuple[int, int]) -> None:
        h, w = size
        self._model, self._arithmetic, self.coded, channels = model, model.arithmetic, coded, model.config.latent
        rows = {name: at_quality(table, quality)[:, None, None] for name, table in model.tables.items()}
        self._deviation = _floats(rows["floor"], FLOOR_BITS)
        self.floor, self.log_expected = (model.arithmetic.array(rows[name]) for name in ("floor", "log_expected"))
        self.reciprocal = None if model.config.one_shot else model.arithmetic.array(rows["reciprocal"])
        self.decoded = model.arithmetic.zeros(channels, h, w)
        self.symbols, self.mean = np.zeros((channels, h, w), np.int32), np.zeros((channels, h, w), np.int32)
        self.index, self.kind = np.zeros((channels, h, w), np.uint8), np.zeros((channels, h, w), np.uint8)

    def appended_to(self, features: Array) -> Array:
        """Append the decoded latent, divided by its expected deviation, to the features: [ctx + M, h, w]."""
        both = self._arithmetic.zeros(len(features) + len(self.decoded), *features.shape[1:])
        both[: len(features)] = features
        ratio = both[len(features) :]  # a view: this is the largest array of a step, so nothing is copied
        ratio += self.decoded
        ratio *= self.reciprocal
        self._model.shifted(ratio, LATENT_BITS + RECIPROCAL_BITS - ACTIVATION_BITS, LIMIT)
        return both

    def ratio(self) -> NDArray[np.float32]:
        """The decoded latent over its expected deviation, [M, h, w]."""
        return _floats(self._arithmetic.numbers(self.decoded, np.int32), LATENT_BITS) / self._deviation

    def whole(self, means: NDArray[np.float32]) -> Array:
        """Means over the expected deviation, [M, ...], in units of 2⁻⁹ step. What is no number counts as 0."""
        units = np.rint(np.nan_to_num(means * self._deviation) * np.float32(2.0**LATENT_BITS))
        return self._arithmetic.array(np.clip(units, -LATENT_LIMIT, LATENT_LIMIT))

    def area(self, step: int, group: int) -> tuple[slice, slice, slice]:
        """What a step decodes of a channel group j: position ORDER[step][j] of every 2×2 cell."""
        size, position = self.decoded.shape[0] // 4, ORDER[step][group]
        return slice(group * size, (group + 1) * size), slice(position // 2, None, 2), slice(position % 2, None, 2)

    def mean_of(self, head: Array, channels: slice) -> Array:
        """The output of a head of means, of these channels, in units of 2⁻⁹ step."""
        product = self._arithmetic.limited(head, -HEAD_LIMIT, HEAD_LIMIT)
        product *= self.floor[channels]
        return self._model.shifted(product, MEAN_BITS + FLOOR_BITS - LATENT_BITS, LATENT_LIMIT)

    def index_of(self, head: Array, channels: slice) -> Array:
        """Scale indices from the output of a head."""
        total = self._arithmetic.limited(head, -HEAD_LIMIT, HEAD_LIMIT)
        total += self.log_expected[channels]
        total *= 2.0**-INDEX_BITS
        return self._arithmetic.limited(self._arithmetic.floored(total), 0, SCALE_COUNT - 1)

    def take(self, priors: _Priors, code: CodeSymbols) -> None:
        """Decode one step."""
        for area, mean, index in priors:
            self.mean[area] = self._arithmetic.numbers(mean, np.int32)
            self.index[area] = self._arithmetic.numbers(index, np.uint8)
        places = np.concatenate([self._places(area) for area, _, _ in priors])
        prior = Prior(self.mean.ravel()[places], self.index.ravel()[places], places)
        # The arrays are contiguous, so ravel is a view.
        self.symbols.ravel()[places], self.kind.ravel()[places] = code(prior)
        for area, mean, _ in priors:
            decoded = self._arithmetic.array(reconstructed(self.symbols[area], self.kind[area]))
            decoded += mean
            self.decoded[area] = self._arithmetic.limited(decoded, -LATENT_LIMIT, LATENT_LIMIT)

    def _places(self, area: tuple[slice, slice, slice]) -> NDArray[np.intp]:
        """Positions in the flattened latent of those elements of an area that hold symbols, in ascending order."""
        channels, h, w = self.symbols.shape
        planes, rows, columns = (np.arange(end)[part] for end, part in zip((channels, *self.coded), area, strict=True))
        return np.add.outer(np.add.outer(h * w * planes, w * rows), columns).ravel()

    def parsed(self) -> Parsed:
        return Parsed(self.symbols, self.mean, self.index, self.kind)


def _floats(whole: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """Whole numbers of so many fractional bits, as floats."""
    return whole.astype(np.float32) * np.float32(2.0**-bits)

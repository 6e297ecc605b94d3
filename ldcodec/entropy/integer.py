"""The rate model in integers: the same file gives the same symbols on every machine.

All numbers are whole numbers carried in float64, which holds every integer below 2⁵³. A matrix product whose largest
possible sum stays below that is exact in any order of summation, with any BLAS, thread count, instruction set or
device; each layer proves its bound at load.

The numbers live in arrays of an `Arithmetic`, so that the same steps run in PyTorch and in NumPy alone.

Fixed point (value = integer × unit):

    activations, |x| < 2¹⁹          2⁻¹²         weights, 16 bits          2⁻¹² (or coarser where a layer needs it)
    mean from a head                2⁻¹⁴         scale index from a head   2⁻⁸ of an index
    latent: mean, symbol + mean     2⁻⁹ step     expected deviation        2⁻¹⁰, its reciprocal 2⁻¹⁴
                                                 quality factors           2⁻¹⁰

Everything is rounded down, which shifts what follows by half a unit: activations of 2⁻⁸ moved bits by a percent at low
rates, with these units the integers predict what the floats do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.entropy.arithmetic import Arithmetic, Array
from ldcodec.entropy.config import Config
from ldcodec.entropy.tables import SCALE_COUNT
from ldcodec.errors import ModelError

# Position (0..3 in reading order of a 2×2 cell) that channel group j codes in step k: ORDER[k][j].
ORDER = ((0, 3, 1, 2), (3, 0, 2, 1), (1, 2, 0, 3), (2, 1, 3, 0))
ACTIVATION_BITS = 12  # fraction of activations
MEAN_BITS, INDEX_BITS, LATENT_BITS = 14, 8, 9
FLOOR_BITS, RECIPROCAL_BITS, FACTOR_BITS = 10, 14, 10
LIMIT = 2**19 - 1  # of |activation|
HEAD_LIMIT = 2**23  # of |head output|
LATENT_LIMIT = 2**25  # of |mean| and |symbol + mean|, in units of 2⁻⁹ step
EXACT = 2**53
TABLE_LIMIT = 2**27  # of |entry| of a table over the quality: times LATENT_LIMIT, the widest factor, it is exact
KNOTS = 65  # of every table over the quality


def at_quality(table: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    """Row of a table of 65 knots [65, n] at a quality index in 0..4095, by integer interpolation, rounded down."""
    knot, rest = divmod(index * (KNOTS - 1), TOP_INDEX)
    following = table[min(knot + 1, KNOTS - 1)]
    row: NDArray[np.int64] = (table[knot] * (TOP_INDEX - rest) + following * rest) // TOP_INDEX
    return row


class Layer:
    """One integer layer: out = ⌊(W·x + b) / 2^shift⌋, W [n, m, k, k] with k 1 or 3, as matrix products: never conv2d,
    whose backends may choose Winograd or FFT forms that are not exact."""

    def __init__(self, name: str, weight: NDArray[Any], bias: NDArray[Any], shift: int, arithmetic: Arithmetic) -> None:
        """Raises ModelError where a sum could leave the exact range."""
        wide = weight.astype(np.float64)
        bound = np.abs(wide).sum((1, 2, 3)) * LIMIT + np.abs(bias.astype(np.float64))
        if not 0 <= shift <= 30 or bound.max() >= EXACT:
            raise ModelError(f"integer layer {name}: its sums are not exact in float64")
        self._arithmetic, self.shift, self.size = arithmetic, shift, weight.shape[2]
        self.bias = arithmetic.array(bias[:, None])
        self.taps = [arithmetic.array(tap) for tap in wide.transpose(2, 3, 0, 1).reshape(-1, *weight.shape[:2])]

    def __call__(self, x: Array) -> Array:
        """x: [m, h, w] of whole numbers, |x| ≤ LIMIT → [n, h, w], not clamped, an array of its own."""
        height, width = x.shape[1:]
        if self.size == 3:  # rows keep their padding, so that every tap is one strided view of the same memory
            x = self._arithmetic.padded(x)
        stride, flat = x.shape[2], x.reshape(len(x), -1)
        total = self._arithmetic.zeros(len(self.bias), height * stride)
        total += self.bias
        for number, tap in enumerate(self.taps):
            offset = number // self.size * stride + number % self.size
            self._arithmetic.product(total, tap, flat[:, offset : offset + height * stride])
        total *= 2.0**-self.shift  # exact, because a power of two only moves the exponent
        return self._arithmetic.floored(total).reshape(-1, height, stride)[:, :, :width]


@lru_cache
def is_exact(arithmetic: Arithmetic) -> bool:
    """Whether it multiplies float64 matrices exactly: a product at the bound of any layer against exact integers.

    Every fifth column is compared, for the time that integers take: so all places within a block of columns are met.
    """
    rng = np.random.default_rng(0)
    left, right = rng.integers(-LIMIT, LIMIT + 1, (64, 1728)), rng.integers(-LIMIT, LIMIT + 1, (1728, 320))
    left[0], right[:, 0] = LIMIT, LIMIT
    with arithmetic.exact():
        total = arithmetic.product(arithmetic.zeros(64, 320), arithmetic.array(left), arithmetic.array(right))
    return bool((arithmetic.numbers(total, np.int64)[:, ::5] == left @ right[:, ::5]).all())


@dataclass(frozen=True)
class Prior:
    """What one context step tells of its elements: mean int32 in 2⁻⁹ steps and scale index uint8, both [n], and where
    they lie in the latent.
    """

    mean: NDArray[np.int32]
    index: NDArray[np.uint8]
    places: NDArray[np.intp]


@dataclass(frozen=True)
class Parsed:
    """A latent after the last step: symbols int32, means int32 (2⁻⁹ step) and scale indices uint8, each [M, h, w]."""

    symbols: NDArray[np.int32]
    mean: NDArray[np.int32]
    index: NDArray[np.uint8]


CodeSymbols = Callable[[Prior], NDArray[np.int32]]


class IntegerRateModel:
    """Hyper synthesis, context steps and quality tables of one model in integers, in one arithmetic."""

    def __init__(self, config: Config, tensors: dict[str, NDArray[Any]], arithmetic: Arithmetic) -> None:
        """tensors: the entries `integer.*` of a weights file without their prefix. Raises ModelError if they cannot
        be exact.
        """
        if not is_exact(arithmetic):
            raise ModelError(
                f"{arithmetic.name} does not multiply float64 matrices exactly; no file could be parsed with it"
            )
        self.config, self.arithmetic = config, arithmetic
        self._tensors = tensors
        self.hyper = [self._layer(f"hyper.{k}") for k in range(3)]
        self.steps = [[self._layer(f"steps.{k}.{part}") for part in ("mix", "spatial")] for k in range(4)]
        self.heads = [self._heads(k) for k in range(4)]
        names = ("factor", "floor", "reciprocal", "log_expected")
        self.tables = {name: tensors[f"table.{name}"].astype(np.int64) for name in names}
        if any(np.abs(table).max() >= TABLE_LIMIT for table in self.tables.values()):
            raise ModelError("integer tables: their products are not exact in float64")
        self.z_index = tensors["z_index"].astype(np.uint8)
        if self.z_index.max() >= SCALE_COUNT:
            raise ModelError("scale index of the hyper-latent out of range")
        del self._tensors

    def _layer(self, name: str, rows: slice = slice(None)) -> Layer:
        weight, bias = self._tensors[f"{name}.weight"][rows], self._tensors[f"{name}.bias"][rows]
        return Layer(name, weight, bias, int(self._tensors[f"{name}.shift"]), self.arithmetic)

    def _heads(self, step: int) -> list[tuple[Layer, Layer]]:
        """Mean and scale layers of each channel group; of one head's outputs a step uses only one group a position."""
        size = self.config.latent // 4
        groups = [slice(group * size, (group + 1) * size) for group in range(4)]
        return [(self._layer(f"steps.{step}.mean", g), self._layer(f"steps.{step}.scale", g)) for g in groups]

    def features(self, symbols: NDArray[np.int32], quality: int) -> Array:
        """Hyper-latent symbols [hyper, h/4, w/4], quality index → features [ctx, h, w]."""
        x = self.arithmetic.limited(self.arithmetic.array(symbols), -LIMIT, LIMIT)
        for k, layer in enumerate(self.hyper):
            x = self._activated(layer(x))
            x = self.arithmetic.doubled(x) if k < 2 else x
        x *= self.arithmetic.array(at_quality(self.tables["factor"], quality)[:, None, None])
        return self.shifted(x, FACTOR_BITS, LIMIT)

    def parse(
        self, hyper_symbols: NDArray[np.int32], quality: int, coded: tuple[int, int], code: CodeSymbols
    ) -> Parsed:
        """Runs the four steps. hyper_symbols: [hyper, h/4, w/4]; quality: index; coded: rows and columns that hold
        symbols.

        `code` gets the prior of each group of elements and returns their symbols: an encoder makes and writes them, a
        decoder reads them. Elements outside `coded` are zero and not asked for.
        """
        with self.arithmetic.exact():
            features = self.features(hyper_symbols, quality)
            state = _State(self, features.shape[1:], quality, coded)
            for step in range(4):
                state.fill(step, self._hidden(step, features, state), self.heads[step], code)
            return state.parsed()

    def _hidden(self, step: int, features: Array, state: "_State") -> Array:
        mix, spatial = self.steps[step]
        mixed = mix(state.beside(features) if step else features)
        return self._activated(spatial(self._activated(mixed)))

    def _activated(self, x: Array) -> Array:
        """LeakyReLU with slope 1/8, rounded down, then cut to ±LIMIT; into x, which nobody else needs."""
        rest = self.arithmetic.floored(x * 2.0**-3)
        return self.arithmetic.limited(self.arithmetic.larger(x, rest), -LIMIT, LIMIT)

    def shifted(self, x: Array, bits: int, limit: float) -> Array:
        """⌊x / 2^bits⌋ cut to ±limit, into x: exact, because a power of two only moves the exponent."""
        x *= 2.0**-bits
        return self.arithmetic.limited(self.arithmetic.floored(x), -limit, limit)


class _State:
    """What is decoded so far."""

    def __init__(self, model: IntegerRateModel, size: tuple[int, int], quality: int, coded: tuple[int, int]) -> None:
        h, w = size
        self._model, self._arithmetic, self.coded, channels = model, model.arithmetic, coded, model.config.latent
        rows = {
            name: model.arithmetic.array(at_quality(table, quality)[:, None, None])
            for name, table in model.tables.items()
            if name != "factor"
        }
        self.floor, self.reciprocal, self.log_expected = rows["floor"], rows["reciprocal"], rows["log_expected"]
        self.decoded = model.arithmetic.zeros(channels, h, w)
        self.symbols, self.mean = np.zeros((channels, h, w), np.int32), np.zeros((channels, h, w), np.int32)
        self.index = np.zeros((channels, h, w), np.uint8)

    def beside(self, features: Array) -> Array:
        """Features [ctx, h, w] and, below them, the decoded latent over its expected deviation as activations: [ctx +
        M, h, w], the largest thing that a step needs, made in place.
        """
        both = self._arithmetic.zeros(len(features) + len(self.decoded), *features.shape[1:])
        both[: len(features)] = features
        ratio = both[len(features) :]
        ratio += self.decoded
        ratio *= self.reciprocal
        self._model.shifted(ratio, LATENT_BITS + RECIPROCAL_BITS - ACTIVATION_BITS, LIMIT)
        return both

    def fill(self, step: int, hidden: Array, heads: list[tuple[Layer, Layer]], code: CodeSymbols) -> None:
        """Decodes the elements of one step: of channel group j the position ORDER[step][j] of every cell."""
        priors = []
        for group, (mean_head, scale_head) in enumerate(heads):
            area = self._area(group, ORDER[step][group])
            part = hidden[:, area[1], area[2]]
            mean = self._mean(mean_head(part), area[0])
            priors.append((area, mean, self._index(scale_head(part), area[0])))
        self._take(priors, code)

    def _area(self, group: int, position: int) -> tuple[slice, slice, slice]:
        size = self.decoded.shape[0] // 4
        return slice(group * size, (group + 1) * size), slice(position // 2, None, 2), slice(position % 2, None, 2)

    def _mean(self, head: Array, channels: slice) -> Array:
        product = self._arithmetic.limited(head, -HEAD_LIMIT, HEAD_LIMIT)
        product *= self.floor[channels]
        return self._model.shifted(product, MEAN_BITS + FLOOR_BITS - LATENT_BITS, LATENT_LIMIT)

    def _index(self, head: Array, channels: slice) -> Array:
        total = self._arithmetic.limited(head, -HEAD_LIMIT, HEAD_LIMIT)
        total += self.log_expected[channels]
        total *= 2.0**-INDEX_BITS
        return self._arithmetic.limited(self._arithmetic.floored(total), 0, SCALE_COUNT - 1)

    def _take(self, priors: list[tuple[tuple[slice, slice, slice], Array, Array]], code: CodeSymbols) -> None:
        for area, mean, index in priors:
            self.mean[area] = self._arithmetic.numbers(mean, np.int32)
            self.index[area] = self._arithmetic.numbers(index, np.uint8)
        places = np.concatenate([self._places(area) for area, _, _ in priors])
        prior = Prior(self.mean.ravel()[places], self.index.ravel()[places], places)
        self.symbols.ravel()[places] = code(prior)  # all three are contiguous, so that ravel copies nothing
        for area, mean, _ in priors:
            decoded = self._arithmetic.array(self.symbols[area])
            decoded *= 2.0**LATENT_BITS
            decoded += mean
            self.decoded[area] = self._arithmetic.limited(decoded, -LATENT_LIMIT, LATENT_LIMIT)

    def _places(self, area: tuple[slice, slice, slice]) -> NDArray[np.intp]:
        """Where the elements of an area that hold symbols lie in the flat latent, in the latent's order."""
        channels, h, w = self.symbols.shape
        planes, rows, columns = (np.arange(end)[part] for end, part in zip((channels, *self.coded), area, strict=True))
        return np.add.outer(np.add.outer(h * w * planes, w * rows), columns).ravel()

    def parsed(self) -> Parsed:
        """What all steps gave."""
        return Parsed(self.symbols, self.mean, self.index)

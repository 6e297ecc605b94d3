"""Gaussian noise as a function of seed, step and absolute position: identical on every machine and for any tiling.

Philox4x32-10 maps the counter (column, row, channel group, step) to four 32-bit words, one for each channel of a group
of four, and the inverse normal distribution function maps each word to a number. Only integer arithmetic and the
correctly rounded IEEE operations + − × ÷ √ are used, one per array operation, so that no mathematical library and no
fused multiply-add can change a bit.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ldcodec.errors import UsageError

Words = NDArray[np.uint64]  # 32-bit numbers held in 64 bits, where a product of two fits
Floats = NDArray[np.float64]

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # these and the Weyl constants: Salmon et al. 2011, section 3.3
WEYL = (0x9E3779B9, 0xBB67AE85)
BLOCK = 16384  # counters computed at a time, so that the temporary arrays stay in the cache

# Wichura 1988, algorithm AS 241, PPND16: numerator and denominator, highest power first.
CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
ATANH = tuple(2 / n for n in range(23, 0, -2))  # log((1 + x)/(1 − x)) = x·Σ 2/n·xⁿ⁻¹ over odd n


def gaussian(seed: int, step: int, shape: tuple[int, int, int], top: int = 0, left: int = 0) -> NDArray[np.float32]:
    """Standard normal noise of one step: float32 [M, h, w] for a shape (M, h, w), |z| < 6.4.

    seed: 0 … 2⁶⁴ − 1; step, top, left: 0 … 2³² − 1. (top, left) is the absolute position of the first element: a crop
    of a large field equals the field generated at the crop's position.

    Raises UsageError for a seed that is out of range.
    """
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"the seed must be from 0 to 2^64 - 1, not {seed}")
    channels, height, width = shape
    field = np.empty((-(-channels // 4), 4, height, width), np.float32)  # four channels per counter
    key = seed & MASK, seed >> 32
    for groups in _blocks(len(field), height * width):
        columns = np.arange(left, left + width, dtype=np.uint64)
        rows = np.arange(top, top + height, dtype=np.uint64)[:, None]
        quads = np.arange(groups.start, groups.stop, dtype=np.uint64)[:, None, None]
        counter = np.broadcast_arrays(columns, rows, quads, np.uint64(step))
        for word, bits in enumerate(philox(counter, key)):
            field[groups, word] = normal_quantile(bits)
    return field.reshape(-1, height, width)[:channels]


def _blocks(groups: int, positions: int) -> Iterator[slice]:
    size = max(1, BLOCK // max(1, positions))
    return (slice(start, min(start + size, groups)) for start in range(0, groups, size))


def philox(counter: list[Words] | tuple[Words, ...], key: tuple[int, int]) -> list[Words]:
    """Philox4x32-10 (Salmon et al. 2011, section 3.3): counters as four arrays of words, a key of two → four arrays."""
    a, b, c, d = counter
    for turn in range(10):
        first, second = (np.uint64((k + turn * weyl) & MASK) for k, weyl in zip(key, WEYL, strict=True))
        left, right = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b = (right >> np.uint64(32)) ^ b ^ first, right & np.uint64(MASK)
        c, d = (left >> np.uint64(32)) ^ d ^ second, left & np.uint64(MASK)
    return [a, b, c, d]


def normal_quantile(words: Words) -> Floats:
    """The standard normal quantile of (word + ½)/2³², accurate to 1e-14 (Wichura 1988, algorithm AS 241).

    The algorithm's region for the far tail begins beyond what 32 bits can reach, so two of its three regions suffice.
    """
    q = (words.astype(np.float64) - (2**31 - 0.5)) * 2.0**-32
    z = q * _ratio(CENTRE, 0.180625 - q * q)  # 0.425²
    outer = np.abs(q) > 0.425
    tail = q[outer]
    r = np.sqrt(-logarithm(0.5 - np.abs(tail))) - 1.6
    z[outer] = np.copysign(_ratio(TAIL, r), tail)
    return z


def logarithm(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers, accurate to 4e-16 · max(1, |log x|).

    np.log differs between machines; this uses correctly rounded operations only.
    """
    mantissa, exponent = np.frexp(x)  # mantissa in ½ … 1
    low = mantissa < 0.7071067811865476  # √½: now √½ … √2, where the series converges fast
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), exponent - low
    ratio = (mantissa - 1) / (mantissa + 1)
    result: Floats = exponent * 0.6931471805599453 + ratio * _polynomial(ATANH, ratio * ratio)  # log 2
    return result


def _ratio(terms: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    quotient = _polynomial(terms[0], x)
    quotient /= _polynomial(terms[1], x)
    return quotient


def _polynomial(terms: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, terms[0])
    for term in terms[1:]:
        total *= x
        total += term
    return total

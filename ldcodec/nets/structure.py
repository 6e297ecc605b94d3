"""How much of a picture's structure is lost: 1 − SSIM over several scales in Oklab; and the error for the eye.

Errors count by how they show beside the contrast of their surroundings (Wang et al. 2004), at several sizes (Wang et
al. 2003), and in lightness and two opponent colours whose steps look alike (Ottosson 2020, "A perceptual color space
for image processing"). The scales are averaged, not multiplied, so that a scale that is lost does not stop the others
from learning.

λ prices squared errors, so for the error of the eye structure is given in squared levels: as many as, along the
rate-distortion curve, go with the same bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldcodec.bitstream import quality

SCALES = 4  # at most, each half the size of the one before; in 64 pixels the window fits at three
WINDOW, DEVIATION = 11, 1.5  # of the Gaussian window, in pixels, as Wang et al. have them
CONTRAST = 0.03**2  # SSIM's constant, for values of which white is 1
CHANNELS = (0.5, 0.25, 0.25)  # weights of lightness and of the two colours
PLAIN = 0.25  # the share of the squared error in the error for the eye, which alone knows means
# What a lost structure of 1 weighs in squared levels at λ = 1, and its power of λ: from one quality to the next,
# pictures of `base` and of a young `light` lose 3,600 squared levels for it at quality 10, 2,800 at 50 and 1,850 at 90
# (48 crops of 192×192).
STRUCTURE, POWER = 1570.0, -0.12
DARKEST = 0.004  # light added before the cube root, whose slope at 0 is infinite; about one level of 8 bits

CONES = (  # of linear sRGB
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
OPPONENTS = (  # of the cones' cube roots
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def visual_errors(decoded: Tensor, x: Tensor, error: Tensor, t: Tensor) -> Tensor:
    """The error for the eye of pictures decoded [B, 3, H, W] of x in 0..1, in squared levels: [B].

    error: their squared errors, [B]; t: their qualities, [B].
    """
    weight = STRUCTURE * quality.multiplier(t) ** POWER
    return torch.lerp(weight * structure_lost(decoded, x), error, PLAIN)


def structure_lost(x: Tensor, y: Tensor) -> Tensor:
    """1 − SSIM, averaged over positions, scales and channels: [B], from 0, for sRGB pictures [B, 3, H, W] in 0..1.

    Both sides must have at least `WINDOW` pixels. Values outside of 0..1 are cut off.
    """
    with torch.autocast(x.device.type, enabled=False):  # a variance is a small difference of large numbers
        lost: list[Tensor] = []
        first, second = oklab(x), oklab(y)
        while len(lost) < SCALES and min(first.shape[2:]) >= WINDOW:
            lost.append(_weighted(CHANNELS, 1 - _similarity(first, second).mean((2, 3))))
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        return torch.stack(lost).mean(0)


def oklab(x: Tensor) -> Tensor:
    """Lightness, 0..1 but for `DARKEST`, and two opponent colours, about −0.3..0.3, of an sRGB picture [B, 3, H, W]."""
    x = x.float().clamp(0, 1)
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    cones = torch.stack([_weighted(row, linear) for row in CONES], 1)
    roots = (cones + DARKEST) ** (1 / 3)
    return torch.stack([_weighted(row, roots) for row in OPPONENTS], 1)


def _weighted(weights: tuple[float, float, float], x: Tensor) -> Tensor:
    """Σ wᵢ·xᵢ of x [B, 3, …]; not by a matrix, which could not be copied to a GPU while a step is recorded."""
    first, second, third = (weight * channel for weight, channel in zip(weights, x.unbind(1), strict=True))
    return first + second + third


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """What SSIM says of contrast and structure at each position and channel [B, C, h, w].

    Its third factor compares means by their ratio, which says nothing for colours around 0.
    """
    x_mean, y_mean, xx, yy, xy = _blurred(torch.cat([x, y, x * x, y * y, x * y], 1)).chunk(5, 1)
    together, apart = xy - x_mean * y_mean, xx - x_mean**2 + yy - y_mean**2
    return (2 * together + CONTRAST) / (apart + CONTRAST)


def _blurred(x: Tensor) -> Tensor:
    """Means in the Gaussian window, only where it fits in whole."""
    places = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    taps = torch.exp(-places.square() / (2 * DEVIATION**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, WINDOW)
    rows = F.conv2d(x, taps, groups=x.shape[1])
    return F.conv2d(rows, taps.transpose(2, 3), groups=x.shape[1])

"""Pillow images of any mode → RGB or grey, and their colour profiles.

RGB and grey keep their values, and have a profile that says what these mean unless they are sRGB. CMYK and Lab, which
the codec cannot store, are converted to sRGB, and so are PQ and HLG of 8 bits.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile

from ldcodec.errors import PictureError
from ldcodec.pictures import brightness, codepoints, exif, profiles
from ldcodec.pictures.alpha import GREY_MODES
from ldcodec.pictures.codepoints import HLG, PQ, UNSPECIFIED, CodePoints, Primaries, TransferCurve
from ldcodec.pictures.findings import Findings
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture, Pixels, at_depth, white_of
from ldcodec.pictures.profiles import space
from ldcodec.pictures.rawprofiles import raw_profile

SPACES = {"CMYK": b"CMYK", "LAB": b"Lab "}  # Pillow's mode → the colour space in the header of its ICC profile
STRIP = 1 << 22  # pixels that are copied at a time
# Formats in which Exif may say Adobe RGB (DCF 2.0); an image without a format most likely was made of one of them.
EXIF_DECIDES = {"JPEG", "MPO", "TIFF", "HEIF", None}
WHITE_POINT, PRIMARY_CHROMATICITIES = 318, 319  # tags of TIFF
GAMMA_SRGB, GAMMA_SHARE = 1 / 2.2, 0.05  # PNG's gAMA means sRGB within this share of it, as libpng takes it
DARKENED = "its high dynamic range is brought into sRGB"
POINT_SRGB = 0.002  # chromaticities that differ by less from those of sRGB are those of sRGB


@dataclass(frozen=True)
class Colours:
    """What the values of a picture mean: `icc` says it, or `bright`, code points with PQ or HLG; if neither, sRGB.

    narrow: black is 16 and white is 235.
    """

    icc: bytes | None = None
    bright: CodePoints | None = None
    narrow: bool = False


def declared(image: Image.Image, file: Findings, tags: bytes | None, grey: bool | None = None) -> Colours:
    """What the colours of a Pillow image are: the one place that decides.

    file: what its file says beside what Pillow tells; tags: its Exif; grey: whether its samples are, None to go by its
    mode. In this order: PNG's cICP; an ICC profile; nclx;
    PNG's sRGB; PNG's gAMA and cHRM, or the like in TIFF; Exif's Adobe RGB. Where nothing is said, they are sRGB. Warns
    of what is damaged or not known.
    """
    if grey is None:
        grey = image.mode in GREY_MODES or image.mode.startswith("I")
    icc = image.info.get("icc_profile") or file.icc or raw_profile(image, "icc") or raw_profile(image, "icm")
    points = file.code_points or _nclx(image)
    if image.mode in SPACES:
        return Colours(icc)
    if points is not None and points.known and (image.format == "PNG" or not icc):
        return _of_code_points(points, grey, image.format == "PNG" and not points.full)
    if icc:
        return Colours(_fitting(icc, grey))
    if "srgb" in image.info:
        return Colours()
    gamma, points_of_light = image.info.get("gamma"), _chromaticities(image)
    if gamma or points_of_light:
        return Colours(_of_gamma(gamma, points_of_light, grey))
    if image.format in EXIF_DECIDES and tags is not None and exif.is_adobe_rgb(tags):
        return Colours(_made(codepoints.ADOBE_CURVE, codepoints.ADOBE_RGB, grey, "Compatible with Adobe RGB (1998)"))
    return Colours()


def plain(image: Image.Image, colours: Colours) -> tuple[Pixels, Colours]:
    """Convert an opaque Pillow image to uint8 (H, W, 3) RGB or (H, W) grey, with what these values mean.

    Raises PictureError for floats, whose range is not defined; warns when a profile is left out.
    """
    if image.mode in SPACES:
        return np.array(_converted(image, colours.icc)), Colours()
    return storable(_levels(image), colours)


def storable(pixels: Pixels, colours: Colours) -> tuple[Pixels, Colours]:
    """Pixels (H, W, 3) or (H, W) in the full range of values, and in 8 bits without PQ and HLG; what they mean then."""
    if colours.narrow:
        white = white_of(pixels)
        black, step = 16 * (white + 1) / 256, 219 * (white + 1) / 256
        table = np.clip((np.arange(white + 1) - black) * (white / step), 0, white)
        pixels = np.rint(table).astype(pixels.dtype)[pixels]
    if colours.bright is None or pixels.dtype != np.uint8:
        return pixels, replace(colours, narrow=False)
    warn(DARKENED)
    return _darkened(pixels, colours.bright), Colours()


def to_srgb(picture: Picture) -> Picture:
    """Convert a picture to sRGB, without a profile; grey stays grey.

    Warns of high dynamic range, and of a damaged profile, which is dropped.
    """
    if picture.bright is not None:
        warn(DARKENED)
    return shown(picture)


def shown(picture: Picture) -> Picture:
    """A picture in sRGB as `to_srgb` makes it, without a warning of high dynamic range."""
    if picture.bright is not None:
        return replace(picture, pixels=_darkened(picture.pixels, picture.bright), bright=None)
    if picture.icc is None or profiles.is_srgb(picture.icc, picture.grey):
        return replace(picture, icc=None)
    of_rgb = space(picture.icc) == b"RGB "
    pixels = np.repeat(picture.pixels[:, :, None], 3, 2) if picture.grey and of_rgb else picture.pixels
    try:
        converted = _in_srgb(pixels, picture.icc)
    except ImageCms.PyCMSError:
        warn("its colour profile is damaged and is not applied")
        return replace(picture, icc=None)
    picture = picture if converted.dtype == picture.pixels.dtype else picture.at_depth(8)
    return replace(picture, pixels=converted[:, :, 1].copy() if picture.grey else converted, icc=None)


def in_8_bits(picture: Picture) -> Picture:
    """A picture in uint8, rounded to the nearest levels; PQ and HLG, for which these are too few, become sRGB, told."""
    return (picture if picture.bright is None else to_srgb(picture)).at_depth(8)


def _darkened(pixels: Pixels, bright: CodePoints) -> Pixels:
    """Pixels in PQ or HLG as sRGB. Primaries that are not known are those of BT.2020, which belong to these curves."""
    primaries = codepoints.PRIMARIES.get(bright.primaries, codepoints.PRIMARIES[9])
    return brightness.to_srgb(pixels, bright.transfer, primaries)


def _in_srgb(pixels: Pixels, icc: bytes) -> Pixels:
    """Pixels (H, W, 3) or (H, W) as (H, W, 3) in sRGB, in 8 bits where imagecodecs is missing. Raises PyCMSError."""
    if pixels.dtype == np.uint16:
        try:
            return profiles.to_srgb_deep(pixels, icc)
        except ImportError:
            warn("its colours are converted to sRGB in 8 bits; pip install 'ldcodec[deep]' keeps all of them")
    return np.array(profiles.to_srgb(Image.fromarray(at_depth(pixels, 8)), icc))


def _nclx(image: Image.Image) -> CodePoints | None:
    """The code points that pillow-heif gives an image, whose file may be closed."""
    nclx = image.info.get("nclx_profile")
    if not isinstance(nclx, dict):
        return None
    return CodePoints(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))


def _of_code_points(points: CodePoints, grey: bool, narrow: bool) -> Colours:
    if points.transfer in (PQ, HLG):
        return Colours(None, points, narrow)
    primaries, curve = codepoints.PRIMARIES.get(points.primaries), codepoints.CURVES.get(points.transfer)
    for kind, number, found in (("primaries", points.primaries, primaries), ("curve", points.transfer, curve)):
        if found is None and number != UNSPECIFIED:
            warn(f"its colours have the unknown {kind} {number}, those of sRGB are taken")
    named = f"Colours {points.primaries}/{points.transfer} of H.273"
    icc = _made(curve or codepoints.SRGB_CURVE, primaries or codepoints.SRGB, grey, named)
    return Colours(icc, None, narrow)


def _chromaticities(image: Image.Image) -> tuple[float, ...] | None:
    """x and y of white, red, green and blue, as PNG's cHRM or TIFF's tags hold them."""
    if not isinstance(image, TiffImageFile):
        return image.info.get("chromaticity")
    white, lights = (image.tag_v2.get(tag, ()) for tag in (WHITE_POINT, PRIMARY_CHROMATICITIES))
    return (*map(float, white or codepoints.SRGB.white), *map(float, lights)) if len(lights) == 6 else None


def _of_gamma(gamma: float | None, points: tuple[float, ...] | None, grey: bool) -> bytes | None:
    """A profile of a display of this gamma (PNG's: 1 / 2.2 for most) and these chromaticities; None for sRGB."""
    primaries = codepoints.SRGB
    if points is not None:
        white, red, green, blue = zip(points[::2], points[1::2], strict=True)
        primaries = Primaries(red, green, blue, white)
        expected = (*codepoints.SRGB.white, *codepoints.SRGB.red, *codepoints.SRGB.green, *codepoints.SRGB.blue)
        if all(abs(one - other) < POINT_SRGB for one, other in zip(points, expected, strict=True)):
            primaries = codepoints.SRGB
    near_srgb = not gamma or (primaries == codepoints.SRGB and abs(gamma / GAMMA_SRGB - 1) < GAMMA_SHARE)
    curve = codepoints.SRGB_CURVE if near_srgb or not gamma else TransferCurve(1 / gamma)
    return _made(curve, primaries, grey, "Gamma and chromaticities of a picture")


def _made(curve: TransferCurve, primaries: Primaries, grey: bool, name: str) -> bytes | None:
    """A profile, None for sRGB. Of grey the curve alone counts."""
    if curve == codepoints.SRGB_CURVE and (grey or primaries == codepoints.SRGB):
        return None
    try:
        return profiles.made(curve, None if grey else primaries, name)
    except ValueError:
        warn("its colours are declared in a way that no light can have, and are taken for sRGB")
        return None


def _levels(image: Image.Image) -> Pixels:
    """The values of an image of RGB or grey as uint8 (H, W, 3) or (H, W). Raises PictureError as `plain` does."""
    if image.mode == "F":
        raise PictureError("its samples are floats (Pillow's mode F); convert it to 8 or 16 bits first")
    mode = "L" if image.mode in GREY_MODES else "RGB"
    return _to_array(image if image.mode == mode else image.convert(mode))


def _to_array(image: Image.Image) -> Pixels:
    """The pixels of an image of mode L or RGB, uint8 (H, W) or (H, W, 3).

    Copied in strips, since np.asarray would hold a large image twice more.
    """
    width, height = image.size
    pixels = np.empty((height, width, 3) if image.mode == "RGB" else (height, width), np.uint8)
    step = max(1, STRIP // max(1, width))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _fitting(icc: bytes, grey: bool) -> bytes | None:
    """The profile if it fits the pixels, else None, with a warning.

    A profile of RGB says of grey pixels only by which curve they are shown, so it becomes one of grey, which is what
    formats allow beside grey.
    """
    kind = space(icc)
    mode = "L" if kind == b"GRAY" else "RGB"
    if kind not in ((b"GRAY", b"RGB ") if grey else (b"RGB ",)) or not profiles.works(icc, mode):
        warn("its colour profile is damaged or does not fit its pixels, and is left out")
        return None
    if not grey or kind == b"GRAY":
        return icc
    return None if profiles.is_srgb(icc, grey) else profiles.grey(icc) or icc


def _converted(image: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK or Lab as sRGB through its profile; without one, Lab by definition and CMYK by Pillow's formula."""
    if icc and space(icc) == SPACES[image.mode]:
        try:
            return profiles.to_srgb(image, icc)
        except ImageCms.PyCMSError:
            warn("its colour profile is damaged and is not applied")
    elif icc:
        warn("its colour profile is damaged or does not fit its pixels, and is not applied")
    return profiles.to_srgb(image, None) if image.mode == "LAB" else image.convert("RGB")

"""Colours of a Pillow image → 8-bit RGB or grey, and what becomes of its colour profile.

RGB and grey keep their profile and their numbers: a viewer applies the one to the other. CMYK and Lab, which the codec
does not know, become sRGB through their profile.
"""

import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageCms

from ldcodec.errors import PictureError
from ldcodec.pictures import rows
from ldcodec.pictures.alpha import GREY_MODES
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture, Pixels

SPACES = {"CMYK": b"CMYK", "LAB": b"Lab "}  # Pillow's mode → the colour space that its profile names


def plain(image: Image.Image, icc: bytes | None) -> tuple[Pixels, bytes | None]:
    """An opaque Pillow image as uint8 (H, W, 3) RGB or (H, W) grey, and the profile that still holds for them.

    Raises PictureError for modes that say nothing of colours (I, F); warns where a profile is left out.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.uint32)
        return ((values + 128) // 257).astype(np.uint8), _fitting(icc, grey=True)  # the nearest of value / 257
    if image.mode in ("I", "F"):
        raise PictureError(f"pictures of Pillow's mode {image.mode} cannot be stored; convert it to 8-bit RGB first")
    if image.mode in SPACES:
        return np.array(_converted(image, icc)), None
    grey = image.mode in GREY_MODES
    mode = "L" if grey else "RGB"
    return rows.to_array(image if image.mode == mode else image.convert(mode)), _fitting(icc, grey)


def space(icc: bytes) -> bytes | None:
    """The colour space that an ICC profile is for, such as b"RGB " or b"GRAY"; None if it is no profile."""
    sound = len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc)
    return icc[16:20] if sound else None


def to_srgb(picture: Picture) -> Picture:
    """The picture in sRGB, without a profile; grey stays grey. A damaged profile is left out with a warning."""
    if picture.icc is None or _names_srgb(picture.icc):
        return replace(picture, icc=None)
    image = Image.fromarray(picture.pixels)
    image = image.convert("RGB") if space(picture.icc) == b"RGB " else image
    try:
        converted = np.array(_through(image, _opened(picture.icc)))
    except ImageCms.PyCMSError:
        warn("its colour profile is damaged and is not applied")
        return replace(picture, icc=None)
    return replace(picture, pixels=converted[:, :, 1].copy() if picture.grey else converted, icc=None)


def _fitting(icc: bytes | None, grey: bool) -> bytes | None:
    """The profile if it can stand beside the pixels: one of RGB also beside grey ones, the reverse is wrong."""
    if not icc:
        return None
    if space(icc) not in ((b"GRAY", b"RGB ") if grey else (b"RGB ",)):
        warn("its colour profile is damaged or does not fit its pixels, and is left out")
        return None
    return icc


def _names_srgb(icc: bytes) -> bool:
    return len(icc) < 4096 and any("sRGB".encode(encoding) in icc for encoding in ("ascii", "utf-16-be"))


def _converted(image: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK or Lab as sRGB, through its profile; without one, Lab by its definition and CMYK by Pillow's formula."""
    if icc and space(icc) == SPACES[image.mode]:
        try:
            return _through(image, _opened(icc))
        except ImageCms.PyCMSError:
            warn("its colour profile is damaged and is not applied")
    elif icc:
        warn("its colour profile is damaged or does not fit its pixels, and is not applied")
    if image.mode == "LAB":
        return _through(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return image.convert("RGB")


def _opened(icc: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except OSError as error:
        raise ImageCms.PyCMSError(error) from error


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """The image in sRGB: relative colorimetric with black points matched, the default of other programs.

    Every pixel by itself: the table that lcms would compute for speed makes white 254.
    """
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    if converted is None:
        raise ImageCms.PyCMSError("no picture came back")
    return converted

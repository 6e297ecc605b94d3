"""Pillow images of any mode → 8-bit RGB or grey, and their colour profiles.

RGB and grey keep their values and their profile, which a viewer applies. CMYK and Lab, which the codec cannot store,
are converted to sRGB through their profile.
"""

import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageCms

from ldcodec.errors import PictureError
from ldcodec.pictures.alpha import GREY_MODES
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture, Pixels

SPACES = {"CMYK": b"CMYK", "LAB": b"Lab "}  # Pillow's mode → the colour space in the header of its ICC profile
STRIP = 1 << 22  # pixels that are copied at a time


def plain(image: Image.Image, icc: bytes | None) -> tuple[Pixels, bytes | None]:
    """Convert an opaque Pillow image to uint8 (H, W, 3) RGB or (H, W) grey, with the profile that applies to them.

    Raises PictureError for modes without a defined range of values (I, F); warns when a profile is left out.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.uint32)
        return ((values + 128) // 257).astype(np.uint8), _fitting(icc, grey=True)  # value / 257, rounded
    if image.mode in ("I", "F"):
        raise PictureError(f"pictures of Pillow's mode {image.mode} cannot be stored; convert it to 8-bit RGB first")
    if image.mode in SPACES:
        return np.array(_converted(image, icc)), None
    grey = image.mode in GREY_MODES
    mode = "L" if grey else "RGB"
    return _to_array(image if image.mode == mode else image.convert(mode)), _fitting(icc, grey)


def space(icc: bytes) -> bytes | None:
    """The colour space named by an ICC profile, such as b"RGB " or b"GRAY"; None if the bytes are not a profile."""
    sound = len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc)
    return icc[16:20] if sound else None


def to_srgb(picture: Picture) -> Picture:
    """Convert a picture to sRGB, without a profile; grey stays grey. A damaged profile is dropped with a warning."""
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


def _fitting(icc: bytes | None, grey: bool) -> bytes | None:
    """The profile if it fits the pixels: an RGB profile may accompany grey ones, but not the reverse."""
    if not icc:
        return None
    if space(icc) not in ((b"GRAY", b"RGB ") if grey else (b"RGB ",)):
        warn("its colour profile is damaged or does not fit its pixels, and is left out")
        return None
    return icc


def _names_srgb(icc: bytes) -> bool:
    return len(icc) < 4096 and any("sRGB".encode(encoding) in icc for encoding in ("ascii", "utf-16-be"))


def _converted(image: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK or Lab as sRGB through its profile; without one, Lab by definition and CMYK by Pillow's formula."""
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
    """The image in sRGB: relative colorimetric with black point compensation, as other programs do by default.

    NOOPTIMIZE, because the lookup table that lcms would otherwise use for speed turns white into 254.
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
        raise ImageCms.PyCMSError("lcms returned no picture")
    return converted

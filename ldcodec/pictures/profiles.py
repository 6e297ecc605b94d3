"""ICC profiles: made from primaries and curves, told apart by what they do, and applied."""

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ldcodec.pictures.codepoints import Point, Primaries, TransferCurve
from ldcodec.pictures.picture import Pixels

Matrix = NDArray[np.float64]

_D50 = np.array([0.9642, 1.0, 0.8249])  # white of the space in which profiles meet
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_HEADER = 128  # bytes
_STEPS = 17  # colours in each direction of the cube by which profiles are compared
_TOLERANCE = 1  # levels of 255: profiles of sRGB by different makers differ by that much


def space(icc: bytes) -> bytes | None:
    """The colour space named by an ICC profile, such as b"RGB " or b"GRAY"; None if the bytes are not a profile."""
    sound = len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc)
    return icc[16:20] if sound else None


def made(curve: TransferCurve, primaries: Primaries | None, name: str) -> bytes:
    """A profile of a display (ICC.1:2010, version 4.3) with these primaries, or of grey if they are None.

    Raises ValueError for primaries that span no colours and for a gamma that no display has.
    """
    if not 0.1 <= curve.gamma <= 10:
        raise ValueError(f"no display has a gamma of {curve.gamma}")
    tags = [(b"desc", _text(name)), (b"cprt", _text("CC0")), (b"wtpt", _xyz(_D50))]
    if primaries is None:
        return _assembled(b"GRAY", [*tags, (b"kTRC", _curve(curve))])
    adaptation = _adaptation(_light(primaries.white))
    lights = adaptation @ rgb_to_xyz(primaries)
    tags.append((b"chad", b"sf32" + bytes(4) + _fixed(adaptation)))
    tags += [(kind, _xyz(light)) for kind, light in zip((b"rXYZ", b"gXYZ", b"bXYZ"), lights.T, strict=True)]
    tags += [(kind, _curve(curve)) for kind in (b"rTRC", b"gTRC", b"bTRC")]
    return _assembled(b"RGB ", tags)


def grey(icc: bytes) -> bytes | None:
    """The profile of grey that shows equal R, G and B as this profile of RGB does; None if its curves do not say it."""
    tags = _tags(icc)
    curves = {tags.get(kind) for kind in (b"rTRC", b"gTRC", b"bTRC")}
    curve = tags.get(b"gTRC")
    if curve is None or len(curves) > 1 or b"A2B0" in tags:
        return None
    name = tags.get(b"desc", b"")
    described = (b"desc", name) if name[:4] == b"mluc" else (b"desc", _text("Grey"))
    return _assembled(b"GRAY", [described, (b"cprt", _text("CC0")), (b"wtpt", _xyz(_D50)), (b"kTRC", curve)])


def rgb_to_xyz(primaries: Primaries) -> Matrix:
    """The matrix (3, 3) from linear RGB to CIE XYZ in which white has Y = 1. Raises ValueError as `made` does."""
    lights = np.array([_light(point) for point in (primaries.red, primaries.green, primaries.blue)]).T
    try:
        matrix: Matrix = lights * np.linalg.solve(lights, _light(primaries.white))
    except np.linalg.LinAlgError as error:
        raise ValueError("the primaries lie on one line") from error
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 100:  # nearly on one line
        raise ValueError("the primaries span no colours")
    return matrix


def is_srgb(icc: bytes, grey: bool) -> bool:
    """Whether a profile shows RGB, or grey, as sRGB does: what it does counts, not its name. False if it is damaged."""
    steps = np.rint(np.linspace(0, 255, _STEPS)).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    ramp = np.arange(256, dtype=np.uint8)[None]
    if grey:
        cube = np.stack([ramp] * 3, -1)
    try:
        shown = np.asarray(to_srgb(Image.fromarray(ramp if space(icc) == b"GRAY" else cube), icc)).astype(int)
    except ImageCms.PyCMSError:
        return False
    return bool(np.abs(shown - cube).max() <= _TOLERANCE)


def works(icc: bytes, mode: str) -> bool:
    """Whether colours of a Pillow mode can be computed with a profile."""
    try:
        to_srgb(Image.new(mode, (1, 1)), icc)
    except ImageCms.PyCMSError:
        return False
    return True


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """An image in sRGB: relative colorimetric with black point compensation, as other programs do by default.

    icc: its profile; None for CIE Lab under D50. Raises ImageCms.PyCMSError if the profile is damaged.
    NOOPTIMIZE, because the lookup table that lcms would otherwise use for speed turns white into 254.
    """
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")) if icc is None else _opened(icc),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    if converted is None:
        raise ImageCms.PyCMSError("lcms returned no picture")
    return converted


def to_srgb_deep(pixels: Pixels, icc: bytes) -> Pixels:
    """uint16 (H, W, 3) or (H, W) with a profile of the same colours in sRGB, (H, W, 3).

    Raises ImportError where imagecodecs is missing, and ImageCms.PyCMSError if the profile is damaged.
    """
    from imagecodecs import CMS, cms_transform

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    flags = CMS.FLAGS.BLACKPOINTCOMPENSATION | CMS.FLAGS.NOOPTIMIZE
    space = "gray" if pixels.ndim == 2 else "rgb"
    try:
        return np.asarray(
            cms_transform(pixels, icc, srgb, colorspace=space, outcolorspace="rgb", intent=1, flags=flags), np.uint16
        )
    except (RuntimeError, ValueError) as error:
        raise ImageCms.PyCMSError(error) from error


def _opened(icc: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except OSError as error:
        raise ImageCms.PyCMSError(error) from error


def _light(point: Point) -> Matrix:
    """The XYZ of a chromaticity at Y = 1. Raises ValueError for one that no light has."""
    x, y = point
    if not (0 < y <= 1 and -1 <= x <= 1):
        raise ValueError(f"no light has the chromaticity {x}, {y}")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Matrix) -> Matrix:
    """The matrix (3, 3) of Bradford from colours under a white to those under D50."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD)


def _assembled(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """A profile of a display; equal tags are stored once."""
    place = _HEADER + 4 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for kind, data in tags:
        if data not in places:
            places[data] = place + len(body)
            body += data + bytes(-len(data) % 4)
        table += kind + struct.pack(">II", places[data], len(data))
    version, date = 0x04300000, (2024, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s6H4s", place + len(body), version, b"mntr", space, b"XYZ ", *date, b"acsp")
    intent = bytes(24) + struct.pack(">I", 1)  # relative colorimetric
    return (head + intent + _fixed(_D50)).ljust(_HEADER, b"\0") + table + body


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The tags of a profile whose table lies within it."""
    count = min(int.from_bytes(icc[_HEADER : _HEADER + 4], "big"), 100)  # no profile has as many
    table = icc[_HEADER + 4 : _HEADER + 4 + 12 * count]
    entries = struct.iter_unpack(">4sII", table[: len(table) // 12 * 12])
    return {kind: icc[place : place + length] for kind, place, length in entries}


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(coded), 28) + coded


def _xyz(light: Matrix) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(light)


def _curve(curve: TransferCurve) -> bytes:
    """Parameters of type 0, a power alone, or 3."""
    if curve.d == 0:
        return b"para" + struct.pack(">4xH2x", 0) + _fixed(np.array([curve.gamma]))
    return b"para" + struct.pack(">4xH2x", 3) + _fixed(np.array([curve.gamma, curve.a, curve.b, curve.c, curve.d]))


def _fixed(values: Matrix) -> bytes:
    """Numbers of 16 bits before and 16 behind the point. Raises ValueError for others."""
    if np.abs(values).max() >= 32768:
        raise ValueError("a number is too large for a profile")
    return np.rint(values * 65536).astype(">i4").tobytes()

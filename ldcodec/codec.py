"""The public API: picture → bytes of an .ldc file, and back.

    encode: picture ─► encoder.ratecontrol (which quality index?) ─► encoder.whole or encoder.sliced ─► bytes
    decode: bytes ─► bitstream.reader ─► decoder.restore ─► picture

torch is imported inside functions, because lossless files and ONNX models do without it.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import container
from ldcodec.bitstream.reader import Reader
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.restore import restore
from ldcodec.decoder.reverse import OnStep
from ldcodec.encoder import EFFORTS
from ldcodec.encoder.ratecontrol import Target, encode_to, out_of_reach
from ldcodec.errors import LdcodecWarning, UsageError
from ldcodec.pictures import chunks, metadata
from ldcodec.pictures.picture import Picture, Pixels, from_array
from ldcodec.pictures.read import from_image
from ldcodec.pictures.write import to_image

if TYPE_CHECKING:
    from ldcodec.decoder.protocols import DecoderModel
    from ldcodec.nets.model import Model


@dataclass(frozen=True)
class EncodeSettings:
    """How to encode a picture; see `encode` for each field. Raises UsageError for an effort outside 1..9."""

    target: Target
    strip: bool = False
    fallback: bool = True
    effort: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.effort <= EFFORTS:
            raise UsageError(f"effort must be from 1 to {EFFORTS}, not {self.effort}")


@dataclass(frozen=True)
class Encoded:
    """The bytes of an .ldc file, and whether they store the picture losslessly."""

    data: bytes
    lossless: bool


def encode(
    image: Image.Image | NDArray[np.uint8] | Picture,
    *,
    rate: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    lossless: bool = False,
    strip: bool = False,
    fallback: bool = True,
    effort: int = 1,
    model: "Model | None" = None,
) -> bytes:
    """Encode a picture as an .ldc file and return its bytes.

    image: a Pillow image, or a uint8 array: (H, W, 3) RGB or (H, W) grey; with alpha (H, W, 4) or (H, W, 2).

    Pass exactly one target. `rate` (bits per pixel of the whole file) and `size` (bytes) are never exceeded, `psnr`
    (dB) is reached; `quality` runs from 0 to 100; `lossless` keeps every pixel. If the model cannot meet the target,
    the result is the nearest file and an LdcodecWarning is issued.

    strip: leave out Exif, XMP and the colour profile, and convert the pixels to sRGB.
    fallback: store the picture losslessly where that takes fewer bytes.
    effort: 1 to 9. Above 1 the encoder refines the latent by gradient descent, which takes minutes at 9.
    model: the default one if None.

    Raises UsageError, PictureError or ModelError.
    """
    settings = EncodeSettings(Target(rate, size, psnr, quality, lossless), strip, fallback, effort)
    return encode_picture(as_picture(image), settings, model).data


def encode_picture(picture: Picture, settings: EncodeSettings, model: "Model | None" = None) -> Encoded:
    """Encode a `Picture`; warns and raises like `encode`. No model is loaded for a lossless target."""
    picture = metadata.strip(picture) if settings.strip else picture
    if settings.target.lossless:
        return Encoded(container.write(chunks.lossless(picture)), True)
    from ldcodec.encoder.sliced import encoder_for
    from ldcodec.nets.model import load_model

    coded, complaint = encode_to(encoder_for(picture, model or load_model(), settings.effort), settings.target)
    exact = chunks.smaller_lossless(picture, coded.payload, coded.size) if settings.fallback else None
    if exact is not None:
        limit = settings.target.most_bytes(picture.width * picture.height)  # the complaint was about the other file
        complaint = out_of_reach(limit, len(exact)) if limit is not None and len(exact) > limit else None
    if complaint is not None:
        warnings.warn(complaint, LdcodecWarning, stacklevel=3)  # blames the caller of `encode`
    return Encoded(coded.data if exact is None else exact, exact is not None)


class DecodeOptions(TypedDict, total=False):
    """The keywords that the decoding functions share; `decode` explains them."""

    steps: int | None
    realism: float
    sampler: str
    seed: int
    model: "DecoderModel | None"
    on_step: OnStep | None
    request: Request | None


def decode(data: bytes | Reader, **options: Unpack[DecodeOptions]) -> Image.Image:
    """Decode an .ldc file, given as bytes or as an open Reader, to a Pillow image of mode RGB, RGBA, L or LA.

    The image's `info` holds icc_profile, exif and xmp where the file does. Keywords:

    steps: number of reverse diffusion steps; 1 by default, or 8 for realism with a model that has no second synthesis.
    realism: from 0 (default, least squared error) to 1 (natural texture; with several steps, a sample from the
        posterior).
    sampler: "ddim" (default), "ddpm", "heun" or "sde".
    seed: of the diffusion noise, 0 by default.
    model: used instead of the installed model that the file names.
    on_step: called with 1 … n after each diffusion step.
    request: a region, a preview scale, or the salvage of a damaged file (`decoder.request.Request`).

    Raises FormatError, DamagedError, ModelError or UsageError.
    """
    return to_image(decode_picture(data, **options))


def decode_array(data: bytes | Reader, **options: Unpack[DecodeOptions]) -> Pixels:
    """Decode an .ldc file to a uint8 array: (H, W, 3) RGB or (H, W) grey; with alpha (H, W, 4) or (H, W, 2).

    See `decode` for keywords and errors.
    """
    return decode_picture(data, **options).array()


def decode_picture(data: bytes | Reader, **options: Unpack[DecodeOptions]) -> Picture:
    """Decode an .ldc file to a `Picture` with alpha and metadata. See `decode` for keywords and errors."""
    source = data if isinstance(data, Reader) else Reader(io.BytesIO(data))
    model, on_step, request = options.pop("model", None), options.pop("on_step", None), options.pop("request", None)
    settings = DecodeSettings(**options)  # type: ignore[misc]  # the rest, so an unknown keyword is a TypeError
    return restore(source, lambda parse_id: model or _installed_model(parse_id), settings, request, on_step)


def as_picture(image: Image.Image | NDArray[np.uint8] | Picture) -> Picture:
    """Convert whatever `encode` accepts to a `Picture`. Raises PictureError."""
    if isinstance(image, Picture):
        return image
    return from_image(image) if isinstance(image, Image.Image) else from_array(image)


def _installed_model(parse_id: bytes) -> "DecoderModel":
    from ldcodec.nets.model import find_model

    return find_model(parse_id)

"""The public API: picture → bytes of an .ldc file, and back.

    encode: picture ─► encoder.ratecontrol (which quality index?) ─► encoder.whole or encoder.sliced ─► bytes
    decode: bytes ─► bitstream.reader ─► decoder.restore ─► picture

The encoder and models are imported inside functions, because lossless files do without them.
"""

import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Unpack

import numpy as np
from PIL import Image

from ldcodec.bitstream import container
from ldcodec.bitstream.arguments import check_inside, check_type, file_bytes, refuse_picture
from ldcodec.bitstream.reader import Reader
from ldcodec.decoder.protocols import DecoderModel
from ldcodec.decoder.request import DecodeOptions, DecodeSettings, Request
from ldcodec.decoder.restore import restore
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.ratecontrol import Coded, encode_to, out_of_reach
from ldcodec.encoder.target import Encoded, EncodeSettings, Roi, Target
from ldcodec.errors import TargetError
from ldcodec.pictures import chunks, colour, metadata
from ldcodec.pictures.picture import Picture, Pixels
from ldcodec.pictures.read import as_picture
from ldcodec.pictures.write import to_image

Data = bytes | bytearray | memoryview | Reader


def encode(
    image: Image.Image | Pixels | Picture,
    *,
    rate: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    lossless: bool = False,
    strip: bool = False,
    fallback: bool = True,
    effort: int = 1,
    tune: str | None = None,
    depth: int | None = None,
    hdr: bool = False,
    roi: tuple[int, int, int, int] | tuple[int, int, int, int, float] | None = None,
    model: EncoderModel | None = None,
) -> bytes:
    """Encode a picture as an .ldc file and return its bytes.

    image: a Pillow image, or an array of uint8 or uint16, in which white is 255 or 65535: (H, W, 3) RGB or (H, W) grey;
    with alpha (H, W, 4) or (H, W, 2).

    Pass exactly one target. `rate` (bits per pixel of the whole file) and `size` (bytes) are never exceeded, `psnr`
    (dB) is reached; `quality` runs from 0 to 100; `lossless` keeps every pixel. Where the model cannot meet a target,
    the picture is stored losslessly if that does.

    strip: leave out all metadata and the colour profile, and convert the pixels to sRGB.
    fallback: store the picture losslessly where that takes fewer bytes, or alone meets the target.
    effort: 1 to 9. Above 1 the encoder refines the latent by gradient descent, which takes minutes at 9.
    tune: "visual" to spend bits where errors show, or "psnr" for the least error, the default where `psnr` is given.
    depth: 8 to reduce samples of more bits to that; None to keep them.
    hdr: keep PQ and HLG of pictures of more than 8 bits instead of bringing them into sRGB.
    roi: a region of interest, (x, y, width, height) in pixels or with decibels behind, -30 to 30: squared errors in it
        weigh so much more than elsewhere, 12 dB if it does not say.
    model: the default one if None.

    Raises UsageError, PictureError or ModelError, and TargetError where no file meets the target.
    """
    target, interest = Target(rate, size, psnr, quality, lossless), None if roi is None else Roi.of(roi)
    settings = EncodeSettings(target, strip, fallback, effort, tune, depth, hdr, interest)
    if not isinstance(image, Image.Image | np.ndarray | Picture):
        refuse_picture(image)
    return encode_picture(as_picture(image), settings, lambda: _encoder_model(model)).data


def encode_picture(picture: Picture, settings: EncodeSettings, find_model: Callable[[], EncoderModel]) -> Encoded:
    """Encode a `Picture`; warns and raises like `encode`. find_model: called only for a target that needs a model."""
    if settings.roi is not None:
        check_inside(settings.roi.region, (picture.width, picture.height))
    picture = metadata.strip(picture) if settings.strip else picture
    picture = colour.to_srgb(picture) if picture.bright is not None and not settings.hdr else picture
    picture = colour.in_8_bits(picture) if settings.depth == 8 else picture
    if settings.target.lossless:
        return Encoded(container.write(chunks.lossless(picture)), True)
    tune = settings.tune or settings.target.tune
    model = find_model()  # first: callers that count seconds do not count this as encoding
    from ldcodec.encoder.sliced import encoder_for

    with _undisturbed():
        coded, complaint = encode_to(encoder_for(picture, model, settings.effort, tune, settings.roi), settings.target)
    if complaint is not None:
        return Encoded(_exact_instead(picture, settings, coded, complaint), True)
    exact = chunks.smaller_lossless(picture, coded.payload, coded.size) if settings.fallback else None
    return Encoded(coded.data if exact is None else exact, exact is not None)


def _exact_instead(picture: Picture, settings: EncodeSettings, nearest: Coded, complaint: str) -> bytes:
    """A lossless file that meets a target which the model cannot meet.

    nearest: what the model can do; complaint: what is wrong with it. Raises TargetError.
    """
    exact = chunks.visible_lossless(picture) if settings.fallback else None
    limit = settings.target.most_bytes(picture.width * picture.height)
    if exact is not None and (limit is None or len(exact) <= limit):
        return exact
    if limit is None:
        raise TargetError(complaint if settings.fallback else f"{complaint}; only a lossless file would reach it")
    if exact is not None and len(exact) < nearest.size:
        complaint = out_of_reach(limit, len(exact))
    beside = sum(len(chunk.data) for chunk in nearest.container.chunks if chunk.kind[0].islower())
    raise TargetError(f"{complaint}, of which {beside} are metadata that strip leaves out" if beside else complaint)


def decode(data: Data, **options: Unpack[DecodeOptions]) -> Image.Image:
    """Decode an .ldc file, given as bytes or as an open Reader, to a Pillow image of mode RGB, RGBA, L or LA.

    Grey of more than 8 bits has the mode I;16. Pillow has no such mode for colours and alpha, which are rounded to 8
    bits, and for no high dynamic range, which is brought into sRGB; `decode_array` keeps both.

    The image's `info` holds icc_profile, exif, xmp, iptc, dpi and texts (keyword and text) where the file does.
    Keywords:

    steps: number of reverse diffusion steps; 1 by default, or 8 for realism with a model that has no second synthesis.
    realism: from 0 (default, least squared error) to 1 (natural texture; with several steps, a sample from the
        posterior).
    sampler: "ddim" (default), "ddpm", "heun" or "sde".
    seed: of the diffusion noise, 0 by default.
    draft: draw the picture quickly and less well, without diffusion; not with steps or realism.
    model: used instead of the installed model that the file names.
    on_step: called with 1 … n after each diffusion step.
    request: a region, a preview scale, a depth, or the salvage of a damaged file (`decoder.request.Request`).

    Raises UsageError, FormatError, DamagedError or ModelError.
    """
    return to_image(decode_picture(data, **options))


def decode_array(data: Data, **options: Unpack[DecodeOptions]) -> Pixels:
    """Decode an .ldc file to an array: (H, W, 3) RGB or (H, W) grey; with alpha (H, W, 4) or (H, W, 2).

    It is uint8, or uint16 with white at 65535 where the file says that the picture had more than 8 bits a sample.
    See `decode` for keywords and errors.
    """
    return decode_picture(data, **options).array()


def decode_picture(data: Data, **options: Unpack[DecodeOptions]) -> Picture:
    """Decode an .ldc file to a `Picture` with alpha and metadata. See `decode` for keywords and errors."""
    model, on_step, request = options.pop("model", None), options.pop("on_step", None), options.pop("request", None)
    settings = DecodeSettings(**options)  # type: ignore[misc]  # the rest, so an unknown keyword is a TypeError
    for name, value, kind, hint in (
        ("model", model, DecoderModel, "what load_model returns"),
        ("on_step", on_step, Callable, "a function of the number of a step"),
        ("request", request, Request, "a decoder.request.Request"),
    ):
        if value is not None:
            check_type(name, value, kind, hint)
    source = data if isinstance(data, Reader) else Reader(io.BytesIO(file_bytes(data)))
    with _undisturbed():
        return restore(source, lambda parse_id: model or _installed_model(parse_id), settings, request, on_step)


def _encoder_model(given: EncoderModel | None) -> EncoderModel:
    from ldcodec.encoder.library import load_model

    if given is None:
        return load_model()
    check_type("model", given, EncoderModel, "what load_model returns")
    return given


def _undisturbed() -> AbstractContextManager[object]:
    """Keep away what the caller has set in torch for networks of its own; whoever has not loaded it has set nothing."""
    if sys.modules.get("torch") is None:
        return nullcontext()
    from ldcodec.nets.surroundings import undisturbed

    return undisturbed()


def _installed_model(parse_id: bytes) -> DecoderModel:
    from ldcodec.encoder.library import find_model

    return find_model(parse_id)

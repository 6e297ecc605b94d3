"""Files of earlier versions decode: to exactly the same symbols, and to pixels as close as floats allow.

Their model lies beside them, so that neither new weights nor another version of torch makes them unreadable. The
originals are `tests.pictures.texture(45, 70, 3)` and the green of `texture(33, 50, 4)`, at quality 55; the whole
picture is `texture(45, 70, 5)` behind a disc, and the exact one, all in PNG, the green of `texture(9, 14, 6)`.

The sliced one is `texture(200, 70, 7)`, likewise at quality 55 and without fallback. It was encoded with
`ldcodec.bitstream.slices.WHOLE_AREA` set to 0 and `ldcodec.encoder.sliced.cut` to
`lambda w, h: slices.cut(w, h, area=8 * 4)`, which gives slices of 64 rows of pixels
where a picture of this size would be one.

Files with a trellis lie in `trellis/`: the same pictures, written in the same way, by the same model with the tensors
`trellis_tensors(first_tables())` of `ldcodec.training.codebook`. Those in `neighbours/` were written by that model with
`neighbour_tensors(fitted(analysed(networks, patterns(0)), hidden=8))` of `ldcodec.training.fitting`, on the pictures
of `tests.conftest.patterns`; `neutral.ldc` is `grey.ldc` with the chunk that says RGB, and `patches.ldc` the picture
of `with_stripes`.
"""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from ldcodec.bitstream import container
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import decode_array, decode_picture
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.parse import parse
from ldcodec.decoder.request import Request
from ldcodec.nets.model import Model, load_model
from ldcodec.pictures.codepoints import CodePoints
from ldcodec.pictures.picture import Pixels, at_depth
from tests.pictures import psnr, texture

GOLDEN = Path(__file__).parent / "golden"
FILES: dict[str, tuple[Pixels, str]] = {
    "rgb.ldc": (texture(45, 70, 3), "ecf7125b"),
    "grey.ldc": (texture(33, 50, 4)[:, :, 1], "0209be51"),
    "trellis/rgb.ldc": (texture(45, 70, 3), "493fdce9"),
    "trellis/grey.ldc": (texture(33, 50, 4)[:, :, 1], "5bf358c4"),
    "neighbours/rgb.ldc": (texture(45, 70, 3), "493fdce9"),
    "neighbours/grey.ldc": (texture(33, 50, 4)[:, :, 1], "5bf358c4"),
}
SLICES = {
    "sliced.ldc": ["5fd661d3", "02e5c265", "814df048", "6d792c16"],
    "trellis/sliced.ldc": ["11f5adea", "d93098a1", "4b853e14", "3acf25eb"],
    "neighbours/sliced.ldc": ["11f5adea", "d93098a1", "4b853e14", "3acf25eb"],
}
TEXTS = (b"profile " * 9, b"II*\0\x08\0\0\0\0\0\0\0\0\0", b"<x:xmpmeta/>")


def with_stripes() -> Pixels:
    """The first picture with stripes of red and cyan, which its file stores exactly."""
    picture = texture(45, 70, 3)
    picture[16:32, 16:48] = np.where(np.arange(32)[:, None] % 2, [255, 0, 0], [0, 255, 255])
    return picture


def checksum(pixels: Pixels) -> str:
    """The CRC-32 of pixels that are stored exactly."""
    return f"{zlib.crc32(pixels.tobytes()):08x}"


@pytest.fixture(scope="module")
def golden_model() -> Model:
    return load_model(str(GOLDEN / "tiny"), "cpu")


@pytest.fixture(scope="module")
def trellis_model() -> Model:
    return load_model(str(GOLDEN / "trellis"), "cpu")


@pytest.fixture(scope="module")
def newest_model() -> Model:
    return load_model(str(GOLDEN / "neighbours"), "cpu")


@pytest.mark.parametrize("name", FILES)
def test_files_decode(newest_model: Model, name: str) -> None:
    """The model with all that there is decodes every kind."""
    original, symbols = FILES[name]
    data = (GOLDEN / name).read_bytes()
    source = container.read(data)
    assert source.header.trellis == ("/" in name)
    parse(source, newest_model)
    assert f"{source.slices[0].symbols_crc:08x}" == symbols
    found = decode_array(data, model=newest_model)
    assert found.shape == original.shape and found.dtype == np.uint8
    assert psnr(found, original) > 19.5


@pytest.mark.parametrize("name", ["rgb.ldc", "grey.ldc", "trellis/rgb.ldc", "trellis/grey.ldc"])
def test_the_model_that_wrote_them_gives_the_same_pictures(
    golden_model: Model, trellis_model: Model, newest_model: Model, name: str
) -> None:
    writer = trellis_model if name.startswith("trellis") else golden_model
    assert [golden_model.parse_id] == list(golden_model.coders) == list(trellis_model.coders)[1:]
    assert list(trellis_model.coders) == list(newest_model.coders)[1:]
    data = (GOLDEN / name).read_bytes()
    assert np.array_equal(decode_array(data, model=writer), decode_array(data, model=newest_model))


def test_a_whole_picture_decodes(golden_model: Model) -> None:
    data = (GOLDEN / "whole.ldc").read_bytes()
    source = container.read(data)
    assert [(chunk.kind, chunk.data[0]) for chunk in source.chunks] == [
        ("iccp", 1),
        ("exif", 0),
        ("xmpp", 0),
        ("ALPH", 0),
    ]
    assert f"{source.slices[0].symbols_crc:08x}" == "3a7b4467"
    found = decode_picture(data, model=golden_model)
    assert (found.icc, found.exif, found.xmp) == TEXTS
    assert found.alpha is not None and checksum(found.alpha) == "27b17ed5"
    shown = found.alpha > 0
    assert psnr(found.pixels[shown], texture(45, 70, 5)[shown]) > 18.5


def test_an_exact_picture_decodes() -> None:
    found = decode_picture((GOLDEN / "exact.ldc").read_bytes())
    assert checksum(found.pixels) == "5df89bca"
    assert found.alpha is not None and checksum(found.alpha) == "b4947927"


def test_a_deep_picture_decodes(newest_model: Model) -> None:
    data = (GOLDEN / "neighbours" / "deep.ldc").read_bytes()
    assert data[5:7] == (container.read(data).header.quality | 0xB000).to_bytes(2, "little") and data[17] == 12
    found = decode_picture(data, model=newest_model)
    assert (found.depth, found.pixels.dtype) == (12, np.dtype(np.uint16))
    assert found.alpha is not None and checksum(found.alpha) == "08d729fa"
    assert psnr(at_depth(found.pixels, 8), texture(45, 70, 3)) > 19.5


def test_an_exact_picture_of_10_bits_decodes() -> None:
    found = decode_picture((GOLDEN / "exact_deep.ldc").read_bytes())
    assert (found.depth, found.bright) == (10, CodePoints(9, 16))
    assert checksum(found.pixels) == "c8b89781"


@pytest.mark.parametrize("name", SLICES)
def test_a_picture_of_several_slices_decodes(newest_model: Model, name: str) -> None:
    original, data = texture(200, 70, 7), (GOLDEN / name).read_bytes()
    source = Reader(io.BytesIO(data))
    latent = Latent(source, newest_model)
    list(latent.each(range(len(source.spans)), lambda parsed: None))
    found_crcs = [f"{source.slice(number).symbols_crc:08x}" for number in range(len(source.spans))]
    assert found_crcs == SLICES[name]
    found = decode_array(data, model=newest_model)
    assert found.shape == original.shape and psnr(found, original) > 19.5
    part = decode_array(data, model=newest_model, request=Request(region=(10, 100, 40, 60)))
    assert np.abs(part.astype(int) - found[100:160, 10:50]).max() <= 1


def test_patches_are_exact(newest_model: Model) -> None:
    data, original = (GOLDEN / "neighbours" / "patches.ldc").read_bytes(), with_stripes()
    assert [chunk.kind for chunk in container.read(data).chunks] == ["PTCH"]
    found = decode_array(data, model=newest_model)
    assert np.array_equal(found[16:32, 16:48], original[16:32, 16:48]) and psnr(found, original) > 19.5


def test_grey_in_rgb_is_grey(newest_model: Model) -> None:
    data = (GOLDEN / "neighbours" / "neutral.ldc").read_bytes()
    assert [chunk.kind for chunk in container.read(data).chunks] == ["grey"]
    grey = decode_array((GOLDEN / "neighbours" / "grey.ldc").read_bytes(), model=newest_model)
    assert np.array_equal(decode_array(data, model=newest_model), np.repeat(grey[:, :, None], 3, 2))


def test_notes_come_back() -> None:
    found = decode_picture((GOLDEN / "notes.ldc").read_bytes()).notes
    assert found.iptc == b"\x1c\x02\x78\x00\x08A parrot"
    assert found.texts == (("Description", "Zoë – 名"), ("Comment", "one"), ("Comment", "two"))
    assert found.resolution == (300.0, 299.9994)

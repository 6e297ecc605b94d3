"""Chunks: what they hold comes back; what they must not hold is refused; claimed sizes are checked before use."""

import io
import struct
import warnings
import zlib
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

import ldcodec
from ldcodec.bitstream import chunktypes, container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.codec import decode_array, decode_picture, encode
from ldcodec.errors import (
    DamagedError,
    FormatError,
    LdcodecError,
    LdcodecWarning,
    PictureError,
    TargetError,
    UsageError,
)
from ldcodec.nets.model import Model
from ldcodec.pictures import chunks, planes
from ldcodec.pictures.picture import Picture
from tests.pictures import EXIF, SRGB, XMP, colours, disc, grey, texture
from tests.test_container import documented_bytes

WHOLE = Picture(texture(70, 90), disc(70, 90), SRGB, EXIF, XMP)


@pytest.mark.parametrize("text", [b"", b"x", b"abc" * 1000, bytes(range(256)), XMP, EXIF, SRGB])
def test_texts_come_back_and_take_at_most_a_byte_more(text: bytes) -> None:
    packed = chunktypes.pack(text)
    assert chunktypes.unpack(packed) == text
    assert len(packed) == 1 + min(len(text), len(zlib.compress(text, 9)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2abc",
        b"\1abc",
        b"\1" + zlib.compress(b"abc")[:-1],
        b"\1" + zlib.compress(b"abc") + b"more",
        b"\0" + bytes(chunktypes.MAX_TEXT + 1),
        b"\1" + zlib.compress(bytes(chunktypes.MAX_TEXT + 1)),
    ],
    ids=["empty", "coding", "no zlib", "cut", "more", "long", "bomb"],
)
def test_invalid_texts_are_left_out(data: bytes) -> None:
    assert chunktypes.unpack(data) is None
    source = Container(Header(1, 1, 0, True, bytes(range(8))), (Slice(4, b"", 0),), (Chunk("exif", data),))
    with pytest.warns(LdcodecWarning, match="chunk exif cannot be read and is left out"):
        assert chunks.unpack(np.zeros((1, 1), np.uint8), None, source).exif is None


def test_all_of_a_picture_comes_back(model: Model) -> None:
    data = encode(WHOLE, quality=50, fallback=False, model=model)
    assert [chunk.kind for chunk in container.read(data).chunks] == ["iccp", "exif", "xmpp", "ALPH"]
    found = decode_picture(data, model=model)
    assert (found.icc, found.exif, found.xmp) == (SRGB, EXIF, XMP)
    assert np.array_equal(found.array()[:, :, 3], disc(70, 90))
    image = ldcodec.decode(data, model=model)
    assert (image.mode, image.info["icc_profile"], image.info["xmp"]) == ("RGBA", SRGB, XMP)
    assert image.info["exif"] == b"Exif\0\0" + EXIF
    bare = encode(WHOLE, quality=50, strip=True, fallback=False, model=model)
    assert [chunk.kind for chunk in container.read(bare).chunks] == ["ALPH"]


def test_chunks_count_towards_the_target(model: Model) -> None:
    picture = replace(WHOLE, exif=EXIF + np.random.default_rng(0).bytes(3000))
    alone = encode(picture, quality=0, fallback=False, model=model)
    for size in (len(alone) + 150, len(alone) + 300):
        data = encode(picture, size=size, fallback=False, model=model)
        assert size - 0.01 * size <= len(data) <= size
    message = rf"2000 bytes is out of reach; the smallest has {len(alone)}, of which \d+ are metadata that strip leaves"
    with pytest.raises(TargetError, match=message):
        encode(picture, size=2000, fallback=False, model=model)


def lossless_pictures() -> dict[str, Picture]:
    noise = np.random.default_rng(0).integers(0, 256, (65, 130, 3)).astype(np.uint8)
    return {
        "RGB": Picture(noise, None, SRGB, EXIF, XMP),
        "RGBA": Picture(noise, disc(65, 130)),
        "grey": Picture(noise[:, :, 0]),
        "grey alpha": Picture(noise[:, :, 0], disc(65, 130)),
        "point": Picture(np.full((1, 1, 3), 7, np.uint8)),
        "wide": Picture(np.arange(20_000, dtype=np.uint16).astype(np.uint8)[None], disc(1, 20_000)),
        "high": Picture(np.tile(np.arange(16_384, dtype=np.uint16).astype(np.uint8)[:, None, None], (1, 2, 3))),
    }


@pytest.mark.parametrize("name", lossless_pictures())
def test_lossless_pictures_come_back_exactly(name: str) -> None:
    """Including colours that alpha hides; as PNG beyond WebP's limits; without a model."""
    picture = lossless_pictures()[name]
    data = encode(picture, lossless=True)
    source = container.read(data)
    assert (source.header.parse_id, source.header.quality, source.slices[0].payload) == (bytes(8), 0, b"")
    assert source.chunks[-1].kind == ("PNGI" if name in ("wide", "high") else "WEBP")
    found = decode_picture(data)
    assert np.array_equal(found.array(), picture.array())
    assert (found.icc, found.exif, found.xmp) == (picture.icc, picture.exif, picture.xmp)
    assert np.array_equal(decode_array(data), picture.array())
    described = ldcodec.info(data)
    assert (described["lossless"], described["alpha"]) == (True, picture.alpha is not None)


def test_lossless_excludes_a_target() -> None:
    for target in ({"rate": 1.0}, {"size": 9}, {"psnr": 30.0}, {"quality": 0.0}):
        with pytest.raises(UsageError, match="either lossless or one"):
            encode(colours(), lossless=True, **target)


def with_chunk(kind: str, data: bytes, model_id: bytes = bytes(range(8)), width: int = 7, height: int = 5) -> Container:
    parse_id = bytes(8) if kind in chunktypes.WHOLE_PICTURES else model_id
    rows = layout.latent_size(width, height)[0]
    return Container(Header(width, height, 0, True, parse_id), (Slice(rows, b"", 0),), (Chunk(kind, data),))


def pillow(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def claimed(data: bytes, width: int, height: int) -> bytes:
    """Lossless WebP data that claim another size."""
    fields = int.from_bytes(data[21:25], "little") & ~0xFFFFFFF | (width - 1) | (height - 1) << 14
    return data[:21] + struct.pack("<I", fields) + data[25:]


def hostile() -> dict[str, bytes]:
    """WebP and PNG data other than a grey picture of 7×5 pixels in the required layout."""
    image = Image.fromarray(grey())
    clear = image.convert("RGBA")
    clear.putalpha(100)
    exact = planes.webp(grey())
    return {
        "nothing": b"",
        "text": b"RIFF, it said",
        "other size": planes.webp(grey(5, 6)),
        "huge claim": claimed(exact, 16383, 16383),
        "claim of a row more": claimed(exact, 7, 6),
        "cut": exact[:-6],
        "lossy": pillow(image.convert("RGB"), "WEBP", quality=50),
        "with alpha": pillow(clear, "WEBP", lossless=True),
        "metadata": pillow(image.convert("RGB"), "WEBP", lossless=True, xmp=b"xmp"),
        "animation": pillow(
            image.convert("RGB"), "WEBP", lossless=True, save_all=True, append_images=[image.rotate(180)]
        ),
        "gif": pillow(image, "GIF"),
        "png of other size": pillow(Image.fromarray(grey(5, 6)), "PNG"),
        "png of RGB": pillow(image.convert("RGB"), "PNG"),
        "png with palette": pillow(image.convert("P"), "PNG"),
        "png cut": pillow(image, "PNG")[:-30],
        "png altered": pillow(image, "PNG").replace(b"IDAT", b"IDAX"),
    }


@pytest.mark.parametrize("name", hostile())
def test_pixels_of_another_kind_or_size_are_refused(name: str) -> None:
    data = hostile()[name]
    for source in (with_chunk("WEBP", data), with_chunk("PNGI", data)):
        with pytest.raises(DamagedError, match=r"chunk (WEBP|PNGI): its"):
            chunks.lossless_pixels(source)
    for coding in (b"\0", b"\1"):
        with pytest.raises(DamagedError, match="chunk ALPH: its"):
            chunks.alpha(with_chunk("ALPH", coding + data))
    with pytest.raises(DamagedError, match="unknown coding"):
        chunks.alpha(with_chunk("ALPH", b"\2" + planes.webp(grey())))


def test_other_sizes_are_refused_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow allocates the canvas of a WebP file when it opens it, and a PNG's when it loads it."""

    def opened(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("opened")

    huge = claimed(planes.webp(grey()), 16383, 16383)
    png = pillow(Image.fromarray(grey(5, 6)), "PNG")
    monkeypatch.setattr(Image.Image, "load", opened)
    with pytest.raises(DamagedError):
        chunks.lossless_pixels(with_chunk("PNGI", png))
    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(DamagedError):
        chunks.lossless_pixels(with_chunk("WEBP", huge))


def test_pillows_limit_of_pixels_holds_inside_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    png, webp = planes.png(grey()), planes.webp(grey())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)  # twice that are 34, one less than 7×5
    for kind, data in (("PNGI", png), ("WEBP", webp)):
        with pytest.raises(DamagedError, match="more pixels than is safe"):
            chunks.lossless_pixels(with_chunk(kind, data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 18)
    for kind, data in (("PNGI", png), ("WEBP", webp)):
        found = chunks.lossless_pixels(with_chunk(kind, data))  # Pillow's own warning is not passed on
        assert np.array_equal(found, grey())


def test_nothing_is_written_that_cannot_be_read_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.full((64, 64, 3), 9, np.uint8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 32 - 1)
    assert not container.read(encode(flat, quality=100, model=model)).lossless
    with pytest.raises(PictureError, match="64x64 are too many pixels"):
        encode(flat, lossless=True)
    with pytest.raises(PictureError, match="64x64 are too many pixels"):
        encode(np.dstack([flat, disc(64, 64)]), quality=50, model=model)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 32)
    assert container.read(encode(flat, quality=100, model=model)).lossless


@pytest.mark.parametrize("kind", ["WEBP", "PNGI", "ALPH"])
def test_any_byte_changed_inside_a_chunk_gives_a_picture_or_one_line(kind: str) -> None:
    """Data with correct checksums can still be wrong."""
    data = {"WEBP": planes.webp(grey()), "PNGI": planes.png(grey()), "ALPH": b"\0" + planes.webp(grey())}[kind]
    for position in range(len(data)):
        for change in (1, 0x80, 0xFF):
            source = with_chunk(kind, data[:position] + bytes([data[position] ^ change]) + data[position + 1 :])
            try:
                found = chunks.alpha(source) if kind == "ALPH" else chunks.lossless_pixels(source)
            except LdcodecError as error:
                assert "\n" not in str(error)
                continue
            assert found is not None and found.shape == (5, 7) and found.dtype == np.uint8


CONTRADICTIONS = {
    "more than one chunk ALPH": (bytes(range(8)), ["ALPH", "exif", "ALPH"]),
    "more than one chunk exif": (bytes(range(8)), ["exif", "exif"]),
    "two lossless pictures": (bytes(8), ["WEBP", "PNGI"]),
    "a model although its picture is lossless": (bytes(range(8)), ["WEBP"]),
    "names no model": (bytes(8), ["ALPH"]),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_chunks_that_contradict_each_other_are_refused(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_id, kinds = CONTRADICTIONS[message]
    source = Container(Header(7, 5, 0, True, parse_id), (Slice(4, b"", 0),), tuple(Chunk(kind, b"") for kind in kinds))
    with pytest.raises(FormatError, match=message):
        container.write(source)
    with monkeypatch.context() as patch:
        patch.setattr(chunktypes, "problem", lambda kinds, parse_id: None)
        data = container.write(source)
    with pytest.raises(FormatError, match=message):
        container.read(data)


def test_unknown_chunks_may_occur_twice() -> None:
    source = with_chunk("note", b"a")
    twice = replace(source, chunks=(Chunk("note", b"a"), Chunk("note", b"b")))
    assert container.read(container.write(twice)) == twice


def test_decoding_a_lossless_picture_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_picture(encode(WHOLE, lossless=True))


def test_the_documented_file_is_the_documented_picture() -> None:
    data = documented_bytes("A picture without loss")
    assert len(data) == 142
    found = decode_picture(data)
    assert found.array().tolist() == [[[255, 0, 0, 255], [0, 0, 255, 0]]]
    assert found.xmp == b"<x/>"
    assert container.write(container.read(data)) == data
    assert [(c.kind, c.data[:5]) for c in chunks.lossless(found).chunks] == [
        ("xmpp", b"\0<x/>"),
        ("ALPH", b"\0RIFF"),
        ("WEBP", b"RIFF\x1e"),
    ]


def read_by_the_document(data: bytes) -> tuple[dict[str, bytes], tuple[int, int]]:
    """The chunks and the size of a file in the extended form, read as docs/bitstream.md says."""
    place = 15

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    assert data[:5] == b"\x8aLDC\1" and data[6] & 128
    size = varint(), varint()
    count, slices = varint(), varint()
    table = []
    for _ in range(count):
        kind = data[place : place + 4].decode()
        place += 4
        table.append((kind, varint(), data[place : place + 4]))
        place += 4
    for _ in range(slices):
        varint(), varint()
        place += 8
    assert zlib.crc32(data[:place]).to_bytes(4, "little") == data[place : place + 4]
    place += 4
    found = {}
    for kind, length, crc in table:
        found[kind] = data[place : place + length]
        assert zlib.crc32(found[kind]).to_bytes(4, "little") == crc
        place += length
    return found, size


def test_a_reader_written_from_the_document_finds_everything(model: Model) -> None:
    for data in (encode(WHOLE, lossless=True), encode(WHOLE, quality=50, fallback=False, model=model)):
        found, size = read_by_the_document(data)
        assert size == (90, 70)
        for kind, text in (("iccp", SRGB), ("exif", EXIF), ("xmpp", XMP)):
            rest = found[kind][1:]
            assert (zlib.decompress(rest) if found[kind][0] else rest) == text
        with Image.open(io.BytesIO(found["ALPH"][1:])) as plane:
            assert np.array_equal(np.asarray(plane.convert("RGB"))[:, :, 1], disc(70, 90))
        if "WEBP" in found:
            with Image.open(io.BytesIO(found["WEBP"])) as image:
                assert np.array_equal(np.asarray(image), WHOLE.pixels)

"""More than 8 bits a sample: read, coded and written at their depth, as other readers and writers see them."""

import io
import struct
import sys
import tracemalloc
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Reader
from ldcodec.bitstream.slices import cut
from ldcodec.codec import decode, decode_array, decode_picture, encode
from ldcodec.decoder.request import Request
from ldcodec.encoder.library import by_ncnn, load_model
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.errors import DamagedError, FormatError, LdcodecWarning, PictureError
from ldcodec.jobs.limits import decoding_memory, encoding_memory
from ldcodec.nets.model import Model
from ldcodec.pictures import brightness
from ldcodec.pictures.codepoints import ADOBE_CURVE, ADOBE_RGB, CURVES, PRIMARIES, CodePoints
from ldcodec.pictures.colour import shown
from ldcodec.pictures.exif import ORIENTATION, without_orientation
from ldcodec.pictures.metadata import strip
from ldcodec.pictures.notes import Notes
from ldcodec.pictures.picture import Picture, Pixels, at_depth
from ldcodec.pictures.profiles import made, space
from ldcodec.pictures.read import from_image, read
from ldcodec.pictures.write import write
from tests.commands import TARGET, TINY, Call
from tests.pictures import exif_of, texture

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")

Deep = NDArray[np.uint16]
SHAPES = {"grey": (5, 7), "grey and alpha": (5, 7, 2), "RGB": (5, 7, 3), "RGBA": (5, 7, 4)}


def values(*shape: int, white: int = 65535) -> Deep:
    return np.random.default_rng(len(shape)).integers(0, white + 1, shape).astype(np.uint16)


def smooth(height: int, width: int) -> Deep:
    """A ramp of three colours, from dark to light, in steps far finer than 1/255."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.rint(65535 * (0.3 + 0.25 * np.stack([x, y, (x + y) / 2], 2))).astype(np.uint16)


def deep_psnr(found: Pixels, expected: Pixels) -> float:
    error = np.square(at_depth(found, 16).astype(float) - expected).mean()
    return float(10 * np.log10(65535**2 / error))


def assert_read(data: bytes, expected: Deep, depth: int = 16) -> None:
    """As a stream, and as an image of Pillow."""
    for found in (read(io.BytesIO(data)), from_image(Image.open(io.BytesIO(data)))):
        assert found.depth == depth and found.pixels.dtype == np.uint16
        assert np.array_equal(found.array(), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_png_is_read_at_its_depth(shape: str) -> None:
    expected = values(*SHAPES[shape])
    assert_read(imagecodecs.png_encode(expected), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_interlaced_png_is_read_at_its_depth(shape: str) -> None:
    expected = values(*SHAPES[shape])
    assert_read(interlaced(expected), expected)


def interlaced(samples: Deep) -> bytes:
    """A PNG file in seven passes (Adam7), with the filter None."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b""
    for top, down, left, across in passes:
        part = samples[top::down, left::across]
        rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part) if part.size else b""
    kind = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(samples.shape[-1])}[samples.ndim]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, kind, 0, 0, 1)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("key", [(1, 2, 3), (258, 515, 772)])
def test_the_transparent_colour_of_png_is_compared_in_all_bits(key: tuple[int, int, int]) -> None:
    samples = values(5, 7, 3)
    samples[1, 2], samples[3, 4] = key, np.array(key) ^ 1  # equal in the high bytes
    data = imagecodecs.png_encode(samples)
    chunk = b"tRNS" + struct.pack(">3H", *key)
    place = data.index(b"IDAT") - 4
    found = read(io.BytesIO(data[:place] + b"\0\0\0\6" + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[place:]))
    assert found.alpha is not None and np.argwhere(found.alpha == 0).tolist() == [[1, 2]]
    assert np.array_equal(found.pixels, samples)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("shape", ["grey", "RGB", "RGBA"])
def test_tiff_is_read_at_its_depth(
    shape: str, tile: tuple[int, int] | None, compression: str | None, order: Literal["<", ">"]
) -> None:
    expected = values(37, 53, *SHAPES[shape][2:])
    file = io.BytesIO()
    kind = {"photometric": "rgb" if expected.ndim == 3 else "minisblack"}
    extra = {"extrasamples": ["unassalpha"]} if shape == "RGBA" else {}
    tifffile.imwrite(file, expected, byteorder=order, compression=compression, tile=tile, **kind, **extra)
    assert_read(file.getvalue(), expected)


def test_colours_times_alpha_are_divided_by_it() -> None:
    samples = values(37, 53, 4)
    samples[:, :, :3] = samples[:, :, :3] * (samples[:, :, 3:] / 65535)
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb", extrasamples=["assocalpha"])
    found = read(io.BytesIO(file.getvalue()))
    assert found.alpha is not None and np.array_equal(found.alpha, samples[:, :, 3])
    expected = np.minimum(samples[:, :, :3] * 65535.0 / np.maximum(samples[:, :, 3:], 1), 65535)
    assert np.abs(found.pixels - expected).max() <= 0.5


@pytest.mark.parametrize("white", [1023, 4095, 65535, 1000])
@pytest.mark.parametrize("shape", ["grey", "RGB"])
def test_pixmaps_are_read_at_their_depth(shape: str, white: int) -> None:
    samples = values(*SHAPES[shape], white=white)
    expected = np.floor(samples * (65535 / white) + 0.5)
    header = f"P{5 if shape == 'grey' else 6}\n# 1 2 3\n7 5\n{white}\n".encode()
    depth = {1023: 10, 4095: 12}.get(white, 16)
    found = read(io.BytesIO(header + samples.astype(">u2").tobytes()))
    assert found.depth == depth and found.pixels.dtype == np.uint16
    assert np.abs(found.pixels - expected).max() <= (0 if white != 1000 else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned(orientation: int) -> None:
    samples, shallow = values(5, 7, 3), io.BytesIO()
    exif = b"Exif\0\0" + exif_of("<", orientation)
    Image.fromarray((samples >> 8).astype(np.uint8)).save(shallow, "PNG", exif=exif)
    with_exif = shallow.getvalue()
    chunk = with_exif[with_exif.index(b"eXIf") - 4 :]
    chunk = chunk[: 12 + int.from_bytes(chunk[:4], "big")]
    data = imagecodecs.png_encode(samples)
    place = data.index(b"IDAT") - 4
    deep, flat = (read(io.BytesIO(file)) for file in (data[:place] + chunk + data[place:], with_exif))
    assert np.array_equal(deep.pixels >> 8, flat.pixels)
    assert deep.exif == flat.exif


@pytest.mark.parametrize("no_jp2", [True, False])
def test_signed_samples_of_jpeg_2000_are_refused(no_jp2: bool) -> None:
    file = io.BytesIO()
    Image.fromarray(values(16, 16)).save(file, "JPEG2000", no_jp2=no_jp2)
    data = bytearray(file.getvalue())
    data[data.index(b"\xff\x4f\xff\x51") + 42] |= 0x80  # the sign of the first component, and that of all
    if not no_jp2:
        data[data.index(b"ihdr") + 14] |= 0x80
    with pytest.raises(PictureError, match="signed integers"):
        read(io.BytesIO(bytes(data)))


@pytest.mark.parametrize("no_jp2", [True, False])
def test_grey_jpeg_2000_is_read_at_its_depth(no_jp2: bool) -> None:
    samples, file = values(16, 16), io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG2000", no_jp2=no_jp2)
    assert_read(file.getvalue(), samples)


def test_an_image_that_was_loaded_is_taken_as_it_is(tmp_path: Path) -> None:
    """It may have been changed since, so its file says nothing of it any more."""
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(values(5, 7, 3)))
    image = Image.open(path)
    assert np.array_equal(from_image(Image.open(path)).pixels, values(5, 7, 3))
    image.putpixel((0, 0), (1, 2, 3))
    with pytest.warns(LdcodecWarning, match="its 16-bit samples are reduced to 8 bits"):
        found = from_image(image)
    assert found.depth == 8 and found.pixels[0, 0].tolist() == [1, 2, 3]


def test_profiles_of_grey_with_alpha() -> None:
    """Pillow takes 16 bits of it for colours, which a profile of grey does not fit."""
    icc, file = made(CURVES[8], None, "Linear grey"), io.BytesIO()
    write(Picture(values(5, 7), values(5, 7), icc, depth=16), file, "PNG")
    with warnings.catch_warnings(action="error"):
        found = read(io.BytesIO(file.getvalue()))
    assert found.grey and found.icc == icc
    place = file.getvalue().index(b"iCCP") - 4
    gamma = struct.pack(">I4sI", 4, b"gAMA", 100_000)
    linear = file.getvalue()[:place] + gamma + struct.pack(">I", zlib.crc32(gamma[4:])) + file.getvalue()[place:]
    end = place + 16 + 12 + int.from_bytes(file.getvalue()[place : place + 4], "big")
    found = read(io.BytesIO(linear[: place + 16] + linear[end:]))
    assert found.icc is not None and space(found.icc) == b"GRAY"


def test_16_bits_that_pillow_keeps_in_no_way_are_told() -> None:
    file = io.BytesIO()
    Image.fromarray(texture(16, 16)).save(file, "SGI", bpc=2)
    with pytest.warns(LdcodecWarning, match="its 16-bit samples are reduced to 8 bits"):
        read(io.BytesIO(file.getvalue()))


def written(picture: Picture, format: str) -> bytes:
    file = io.BytesIO()
    write(picture, file, format)
    return file.getvalue()


def picture_of(array: Deep, **more: Any) -> Picture:
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels in (1, 3):
        return Picture(array, depth=16, **more)
    return Picture(array[:, :, 0] if channels == 2 else array[:, :, :3], array[:, :, -1], depth=16, **more)


@pytest.mark.parametrize("shape", SHAPES)
def test_other_readers_see_what_is_written(shape: str) -> None:
    for array in (values(*SHAPES[shape]), values(300, 500, *SHAPES[shape][2:])):
        assert np.array_equal(imagecodecs.png_decode(written(picture_of(array), "PNG")), array)
        assert np.array_equal(tifffile.imread(io.BytesIO(written(picture_of(array), "TIFF"))), array)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (64, 65)])
def test_sizes_of_what_is_written(size: tuple[int, int]) -> None:
    array = smooth(*size)
    for format in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(read(io.BytesIO(written(picture_of(array), format))).pixels, array)


@pytest.mark.parametrize("shape", ["grey", "RGB"])
def test_pixmaps_are_written_in_two_bytes_a_sample(shape: str) -> None:
    array = values(*SHAPES[shape])
    data = written(picture_of(array), "PPM")
    header = b"P%d\n7 5\n65535\n" % (5 if shape == "grey" else 6)
    assert data == header + array.astype(">u2").tobytes()


def test_smooth_pictures_are_written_in_few_bytes() -> None:
    """The filters of PNG and the predictor of TIFF are used: without them it is 1.3 times as long."""
    array = smooth(256, 256)
    assert len(written(picture_of(array), "PNG")) < len(zlib.compress(array.tobytes())) / 1.3
    assert len(written(picture_of(array), "TIFF")) < len(zlib.compress(array.tobytes())) / 1.3


@pytest.mark.parametrize("shape", ["grey", "RGBA"])
def test_metadata_travels_with_deep_pictures(shape: str) -> None:
    notes = Notes(b"\x1c\x02\x78\0\3abc", (("Comment", "a word"), ("Title", "größer")), (300.0, 200.0))
    icc = made(ADOBE_CURVE, None if shape == "grey" else ADOBE_RGB, "a profile")
    given = picture_of(values(*SHAPES[shape]), icc=icc, exif=exif_of("<", 1), xmp=b"<x/>", notes=notes)
    back = read(io.BytesIO(written(given, "PNG")))
    assert (back.exif, back.xmp, back.notes.iptc) == (given.exif, given.xmp, notes.iptc)
    assert sorted(back.notes.texts) == sorted(notes.texts)
    assert back.notes.resolution == pytest.approx(notes.resolution, abs=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)  # of the texts
        back = read(io.BytesIO(written(given, "TIFF")))
    assert (back.xmp, back.notes.iptc, back.notes.resolution) == (given.xmp, notes.iptc, notes.resolution)
    assert back.exif is not None
    assert back.icc == icc


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP"])
def test_formats_of_8_bits_are_told(format: str) -> None:
    array = smooth(16, 16)
    with pytest.warns(LdcodecWarning, match=f"{format} cannot hold 16 bits a sample: they are reduced to 8"):
        data = written(picture_of(array), format)
    if format != "JPEG":
        assert np.array_equal(read(io.BytesIO(data)).pixels, np.floor(array / 257 + 0.5))


def test_a_deep_picture_laid_onto_white_stays_deep() -> None:
    array = values(5, 7, 4)
    with pytest.warns(LdcodecWarning, match="transparency"):
        found = read(io.BytesIO(written(picture_of(array), "PPM"))).pixels
    share = array[:, :, 3:] / 65535
    assert np.abs(found - (array[:, :, :3] * share + 65535 * (1 - share))).max() <= 0.51


def test_arrays_come_back_in_their_type(model: Model) -> None:
    array = smooth(70, 90)
    data = encode(array, quality=90, model=model)
    found = decode_array(data, model=model)
    assert container.info(data)["depth"] == 16 and found.dtype == np.uint16
    shallow = encode(array, quality=90, depth=8, model=model)
    assert container.info(shallow)["depth"] == 8 and decode_array(shallow, model=model).dtype == np.uint8
    assert shallow == encode(at_depth(array, 8), quality=90, model=model)
    assert data == encode(array.astype(">u2"), quality=90, model=model)


def test_a_file_says_nothing_of_8_bits(model: Model) -> None:
    """What an old reader opens stays as it was."""
    data = encode(texture(40, 40), quality=50, model=model)
    assert data[5:7] == (container.read(data).header.quality | 0x2000).to_bytes(2, "little")


def test_decoding_to_another_depth(model: Model) -> None:
    """Both are drawn from the same floats."""
    for array in (smooth(70, 90), at_depth(smooth(70, 90), 8)):
        data = encode(array, quality=90, model=model)
        deep, flat = (decode_array(data, model=model, request=Request(depth=depth)) for depth in (16, 8))
        assert deep.dtype == np.uint16 and flat.dtype == np.uint8
        assert np.abs(deep / 257 - flat).max() <= 0.51


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [9, 10, 12, 16])
def test_lossless_keeps_every_bit(shape: str, depth: int) -> None:
    array = values(*SHAPES[shape], white=(1 << depth) - 1)
    full = np.floor(array * (65535 / ((1 << depth) - 1)) + 0.5).astype(np.uint16)
    given = picture_of(full)
    data = encode(Picture(given.pixels, given.alpha, depth=depth), lossless=True)
    found = decode_picture(data)
    assert found.depth == depth == container.info(data)["depth"]
    assert np.array_equal(found.array(), full)


def test_lossless_stores_no_more_than_the_levels_that_there_are() -> None:
    array = values(64, 64, white=1023)
    full = np.floor(array * (65535 / 1023) + 0.5).astype(np.uint16)
    assert len(encode(Picture(full, depth=10), lossless=True)) < 0.85 * len(encode(full, lossless=True))


def test_alpha_is_kept_at_its_depth(model: Model) -> None:
    array = values(40, 50, 4)
    found = decode_array(encode(array, quality=50, fallback=False, model=model), model=model)
    assert found.dtype == np.uint16 and np.array_equal(found[:, :, 3], array[:, :, 3])
    array[:, :, 3] = at_depth(values(40, 50, white=255).astype(np.uint8), 16)
    data = encode(array, quality=50, fallback=False, model=model)
    assert container.read(data).chunk("ALPH")[:1] in (b"\0", b"\1")  # type: ignore[index]
    assert np.array_equal(decode_array(data, model=model)[:, :, 3], array[:, :, 3])


def test_lossless_webp_is_no_deep_picture() -> None:
    flat = container.read(encode(texture(5, 7), lossless=True))
    with pytest.raises(FormatError, match="lossless WebP although it has more than 8 bits"):
        container.write(replace(flat, header=replace(flat.header, depth=10)))


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
def test_slices_regions_and_previews_are_deep(model: Model, scale: int) -> None:
    array = smooth(300, 200)
    encoder = SlicedEncoder(array, model, depth=16)
    encoder.spans = cut(200, 300, area=8 * 12)
    data = encoder.code(3600).data
    assert encoder.psnr(encoder.code(3600)) == pytest.approx(
        deep_psnr(decode_array(data, model=model), array), abs=1e-6
    )
    if scale == 1:
        whole = decode_array(data, model=model)
        part = decode_array(data, model=model, request=Request(region=(30, 40, 50, 60)))
        assert np.abs(whole[40:100, 30:80].astype(int) - part).max() <= 3
        return
    preview = decode_array(data, model=model, request=Request(scale=scale))
    flat = decode_array(data, model=model, request=Request(scale=scale, depth=8))
    assert preview.dtype == np.uint16 and np.abs(preview / 257 - flat).max() <= 0.51


@pytest.mark.parametrize("scale", [2, 16])
def test_previews_of_lossless_pictures_are_deep(scale: int) -> None:
    array = values(33, 50, 4)
    found = decode_array(encode(array, lossless=True), request=Request(scale=scale))
    for row in (0, found.shape[0] - 1):
        box = array[scale * row : scale * (row + 1), :scale]
        assert np.abs(found[row, 0] - box.mean((0, 1))).max() <= 0.5
    assert found.shape == (-(-33 // scale), -(-50 // scale), 4)


def test_pillow_gets_16_bits_where_it_has_a_mode_for_them(model: Model) -> None:
    array = smooth(70, 90)
    grey = decode(encode(array[:, :, 0], quality=90, model=model), model=model)
    assert grey.mode == "I;16"
    colour = decode(encode(array, quality=90, model=model), model=model)
    assert colour.mode == "RGB" and np.abs(np.asarray(colour) * 257.0 - array).max() < 65535 / 20


def test_psnr_counts_in_whole_ranges(model: Model) -> None:
    """A target of so many dB asks the same of both depths."""
    array = at_depth(texture(128, 128), 16)
    deep, flat = (encode(part, psnr=18, fallback=False, model=model) for part in (array, at_depth(array, 8)))
    assert 18 <= deep_psnr(decode_array(deep, model=model), array) < 18.2
    assert len(deep) == len(flat) + 1


def test_torch_and_numpy_arrays_of_other_kinds_are_refused() -> None:
    for kind in (np.int16, np.uint32, np.float32):
        with pytest.raises(PictureError, match="uint8 or uint16"):
            encode(np.zeros((4, 4), kind), quality=50)


def test_readers_see_the_depth_without_chunks_or_payload(model: Model) -> None:
    data = encode(smooth(70, 90), quality=50, model=model)
    assert Reader(io.BytesIO(data)).header.depth == 16


def test_there_and_back_by_commands(call: Call, tmp_path: Path) -> None:
    array = smooth(60, 80)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    assert call("compress", "a.png", *TARGET, *TINY)[::2] == (0, "")
    assert "RGB, 16 bits a sample" in call("info", "a.ldc")[1]
    for name, kind in (("b.png", np.uint16), ("b.tif", np.uint16), ("b.ppm", np.uint16)):
        assert call("decompress", "a.ldc", "-o", name)[::2] == (0, "")
        assert read(tmp_path / name).pixels.dtype == kind
    assert call("decompress", "a.ldc", "-o", "c.png", "--depth", "8")[::2] == (0, "")
    assert read(tmp_path / "c.png").depth == 8
    assert "WEBP cannot hold 16 bits a sample" in call("decompress", "a.ldc", "-o", "b.webp")[2]
    assert call("compress", "a.png", "-o", "d.ldc", *TARGET, *TINY, "--depth", "8")[::2] == (0, "")
    assert "bits a sample" not in call("info", "d.ldc")[1]
    assert call("decompress", "d.ldc", "-o", "d.png", "--depth", "16")[0] == 0
    assert read(tmp_path / "d.png").depth == 16
    assert call("compress", "a.png", "-o", "e.ldc", *TARGET, "--depth", "16")[0] == 2


def test_folders_go_on_with_manifests_from_before(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(imagecodecs.png_encode(smooth(60, 80)))
    order = ["compress", "-r", "in", "-o", "out", "--lossless"]
    assert call(*order)[0] == 0
    manifest = (tmp_path / "out" / ".ldcodec-manifest.jsonl").read_text()
    assert '"depth"' not in manifest
    assert "1 done before" in call(*order)[1]
    assert call(*order, "--depth", "8")[0] == 2


def test_pillow_opens_grey_of_16_bits(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ldcodec.pillow  # noqa: F401  # registers the format

    array = smooth(70, 90)
    (tmp_path / "grey.ldc").write_bytes(encode(array[:, :, 0], lossless=True))
    (tmp_path / "colour.ldc").write_bytes(encode(array, lossless=True))
    with Image.open(tmp_path / "grey.ldc") as image:
        assert image.mode == "I;16" and np.array_equal(np.asarray(image), array[:, :, 0])
    with Image.open(tmp_path / "colour.ldc") as image:
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), at_depth(array, 8))
    Image.fromarray(array[:, :, 0]).save(tmp_path / "saved.ldc", lossless=True)
    assert np.array_equal(decode_array((tmp_path / "saved.ldc").read_bytes()), array[:, :, 0])


@pytest.mark.parametrize("given", [{}, {"exif": b"Exif\0\0" + exif_of("<", 1)}])
def test_saving_colours_of_16_bits_by_pillow_is_told(tmp_path: Path, given: dict[str, Any]) -> None:
    import ldcodec.pillow  # noqa: F401  # registers the format

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(smooth(20, 30)))
    with Image.open(tmp_path / "a.png") as image, pytest.warns(LdcodecWarning, match="16-bit samples are reduced"):
        image.save(tmp_path / "a.ldc", lossless=True, **given)


def test_the_memory_forecast_knows_the_depth() -> None:
    flat = Header(5000, 5000, 0, False, bytes(8))
    spans = cut(5000, 5000)
    shallow, deep = (decoding_memory(replace(flat, depth=depth), spans, 20, 25_000_000) for depth in (8, 16))
    assert deep - shallow == 3 * 25_000_000
    shallow, deep = (encoding_memory(5000, 5000, spans, 1, 20, wide) for wide in (1, 2))
    assert deep - shallow == 3 * 25_000_000


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_reading_takes_no_more_than_the_forecast(kind: str) -> None:
    """Of its 16 bytes a pixel Pillow's own are not seen here: 6 are samples, and joining them takes a few more."""
    array = smooth(1500, 2000)
    data = {
        "png": lambda: imagecodecs.png_encode(array, level=1),
        "tiff": lambda: written(picture_of(array), "TIFF"),
        "ppm": lambda: written(picture_of(array), "PPM"),
    }[kind]()
    tracemalloc.start()
    found = read(io.BytesIO(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11 * found.width * found.height + 2e7


@pytest.mark.parametrize("grey", [False, True])
def test_libraries_agree_on_16_bits(shipped_model: Model, grey: bool) -> None:
    """Within 64 of 65535, a quarter of a level of 8 bits."""
    if not by_ncnn("cpu"):
        pytest.skip("ncnn is not installed")
    array = smooth(100, 90)[:, :, 0] if grey else smooth(100, 90)
    data = encode(array, quality=90, fallback=False, model=shipped_model)
    one, other = (decode_array(data, model=model).astype(int) for model in (shipped_model, load_model(device="cpu")))
    assert np.abs(one - other).max() <= 64


def test_a_smooth_ramp_has_no_bands(shipped_model: Model) -> None:
    """Along 512 pixels over 16 levels of 8 bits, which have steps of 32 pixels; at quality 90."""
    row = np.rint(257 * np.linspace(100, 116, 512)).astype(np.uint16)
    array = np.broadcast_to(row[None, :, None], (128, 512, 3)).copy()
    data = encode(array, quality=90, fallback=False, model=shipped_model)
    steps = {}
    for depth in (8, 16):
        found = decode_array(data, model=shipped_model, request=Request(depth=depth))
        edges = np.flatnonzero(np.diff(found[64, :, 1].astype(int)))
        steps[depth] = np.diff([-1, *edges, 511]).max()
    assert steps[16] <= 4 < 24 <= steps[8]


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("shape", ["grey", "RGB", "RGBA"])
def test_avif_is_read_at_its_depth(shape: str, depth: int) -> None:
    samples = smooth(40, 60) >> (16 - depth)
    samples = {"grey": samples[:, :, 0], "RGB": samples, "RGBA": np.dstack([samples, samples[:, :, 1]])}[shape]
    data = imagecodecs.avif_encode(samples, bitspersample=depth, level=100, speed=8)
    found = read(io.BytesIO(data))
    full = np.floor(imagecodecs.avif_decode(data) * (65535 / ((1 << depth) - 1)) + 0.5)
    assert found.depth == depth
    assert np.array_equal(found.array(), full)
    assert np.abs(found.array() / 65535 - samples / ((1 << depth) - 1)).max() < 0.02


def test_avif_of_10_bits_looks_as_pillow_shows_it() -> None:
    samples = smooth(40, 60) >> 6
    data = imagecodecs.avif_encode(samples, bitspersample=10, level=95, speed=8)
    assert np.abs(read(io.BytesIO(data)).pixels / 257 - np.asarray(Image.open(io.BytesIO(data)))).mean() < 1
    assert np.array_equal(from_image(Image.open(io.BytesIO(data))).pixels, read(io.BytesIO(data)).pixels)


@pytest.mark.parametrize("depth", [10, 12, 16])
@pytest.mark.parametrize("shape", ["grey", "RGB", "RGBA"])
def test_jpeg_2000_is_read_at_its_depth(shape: str, depth: int) -> None:
    samples = values(16, 24, *SHAPES[shape][2:], white=(1 << depth) - 1)
    data = imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=depth, reversible=True)
    expected = np.floor(samples * (65535 / ((1 << depth) - 1)) + 0.5).astype(np.uint16)
    assert_read(data, expected, depth)


@pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16", "I;16"])
def test_heic_is_read_at_its_depth(mode: str) -> None:
    heif = pytest.importorskip("pillow_heif")
    array = smooth(64, 64)
    array = {"RGB;16": array, "RGBA;16": np.dstack([array, array[:, :, 1]]), "I;16": array[:, :, 0]}[mode]
    file = io.BytesIO()
    heif.from_bytes(mode, (64, 64), array.tobytes()).save(file, quality=95)
    for found in (read(io.BytesIO(file.getvalue())), from_image(heif.HeifImageFile(io.BytesIO(file.getvalue())))):
        assert found.depth == 10
        assert 0 < np.abs(found.array().astype(int) - array).mean() < 300
        assert len(np.unique(found.pixels)) > 64  # as many as there are in 8 bits, and more


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = imagecodecs.avif_encode(smooth(40, 60) >> 6, bitspersample=10, level=95, speed=8)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.warns(LdcodecWarning, match=r"its 10-bit samples are reduced to 8 bits; pip install 'ldcodec\[deep\]'"):
        assert read(io.BytesIO(data)).depth == 8


def tiff_of(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def assert_read_from_file(data: bytes, expected: Deep, depth: int = 16) -> None:
    found = read(io.BytesIO(data))
    assert found.depth == depth and np.array_equal(found.array(), expected)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_floats_are_rounded_to_16_bits(shape: str, kind: type) -> None:
    floats: NDArray[Any] = (values(*SHAPES[shape]) / 65535).astype(kind)
    extra = {"extrasamples": ["unassalpha"]} if "alpha" in shape or shape == "RGBA" else {}
    photometric = "rgb" if shape.startswith("RGB") else "minisblack"
    data = tiff_of(floats, photometric=photometric, planarconfig="contig", **extra)
    with pytest.warns(LdcodecWarning, match="its floats are rounded to 16 bits"):
        assert_read_from_file(data, np.rint(floats.astype(np.float64) * 65535).astype(np.uint16))


def test_floats_a_little_beyond_are_clipped_and_others_refused() -> None:
    floats = np.full((40, 50, 3), 0.5, np.float32)
    floats[0, 0] = -0.5, 1.5, np.nan
    with pytest.warns(LdcodecWarning) as caught:
        found = read(io.BytesIO(tiff_of(floats, photometric="rgb")))
    assert found.pixels[0, 0].tolist() == [0, 65535, 0]
    assert "its floats from -0.5 to 1.5 are clipped to 0..1" in [str(warning.message) for warning in caught]
    with pytest.raises(PictureError, match=r"floats from 0 to 255; scale them to 0..1 first"):
        read(io.BytesIO(tiff_of(np.linspace(0, 255, 6000, dtype=np.float32).reshape(40, 50, 3), photometric="rgb")))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_16_bits_are_read(order: Literal["<", ">"], compression: str | None) -> None:
    samples = values(3, 37, 53)
    options = {"photometric": "rgb", "planarconfig": "separate", "byteorder": order, "compression": compression}
    data = tiff_of(samples, **options)
    assert_read_from_file(data, samples.transpose(1, 2, 0))
    with pytest.raises(PictureError, match="Pillow shows wrongly"):
        from_image(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_floats_of_grey_have_both_polarities(photometric: str) -> None:
    floats = values(5, 7) / np.float32(65535)
    with pytest.warns(LdcodecWarning):
        found = read(io.BytesIO(tiff_of(floats.astype(np.float32), photometric=photometric))).pixels
    expected = np.rint(floats * 65535)
    assert np.abs(found - (expected if photometric == "minisblack" else 65535 - expected)).max() <= 1


def test_grey_with_alpha_of_16_bits_in_tiff() -> None:
    samples = values(37, 53, 2)
    data = tiff_of(samples, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    assert_read_from_file(data, samples)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_odd_depths(bits: int) -> None:
    samples = values(16, 24, 3, white=(1 << bits) - 1)
    data = bytearray(tiff_of(samples, photometric="rgb", byteorder="<", metadata=None))
    rows = [np.unpackbits(row.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 16 - bits :].ravel() for row in samples]
    strips = b"".join(np.packbits(row).tobytes() for row in rows)
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        page = file.pages[0]
        place, count = page.dataoffsets[0], page.databytecounts[0]
        bits_at = page.tags[258].valueoffset
        counts_at = page.tags[279].valueoffset
    data[place : place + count] = strips.ljust(count, b"\0")
    struct.pack_into("<3H", data, bits_at, bits, bits, bits)
    struct.pack_into("<I", data, counts_at, len(strips))
    expected = np.floor(samples * (65535 / ((1 << bits) - 1)) + 0.5).astype(np.uint16)
    assert_read_from_file(bytes(data), expected, bits)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_odd_tiff_is_turned_once(orientation: int) -> None:
    samples = values(3, 5, 7)
    plain = samples.transpose(1, 2, 0)
    odd = tiff_of(samples, photometric="rgb", planarconfig="separate", extratags=[(274, 3, 1, orientation, True)])
    usual = tiff_of(plain, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    assert np.array_equal(read(io.BytesIO(odd)).pixels, read(io.BytesIO(usual)).pixels)


def test_odd_tiff_keeps_profile_and_resolution() -> None:
    icc = made(ADOBE_CURVE, ADOBE_RGB, "a profile")
    options = {"photometric": "rgb", "iccprofile": icc, "resolution": (300, 200), "resolutionunit": 2, "software": "x"}
    found = read(io.BytesIO(tiff_of(values(3, 40, 50), planarconfig="separate", **options)))
    assert found.icc == icc and found.notes.resolution == (300, 200) and found.exif is not None


def test_missing_tifffile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff_of(values(3, 37, 53), photometric="rgb", planarconfig="separate")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        PictureError, match=r"TIFF picture of a kind that needs tifffile: pip install 'ldcodec\[deep\]'"
    ):
        read(io.BytesIO(data))


def test_profiles_are_applied_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for array, primaries in ((values(16, 24, 3), ADOBE_RGB), (values(16, 24), None)):
        icc = made(ADOBE_CURVE, primaries, "a profile")
        deep = strip(picture_of(array, icc=icc))
        flat = strip(Picture(at_depth(array, 8), icc=icc))
        assert deep.depth == 16 and deep.icc is None and deep.pixels.shape == array.shape
        assert np.abs(deep.pixels / 257 - flat.pixels).max() < 4  # in the darkest colours 8 bits are coarse
        assert np.abs(deep.pixels / 257 - flat.pixels).mean() < 0.6
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.warns(LdcodecWarning, match=r"converted to sRGB in 8 bits; pip install 'ldcodec\[deep\]'"):
        assert strip(picture_of(values(5, 7), icc=icc)).depth == 8


def with_code_points(samples: Deep, *points: int) -> bytes:
    """A PNG file with a chunk cICP."""
    data = imagecodecs.png_encode(samples)
    place, chunk = data.index(b"IDAT") - 4, b"cICP" + bytes(points)
    return data[:place] + b"\0\0\0\4" + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[place:]


def pq_ramp() -> Deep:
    """From dark to 58 % of the signal, which is reference white."""
    return (smooth(40, 60) * 0.8).astype(np.uint16)


@pytest.mark.parametrize("transfer", [16, 18])
def test_pq_and_hlg_of_16_bits_are_kept_with_their_code_points(transfer: int) -> None:
    given = read(io.BytesIO(with_code_points(pq_ramp(), 9, transfer, 0, 1)))
    assert given.bright == CodePoints(9, transfer) and given.icc is None
    assert np.array_equal(given.pixels, pq_ramp())
    back = decode_picture(encode(given, lossless=True, hdr=True))
    assert back.bright == given.bright and np.array_equal(back.pixels, pq_ramp())
    assert b"cICP" + bytes([9, transfer, 0, 1]) in written(back, "PNG")
    assert read(io.BytesIO(written(back, "PNG"))).bright == given.bright


def test_high_dynamic_range_is_kept_on_request(model: Model) -> None:
    given = Picture(pq_ramp(), depth=16, bright=CodePoints(9, 16))
    back = decode_picture(encode(given, quality=90, hdr=True, fallback=False, model=model), model=model)
    assert back.bright == given.bright
    with pytest.warns(LdcodecWarning, match="high dynamic range is brought into sRGB"):
        data = encode(given, quality=90, fallback=False, model=model)
    assert data == encode(shown(given), quality=90, fallback=False, model=model)


def test_high_dynamic_range_of_avif_is_kept() -> None:
    samples = pq_ramp() >> 6
    data = imagecodecs.avif_encode(samples, bitspersample=10, level=95, speed=8, primaries=9, transfer=16, matrix=9)
    found = read(io.BytesIO(data))
    assert found.bright == CodePoints(9, 16) and found.depth == 10
    assert np.abs(found.pixels / 65535 - samples / 1023).max() < 0.05


def test_narrow_values_of_16_bits_are_stretched() -> None:
    samples = (np.array([[16, 126, 235]], np.uint16)[:, :, None].repeat(3, 2) * 256).astype(np.uint16)
    found = read(io.BytesIO(with_code_points(samples, 9, 18, 0, 0)))
    assert found.pixels[0, :, 0].tolist() == [0, pytest.approx(65535 * 110 / 219, abs=1), 65535]


@pytest.mark.filterwarnings("ignore:WEBP cannot hold 16 bits")
@pytest.mark.parametrize("format", ["TIFF", "PPM", "WEBP"])
def test_formats_without_code_points_hold_srgb(format: str) -> None:
    given = Picture(pq_ramp(), depth=16, bright=CodePoints(9, 16))
    expected = brightness.to_srgb(pq_ramp(), 16, PRIMARIES[9])
    with pytest.warns(LdcodecWarning, match="high dynamic range is brought into sRGB"):
        found = read(io.BytesIO(written(given, format))).pixels
    assert np.array_equal(at_depth(found, 16), expected if format != "WEBP" else at_depth(at_depth(expected, 8), 16))


def test_high_dynamic_range_becomes_srgb_where_8_bits_are_wanted() -> None:
    given = Picture(pq_ramp(), depth=16, bright=CodePoints(9, 16))
    expected = at_depth(brightness.to_srgb(pq_ramp(), 16, PRIMARIES[9]), 8)
    data = encode(given, lossless=True, hdr=True)
    assert np.array_equal(np.asarray(decode(data)), expected)
    with pytest.warns(LdcodecWarning, match="high dynamic range"):
        assert np.array_equal(decode_array(data, request=Request(depth=8)), expected)
    with pytest.warns(LdcodecWarning, match="high dynamic range"):
        reduced = encode(given, lossless=True, hdr=True, depth=8)
    assert np.array_equal(decode_array(reduced), expected)
    with pytest.warns(LdcodecWarning, match="high dynamic range"):
        stripped = strip(given)
    assert stripped.bright is None and np.array_equal(at_depth(stripped.pixels, 8), expected)


@pytest.mark.parametrize(
    "content", [b"", bytes([9, 16, 0]), bytes([9, 13, 0, 1]), bytes([9, 16, 9, 1]), bytes([9, 16, 0, 0])]
)
def test_other_code_points_are_refused(content: bytes) -> None:
    file = container.read(encode(Picture(pq_ramp(), depth=16, bright=CodePoints(9, 16)), lossless=True, hdr=True))
    chunks = tuple(Chunk("CICP", content) if chunk.kind == "CICP" else chunk for chunk in file.chunks)
    with pytest.raises(DamagedError, match="CICP"):
        decode(container.write(replace(file, chunks=chunks)))


def test_code_points_belong_to_deep_files() -> None:
    file = container.read(encode(texture(5, 7), lossless=True))
    with pytest.raises(DamagedError, match="CICP"):
        decode(container.write(replace(file, chunks=(*file.chunks, Chunk("CICP", bytes([9, 16, 0, 1]))))))


def test_plain_pixmaps_are_read_at_their_depth() -> None:
    found = read(io.BytesIO(b"P3 # a comment\n2 1\n# 7\n1023\n0 1 2\n1023 512 9\n"))
    expected = np.floor(np.array([[[0, 1, 2], [1023, 512, 9]]]) * (65535 / 1023) + 0.5)
    assert found.depth == 10 and np.array_equal(found.pixels, expected)


def test_commands_keep_high_dynamic_range_on_request(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(with_code_points(pq_ramp(), 9, 16, 0, 1))
    told = "its high dynamic range is brought into sRGB"
    assert told in call("compress", "a.png", "--lossless")[2]
    code, _, errors = call("compress", "a.png", "-o", "b.ldc", "--lossless", "--hdr")
    assert code == 0 and told not in errors
    assert "CICP of 4 bytes" in call("info", "b.ldc")[1]
    assert call("decompress", "b.ldc")[::2] == (0, "")
    assert np.array_equal(read(tmp_path / "b.png").pixels, pq_ramp())
    assert told in call("decompress", "b.ldc", "-o", "b.ppm")[2]
    assert told in call("decompress", "b.ldc", "-o", "c.png", "--depth", "8")[2]
    assert call("view", "b.ldc", "--original", "a.png", "-o", "p.html", "--no-open", "-q")[::2] == (0, "")


@pytest.mark.parametrize(("depth", "bits"), [(8, 8), (9, 10), (10, 10), (12, 12), (16, 12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_avif_is_written_at_10_and_12_bits(shape: str, depth: int, bits: int) -> None:
    deep = smooth(40, 60)
    array = {"grey": deep[:, :, 0], "RGB": deep, "RGBA": np.dstack([deep, deep[:, :, 1]])}
    array["grey and alpha"] = deep[:, :, :2]
    given = replace(picture_of(array[shape]), depth=depth) if depth > 8 else picture_of(array[shape]).at_depth(8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = written(given, "AVIF")
    assert [str(warning.message) for warning in caught] == (
        ["AVIF cannot hold 16 bits a sample: they are reduced to 12"] if depth == 16 else []
    )
    found = imagecodecs.avif_decode(data)
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    back = read(io.BytesIO(data))
    assert back.depth == bits and back.icc is None
    colours = back.pixels if shape.startswith("RGB") or back.grey else back.pixels[:, :, 0]
    assert np.abs(at_depth(colours, 16) / 65535 - given.at_depth(16).pixels / 65535).max() < 0.02


def test_avif_holds_high_dynamic_range() -> None:
    given = Picture(pq_ramp(), depth=10, bright=CodePoints(9, 16))
    back = read(io.BytesIO(written(given, "AVIF")))
    assert back.bright == given.bright and back.depth == 10
    assert np.abs(back.pixels / 65535 - pq_ramp() / 65535).max() < 0.02


def test_what_avif_of_more_than_8_bits_cannot_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    icc = made(ADOBE_CURVE, ADOBE_RGB, "a profile")
    given = Picture(smooth(40, 60), icc=icc, exif=exif_of("<", 1), depth=10)
    with pytest.warns(LdcodecWarning, match="AVIF cannot hold its colour profile, Exif, left out"):
        back = read(io.BytesIO(written(given, "AVIF")))
    assert np.abs(back.pixels / 65535 - strip(given).pixels / 65535).max() < 0.02
    flat = read(io.BytesIO(written(given.at_depth(8), "AVIF")))
    assert flat.icc == icc and flat.exif == without_orientation(given.exif or b"")
    monkeypatch.setattr("ldcodec.pictures.write.find_spec", lambda name: None)
    with pytest.warns(LdcodecWarning, match=r"reduced to 8; pip install 'ldcodec\[deep\]' keeps more"):
        assert read(io.BytesIO(written(given, "AVIF"))).depth == 8


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_without_orientation_is_otherwise_the_same(order: str) -> None:
    given = exif_of(order, 6)
    before, after = Image.Exif(), Image.Exif()
    before.load(given)
    after.load(without_orientation(given))
    assert before.pop(ORIENTATION) == 6 and dict(after) == dict(before) and len(dict(after)) > 0
    assert len(without_orientation(given)) == len(given) and without_orientation(given)[-6:] == given[-6:]
    assert without_orientation(without_orientation(given)) == without_orientation(given)

"""Kinds of files: those that are read beyond what Pillow knows, and a line that names each kind that is refused."""

import io
import struct
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ldcodec.codec import encode
from ldcodec.errors import LdcodecWarning, PictureError
from ldcodec.pictures.picture import Pixels
from ldcodec.pictures.read import from_image, read
from tests.commands import Call
from tests.pictures import colours, grey, psnr, texture


def tiff(values: np.ndarray, order: Literal["<", ">"], bits: int, photometric: int, sample_format: int = 1) -> bytes:
    """A TIFF file of one strip, made by hand. values: (H, W) or (H, W, C), written as they are in this byte order."""
    height, width, channels = (*values.shape, 1)[:3]
    rows = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [channels]),
        278: (3, [height]),
        279: (4, [len(rows)]),
        338: (3, [2]),  # if there is a second channel, it is alpha
        339: (3, [sample_format] * channels),
    }
    if channels in (1, 3):
        del tags[338]
    start = 8 + len(rows) + len(rows) % 2
    body, entries = b"", b""
    for tag, (kind, numbers) in tags.items():
        data = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = start + 2 + 12 * len(tags) + 4 + len(body)
        if len(data) > 4:
            body += data
            data = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + data.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", start)
    table = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + rows + bytes(len(rows) % 2) + table + body


def packed(plane: Pixels, bits: int) -> Pixels:
    """The rows of values of 1, 2 or 4 bits as bytes; the width must fill them."""
    per_byte = 8 // bits
    parts = (plane.astype(int) >> (8 - bits)).reshape(plane.shape[0], -1, per_byte)
    return (parts << (8 - bits * (1 + np.arange(per_byte)))).sum(2).astype(np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_white_is_zero_at_every_depth(bits: int, order: Literal["<", ">"]) -> None:
    plane = grey(16, 24) // 2  # darker than its negative
    values = plane.astype(np.uint16) * 257 if bits == 16 else plane if bits == 8 else packed(plane, bits)
    data = bytearray(tiff(65535 - values if bits == 16 else 255 - values, order, bits, 0))
    width = struct.pack(f"{order}HHIH", 256, 3, 1, values.shape[1])
    data[data.index(width) : data.index(width) + 10] = struct.pack(f"{order}HHIH", 256, 3, 1, 24)
    for found in decoded(bytes(data)):
        levels = 2 ** min(bits, 8) - 1
        expected = (plane.astype(int) >> (8 - min(bits, 8))) * (255 // levels)
        assert np.array_equal(found, expected * (257 if bits == 16 else 1))


def decoded(data: bytes) -> list[Pixels]:
    """The pixels as a file, and, where Pillow knows the kind, as an image from Pillow."""
    images = [lambda: read(io.BytesIO(data))]
    try:
        Image.open(io.BytesIO(data))
        images.append(lambda: from_image(Image.open(io.BytesIO(data))))
    except UnidentifiedImageError:
        pass
    return [image().pixels for image in images]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floats_beyond_one_are_named(channels: int, order: Literal["<", ">"]) -> None:
    pytest.importorskip("tifffile")
    values = 9 * np.ones((4, 5, channels) if channels > 1 else (4, 5), np.float32)
    data = tiff(values, order, 32, 2 if channels > 1 else 1, sample_format=3)
    with pytest.raises(PictureError, match="floats from 9 to 9"):
        read(io.BytesIO(data))


def test_integers_of_32_bits_are_named() -> None:
    data = tiff(np.ones((4, 5, 3), np.uint32), "<", 32, 2)
    with pytest.raises(PictureError, match="integers of 32 bits"):
        read(io.BytesIO(data))


RAW_FILES = {
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(60),
    "CRW": b"II\x1a\0\0\0HEAPCCDR" + bytes(60),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(60),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(60),
    "ORF": b"IIRO\x08\0\0\0" + bytes(60),
    "MRW": b"\0MRM" + bytes(60),
    "X3F": b"FOVb" + bytes(60),
}


@pytest.mark.parametrize("kind", RAW_FILES)
def test_raw_files_are_refused_with_a_way_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{kind}"
    path.write_bytes(RAW_FILES[kind])
    with pytest.raises(PictureError, match=rf"photo.{kind}: a camera's raw file \({kind}\); develop it to TIFF"):
        read(path)


@pytest.mark.parametrize("tags", [{50706: (1, b"\1\4\0\0")}, {254: (4, 1), 330: (4, (8, 8))}], ids=["DNG", "NEF"])
def test_previews_of_raw_files_are_not_taken_for_the_picture(tags: dict[int, tuple]) -> None:
    """Pillow opens these as TIFF files of the size of their preview."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        info.tagtype[tag] = kind
        info[tag] = value
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "TIFF", tiffinfo=info)
    with pytest.raises(PictureError, match="raw file"):
        read(io.BytesIO(file.getvalue()))
    with pytest.raises(PictureError, match="raw file"):
        from_image(Image.open(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_values_of_a_sensor_are_named(photometric: int) -> None:
    with pytest.raises(PictureError, match="raw file"):
        read(io.BytesIO(tiff(np.ones((4, 5), np.uint16), "<", 16, photometric)))


def test_other_kinds_are_named() -> None:
    with pytest.raises(PictureError, match="JPEG XL"):
        read(io.BytesIO(b"\xff\x0a" + bytes(60)))
    file = io.BytesIO()
    Image.fromarray(colours(16, 16)).save(file, "JPEG")
    deep = file.getvalue().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")
    with pytest.raises(PictureError, match="12 bits"):
        read(io.BytesIO(deep))


@pytest.fixture
def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(texture(64, 96))).save(file, quality=90)
    return file.getvalue()


def test_heic_is_read_where_pillow_heif_is_installed(heic: bytes) -> None:
    assert psnr(read(io.BytesIO(heic)).pixels, texture(64, 96)) > 30


def test_damaged_heic_is_refused_in_one_line(heic: bytes) -> None:
    for length in (40, len(heic) // 2, len(heic) - 10):
        with pytest.raises(PictureError) as caught:
            read(io.BytesIO(heic[:length]))
        assert "\n" not in str(caught.value)


def test_missing_pillow_heif_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"HEIC picture, which needs pillow-heif: pip install 'ldcodec\[heic\]'"):
        read(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)))


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_integers_are_refused(bits: int) -> None:
    values = np.zeros((4, 5), np.uint8 if bits == 8 else np.uint16)
    with pytest.raises(PictureError, match="signed integers"):
        read(io.BytesIO(tiff(values, "<", bits, 1, sample_format=2)))


def test_white_is_zero_beside_alpha() -> None:
    both = np.stack([255 - grey(), colours()[:, :, 1]], 2)
    found = read(io.BytesIO(tiff(both, "<", 8, 0)))
    assert np.array_equal(found.array(), np.stack([grey(), colours()[:, :, 1]], 2))


def test_kinds_of_tiff_that_pillow_does_not_know_are_named() -> None:
    with pytest.raises(PictureError, match=r"kind that is not read \(channels of 16, 16, 16 bits\)"):
        read(io.BytesIO(tiff(np.zeros((4, 5, 3), np.uint16), "<", 16, 1)))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PF\n4 4\n-1\n", "map of floats"),
        (b"P7\nWIDTH 4\n", "arbitrary map"),
        (b"#?RADIANCE\n", "Radiance"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + bytes(8) + b"\0\x10\0\3", "Photoshop picture of a kind"),
        (b"8BPS\0\2", "large Photoshop document"),
        (b"gimp xcf v011", "GIMP"),
        (b"SDPX", "DPX"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08", "JPEG-LS"),
        (b'<?xml version="1.0"?>\n<svg xmlns="', "SVG"),
        (b"\0\0\0\x18ftypmp42", "film"),
        (b"\0\0\0\x14ftypM4V \0\0\0\0M4V ", "film"),
        (b"\0\0\0\x14ftyp3gp5\0\0\0\0isom", "film"),
        (b"\x1a\x45\xdf\xa3", "film"),
        (b"RIFF\0\0\0\0AVI LIST", "film"),
        (b"\0\0\1\xb3\x16\0\xf0\x15", "film"),  # which Pillow opens, and cannot load
    ],
)
def test_files_of_other_kinds_are_named(head: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=f"a .*{name}.*which is not read"):
        read(io.BytesIO(head + bytes(100)))


def test_drawings_in_postscript_are_not_run() -> None:
    """Pillow would start Ghostscript with what the file says."""
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "EPS")
    for open_file in (lambda: read(io.BytesIO(file.getvalue())), lambda: from_image(Image.open(file))):
        with pytest.raises(PictureError, match="a drawing in PostScript, which is not read"):
            open_file()


def test_fits_is_refused() -> None:
    """Pillow takes the first of its planes, and its signed numbers as if they had no sign."""
    cards = {"SIMPLE": "T", "BITPIX": "8", "NAXIS": "3", "NAXIS1": "4", "NAXIS2": "5", "NAXIS3": "3"}
    header = "".join(f"{name:8s}= {value:>20s}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    with pytest.raises(PictureError, match="FITS"):
        read(io.BytesIO(header.ljust(2880).encode() + bytes(2880)))


def test_ink_of_xbm_is_black() -> None:
    """As X11 and browsers draw it: the first pixel is the lowest bit, and 1 is the colour of the foreground."""
    text = b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {\n0x0f};\n"
    assert read(io.BytesIO(text)).pixels.tolist() == [[0, 0, 0, 0, 255, 255, 255, 255]]


@pytest.mark.parametrize(
    ("photometric", "compression", "named"), [(8, 1, "CIE Lab"), (2, 34712, "JPEG 2000"), (2, 50002, "JPEG XL")]
)
def test_what_is_odd_about_a_tiff_file_is_named(photometric: int, compression: int, named: str) -> None:
    data = tiff(np.zeros((4, 5, 3), np.uint8), "<", 16 if photometric == 8 else 8, photometric)
    data = data.replace(struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, compression))
    with pytest.raises(PictureError, match=named):
        read(io.BytesIO(data))


def test_exif_of_heic_follows_what_its_decoder_turned() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 96, 64
    heif = pillow_heif.from_bytes("RGB", (96, 64), texture(64, 96).tobytes())
    file = io.BytesIO()
    heif.save(file, quality=90, exif=exif.tobytes())
    picture = read(io.BytesIO(file.getvalue()))
    tags = Image.Exif()
    tags.load(picture.exif or b"")
    assert tags[0x0112] == 1
    size = tags.get_ifd(0x8769)
    assert (size[0xA002], size[0xA003]) == (picture.width, picture.height) == (64, 96)


def test_first_picture_of_a_sequence() -> None:
    first, second = (Image.fromarray(texture(32, 48, seed)) for seed in (1, 2))
    file = io.BytesIO()
    first.save(file, "AVIF", save_all=True, append_images=[second], quality=90)
    with pytest.warns(LdcodecWarning, match="several pictures; only the first is kept"):
        assert psnr(read(io.BytesIO(file.getvalue())).pixels, texture(32, 48, 1)) > 28
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second], quality=95)
    with pytest.warns(LdcodecWarning, match="several pictures; only the first is kept") as caught:
        assert psnr(read(io.BytesIO(file.getvalue())).pixels, texture(32, 48, 1)) > 28
    assert len(caught) == 1


def test_folders_leave_no_picture_out_in_silence(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.CR2").write_bytes(RAW_FILES["CR2"])
    (tmp_path / "in" / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60))
    Image.fromarray(colours()).save(tmp_path / "in" / "c.png")
    code, _, errors = call("compress", "-r", "-q", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--lossless")
    assert code == 1
    assert "a.CR2: a camera's raw file" in errors
    assert "b.heic: " in errors
    assert (tmp_path / "out" / "c.ldc").exists()


@pytest.mark.parametrize("photometric", [0, 1])
def test_12_bits_of_tiff_reach_white(photometric: int) -> None:
    """Pillow reads these in little-endian order alone, and leaves white at 4095."""
    values = np.linspace(0, 4095, 24).astype(int).reshape(1, 12, 2)
    pairs = [values[:, :, 0] >> 4, (values[:, :, 0] & 15) << 4 | values[:, :, 1] >> 8, values[:, :, 1] & 255]
    data = tiff(np.stack(pairs, 2).reshape(1, 36).astype(np.uint8), "<", 12, photometric)
    data = data.replace(struct.pack("<HHIH", 256, 3, 1, 36), struct.pack("<HHIH", 256, 3, 1, 24))
    found = read(io.BytesIO(data))
    expected = values.reshape(1, 24) / 4095 * 65535
    assert found.depth == 12
    assert np.abs(found.pixels - (expected if photometric else 65535 - expected)).max() <= 0.51


def test_colours_of_heic_outlive_its_file() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif = pillow_heif.from_bytes("RGB", (96, 64), texture(64, 96).tobytes())
    heif.save(file, save_nclx_profile=True, color_primaries=12, transfer_characteristics=13, matrix_coefficients=6)
    image = pillow_heif.HeifImageFile(io.BytesIO(file.getvalue()))
    image.load()
    assert from_image(image).icc == read(io.BytesIO(file.getvalue())).icc is not None


@pytest.mark.parametrize("big", [False, True])
def test_pages_of_tiff_are_each_of_their_own_kind(big: bool) -> None:
    """Pillow sets up all to count them, and takes each for what the first one is."""
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    deep = colours().astype(np.uint16) * 257
    with tifffile.TiffWriter(file, bigtiff=big) as pages:
        pages.write((deep / 65535).astype(np.float32), photometric="rgb")
        pages.write(colours(), photometric="rgb")
        pages.write(np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate")
        pages.write(np.zeros((4, 5), np.int16), photometric="minisblack")
        pages.write(255 - grey(3, 4), photometric="miniswhite")
    with pytest.warns(LdcodecWarning, match="rounded to 16 bits"):
        assert np.array_equal(read(io.BytesIO(file.getvalue()), frame=1).pixels, deep)
    for frame, expected in ((2, colours()), (3, deep), (5, grey(3, 4))):
        found = read(io.BytesIO(file.getvalue()), frame=frame)
        assert found.pixels.dtype == expected.dtype and np.array_equal(found.pixels, expected)
    with pytest.raises(PictureError, match="signed integers"):
        read(io.BytesIO(file.getvalue()), frame=4)
    with pytest.raises(PictureError, match="no picture number 6; the file holds 5"):
        read(io.BytesIO(file.getvalue()), frame=6)
    with pytest.warns(LdcodecWarning) as caught:
        read(io.BytesIO(file.getvalue()))
    assert "it holds several pictures; only the first is kept" in {str(entry.message) for entry in caught}


def test_pages_that_go_round_in_circles_have_an_end() -> None:
    data = tiff(colours(), "<", 8, 2)
    start = int.from_bytes(data[4:8], "little")
    after = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    looped = data[:after] + data[4:8] + data[after + 4 :]
    with pytest.raises(PictureError, match="no picture number 2; the file holds 1"):
        read(io.BytesIO(looped), frame=2)


def test_files_that_are_compressed_already_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "LDC"])  # a test before may have added it
    with pytest.raises(PictureError, match=r"an \.ldc file, which is compressed already"):
        read(io.BytesIO(encode(colours(), lossless=True)))

"""Picture files: read upright with 8 bits, written with all that a format can hold, and every loss reported."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from ldcodec.errors import LdcodecWarning, PictureError, UsageError
from ldcodec.pictures.codepoints import TransferCurve
from ldcodec.pictures.colour import to_srgb
from ldcodec.pictures.metadata import strip
from ldcodec.pictures.picture import Picture, Pixels, from_array
from ldcodec.pictures.profiles import made
from ldcodec.pictures.read import from_image, read
from ldcodec.pictures.write import FORMATS, format_of, to_image, write
from tests.pictures import EXIF, SRGB, XMP, colours, exif_of, grey


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    """The path of `image` as a file."""
    image.save(path, **options)
    return path


def tags_of(picture: Picture) -> Image.Exif:
    """The Exif of a picture as Pillow understands it."""
    found = Image.Exif()
    found.load(picture.exif or b"")
    return found


def profile(space: bytes, of: bytes = SRGB) -> bytes:
    """A profile that claims another colour space."""
    return of[:16] + space + of[20:]


def linear() -> bytes:
    """An RGB profile like sRGB with another name and linear curves."""
    found = SRGB.replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    for entry in range(132, 132 + 12 * int.from_bytes(found[128:132], "big"), 12):
        if found[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            place = int.from_bytes(found[entry + 4 : entry + 8], "big")
            found = found[:place] + b"para" + bytes(8) + (1 << 16).to_bytes(4, "big") + found[place + 16 :]
    return found


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file made by hand, for kinds that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("extension", sorted(set(FORMATS) - {".jpg", ".jpeg", ".avif"}))
@pytest.mark.parametrize("pixels", [colours(), grey(), colours(1, 1), grey(1, 300)], ids=lambda a: str(a.shape))
def test_lossless_formats_keep_the_pixels(pixels: Pixels, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{extension}"
    with path.open("wb") as target:
        write(Picture(pixels), target, format_of(path))
    found = read(path).pixels
    if extension == ".webp" and pixels.ndim == 2:  # WebP knows no grey
        found = found[:, :, 0]
    assert np.array_equal(found, pixels)
    assert found.flags.writeable
    assert found.dtype == np.uint8


def test_jpeg_comes_close() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 48, 3))
    target = io.BytesIO()
    write(Picture(ramp), target, "JPEG")
    target.seek(0)
    assert np.abs(read(target).pixels.astype(int) - ramp).max() <= 4


def test_stream_is_read_like_a_file(tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png")
    with path.open("rb") as stream:
        assert np.array_equal(read(stream, "standard input").pixels, colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    """Pixels end up where the Exif standard puts them: 6 = turn clockwise, 8 = anticlockwise."""
    stored = colours()
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    for extension in (".png", ".webp", ".tiff"):
        path = saved(Image.fromarray(stored), tmp_path / f"a{extension}", exif=exif, lossless=True)
        found = read(path)
        assert np.array_equal(found.pixels, upright[orientation]), extension
        kept = tags_of(found)
        assert (kept.get(0x0112, 1), kept[0x010F]) == (1, "Maker"), extension


def test_damaged_metadata_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xffjunk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        assert np.array_equal(read(path).pixels, colours())


def test_modes_become_grey_or_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(colours())
    assert from_image(rgb.convert("L")).pixels.shape == (5, 7)
    assert np.array_equal(from_image(rgb.convert("CMYK")).pixels, colours())
    assert from_image(rgb.convert("YCbCr")).pixels.shape == (5, 7, 3)
    assert np.array_equal(from_image(rgb.convert("P")).pixels, np.asarray(rgb.convert("P").convert("RGB")))
    black_white = np.array([[0, 255], [255, 0]], np.uint8)
    path = saved(Image.fromarray(black_white).convert("1"), tmp_path / "bits.png")
    assert np.array_equal(read(path).pixels, black_white)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_other_depths_are_refused(mode: str) -> None:
    with pytest.raises(PictureError, match=f"mode {mode}\\)"):
        from_image(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("extension", [".gif", ".tiff", ".png", ".webp"])
def test_first_of_several_frames(extension: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (6, 4), (250, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 250))
    path = saved(first, tmp_path / f"frames{extension}", save_all=True, append_images=[second], lossless=True)
    with pytest.warns(LdcodecWarning, match="only the first"):
        assert np.array_equal(read(path).pixels, np.asarray(first))
    assert np.array_equal(read(path, frame=1).pixels, np.asarray(first))
    assert np.array_equal(read(path, frame=2).pixels, np.asarray(second))
    with pytest.raises(PictureError, match="no picture number 3; the file holds 2"):
        read(path, frame=3)


def bad_files() -> dict[str, tuple[bytes | None, str]]:
    """Contents of files that are not intact pictures (None: no such file), and a part of the expected message."""
    sound = io.BytesIO()
    Image.fromarray(colours(40, 40)).save(sound, "PNG")
    return {
        "missing.png": (None, "No such file"),
        "empty.png": (b"", "not a picture"),
        "text.png": (b"this is text, whatever its name says\n", "not a picture"),
        "cut.png": (sound.getvalue()[:-2000], "damaged"),
        "bomb.png": (png(200_000, 200_000, 1, 0, b""), "more pixels"),
        "overflow.png": (png(2_000_000, 10, 1, 0, b""), "beyond the limit"),
        "archive.zip": (b"PK\3\4" + bytes(60), "not a picture"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files_are_refused_in_one_line_that_names_them(name: str, tmp_path: Path) -> None:
    content, message = bad_files()[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PictureError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=str(tmp_path)):
        read(tmp_path)


@pytest.mark.parametrize("error", [OSError("x"), SyntaxError("x"), struct.error("x"), zlib.error(), MemoryError()])
def test_whatever_a_decoder_raises_becomes_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(PictureError, match=r"^the picture: ."):
        from_image(Image.new("RGB", (2, 2)))


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"])
def test_cut_and_changed_files_are_read_or_refused(format: str) -> None:
    """Whatever happens to a file, the result is pixels or a PictureError."""
    file = io.BytesIO()
    whole = Picture(colours(9, 11), grey(9, 11), SRGB, EXIF, XMP)
    write(whole, file, format)
    data = file.getvalue()
    rng = np.random.default_rng(1)
    cuts = [data[:length] for length in rng.integers(0, len(data), 40)]
    changes = []
    for position in rng.integers(0, len(data), 200):
        changes.append(data[:position] + bytes([data[position] ^ int(rng.integers(1, 256))]) + data[position + 1 :])
    for damaged in cuts + changes:
        try:
            pixels = read(io.BytesIO(damaged)).pixels
        except PictureError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim in (2, 3)


def test_formats_by_extension() -> None:
    assert format_of(Path("a.PNG")) == "PNG"
    assert format_of(Path("b/c.d.jpeg")) == "JPEG"
    for name in ("a", "a.ldc", "a.txt"):
        with pytest.raises(UsageError, match="extension"):
            format_of(Path(name))


def test_png_is_written_fast() -> None:
    """The two bits of FLEVEL in the stream's header say with which effort it was made, 0 for the least (RFC 1950)."""
    target = io.BytesIO()
    write(Picture(colours(30, 20)), target, "PNG")
    place = target.getvalue().index(b"IDAT") + 4
    assert target.getvalue()[place + 1] >> 6 == 0


def test_format_that_cannot_hold_the_picture() -> None:
    with pytest.raises(PictureError, match="20000x1 pixels cannot be written as WEBP"):
        write(Picture(np.zeros((1, 20000, 3), np.uint8)), io.BytesIO(), "WEBP")


def test_full_target_is_an_os_error() -> None:
    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb", buffering=0) as target:
        write(Picture(colours()), target)


WHOLE = {
    "RGB": Picture(colours(), None, SRGB, EXIF, XMP),
    "RGBA": Picture(colours(), grey(), linear(), EXIF, XMP),
    "L": Picture(grey(), None, made(TransferCurve(1.8), None, "grey"), EXIF, XMP),
    "LA": Picture(grey(), grey()[::-1].copy(), None, EXIF, XMP),
}


def written(picture: Picture, format: str) -> bytes:
    file = io.BytesIO()
    write(picture, file, format)
    return file.getvalue()


@pytest.mark.parametrize("mode", WHOLE)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_formats_keep_all_of_a_picture(format: str, mode: str) -> None:
    """TIFF stores Exif as its own tags; WebP can hold neither grey pixels nor their profile."""
    given = WHOLE[mode]
    lost = format == "WEBP" and mode == "L"
    with pytest.warns(LdcodecWarning, match="colour profile") if lost else contextlib.nullcontext():
        found = read(io.BytesIO(written(given, format)))
    pixels = found.pixels[:, :, 0] if format == "WEBP" and given.grey else found.pixels
    assert np.array_equal(pixels, to_srgb(given).pixels if lost else given.pixels)
    assert given.alpha is None or np.array_equal(found.array()[:, :, -1], given.alpha)
    assert (found.alpha is None) == (given.alpha is None)
    assert (found.icc, found.xmp) == (None if lost else given.icc, given.xmp)
    if format == "TIFF":
        assert dict(tags_of(found)) == {0x010F: "Maker"}
    else:
        assert found.exif == given.exif


def test_exif_directories_survive_tiff() -> None:
    exif = Image.Exif()
    exif[0x0100], exif[0x0111] = 99, 7  # a width and an offset that are another picture's
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    data = written(Picture(colours(), exif=exif.tobytes()), "TIFF")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (7, 5)
    again = tags_of(read(io.BytesIO(data)))
    assert dict(again.get_ifd(0x8769)) == {0x9003: "2026:01:02 03:04:05"}
    assert dict(again.get_ifd(0x8825)) == {1: "N"}
    assert 0x0100 not in again


def test_jpeg_keeps_metadata_and_lays_alpha_onto_white() -> None:
    found = read(io.BytesIO(written(WHOLE["RGB"], "JPEG")))
    assert (found.icc, found.exif, found.xmp) == (SRGB, EXIF, XMP)
    clear = Picture(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))
    for format in ("JPEG", "BMP", "PPM"):
        with pytest.warns(LdcodecWarning, match="onto white"):
            assert read(io.BytesIO(written(clear, format))).pixels.min() >= 254
    half = Picture(np.full((4, 4), 100, np.uint8), np.full((4, 4), 51, np.uint8))
    with pytest.warns(LdcodecWarning, match="onto white"):
        assert np.array_equal(read(io.BytesIO(written(half, "BMP"))).pixels, np.full((4, 4), 224))


def test_lost_metadata_is_reported() -> None:
    for format in ("PPM", "BMP"):
        with pytest.warns(LdcodecWarning, match=f"{format} cannot hold its colour profile, Exif, XMP, left out"):
            found = read(io.BytesIO(written(WHOLE["RGB"], format)))
        assert np.array_equal(found.pixels, colours())
    large = Picture(colours(), None, SRGB, EXIF + bytes(70_000), XMP * 200)
    with pytest.warns(LdcodecWarning, match="JPEG cannot hold its Exif, XMP, left out"):
        assert read(io.BytesIO(written(large, "JPEG"))).icc == SRGB
    for format in ("PNG", "WEBP"):
        found = read(io.BytesIO(written(large, format)))
        assert (found.exif, found.xmp) == (large.exif, large.xmp)
    with pytest.warns(LdcodecWarning, match="PNG cannot hold its XMP"):
        written(Picture(colours(), xmp=b"\xff\xfe"), "PNG")


def test_images_carry_what_pictures_hold() -> None:
    for mode, picture in WHOLE.items():
        image = to_image(picture)
        assert image.mode == mode
        assert image.info.get("icc_profile") == picture.icc
        found = from_image(image)
        assert (found.icc, found.exif, found.xmp) == (picture.icc, EXIF, XMP)
        assert np.array_equal(found.array(), picture.array())


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2), (3, 5, 3), (3, 5, 4)])
def test_arrays_are_shaped_as_pillow_does(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    picture = from_array(array)
    assert np.array_equal(picture.array(), array)
    assert np.array_equal(np.asarray(to_image(picture)), array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_only_the_orientation_changes_in_exif(orientation: int, kind: int, order: str) -> None:
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "JPEG", exif=b"Exif\0\0" + exif_of(order, orientation, kind))
    found = read(io.BytesIO(file.getvalue()))
    assert found.exif == exif_of(order, 1, kind)
    assert (found.height, found.width) == ((5, 7) if orientation == 1 else (7, 5))


@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_orientation_of_xmp_is_applied_and_reset(form: str) -> None:
    xmp = f"<x:xmpmeta {form} other='6'/>".encode()
    found = read(io.BytesIO(written(Picture(colours(), xmp=xmp), "PNG")))
    assert found.pixels.shape == (7, 5, 3)
    assert found.xmp == xmp.replace(b"6", b"1", 1)


@pytest.mark.parametrize("exif", [b"junk", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*"])
def test_damaged_exif_is_left_out_and_reported(exif: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "WEBP", lossless=True, exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read(io.BytesIO(file.getvalue()))
    assert any("damaged Exif is left out" in str(entry.message) for entry in caught)
    assert found.exif is None
    assert np.array_equal(found.pixels, colours())


def test_exif_as_imagemagick_writes_it_into_png() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(EXIF) + 6:8d}\n{(b'Exif' + bytes(2) + EXIF).hex()}\n")
    path = io.BytesIO()
    Image.fromarray(colours()).save(path, "PNG", pnginfo=text)
    assert read(io.BytesIO(path.getvalue())).exif == EXIF


@pytest.mark.parametrize("icc", [b"\0\0\0\7acsp", profile(b"CMYK"), profile(b"GRAY"), SRGB[:-1]])
def test_profiles_that_do_not_fit_are_left_out_and_reported(icc: bytes, tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png", icc_profile=icc)
    with pytest.warns(LdcodecWarning, match="colour profile"):
        found = read(path)
    assert found.icc is None
    assert np.array_equal(found.pixels, colours())


def test_lab_becomes_srgb() -> None:
    """L 54.3, a 80.8, b 69.9 under D50 is the red of sRGB."""
    values = np.array([[[138, 81, 70], [255, 0, 0], [0, 0, 0]]], np.uint8)
    image = Image.frombytes("LAB", (3, 1), values.tobytes())
    found = from_image(image).pixels.astype(int)
    assert np.abs(found - [[[255, 0, 0], [255, 255, 255], [0, 0, 0]]]).max() <= 3


def test_cmyk_takes_its_profile_and_without_one_pillows_formula() -> None:
    cmyk = Image.fromarray(colours()).convert("CMYK")
    assert np.array_equal(from_image(cmyk).pixels, colours())
    cmyk.info["icc_profile"] = profile(b"CMYK")[:-4]
    with pytest.warns(LdcodecWarning, match="not applied"):
        assert np.array_equal(from_image(cmyk).pixels, colours())


@pytest.mark.parametrize("pixels", [colours(40, 30), grey(40, 30)], ids=["RGB", "grey"])
def test_stripped_pictures_are_srgb(pixels: Pixels) -> None:
    """Linear values are raised to the curve of sRGB; sRGB values stay."""
    stripped = strip(Picture(pixels, None, linear(), EXIF, XMP))
    assert (stripped.icc, stripped.exif, stripped.xmp) == (None, None, None)
    light = pixels / 255
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(stripped.pixels - expected).max() < 3
    assert stripped.pixels.shape == pixels.shape
    assert np.array_equal(strip(Picture(pixels, None, SRGB)).pixels, pixels)


@pytest.mark.parametrize("pixels", [colours(), grey()], ids=["RGB", "grey"])
def test_stripping_a_damaged_profile_keeps_the_values_and_warns(pixels: Pixels) -> None:
    """The profile's header is intact, so that it was kept, but it has no tags to compute colours from."""
    space = b"GRAY" if pixels.ndim == 2 else b"RGB "
    with pytest.warns(LdcodecWarning, match="damaged and is not applied"):
        stripped = strip(Picture(pixels, None, profile(space, linear()[:128] + bytes(4) + linear()[132:])))
    assert stripped.icc is None
    assert np.array_equal(stripped.pixels, pixels)


def with_thumbnail(order: str, orientation: int, kind: int) -> bytes:
    """Exif with an orientation, sizes of 7×5 of a kind (3 SHORT, 4 LONG), and a thumbnail in a second directory."""
    thumbnail = io.BytesIO()
    Image.fromarray(colours(4, 8)).save(thumbnail, "JPEG")
    pad = {3: "HH", 4: "I"}[kind]
    width, height = (struct.pack(order + pad, *([size, 0] if kind == 3 else [size])) for size in (7, 5))
    main = struct.pack(f"{order}H", 2) + struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    main += struct.pack(f"{order}HHII", 0x8769, 4, 1, 38) + struct.pack(f"{order}I", 68)
    details = struct.pack(f"{order}H", 2) + struct.pack(f"{order}HHI", 0xA002, kind, 1) + width
    details += struct.pack(f"{order}HHI", 0xA003, kind, 1) + height + bytes(4)
    second = struct.pack(f"{order}H", 2) + struct.pack(f"{order}HHII", 0x0201, 4, 1, 98)
    second += struct.pack(f"{order}HHII", 0x0202, 4, 1, len(thumbnail.getvalue())) + bytes(4)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return start + main + details + second + thumbnail.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_and_thumbnail_of_exif_follow_the_pixels(orientation: int, kind: int, order: str) -> None:
    given = with_thumbnail(order, orientation, kind)
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "JPEG", exif=b"Exif\0\0" + given)
    found = read(io.BytesIO(file.getvalue()))
    assert found.exif is not None
    tags = tags_of(found)
    size = tags.get_ifd(0x8769)
    assert (size[0xA002], size[0xA003]) == (found.width, found.height)
    assert (given == found.exif) == (orientation == 1)
    assert (0x0201 in tags.get_ifd(ExifTags.IFD.IFD1)) == (orientation == 1)
    assert (given[98:] in found.exif) == (orientation == 1)


def test_hostile_thumbnails_change_nothing_but_themselves() -> None:
    """A thumbnail that claims to be where the first directory is, to reach beyond the end, or to be no JPEG."""
    sound = with_thumbnail("<", 6, 4)
    for place, length in ((8, 60), (98, 2**32 - 1), (2**32 - 1, 5), (97, 9)):
        data = bytearray(sound)
        struct.pack_into("<I", data, 78, place)
        struct.pack_into("<I", data, 90, length)
        file = io.BytesIO()
        Image.fromarray(colours()).save(file, "JPEG", exif=b"Exif\0\0" + bytes(data))
        found = read(io.BytesIO(file.getvalue()))
        assert (tags_of(found)[0x0112], tags_of(found).get_ifd(0x8769)[0xA002]) == (1, 5)


@pytest.mark.parametrize("kind", ["exif", "APP1"])
@pytest.mark.parametrize("tail", ["", "\n", "\0", "00", "\n\nmore"])
@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"])
def test_exif_in_texts_of_png_ends_where_its_length_says(mark: bytes, tail: str, kind: str) -> None:
    """As ImageMagick, exiftool and libavif write it; what follows the digits varies."""
    data = (b"Exif\0\0" if kind == "APP1" else mark) + exif_of(">", 6)
    digits = data.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8d}\n{lines}{tail}", zip=True)
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "PNG", pnginfo=text)
    found = read(io.BytesIO(file.getvalue()))
    assert found.exif == exif_of(">", 1)
    assert found.pixels.shape == (7, 5, 3)


@pytest.mark.parametrize("kind", ["xmp", "APP1"])
def test_xmp_in_texts_of_png(kind: str) -> None:
    data = (b"http://ns.adobe.com/xap/1.0/\0" if kind == "APP1" else b"") + XMP
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8d}\n{data.hex()}\n")
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "PNG", pnginfo=text)
    assert read(io.BytesIO(file.getvalue())).xmp == XMP


@pytest.mark.parametrize("content", ["", "\nexif\n 99999999\n4d4d", "\nexif\n 4\nzzzzzzzz", "\nexif\n-1\n4d4d", "junk"])
def test_damaged_texts_of_exif_are_told(content: str) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", content)
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "PNG", pnginfo=text)
    with pytest.warns(LdcodecWarning, match="damaged metadata is ignored"):
        assert read(io.BytesIO(file.getvalue())).exif is None


def test_sizes_in_exif_of_tiff_follow_the_pixels() -> None:
    """Pillow turns these as it loads them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 7, 5
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "TIFF", exif=exif.tobytes())
    found = read(io.BytesIO(file.getvalue()))
    size = tags_of(found).get_ifd(0x8769)
    assert (size[0xA002], size[0xA003]) == (found.width, found.height) == (5, 7)

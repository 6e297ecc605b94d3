"""Picture files: what is read is upright, 8 bits and opaque; what cannot be kept is refused or told."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldcodec import picture
from ldcodec.errors import LdcodecWarning, PictureError, UsageError


def colours(height: int = 5, width: int = 7) -> picture.Pixels:
    """RGB noise, the same in every run."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def grey(height: int = 5, width: int = 7) -> picture.Pixels:
    """Grey noise, the same in every run."""
    return np.ascontiguousarray(colours(height, width)[:, :, 0])


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    """The path of `image` as a file."""
    image.save(path, **options)
    return path


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file made by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("extension", sorted(set(picture.FORMATS) - {".jpg", ".jpeg"}))
@pytest.mark.parametrize("pixels", [colours(), grey(), colours(1, 1), grey(1, 300)], ids=lambda a: str(a.shape))
def test_lossless_formats_bring_back_the_pixels(pixels: picture.Pixels, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{extension}"
    with path.open("wb") as target:
        picture.write(pixels, target, picture.format_of(path))
    found = picture.read(path)
    if extension == ".webp" and pixels.ndim == 2:  # WebP knows no grey
        found = found[:, :, 0]
    assert np.array_equal(found, pixels)
    assert found.flags.writeable
    assert found.dtype == np.uint8


def test_jpeg_comes_close() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 48, 3))
    target = io.BytesIO()
    picture.write(ramp, target, "JPEG")
    target.seek(0)
    assert np.abs(picture.read(target).astype(int) - ramp).max() <= 4


def test_stream_is_read_like_a_file(tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png")
    with path.open("rb") as stream:
        assert np.array_equal(picture.read(stream, "standard input"), colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    """Stored pixel (row, column) stands where the Exif table puts it: 6 = turn clockwise, 8 = anticlockwise."""
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
    exif[0x0112] = orientation
    for extension in (".png", ".webp", ".tiff"):
        path = saved(Image.fromarray(stored), tmp_path / f"a{extension}", exif=exif, lossless=True)
        assert np.array_equal(picture.read(path), upright[orientation]), extension


def test_damaged_metadata_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xffjunk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        assert np.array_equal(picture.read(path), colours())


def test_modes_become_grey_or_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(colours())
    assert picture.from_image(rgb.convert("L")).shape == (5, 7)
    assert np.array_equal(picture.from_image(rgb.convert("CMYK")), colours())
    assert picture.from_image(rgb.convert("YCbCr")).shape == (5, 7, 3)
    assert np.array_equal(picture.from_image(rgb.convert("P")), np.asarray(rgb.convert("P").convert("RGB")))
    black_white = np.array([[0, 255], [255, 0]], np.uint8)
    path = saved(Image.fromarray(black_white).convert("1"), tmp_path / "bits.png")
    assert np.array_equal(picture.read(path), black_white)


def test_opaque_alpha_is_dropped() -> None:
    with_alpha = Image.fromarray(np.dstack([colours(), np.full((5, 7), 255, np.uint8)]))
    assert np.array_equal(picture.from_image(with_alpha), colours())
    grey_alpha = Image.merge("LA", [Image.fromarray(grey()), Image.new("L", (7, 5), 255)])
    assert np.array_equal(picture.from_image(grey_alpha), grey())


def transparent_pictures() -> dict[str, Image.Image]:
    """One picture for each way to say that a pixel is transparent."""
    rgb = Image.fromarray(colours())
    keyed, palette = rgb.copy(), rgb.convert("P")
    keyed.info["transparency"] = tuple(int(value) for value in colours()[2, 3])
    palette.info["transparency"] = palette.getpixel((3, 2))
    almost = np.full((5, 7), 255, np.uint8)
    almost[4, 6] = 254
    deep = Image.fromarray(grey().astype(np.uint16))
    deep.info["transparency"] = int(grey()[1, 1])
    return {
        "RGBA": Image.fromarray(np.dstack([colours(), almost])),
        "LA": Image.merge("LA", [Image.fromarray(grey()), Image.fromarray(almost)]),
        "key": keyed,
        "palette": palette,
        "16 bit": deep,
    }


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
@pytest.mark.parametrize("way", transparent_pictures())
def test_transparency_is_refused(way: str) -> None:
    with pytest.raises(PictureError, match="transparent"):
        picture.from_image(transparent_pictures()[way])


@pytest.mark.parametrize("extension", [".png", ".tiff", ".pgm"])
def test_16_bit_grey_is_rounded(extension: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [32767, 32768, 65406, 65535]], np.uint16)
    path = saved(Image.fromarray(values), tmp_path / f"deep{extension}")
    with pytest.warns(LdcodecWarning, match="16 bits"):
        found = picture.read(path)
    assert np.array_equal(found, np.floor(values / 257 + 0.5))


def test_16_bit_colour_is_reduced_and_told() -> None:
    rows = b"\0" + struct.pack(">6H", 0, 257, 65535, 32896, 4112, 65278)
    with pytest.warns(LdcodecWarning, match="16 bits"):
        found = picture.read(io.BytesIO(png(2, 1, 16, 2, rows)))
    assert found.tolist() == [[[0, 1, 255], [128, 16, 254]]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_other_depths_are_refused(mode: str) -> None:
    with pytest.raises(PictureError, match=f"mode {mode} "):
        picture.from_image(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("extension", [".gif", ".tiff", ".png", ".webp"])
def test_first_of_several_frames(extension: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (6, 4), (250, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 250))
    path = saved(first, tmp_path / f"frames{extension}", save_all=True, append_images=[second], lossless=True)
    with pytest.warns(LdcodecWarning, match="only the first"):
        assert np.array_equal(picture.read(path), np.asarray(first))


@pytest.mark.parametrize(("profile", "warned"), [(b"... sRGB IEC61966-2.1 ...", False), (b"... Adobe RGB ...", True)])
def test_foreign_colour_profiles_are_told(profile: bytes, warned: bool, tmp_path: Path) -> None:
    path = saved(Image.fromarray(colours()), tmp_path / "a.png", icc_profile=profile)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture.read(path)
    assert ["colour profile" in str(entry.message) for entry in caught] == [True] * warned


def bad_files() -> dict[str, tuple[bytes | None, str]]:
    """Contents that are no sound picture (None: no such file), and a part of the message that is due."""
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
        picture.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=str(tmp_path)):
        picture.read(tmp_path)


@pytest.mark.parametrize("error", [OSError("x"), SyntaxError("x"), struct.error("x"), zlib.error(), MemoryError()])
def test_whatever_a_decoder_raises_becomes_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(PictureError, match=r"^the picture: ."):
        picture.from_image(Image.new("RGB", (2, 2)))


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_cut_and_changed_files_are_read_or_refused(format: str) -> None:
    """Whatever happens to a file, the answer is pixels or a PictureError."""
    file = io.BytesIO()
    Image.fromarray(colours(9, 11)).save(file, format)
    data = file.getvalue()
    rng = np.random.default_rng(1)
    cuts = [data[:length] for length in rng.integers(0, len(data), 25)]
    changes = []
    for position in rng.integers(0, len(data), 75):
        changes.append(data[:position] + bytes([data[position] ^ int(rng.integers(1, 256))]) + data[position + 1 :])
    for damaged in cuts + changes:
        try:
            pixels = picture.read(io.BytesIO(damaged))
        except PictureError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim in (2, 3)


def test_formats_by_extension() -> None:
    assert picture.format_of(Path("a.PNG")) == "PNG"
    assert picture.format_of(Path("b/c.d.jpeg")) == "JPEG"
    for name in ("a", "a.ldc", "a.txt"):
        with pytest.raises(UsageError, match="extension"):
            picture.format_of(Path(name))


def test_format_that_cannot_hold_the_picture() -> None:
    with pytest.raises(PictureError, match="20000x1 pixels cannot be written as WEBP"):
        picture.write(np.zeros((1, 20000, 3), np.uint8), io.BytesIO(), "WEBP")


def test_full_target_is_an_os_error() -> None:
    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb", buffering=0) as target:
        picture.write(colours(), target)


def odd_files() -> list[Path]:
    folder = os.environ.get("LDCODEC_ODD")
    return sorted(path for path in Path(folder).iterdir() if path.is_file()) if folder else []


@pytest.mark.skipif(not odd_files(), reason="LDCODEC_ODD names no folder of odd pictures")
@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
@pytest.mark.parametrize("path", odd_files(), ids=lambda path: path.name)
def test_odd_files_are_read_or_refused(path: Path) -> None:
    try:
        pixels = picture.read(path)
    except PictureError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.size > 0

"""The Pillow plugin, used through Pillow and imageio with a tiny random model."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, UnidentifiedImageError

import ldcodec
import ldcodec.pillow
from ldcodec.bitstream import container
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.reader import Chunk
from ldcodec.nets.model import Model

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def tiny(model: Model) -> dict[str, Any]:
    """The options with which `save` uses the tiny model."""
    return {"model": model, "fallback": False}


@pytest.fixture(autouse=True)
def _models(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening finds the tiny model by the id in the file."""
    monkeypatch.setenv("LDCODEC_MODELS", str(tiny_model_folder))


def photo(mode: str = "RGB", width: int = 40, height: int = 24) -> Image.Image:
    """Smooth noise in any mode, with alpha that hides something."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 4)).astype(np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    return image if mode == "RGBA" else image.convert(mode)


def saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "LDC", **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_opening_and_its_metadata_load_nothing_heavy(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    photo("LA").save(tmp_path / "x.ldc", lossless=True, exif=exif, xmp=b"<xmp/>", icc_profile=PROFILE)
    code = """
import sys, ldcodec
ldcodec.register()
from PIL import Image
with Image.open("x.ldc") as image:
    print(image.size, image.mode, image.format, image.get_format_mimetype(), image.getexif()[0x010F], image.info["xmp"])
print(sorted({"torch", "numpy", "constriction", "safetensors"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines() == ["(40, 24) LA LDC image/x-ldc Maker b'<xmp/>'", "[]"], found.stderr


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_saving_and_opening(mode: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    """By file name, as for other formats; the pixels are those of `decode`."""
    path = tmp_path / "photo.ldc"
    photo(mode).save(path, quality=70, **tiny)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size, image.tell()) == ("LDC", mode, (40, 24), 0)
        assert image.tobytes() == ldcodec.decode(path.read_bytes(), model=tiny["model"]).tobytes()
    assert path.read_bytes() == ldcodec.encode(photo(mode), quality=70, **tiny)


@pytest.mark.parametrize(
    "target", [{"rate": 1.5}, {"size": 180}, {"psnr": 16.0}, {"quality": 30}, {"quality": None, "rate": 1.5}], ids=str
)
def test_targets_reach_the_codec(target: dict[str, Any], tiny: dict[str, Any]) -> None:
    assert saved(photo(), **target, **tiny) == ldcodec.encode(photo(), **target, **tiny)


def test_without_a_target_there_is_a_default(tiny: dict[str, Any]) -> None:
    data = ldcodec.encode(photo(), quality=ldcodec.pillow.DEFAULT_QUALITY, **tiny)
    assert saved(photo(), **tiny) == saved(photo(), lossless=False, optimize=True, **tiny) == data


def test_lossless(tmp_path: Path) -> None:
    image = photo("RGBA")
    with opened(saved(image, lossless=True)) as restored:
        assert restored.tobytes() == image.tobytes()


def test_metadata_comes_with_the_image(tiny: dict[str, Any]) -> None:
    """Metadata of another format is kept without further options; the orientation is applied."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    other = io.BytesIO()
    photo().save(other, "WEBP", exif=exif, xmp=b"<xmp/>", icc_profile=PROFILE)
    with Image.open(other) as image, opened(saved(image, **tiny)) as restored:
        assert restored.size == (24, 40)
        assert restored.info == {"exif": restored.info["exif"], "xmp": b"<xmp/>", "icc_profile": PROFILE}
        assert (restored.getexif()[0x0112], restored.getexif()[0x010F]) == (1, "Maker")


def test_metadata_given_replaces_the_images_own(tiny: dict[str, Any]) -> None:
    image = photo()
    image.info |= {"xmp": b"<old/>", "icc_profile": PROFILE}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 8, "Maker"
    with opened(saved(image, exif=exif, xmp=b"<new/>", icc_profile=None, **tiny)) as restored:
        assert restored.size == (24, 40)
        assert restored.getexif()[0x010F] == "Maker"
        assert (restored.info["xmp"], "icc_profile" in restored.info) == (b"<new/>", False)
    with opened(saved(image, exif=exif.tobytes(), **tiny)) as restored:
        assert (restored.info["xmp"], restored.info["icc_profile"]) == (b"<old/>", PROFILE)
    with opened(saved(image, strip=True, **tiny)) as restored:
        assert restored.info == {}
    assert image.info == {"xmp": b"<old/>", "icc_profile": PROFILE}


def test_tags_of_tiff_stay_beside_a_given_profile(tiny: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    other = io.BytesIO()
    photo().save(other, "TIFF", exif=exif)
    with Image.open(other) as image, opened(saved(image, icc_profile=PROFILE, **tiny)) as restored:
        assert (restored.getexif()[0x010F], restored.info["icc_profile"]) == ("Maker", PROFILE)


@pytest.mark.parametrize("mode", ["RGB", "LA"])
def test_thumbnails_are_previews(mode: str, tiny: dict[str, Any]) -> None:
    """`thumbnail` asks `draft` for at least twice its size: 200x100 at 1/4."""
    with opened(saved(photo(mode, 200, 100), **tiny)) as image:
        assert image.draft(None, (45, 20)) == (mode, (0, 0, 50, 25))
        assert image.size == (50, 25)
        assert image.draft(None, (10, 10)) is None
        view = ldcodec.decode(saved(photo(mode, 200, 100), **tiny), request=_quarter())
        assert image.tobytes() == view.tobytes()
    with opened(saved(photo(mode, 200, 100), **tiny)) as image:
        image.thumbnail((20, 20))
        assert image.size == (20, 10)
    with opened(saved(photo(mode), **tiny)) as image:
        assert image.draft(None, (39, 24)) == (mode, (0, 0, 40, 24))
        assert image.size == (40, 24)


def _quarter() -> Any:
    from ldcodec.decoder.request import Request

    return Request(scale=4)


def test_parser_that_is_fed_piece_by_piece(tiny: dict[str, Any]) -> None:
    data = saved(photo(), **tiny)
    parser = ImageFile.Parser()
    for start in range(0, len(data), 50):
        parser.feed(data[start : start + 50])
    assert parser.close().tobytes() == opened(data).tobytes()


def test_other_files_are_not_identified(tiny: dict[str, Any]) -> None:
    data = saved(photo(), **tiny)
    for bad in (data[:20], data[:4] + b"\x07" + data[5:], data[:7] + b"x" + data[8:], b"\x8aLDC"):
        with pytest.raises(UnidentifiedImageError):
            opened(bad)


def test_damage_is_an_os_error_when_the_pixels_are_asked_for(tiny: dict[str, Any]) -> None:
    data = bytearray(saved(photo(), **tiny))
    data[-1] ^= 1
    with opened(bytes(data)) as image:
        for _ in range(2):
            with pytest.raises(OSError, match="damaged"):
                image.load()
    with opened(saved(photo(), **tiny)[:-3]) as image, pytest.raises(OSError, match="damaged"):
        image.load()


def test_verify_tests_all_checksums(tiny: dict[str, Any], tmp_path: Path) -> None:
    data = saved(photo("RGBA"), **tiny)
    for path in (io.BytesIO(data), tmp_path / "x.ldc"):
        (tmp_path / "x.ldc").write_bytes(data)
        image = Image.open(path)
        image.verify()
        with pytest.raises(RuntimeError, match="directly after open"):
            image.verify()
    for place in range(60, len(data), 13):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with opened(altered) as broken, pytest.raises(OSError, match="altered"):
            broken.verify()
    for other in (data[:-1], data + b"x"):
        with opened(other) as broken, pytest.raises(OSError, match=r"altered|cut short|grown"):
            broken.verify()


def test_several_pictures_are_refused(tiny: dict[str, Any]) -> None:
    """One is saved whatever `save_all` says, as programs pass it for every format."""
    for options in ({"save_all": True, "append_images": [photo()]}, {"append_images": [photo()]}):
        with pytest.raises(ValueError, match="holds one picture"):
            saved(photo(), **options, **tiny)
    file = io.BytesIO()
    photo().save(file, "GIF", save_all=True, append_images=[photo("L")])
    with Image.open(file) as image, pytest.raises(ValueError, match="holds one picture"):
        saved(image, save_all=True, **tiny)
    assert saved(photo(), save_all=True, **tiny) == saved(photo(), **tiny)


def test_truncated_images_are_restored_on_demand(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own switch turns salvage on: here alpha is lost and the colours are shown."""
    file = container.read(saved(photo("RGBA"), **tiny))
    data = bytearray(container.write(file))
    data[data.rindex(file.chunk("ALPH") or b"")] ^= 1
    with opened(bytes(data)) as image, pytest.raises(OSError, match="ALPH"):
        image.load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with opened(bytes(data)) as image, pytest.warns(ldcodec.LdcodecWarning, match="ALPH"):
        assert image.getchannel("A").getextrema() == (255, 255)
        assert image.convert("RGB").tobytes() == opened(saved(photo("RGBA"), **tiny)).convert("RGB").tobytes()


def test_unreadable_metadata_is_reported(tiny: dict[str, Any]) -> None:
    file = container.read(saved(photo(), **tiny))
    broken = Container(file.header, file.slices, (Chunk("xmpp", b"\7nonsense"),))
    with pytest.warns(ldcodec.LdcodecWarning, match="xmp cannot be read"):
        image = opened(container.write(broken))
    assert image.info == {}


def test_a_missing_model_is_an_os_error(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = saved(photo(), **tiny)
    monkeypatch.setenv("LDCODEC_MODELS", str(tmp_path))
    with opened(data) as image, pytest.raises(OSError, match=str(ldcodec.info(data)["parse_id"])):
        image.load()


@pytest.mark.parametrize(
    ("image", "options", "error"),
    [
        (photo(), {"rate": 1.0, "size": 99}, ValueError),
        (photo(), {"lossless": True, "quality": 10}, ValueError),
        (photo(), {"quality": 101}, ValueError),
        (photo("F"), {}, OSError),
    ],
    ids=["two targets", "lossless and quality", "quality", "floats"],
)
def test_what_cannot_be_saved_leaves_no_file(
    image: Image.Image, options: dict[str, Any], error: type[Exception], tiny: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(error):
        image.save(tmp_path / "x.ldc", **options, **tiny)
    assert list(tmp_path.iterdir()) == []


def test_bombs_are_refused_as_in_any_format(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo(), **tiny)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        opened(data)


def test_imageio(tiny: dict[str, Any], tmp_path: Path) -> None:
    iio = pytest.importorskip("imageio.v3", reason="imageio is not installed")
    path, pixels = tmp_path / "photo.ldc", np.asarray(photo())
    iio.imwrite(path, pixels, rate=1.5, **tiny)
    assert 8 * path.stat().st_size / (40 * 24) <= 1.5
    assert iio.improps(path).shape == (24, 40, 3)
    assert iio.immeta(path)["mode"] == "RGB"
    assert np.array_equal(iio.imread(path), np.asarray(opened(path.read_bytes())))
    iio.imwrite(path, pixels[:, :, 0], lossless=True)
    assert np.array_equal(iio.imread(path), pixels[:, :, 0])


def test_notes_are_there_before_pixels_are(tiny: dict[str, Any]) -> None:
    """Those of a file, also where `save` replaces others."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "someone")
    file = io.BytesIO()
    photo().save(file, "PNG", pnginfo=text, dpi=(300, 300))
    for options in ({}, {"xmp": b"<xmp/>"}):
        info = opened(saved(opened(file.getvalue()), **tiny, **options)).info
        assert info["texts"] == (("Author", "someone"),)
        assert info["dpi"] == pytest.approx((300, 300), rel=1e-4)
        assert info.get("xmp") == options.get("xmp")


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_resolution_given_to_save_replaces_that_of_the_image(unit: int, tiny: dict[str, Any]) -> None:
    """Whatever the JPEG file said of it: nothing, pixels per inch or per centimetre."""
    file = io.BytesIO()
    photo().save(file, "JPEG", dpi=(200, 200))
    data = bytearray(file.getvalue())
    data[data.index(b"JFIF\0") + 7] = unit
    for dpi in ((300, 150.5), None):
        assert opened(saved(opened(bytes(data)), dpi=dpi, **tiny)).info.get("dpi") == dpi

"""What callers try to pass: it works, or ends in a UsageError or PictureError of one line that says what would work."""

import decimal
import fractions
import io
import math
import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ldcodec
from ldcodec.decoder.request import Request
from ldcodec.nets.model import Model
from tests.pictures import photo

PIXELS = np.asarray(photo())

NO_PICTURES: dict[str, tuple[Any, str]] = {
    "path": ("photo.png", r"not 'photo.png'; PIL.Image.open\(…\)"),
    "Path": (Path("photo.png"), r"PIL.Image.open\(…\)"),
    "bytes": (b"\x89PNG", r"PIL.Image.open\(io.BytesIO\(…\)\)"),
    "memoryview": (memoryview(b"\x89PNG"), r"PIL.Image.open\(io.BytesIO\(…\)\)"),
    "open file": (io.BytesIO(), r"PIL.Image.open\(…\)"),
    "list": (PIXELS.tolist(), "of type list; numpy.asarray"),
    "tensor": (torch.zeros(3, 8, 8, dtype=torch.uint8), "of type Tensor; numpy.asarray"),
    "nothing": (None, "not None"),
    "class": (Image.Image, "of type type"),
    "number": (np.uint8(3), "numpy.asarray"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture(name: str) -> None:
    value, hint = NO_PICTURES[name]
    for options in ({"quality": 50}, {"lossless": True}):
        with pytest.raises(ldcodec.UsageError, match=hint) as caught:
            ldcodec.encode(value, **options)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_arrays_of_other_shapes_and_types() -> None:
    wrong: list[Any] = [PIXELS[:, :, :1], PIXELS.astype(float), PIXELS > 9, np.array(3, np.uint8), np.array([["a"]])]
    for array in wrong:
        with pytest.raises(ldcodec.PictureError, match=r"uint8 or uint16 of shape \(H, W\)"):
            ldcodec.encode(array, lossless=True)


def test_masks_are_not_lost() -> None:
    with pytest.raises(ldcodec.PictureError, match="masked"):
        ldcodec.encode(np.ma.masked_array(PIXELS, PIXELS > 9), lossless=True)
    unmasked = np.ma.masked_array(PIXELS, np.zeros(PIXELS.shape, bool))
    assert ldcodec.encode(unmasked, lossless=True) == ldcodec.encode(PIXELS, lossless=True)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_subclasses_of_arrays_are_arrays(tmp_path: Path) -> None:
    stored = np.memmap(tmp_path / "a.bin", np.uint8, "w+", shape=PIXELS.shape)
    stored[:] = PIXELS
    assert ldcodec.encode(stored, lossless=True) == ldcodec.encode(PIXELS, lossless=True)
    grey = PIXELS[:, :, 0]
    assert ldcodec.encode(np.asmatrix(grey), lossless=True) == ldcodec.encode(grey, lossless=True)


NO_TARGETS: list[dict[str, Any]] = [
    {"quality": "60"}, {"quality": [60]}, {"quality": True}, {"quality": decimal.Decimal(60)}, {"quality": 1 + 2j},
    {"quality": np.array([60])}, {"quality": torch.tensor(60.0)}, {"quality": math.nan}, {"quality": -1},
    {"rate": "1"}, {"rate": b"1"}, {"rate": math.inf}, {"rate": 0}, {"psnr": "35"}, {"psnr": -3},
    {"size": "10k"}, {"size": 0.5}, {"size": 10**400}, {"lossless": "no"}, {"lossless": 2},
]  # fmt: skip
NO_SETTINGS: list[dict[str, Any]] = [
    {"effort": 2.5}, {"effort": 2.0}, {"effort": "3"}, {"effort": None}, {"effort": True}, {"effort": 10},
    {"strip": "no"}, {"strip": None}, {"fallback": "yes"},
    {"model": "base"}, {"model": Path("base")}, {"model": b"12345678"}, {"model": torch.nn.Identity()},
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [*NO_TARGETS, *({"quality": 50} | settings for settings in NO_SETTINGS)],
    ids=lambda options: str(options),
)
def test_encoding_options_of_another_type_or_range(options: dict[str, Any]) -> None:
    named = list(options)[-1]
    with pytest.raises(ldcodec.UsageError, match=f"^{named} must be ") as caught:
        ldcodec.encode(PIXELS, **options)
    assert "\n" not in str(caught.value)


def test_numbers_of_other_types(model: Model) -> None:
    expected = ldcodec.encode(PIXELS, quality=60, model=model, fallback=False)
    for number in (60.0, np.float32(60), np.int64(60), fractions.Fraction(60)):
        options: dict[str, Any] = {"quality": number, "effort": np.int64(1), "fallback": np.False_, "strip": 0}
        assert ldcodec.encode(PIXELS, model=model, **options) == expected
    size = len(expected)
    others: list[Any] = [float(size), np.int32(size), size + 0.5]
    for same in others:
        assert ldcodec.encode(PIXELS, size=same, model=model) == ldcodec.encode(PIXELS, size=size, model=model)


NO_FILES: dict[str, tuple[Any, str]] = {
    "path": ("a.ldc", r"not as 'a.ldc'; open\(…, 'rb'\).read\(\)"),
    "Path": (Path("a.ldc"), r"open\(…, 'rb'\).read\(\)"),
    "open file": (io.BytesIO(b"\x8aLDC"), r"its read\(\) returns them"),
    "nothing": (None, "not as None"),
    "number": (7, "not as 7"),
    "list": ([138, 76], "of type list"),
    "picture": (photo(), "of type Image"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file(name: str) -> None:
    value, hint = NO_FILES[name]
    for function in (ldcodec.decode, ldcodec.info):
        with pytest.raises(ldcodec.UsageError, match=hint):
            function(value)


def test_all_that_holds_bytes_is_decoded() -> None:
    data = ldcodec.encode(PIXELS, lossless=True)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    doubled = memoryview(bytes(np.repeat(np.frombuffer(data, np.uint8), 2)))
    holders: list[Any] = [bytearray(data), memoryview(data), mapped, np.frombuffer(data, np.uint8), doubled[::2]]
    for held in holders:
        assert ldcodec.decode(held).tobytes() == PIXELS.tobytes()
        assert ldcodec.info(held) == ldcodec.info(data)
    for function in (ldcodec.decode, ldcodec.info):
        with pytest.raises(ldcodec.FormatError, match="empty"):
            function(b"")


@pytest.mark.parametrize(
    "options",
    [
        {"steps": "2"}, {"steps": 2.5}, {"steps": True}, {"steps": math.nan},
        {"realism": "1"}, {"realism": None}, {"realism": math.nan},
        {"sampler": None}, {"sampler": 5}, {"sampler": ["ddim"]}, {"sampler": "euler"},
        {"seed": 1.5}, {"seed": "1"}, {"seed": None}, {"seed": 2**64}, {"draft": "no"},
        {"model": "base"}, {"model": b"12345678"}, {"on_step": 5}, {"request": (0, 0, 5, 5)}, {"request": {}},
    ],
    ids=lambda options: str(options),
)  # fmt: skip
def test_decoding_options_of_another_type_or_range(options: dict[str, Any], ldc: bytes) -> None:
    with pytest.raises(ldcodec.UsageError, match=f"^{next(iter(options))} must be "):
        ldcodec.decode(ldc, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"region": (0, 0, 5)}, {"region": "0,0,5,5"}, {"region": 5}, {"region": (0, 0, 5.5, 5)},
        {"region": (0, 0, "5", 5)}, {"scale": "1/2"}, {"scale": 2.0}, {"scale": 3}, {"scale": None}, {"salvage": "no"},
    ],
    ids=lambda options: str(options),
)  # fmt: skip
def test_requests_for_no_part(options: dict[str, Any]) -> None:
    with pytest.raises(ldcodec.UsageError):
        Request(**options)


def test_the_largest_seed_is_taken(ldc: bytes, model: Model) -> None:
    options: dict[str, Any] = {"steps": np.int64(2), "realism": np.float32(1), "model": model}
    assert ldcodec.decode(ldc, seed=2**64 - 1, **options).tobytes() != ldcodec.decode(ldc, seed=0, **options).tobytes()


@pytest.mark.parametrize("name", [5, b"base", ["base"], Path])
def test_what_names_no_model(name: Any) -> None:
    with pytest.raises(ldcodec.UsageError, match="must be a name or a path"):
        ldcodec.load_model(name)


def animation(format: str) -> Image.Image:
    file, frames = io.BytesIO(), [photo(seed=seed) for seed in range(3)]
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    return Image.open(file)


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize(
    "encode", [ldcodec.encode, lambda image, **options: image.save(io.BytesIO(), "LDC", **options)]
)
def test_an_animation_does_not_lose_its_frames_in_silence(format: str, encode: Callable) -> None:
    """The picture that it shows is kept; whoever has gone to another one has chosen that. The image stays there."""
    ldcodec.register()
    for extra in ({}, {"xmp": b"<x/>"}) if encode is not ldcodec.encode else ({},):
        image = animation(format)
        with pytest.warns(ldcodec.LdcodecWarning, match="several pictures; only the first is kept"):
            encode(image, lossless=True, **extra)
        image.seek(2)
        before = image.convert("RGB").tobytes()
        data = ldcodec.encode(image, lossless=True)
        assert ldcodec.decode(data).convert("RGB").tobytes() == image.convert("RGB").tobytes() == before
        assert image.tell() == 2

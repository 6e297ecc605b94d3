"""Alpha: found in every way that Pillow says it, kept exactly, and cheap where it hides."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ldcodec.bitstream import container
from ldcodec.codec import decode, decode_array, encode
from ldcodec.nets.model import Model
from ldcodec.pictures.alpha import filled
from ldcodec.pictures.picture import Picture, Pixels
from ldcodec.pictures.read import from_image, read
from tests.pictures import colours, disc, grey, texture

pytestmark = pytest.mark.usefixtures("without_patches")


def test_opaque_alpha_is_dropped() -> None:
    with_alpha = Image.fromarray(np.dstack([colours(), np.full((5, 7), 255, np.uint8)]))
    assert np.array_equal(from_image(with_alpha).pixels, colours())
    assert from_image(with_alpha).alpha is None
    grey_alpha = Image.merge("LA", [Image.fromarray(grey()), Image.new("L", (7, 5), 255)])
    assert np.array_equal(from_image(grey_alpha).pixels, grey())
    assert from_image(grey_alpha).alpha is None


def transparent_pictures() -> dict[str, tuple[Image.Image, Pixels]]:
    """One picture for each way to say that a pixel is transparent, and its alpha."""
    rgb = Image.fromarray(colours())
    keyed, palette, bits = rgb.copy(), rgb.convert("P"), Image.fromarray(grey()).convert("1")
    keyed.info["transparency"] = tuple(int(value) for value in colours()[2, 3])
    palette.info["transparency"] = palette.getpixel((3, 2))
    bits.info["transparency"] = 0
    almost, keyhole = np.full((5, 7), 255, np.uint8), np.full((5, 7), 255, np.uint8)
    almost[4, 6], keyhole[2, 3] = 254, 0
    deep = Image.fromarray(grey().astype(np.uint16))
    deep.info["transparency"] = int(grey()[1, 1])
    return {
        "RGBA": (Image.fromarray(np.dstack([colours(), almost])), almost),
        "LA": (Image.merge("LA", [Image.fromarray(grey()), Image.fromarray(almost)]), almost),
        "key": (keyed, keyhole),
        "palette": (palette, np.where(np.asarray(palette) == palette.info["transparency"], 0, 255).astype(np.uint8)),
        "bits": (bits, np.where(np.asarray(bits), 255, 0).astype(np.uint8)),
        "16 bit": (deep, np.where(grey() == grey()[1, 1], 0, 65535).astype(np.uint16)),
    }


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
@pytest.mark.parametrize("way", transparent_pictures())
def test_transparency_is_found(way: str) -> None:
    image, alpha = transparent_pictures()[way]
    found = from_image(image)
    assert found.alpha is not None
    assert np.array_equal(found.alpha, alpha)
    assert found.grey == (way in ("LA", "bits", "16 bit"))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_grey_of_png_at_every_depth(bits: int) -> None:
    """Pillow stretches the values to 8 bits, but not the one that is transparent."""
    values = (grey(8, 16) >> (8 - bits)).astype(np.uint8)
    key = int(values[3, 5])
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(8, -1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    parts = (b"IHDR", struct.pack(">IIBBBBB", 16, 8, bits, 0, 0, 0, 0)), (b"tRNS", struct.pack(">H", key))
    chunks = [*parts, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    found = read(io.BytesIO(data))
    assert found.alpha is not None
    assert np.array_equal(found.pixels, values * (255 // ((1 << bits) - 1)))
    assert np.array_equal(found.alpha, np.where(values == key, 0, 255))


def test_transposed_pictures_keep_their_alpha_in_place() -> None:
    image = transparent_pictures()["palette"][0]
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    found = from_image(image).alpha
    assert found is not None
    assert np.array_equal(found, np.rot90(transparent_pictures()["palette"][1], -1))


@pytest.mark.parametrize("mode", ["RGB", "grey"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (63, 65), (64, 64), (7, 100)])
def test_alpha_comes_back_exactly(model: Model, shape: tuple[int, int], mode: str) -> None:
    pixels = texture(*shape) if mode == "RGB" else texture(*shape)[:, :, 0]
    alpha = np.random.default_rng(2).integers(0, 255, shape).astype(np.uint8)
    data = encode(Picture(pixels, alpha), quality=60, fallback=False, model=model)
    array, image = decode_array(data, model=model), decode(data, model=model)
    assert array.shape == (*shape, 4 if mode == "RGB" else 2)
    assert np.array_equal(array[:, :, -1], alpha)
    assert image.mode == ("RGBA" if mode == "RGB" else "LA")
    assert np.array_equal(np.asarray(image), array)
    assert encode(np.dstack([pixels, alpha]), quality=60, fallback=False, model=model) == data
    assert encode(Image.fromarray(np.dstack([pixels, alpha])), quality=60, fallback=False, model=model) == data


def test_hidden_pixels_cost_next_to_nothing(shipped_model: Model) -> None:
    """Noise behind a disc that shows a sixth of it; what is hidden may be noise, black or white."""
    alpha = disc(192, 256)
    noise = np.random.default_rng(0).integers(0, 256, (192, 256, 3)).astype(np.uint8)
    hidden = (alpha == 0)[:, :, None]
    pictures = [Picture(np.where(hidden, behind, noise), alpha) for behind in (noise, np.uint8(0), np.uint8(255))]
    files = [encode(picture, quality=60, fallback=False, model=shipped_model) for picture in pictures]
    assert files[0] == files[1] == files[2]
    payload, all_of_it = (
        len(container.read(data).slices[0].payload)
        for data in (files[0], encode(noise, quality=60, fallback=False, model=shipped_model))
    )
    assert payload < (0.1 + float((alpha > 0).mean())) * all_of_it


def test_filling_leaves_the_visible_alone_and_is_smooth() -> None:
    pixels, alpha = texture(100, 131), disc(100, 131)
    found = filled(pixels, alpha)
    assert np.array_equal(found[alpha > 0], pixels[alpha > 0])
    steps = np.abs(np.diff(found.astype(int), axis=1))[:, :20]
    assert steps.max() <= 8
    flat = np.full((50, 70), 77, np.uint8)
    assert np.array_equal(filled(np.where(disc(50, 70) > 0, flat, np.uint8(3)), disc(50, 70)), flat)


def test_filling_of_all_and_of_nothing() -> None:
    pixels = colours()
    assert np.array_equal(filled(pixels, np.zeros((5, 7), np.uint8)), np.full_like(pixels, 128))
    assert filled(pixels, np.full((5, 7), 1, np.uint8)) is pixels

"""Squares that a file wants drawn as in a draft: read by the document, drawn in every way, chosen where they pay."""

import io
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest

from ldcodec.bitstream import chunktypes, container
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.reader import Chunk, Reader
from ldcodec.bitstream.slices import TILE, Area
from ldcodec.codec import decode_array, encode
from ldcodec.decoder import latent
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.restore import misfits, restore_each
from ldcodec.encoder import drafting
from ldcodec.encoder.drafting import strange_places
from ldcodec.encoder.patching import spread
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.errors import DamagedError
from ldcodec.nets.model import Model
from ldcodec.pictures import squares
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Pixels
from tests.pictures import psnr, texture
from tests.textures import hostile
from tests.ways import in_every_way, options_of

pytestmark = pytest.mark.usefixtures("without_patches")

HEIGHT, WIDTH = 150, 201
SHAPE = 10, 13, 2, 2
REGION = 37, 29, 120, 60
WANTED = np.random.default_rng(5).random(SHAPE) < 0.2
MASKS = {
    "scattered": WANTED,
    "one": np.arange(520).reshape(SHAPE) == 77,
    "the last": np.arange(520).reshape(SHAPE) == 519,
    "all": np.ones(SHAPE, np.bool_),
}


def pixels_of(wanted: Mask) -> Mask:
    """The pixels of squares: bool [H, W]."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    return wanted[rows // 16, columns // 16, rows % 16 // 8, columns % 16 // 8]


def read_by_the_document(data: bytes) -> set[tuple[int, int]]:
    """Row and column of each square, counted in squares, read as docs/bitstream.md says."""
    bits = zlib.decompress(data[1:]) if data[0] else data[1:]
    columns, found = -(-WIDTH // 16), set()
    for number in range(4 * columns * -(-HEIGHT // 16)):
        block, square = divmod(number, 4)
        if bits[number // 8] >> 7 - number % 8 & 1:
            found.add((block // columns * 2 + square // 2, block % columns * 2 + square % 2))
    return found


@pytest.mark.parametrize("name", MASKS)
def test_a_reader_written_from_the_document_finds_the_squares(name: str) -> None:
    wanted = MASKS[name]
    data = squares.packed(wanted)
    assert np.array_equal(squares.unpacked(data, (WIDTH, HEIGHT)), wanted)
    places = ((2 * y + down, 2 * x + across) for y, x, down, across in np.argwhere(wanted).tolist())
    assert read_by_the_document(data) == set(places)


def with_squares(data: bytes, chunk: bytes) -> bytes:
    known = container.read(data)
    return container.write(replace(known, chunks=(*known.chunks, Chunk(chunktypes.DRAFTED, chunk))))


@pytest.fixture(scope="module", params=["rgb", "grey", "grey in RGB", "deep"])
def plain(model: Model, request: pytest.FixtureRequest) -> bytes:
    """A file without such squares."""
    pixels = texture(HEIGHT, WIDTH)
    if request.param.startswith("grey"):
        pixels = np.ascontiguousarray(pixels[:, :, 1])
    if request.param == "grey in RGB":
        pixels = np.repeat(pixels[:, :, None], 3, 2)
    return encode(pixels.astype(np.uint16) * 257 if request.param == "deep" else pixels, quality=60, model=model)


@in_every_way
def test_squares_are_drawn_as_in_a_draft(model: Model, plain: bytes, way: str) -> None:
    """And all around them is as in a file that names none."""
    options = options_of(way, REGION)
    data = with_squares(plain, squares.packed(WANTED))
    decoded, other = (decode_array(source, model=model, **options) for source in (data, plain))
    draft = decode_array(plain, draft=True, model=model, request=options.get("request"))
    x, y, width, height = REGION if way == "region" else (0, 0, WIDTH, HEIGHT)
    meant = pixels_of(WANTED)[y : y + height, x : x + width]
    assert np.array_equal(decoded[meant], draft[meant]) and np.array_equal(decoded[~meant], other[~meant])
    assert np.array_equal(decoded, other) == (way == "draft")


def test_previews_are_the_same(model: Model, plain: bytes) -> None:
    data = with_squares(plain, squares.packed(WANTED))
    first, second = (decode_array(source, request=Request(scale=4), model=model) for source in (data, plain))
    assert np.array_equal(first, second)


def test_the_viewer_draws_them_too(model: Model, plain: bytes) -> None:
    data = with_squares(plain, squares.packed(WANTED))
    settings = [DecodeSettings(), DecodeSettings(2)]
    for picture, one in zip(restore_each(Reader(io.BytesIO(data)), model, settings, Request()), settings, strict=True):
        assert np.array_equal(picture.pixels, decode_array(data, model=model, steps=one.steps))


HOSTILE = {
    "nothing": b"",
    "an unknown coding": b"\2" + bytes(65),
    "too few bits": b"\0" + bytes(64),
    "too many bits": b"\0" + bytes(66),
    "no zlib": b"\1" + bytes(65),
    "zlib cut short": b"\1" + zlib.compress(bytes(65))[:-1],
    "a bomb": b"\1" + zlib.compress(bytes(1 << 25)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_wrong_squares_are_refused_in_one_line(model: Model, plain: bytes, name: str) -> None:
    file = with_squares(plain, HOSTILE[name])
    with pytest.raises(DamagedError, match="chunk drft: it does not say which squares it means") as caught:
        decode_array(file, model=model)
    assert "\n" not in str(caught.value)
    assert [str(found) for found in misfits(Reader(io.BytesIO(file)))] == [
        "chunk drft is without a valid map of its squares"
    ]


def without_squares(source: bytes) -> bytes:
    known: Container = container.read(source)
    return container.write(
        replace(known, chunks=tuple(chunk for chunk in known.chunks if chunk.kind != chunktypes.DRAFTED))
    )


@pytest.mark.parametrize("form", ["rgb", "grey", "deep"])
@pytest.mark.parametrize("kind", [PictureEncoder, SlicedEncoder])
def test_what_a_draft_draws_better_is_drawn_so(shipped_model: Model, kind: type, form: str) -> None:
    """A pattern of thin rows, in which the residual branch does harm; the encoder's own figure is that of decoding."""
    pixels: Pixels = hostile(28, small=True).pixels
    pixels = np.ascontiguousarray(pixels[:, :, 1]) if form == "grey" else pixels
    pixels, depth = (pixels.astype(np.uint16) * 257, 16) if form == "deep" else (pixels, 8)
    encoder = kind(pixels, shipped_model, depth=depth)
    coded = encoder.code(2457)
    assert coded.container.chunk(chunktypes.DRAFTED) is not None
    decoded, before = (decode_array(data, model=shipped_model) for data in (coded.data, without_squares(coded.data)))
    unit = 20 * math.log10(257 if form == "deep" else 1)  # `psnr` is for levels of 8 bits
    found, known = (psnr(shown, pixels) + unit for shown in (decoded, before))
    assert found > known + 0.05 and abs(encoder.psnr(coded) - found) < 0.01
    assert coded.forecast.size(2457) == pytest.approx(coded.size, abs=16)


def test_what_was_just_coded_is_not_parsed(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = hostile(28, small=True).pixels
    parsed = SlicedEncoder(pixels, shipped_model).code(2457)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(latent, "parse_slice", refuse)
    coded = PictureEncoder(pixels, shipped_model).code(2457)
    wanted = coded.container.chunk(chunktypes.DRAFTED)
    assert wanted is not None and wanted == parsed.container.chunk(chunktypes.DRAFTED)


@pytest.mark.parametrize(
    ("seed", "before"),
    [
        (28, 1.5),
        (235, 1.2),  # of four strange cells
        (1267, 2.0),  # of a single one
        (1517, 1.7),  # of one colour, but a vivid one
        (247, 0.8),  # which shares squares with what is natural
        (499, 2.1),  # of flat cells, if they are counted at every fourth pixel
        (914, 0.5),  # of 8×24 pixels
    ],
)
def test_a_pattern_is_no_worse_than_its_draft(shipped_model: Model, seed: int, before: float) -> None:
    """It was, by so many dB."""
    texture = hostile(seed, small=True)
    data = encode(texture.pixels, quality=60, fallback=False, model=shipped_model)
    decoded, draft = (decode_array(data, draft=draft, model=shipped_model) for draft in (False, True))
    inside = texture.inside
    assert psnr(decoded[inside], texture.pixels[inside]) > psnr(draft[inside], texture.pixels[inside]) - 0.1
    without = decode_array(without_squares(data), model=shipped_model)
    lost = psnr(draft[inside], texture.pixels[inside]) - psnr(without[inside], texture.pixels[inside])
    assert lost == pytest.approx(before, abs=0.1)


def test_photographs_hold_nothing_strange_and_patterns_do() -> None:
    for seed in range(40):
        picture = hostile(seed)
        places = strange_places(picture.pixels)
        assert not places[~spread(places_of(picture.inside))].any()  # a window may begin outside
        if picture.kind in ("board", "noise", "colours", "mosaic") and np.ptp(picture.pixels[picture.inside], 0).any():
            assert places.any()


def places_of(inside: Mask) -> Mask:
    """The places of 2×2 pixels that hold any of some pixels."""
    height, width = inside.shape
    return np.asarray(inside.reshape(height // 2, 2, width // 2, 2).any((1, 3)))


def test_flat_and_smooth_pictures_and_noise_hold_nothing_strange() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None], (100, 33, 3))
    noise = np.random.default_rng(0).integers(0, 256, (130, 50), np.uint8)
    for picture in (np.full((33, 17), 7, np.uint8), noise[:1, :1], noise[:, :3], ramp, noise):
        assert not strange_places(picture).any()
    assert strange_places(np.zeros((33, 17), np.uint8)).shape == (24, 16)


@pytest.mark.parametrize(("colour", "strange"), [((0, 255, 0), True), ((0, 140, 60), False), ((255, 255, 255), False)])
def test_a_flat_cell_is_strange_where_it_is_vivid(colour: tuple[int, int, int], strange: bool) -> None:
    assert strange_places(np.full((16, 16, 3), colour, np.uint8)).all() == strange


@pytest.mark.parametrize(("share", "least", "named"), [(0.2, 8.0, True), (0.5, 8.0, False), (0.01, 1e4, False)])
def test_a_map_that_gains_little_is_not_stored(
    shipped_model: Model, monkeypatch: pytest.MonkeyPatch, share: float, least: float, named: bool
) -> None:
    """This one takes away between a fifth and a half of the pattern's error."""
    monkeypatch.setattr(drafting, "SHARE", share)
    monkeypatch.setattr(drafting, "LEAST", least)
    coded = PictureEncoder(hostile(28, small=True).pixels, shipped_model).code(2457)
    assert (coded.container.chunk(chunktypes.DRAFTED) is not None) == named


@pytest.mark.parametrize("share", [0.0, 0.002, 0.1, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (10, 13), (153, 240), (1, 300)])
def test_what_is_drawn_holds_all_that_is_examined_once(size: tuple[int, int], share: float) -> None:
    examined = np.random.default_rng(1).random(size) < share
    counts = np.zeros(size, np.int64)
    for part in drafting.rectangles(examined):
        assert max(part.bottom - part.top, part.right - part.left) <= TILE
        counts[part.top : part.bottom, part.left : part.right] += 1
    assert (counts[examined] == 1).all() and counts.max(initial=0) <= 1


def test_blocks_far_apart_are_drawn_by_themselves() -> None:
    examined = np.zeros((90, 90), np.bool_)
    examined[[3, 80, 82], [5, 70, 71]] = True
    assert drafting.rectangles(examined) == [Area(3, 4, 5, 6), Area(80, 83, 70, 72)]

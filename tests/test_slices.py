"""Slices and tiles: cutting a picture to save memory changes neither symbols nor pixels."""

import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ldcodec.bitstream import container, layout, slices
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Reader, Slice
from ldcodec.bitstream.slices import Area, Span
from ldcodec.codec import decode_array, encode
from ldcodec.decoder import tiles
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.reverse import condition, render
from ldcodec.encoder import sliced
from ldcodec.encoder.sliced import SlicedEncoder, encoder_for
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.entropy.modelfiles import find_identity
from ldcodec.entropy.weights import read_coder
from ldcodec.errors import DamagedError, UsageError
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Picture, Pixels
from tests.pictures import psnr, texture

pytestmark = pytest.mark.usefixtures("without_patches")

SAMPLE = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"
Pixels = Pixels


@pytest.fixture(scope="module")
def model(model: Model) -> Model:
    """The tiny model with every layer that starts at zero disturbed, so that its latents and pixels depend on all that
    the networks see and a tile with too narrow a halo shows.
    """
    networks = copy.deepcopy(model.networks)
    torch.manual_seed(2)
    with torch.no_grad():
        for part, amount in ((networks.analysis, 0.05), (networks.synthesis, 0.05), (networks.denoiser, 1.0)):
            for parameter in part.parameters():
                if not parameter.any():
                    parameter.add_(torch.randn_like(parameter), alpha=amount)
        networks.denoiser.head.weight.mul_(2)
    return replace(model, networks=networks)


def whole(data: bytes, model: Model, settings: DecodeSettings) -> Pixels:
    """The picture of a file rendered in one pass over the latent of all its slices."""
    latent = Latent(Reader(io.BytesIO(data)), model)
    known = condition(latent.window(Area(0, latent.rows, 0, latent.columns)), latent.header, model)
    return render(known, latent.header, model, settings)


def difference(first: Pixels, second: Pixels) -> int:
    """The largest difference of two pictures in levels."""
    return int(np.abs(first.astype(int) - second).max())


def test_a_picture_of_up_to_three_megapixels_or_one_row_of_blocks_is_one_slice() -> None:
    for width, height in [(1, 1), (768, 512), (2048, 1536), (1 << 20, 1), (1, 1 << 20)]:
        rows, columns = layout.latent_size(width, height)
        spans = slices.cut(width, height)
        assert spans[0].top == 0 and spans[-1].bottom == rows
        assert (len(spans) == 1) == (rows * columns <= slices.SLICE_AREA or rows == 4)


@pytest.mark.parametrize(
    ("width", "height"), [(2000, 2000), (10000, 10000), (32768, 32768), (1 << 20, 1024), (600, 1 << 20)]
)
def test_slices_cover_the_picture_and_keep_their_size(width: int, height: int) -> None:
    rows, columns = layout.latent_size(width, height)
    spans = slices.cut(width, height)
    assert [span.top for span in spans] == [0, *(span.bottom for span in spans[:-1])] and spans[-1].bottom == rows
    assert all(span.rows % 4 == 0 and span.rows >= 4 for span in spans) and len(spans) <= layout.MAX_SLICES
    assert max(span.rows for span in spans) * columns <= max(slices.SLICE_AREA + 4 * columns, 4 * columns)
    assert sum(slices.coded_rows(span, width, height)[0] for span in spans) == layout.coded_size(width, height)[0]
    header = Header(width, height, 0, False, bytes(range(8)))
    data = container.write(Container(header, tuple(Slice(span.rows, b"", 0) for span in spans)))
    assert Reader(io.BytesIO(data)).spans == spans


def test_slices_have_the_same_symbols_with_any_number_of_threads(model: Model, small_parts: None) -> None:
    source = Reader(io.BytesIO(encode(texture(300, 330), quality=60, model=model)))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            latent = Latent(source, model)
            found.append(list(latent.each(range(len(source.spans)), lambda parsed: parsed)))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(found[0] * 2, found[1] + found[2], strict=True):
        assert np.array_equal(one.symbols, other.symbols) and np.array_equal(one.mean, other.mean)


def test_small_pictures_are_coded_as_ever(model: Model) -> None:
    pixels = texture(200, 320)
    assert isinstance(encoder_for(Picture(pixels), model), PictureEncoder)
    data = encode(pixels, quality=40, tune="psnr", model=model)
    assert data == container.write(PictureEncoder(pixels, model).code(1638).container)
    assert np.array_equal(decode_array(data, model=model), whole(data, model, DecodeSettings()))


@pytest.mark.usefixtures("small_parts")
def test_analysis_by_tiles_is_that_of_the_whole(model: Model) -> None:
    for height, width in [(300, 330), (130, 70), (65, 400)]:
        pixels = texture(height, width)
        rows = layout.latent_size(width, height)[0]
        expected = PictureEncoder(pixels, model).latents(1500).scaled
        parts = [sliced.scaled_rows(pixels, model, 1500, Span(top, top + 4)) for top in range(0, rows, 4)]
        assert np.abs(np.concatenate(parts, 1) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
def test_slices_come_back(model: Model, grey: bool) -> None:
    pixels = texture(300, 330)[:, :, 1] if grey else texture(300, 330)
    data = encode(pixels, quality=70, tune="psnr", model=model)
    assert len(container.read(data).slices) > 2
    array = decode_array(data, model=model)
    assert array.shape == pixels.shape
    one = container.write(PictureEncoder(pixels, model).code(2866).container)
    assert abs(psnr(array, pixels) - psnr(whole(one, model, DecodeSettings()), pixels)) < 0.2


SETTINGS = [
    DecodeSettings(),
    DecodeSettings(steps=2, realism=1.0),
    DecodeSettings(steps=2, realism=1.0, sampler="heun", seed=5),
    DecodeSettings(steps=16, realism=0.5),
    DecodeSettings(steps=8, realism=1.0, sampler="heun"),
]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.sampler}-{s.steps}-{s.realism}")
def test_tiles_give_the_pixels_of_one_pass(model: Model, settings: DecodeSettings) -> None:
    data = encode(texture(300, 330), quality=60, model=model)
    latent = Latent(Reader(io.BytesIO(data)), model)
    tiled = tiles.picture_of(latent, settings)
    assert difference(tiled, whole(data, model, settings)) <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_tiles_give_the_pixels_of_one_pass_with_the_shipped_model(
    shipped_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS[2]
    monkeypatch.setattr(slices, "TILE", 16)
    data = encode(np.asarray(Image.open(SAMPLE))[:330, :300, :3], quality=50, model=shipped_model)
    latent = Latent(Reader(io.BytesIO(data)), shipped_model)
    assert difference(tiles.picture_of(latent, settings), whole(data, shipped_model, settings)) <= 1


@pytest.mark.parametrize("lost", [(1, 0), (0, 1)], ids=["denoiser", "synthesis"])
def test_a_halo_that_is_too_narrow_shows(
    model: Model, small_parts: None, monkeypatch: pytest.MonkeyPatch, lost: tuple[int, int]
) -> None:
    """The tests of the tiles can fail: without the halo of either network, borders show. Those of a quiet
    denoiser would stay below one level, so it is made louder.
    """
    networks = copy.deepcopy(model.networks)
    with torch.no_grad():
        networks.denoiser.head.weight.mul_(18 if networks.config.one_shot else 4)
    model = replace(model, networks=networks)
    data = encode(texture(300, 330), quality=60, model=model)
    settings = SETTINGS[2]
    halo = tiles.halo_of(model, settings)
    narrow = tiles.Halo(halo.denoiser * (1 - lost[0]), halo.synthesis * (1 - lost[1]))
    monkeypatch.setattr(tiles, "halo_of", lambda model, settings: narrow)
    tiled = tiles.picture_of(Latent(Reader(io.BytesIO(data)), model), settings)
    assert difference(tiled, whole(data, model, settings)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("index", [1000, 2200])
def test_no_seam_shows_at_a_slice_border(shipped_model: Model, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """PSNR of the 16 rows on either side of each border, with and without slices. Without a neighbour's context, scales
    are wider and the trellis more exact.
    """
    pixels = np.asarray(Image.open(SAMPLE))[:448, :512, :3]
    encoder = SlicedEncoder(pixels, shipped_model)
    encoder.spans = slices.cut(512, 448, area=32 * 12)
    assert len(encoder.spans) == 3
    files = [encoder.code(index).container, PictureEncoder(pixels, shipped_model).code(index).container]
    shown = [whole(container.write(file), shipped_model, DecodeSettings()) for file in files]
    for span in encoder.spans[1:]:
        border = 16 * span.top
        beside = slice(border - 16, border + 16)
        in_slices, in_one = (psnr(picture[beside], pixels[beside]) for picture in shown)
        assert -0.1 < in_slices - in_one < 0.25


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("target", [{"rate": 0.6}, {"size": 6000}])
def test_sizes_are_met_in_slices(model: Model, target: dict) -> None:
    pixels = texture(300, 330)
    data = encode(pixels, **target, model=model)
    size = target.get("size") or target["rate"] * 300 * 330 / 8
    assert 0.99 * size - 8 <= len(data) <= size and len(container.read(data).slices) > 2


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_psnr_is_reached_in_slices(model: Model) -> None:
    pixels = texture(300, 330)
    wanted = psnr(decode_array(encode(pixels, quality=45, model=model), model=model), pixels)
    data = encode(pixels, psnr=wanted, model=model)
    assert wanted <= psnr(decode_array(data, model=model), pixels) <= wanted + 0.1


def test_samples_lie_in_the_picture() -> None:
    for width, height in [(2000, 1500), (70000, 64), (50, 60000), (4096, 2048)]:
        places = sliced.sample_places(width, height)
        assert 4 <= len(places) <= sliced.SAMPLES
        for place in places:
            assert 0 <= place.top < place.bottom <= height and 0 <= place.left < place.right <= width
        assert sum(place.size for place in places) <= sliced.SAMPLES * sliced.SAMPLE_SIDE**2


REGIONS = [(0, 0, 330, 300), (0, 0, 1, 1), (329, 299, 1, 1), (100, 140, 90, 16), (37, 250, 200, 50)]


@pytest.mark.usefixtures("small_parts")
def test_a_region_is_the_crop_of_the_whole(model: Model) -> None:
    data = encode(texture(300, 330), quality=60, model=model)
    whole_picture = decode_array(data, model=model)
    for x, y, width, height in REGIONS:
        found = decode_array(data, model=model, request=Request(region=(x, y, width, height)))
        assert difference(found, whole_picture[y : y + height, x : x + width]) <= 1


def test_a_region_of_a_small_picture_is_the_crop_of_the_whole(model: Model) -> None:
    data = encode(texture(100, 90), quality=60, model=model)
    found = decode_array(data, model=model, request=Request(region=(10, 20, 30, 40)))
    assert difference(found, decode_array(data, model=model)[20:60, 10:40]) <= 1


def test_a_region_reads_only_the_slices_it_needs(model: Model, small_parts: None) -> None:
    smooth = np.asarray(Image.fromarray(texture(1200, 330)).filter(ImageFilter.GaussianBlur(1)))  # nothing strange
    data = encode(smooth, quality=60, model=model)
    source = Reader(io.BytesIO(data))
    payloads = [source.payload_length(number) for number in range(len(source.spans))]
    assert len(payloads) > 8 and source.bytes_read < sum(payloads)
    header = source.bytes_read
    decode_array(source, model=model, request=Request(region=(0, 0, 330, 64)))
    halo = tiles.halo_of(model, DecodeSettings())
    needed = slices.meeting(source.spans, 0, 4 + halo.synthesis + halo.denoiser)
    assert len(needed) < len(payloads) / 2
    assert source.bytes_read - header == sum(payloads[number] for number in needed)


def test_a_region_needs_no_other_slice_to_be_whole(model: Model, small_parts: None) -> None:
    data = encode(texture(1200, 330), quality=60, model=model)
    altered = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    decode_array(altered, model=model, request=Request(region=(0, 0, 50, 50)))
    with pytest.raises(DamagedError):
        decode_array(altered, model=model, request=Request(region=(0, 1100, 50, 50)))


def test_regions_outside_the_picture_are_refused(model: Model) -> None:
    data = encode(texture(100, 90), quality=20, model=model)
    for region in [(0, 0, 0, 5), (0, 0, 91, 5), (80, 0, 11, 5), (0, 99, 5, 2), (-1, 0, 5, 5)]:
        with pytest.raises(UsageError):
            decode_array(data, model=model, request=Request(region=region))


@pytest.mark.parametrize("wrong", [{"scale": 3}, {"scale": 0}, {"scale": 2, "region": (0, 0, 1, 1)}])
def test_views_that_contradict_themselves_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Request(**wrong)


def reduced(pixels: Pixels, scale: int) -> NDArray[np.float64]:
    """Means over boxes of scale × scale pixels, with the last row and column repeated."""
    height, width = pixels.shape[:2]
    filled = np.pad(pixels.astype(float), ((0, -height % scale), (0, -width % scale), (0, 0)), "edge")
    return filled.reshape(-(-height // scale), scale, -(-width // scale), scale, -1).mean((1, 3))


def test_a_preview_is_the_picture_made_smaller(shipped_model: Model) -> None:
    pixels = np.asarray(Image.open(SAMPLE))[:250, :330, :3]
    data = encode(pixels, quality=50, model=shipped_model)
    full = decode_array(data, model=shipped_model)
    for scale, least in [(2, 30), (4, 32), (8, 34), (16, 36)]:
        preview = decode_array(data, model=shipped_model, request=Request(scale=scale))
        expected = reduced(full, scale)
        assert preview.shape == expected.shape
        assert 10 * np.log10(255**2 / np.square(preview - expected).mean()) > least, scale


@pytest.mark.usefixtures("small_parts")
def test_a_preview_of_slices_has_no_gaps(model: Model) -> None:
    """A preview has the linear part alone; what the disturbed layers add is small compared with a gap."""
    data = encode(texture(301, 333), quality=80, model=model)
    for scale in (2, 4, 8, 16):
        expected = reduced(decode_array(data, model=model), scale)
        preview = decode_array(data, model=model, request=Request(scale=scale))
        for rows in np.array_split(np.abs(preview - expected), 5):
            assert rows.mean() < 12


def test_the_least_size_of_a_payload_is_right(model: Model, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file that an encoder writes is smaller."""
    monkeypatch.setenv("LDCODEC_MODELS", tiny_model)
    path = find_identity(model.parse_id)
    assert path is not None
    coder = read_coder(path)
    for identity, known in model.coders.items():
        found = read_coder(path, identity)
        assert found.hyper.least(found.least_bits) == known.hyper.least(known.least_bits)
    for pixels in (np.full((640, 640, 3), 127, np.uint8), texture(200, 200), np.zeros((64, 64), np.uint8)):
        source = PictureEncoder(pixels, model).code(0).container
        positions = source.slices[0].rows // 4 * (layout.latent_size(*pixels.shape[1::-1])[1] // 4)
        assert not coder.is_too_small(len(source.slices[0].payload), positions)


def test_a_file_that_claims_more_symbols_than_it_can_hold_is_refused_at_once(model: Model) -> None:
    data = encode(texture(64, 64), quality=20, model=model)
    source = container.read(data)
    rows = layout.latent_size(32768, 32768)[0]
    header = replace(source.header, width=32768, height=32768)
    lying = container.write(Container(header, (replace(source.slices[0], rows=rows),)))
    with pytest.raises(DamagedError, match="cannot hold"):
        decode_array(lying, model=model)

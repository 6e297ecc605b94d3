"""Drafts: the picture in full size by the linear shortcut alone, as previews are drawn."""

import io
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from ldcodec.bitstream.reader import Reader
from ldcodec.codec import decode, decode_array, encode
from ldcodec.decoder.request import Request
from ldcodec.errors import SalvageWarning, UsageError
from ldcodec.nets.model import Model
from tests.commands import TINY, Call, error_line
from tests.pictures import psnr, texture

pytestmark = pytest.mark.usefixtures("without_patches")

SAMPLE = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"


@pytest.fixture
def sliced(model: Model, small_parts: None) -> bytes:
    """A file of several slices."""
    data = encode(texture(301, 333), quality=80, fallback=False, model=model)
    assert len(Reader(io.BytesIO(data)).spans) > 2
    return data


def with_last_byte_altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_draft_is_a_little_worse_than_the_picture(shipped_model: Model) -> None:
    pixels = np.asarray(Image.open(SAMPLE))[:250, :330, :3]
    data = encode(pixels, quality=50, model=shipped_model)
    full, draft = decode_array(data, model=shipped_model), decode_array(data, model=shipped_model, draft=True)
    assert psnr(full, pixels) - 3 < psnr(draft, pixels) < psnr(full, pixels)


def test_previews_are_the_draft_made_smaller(model: Model, sliced: bytes) -> None:
    draft = decode_array(sliced, model=model, draft=True)
    inner = draft[:300, :332].reshape(150, 2, 166, 2, 3).mean((1, 3))
    preview = decode_array(sliced, model=model, request=Request(scale=2))[:150, :166]
    unclipped = (preview > 20) & (preview < 235)
    assert np.abs(preview - inner)[unclipped].mean() < 0.5


def test_neither_denoiser_nor_synthesis_runs(model: Model, sliced: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("denoise", "picture"):
        monkeypatch.setattr(type(model.networks), name, Mock(side_effect=AssertionError(name)))
    assert decode_array(sliced, model=model, draft=True).shape == (301, 333, 3)


@pytest.mark.parametrize("region", [(0, 0, 333, 301), (37, 50, 120, 81), (332, 300, 1, 1), (0, 63, 40, 2)])
def test_a_region_of_a_draft_is_the_crop_of_it(model: Model, sliced: bytes, region: tuple[int, int, int, int]) -> None:
    x, y, width, height = region
    whole = decode_array(sliced, model=model, draft=True).astype(int)
    found = decode_array(sliced, model=model, draft=True, request=Request(region=region))
    assert found.shape == (height, width, 3)
    assert np.abs(found - whole[y : y + height, x : x + width]).max() <= 1


def test_a_region_of_a_draft_needs_only_its_own_slices(model: Model, sliced: bytes) -> None:
    source = Reader(io.BytesIO(with_last_byte_altered(sliced)))
    before = source.bytes_read
    rows = source.spans[0].bottom * 16
    decode_array(source, model=model, draft=True, request=Request(region=(0, 0, 333, rows)))
    assert source.bytes_read - before == source.payload_length(0)


def test_a_salvaged_draft_names_the_lost_rows_only(model: Model, sliced: bytes) -> None:
    with pytest.warns(SalvageWarning, match="are lost and were filled in by the model$"):
        decode_array(with_last_byte_altered(sliced), model=model, draft=True, request=Request(salvage=True))


def test_grey_and_alpha_are_kept(model: Model) -> None:
    pixels, alpha = texture(70, 90)[:, :, 1], texture(70, 90)[:, :, 0]
    image = Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(np.ascontiguousarray(alpha))])
    found = decode(encode(image, quality=60, fallback=False, model=model), model=model, draft=True)
    assert found.mode == "LA" and np.array_equal(np.asarray(found)[:, :, 1], alpha)


def test_a_lossless_file_is_exact_in_any_case() -> None:
    pixels = texture(30, 40)
    assert np.array_equal(decode_array(encode(pixels, lossless=True), draft=True), pixels)


@pytest.mark.parametrize("given", [{"steps": 1}, {"steps": 4}, {"realism": 0.5}])
def test_a_draft_has_neither_steps_nor_realism(model: Model, sliced: bytes, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="without diffusion"):
        decode_array(sliced, model=model, draft=True, **given)


def test_the_command_draws_drafts(call: Call, model: Model, sliced: bytes) -> None:
    Path("a.ldc").write_bytes(sliced)
    assert call("decompress", "a.ldc", "--draft", "--region", "37,50,120,81", *TINY)[0] == 0
    expected = decode_array(sliced, model=model, draft=True, request=Request(region=(37, 50, 120, 81)))
    with Image.open("a.png") as shown:
        assert np.abs(np.asarray(shown).astype(int) - expected).max() <= 3  # its weights are stored in half precision
    for options in (["--realism", "1"], ["--steps", "2"]):
        code, _, err = call("decompress", "a.ldc", "-o", "b.png", "--draft", *options, *TINY)
        assert code == 2 and "without diffusion" in error_line(err) and not Path("b.png").exists()


def test_a_folder_made_before_drafts_can_be_continued(call: Call, sliced: bytes) -> None:
    Path("in").mkdir()
    Path("in/a.ldc").write_bytes(sliced)
    run = ["decompress", "in", "-o", "out", "--recursive", "--jobs", "1", *TINY]
    assert call(*run)[0] == 0
    assert "draft" not in Path("out/.ldcodec-manifest.jsonl").read_text()
    code, _, err = call(*run, "--draft")
    assert code == 2 and "made with" in error_line(err)

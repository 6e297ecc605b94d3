"""The loss of structure: what SSIM says of contrast and structure, over several scales in Oklab."""

import pytest
import torch
import torch.nn.functional as F

from ldcodec.nets import structure
from ldcodec.nets.structure import oklab, structure_lost

torch.manual_seed(0)
PICTURE = F.interpolate(torch.rand(1, 3, 32, 32), scale_factor=4.0, mode="bicubic").clamp(0, 1)


def lost(picture: torch.Tensor) -> float:
    return float(structure_lost(PICTURE, picture))


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1, 1, 1), (1, 0, 0)), ((1, 0, 0), (0.6280, 0.2249, 0.1258)), ((0, 0, 1), (0.4520, -0.0325, -0.3115))],
)
def test_colours_are_those_of_oklab(
    colour: tuple[float, ...], expected: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of CSS Color 4, section "The Predefined Oklab and Oklch color spaces"."""
    monkeypatch.setattr(structure, "DARKEST", 0.0)
    assert oklab(torch.tensor(colour).float().view(1, 3, 1, 1)).flatten().tolist() == pytest.approx(expected, abs=2e-3)


def test_a_copy_loses_nothing_and_an_error_shows_where_the_ground_is_flat() -> None:
    noise = 0.05 * torch.randn_like(PICTURE)
    flat = torch.full_like(PICTURE, 0.5)
    assert lost(PICTURE) == pytest.approx(0, abs=1e-6)
    assert lost(PICTURE + 0.02) < 0.1 * lost(PICTURE + noise)
    assert lost(PICTURE + noise) < 0.5 * float(structure_lost(flat, flat + noise))


def test_lost_detail_costs_and_so_does_lost_colour() -> None:
    grey = PICTURE.mean(1, keepdim=True).expand_as(PICTURE)
    fine = F.interpolate(F.avg_pool2d(PICTURE, 4), scale_factor=4.0)
    coarse = F.interpolate(F.avg_pool2d(PICTURE, 16), scale_factor=16.0)
    assert 0.01 < lost(fine) < lost(coarse)
    assert lost(grey) > 0.2


def test_the_slope_is_finite_on_black_and_single_precision_under_autocast() -> None:
    """In bfloat16 a variance would be the difference of two rounded numbers."""
    black = torch.zeros(1, 3, 96, 96, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = structure_lost(black + 0 * PICTURE[:, :, :96, :96], PICTURE[:, :, :96, :96]).sum()
        same = lost(PICTURE)
    value.backward()
    assert black.grad is not None and bool(black.grad.isfinite().all()) and same == pytest.approx(0, abs=1e-6)

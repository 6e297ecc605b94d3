"""The quantiser: cells tile the line, values lie in the cells of their symbols, and rounding would cost more."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ldcodec.bitstream.quality import STEP_CONSTANT
from ldcodec.entropy.tables import SCALE_COUNT, SHIFT_REACH
from ldcodec.nets.quantise import cell_information, cells, centroid, deviation, information, quantise, scale_of

INDEX = torch.arange(SCALE_COUNT)


def grid() -> tuple[torch.Tensor, torch.Tensor]:
    """Symbols −20 … 20 under each of the 64 scale indices, two tensors [41, 64]."""
    symbols = torch.arange(-20.0, 21.0)[:, None].expand(41, SCALE_COUNT)
    return symbols.contiguous(), INDEX.expand(41, SCALE_COUNT).contiguous()


def test_cells_tile_the_line() -> None:
    symbols, index = grid()
    cell = cells(symbols, scale_of(index))
    positive = symbols[:, 0] >= 0
    assert torch.equal(cell.outer[positive][:-1], cell.inner[positive][1:])
    assert (cell.inner[20] == 0).all()
    assert (cell.outer > cell.inner).all()


def test_values_fall_into_the_cell_of_their_symbol() -> None:
    rng = np.random.default_rng(5)
    index = torch.from_numpy(rng.integers(0, SCALE_COUNT, 200_000))
    values = torch.from_numpy(rng.normal(0, 3, 200_000).astype(np.float32))
    symbols = quantise(values, index)
    cell = cells(symbols, scale_of(index))
    assert (values.abs() >= cell.inner).all()
    assert (values.abs() <= cell.outer).all()
    assert (symbols * values >= 0).all()


def test_large_symbols_and_wide_scales_are_rounded() -> None:
    values = torch.tensor([SHIFT_REACH + 0.49, SHIFT_REACH + 0.51, 300.3, -32767.0])
    assert quantise(values, torch.full((4,), 5)).tolist() == [16, 17, 300, -32767]
    symbols, index = grid()
    shift = cells(symbols, scale_of(index)).inner - (symbols.abs() - 0.5).clamp(min=0)
    assert shift[:, -1].abs().max() < 0.01
    assert shift.max() > 0.2


@pytest.mark.parametrize("scale_index", [3, 8, 14])
def test_costs_less_than_rounding(scale_index: int) -> None:
    """Bits + λ·error² of Gaussian values, in the unit in which λ·step² is 26, is lower than with rounding, each by its
    own tables. Where scales are wide, STRENGTH goes beyond that, for the sake of the neighbours.
    """
    scale = scale_of(torch.tensor(scale_index))
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(1)) * scale
    index = torch.full(values.shape, scale_index)

    def cost(symbols: torch.Tensor, bits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        spent = bits(symbols, scale.expand_as(symbols))
        return float((spent + STEP_CONSTANT * (values - symbols).square()).mean())

    assert cost(quantise(values, index), cell_information) < cost(torch.round(values), information)


@pytest.mark.parametrize("scale_index", [3, 10, 17, 25])
def test_posterior_knows_the_cells(scale_index: int) -> None:
    """Mean and deviation of the values that became a symbol, against those computed from its cell."""
    scale = scale_of(torch.tensor(scale_index))
    values = torch.randn(2_000_000, generator=torch.Generator().manual_seed(2)) * scale
    symbols = quantise(values, torch.full(values.shape, scale_index))
    for symbol in (-1.0, 0.0, 1.0, 2.0):
        inside = values[symbols == symbol].double()
        if len(inside) < 2000:
            continue
        known = torch.tensor([symbol]), torch.tensor([scale_index])
        error = float(inside.std()) / math.sqrt(len(inside))
        assert abs(float(inside.mean()) - float(centroid(*known))) < 5 * error
        assert abs(float(inside.std()) - float(deviation(*known))) < 5 * error

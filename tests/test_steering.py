"""Codings that are steered towards a size: how near they come, what is given up, and how few a search needs."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import slices
from ldcodec.codec import decode_array
from ldcodec.encoder.ratecontrol import SIZE_TOLERANCE, SLACK_BYTES, encode_to
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.encoder.steering import Budget, OutOfBudget, reach_at, shares_at
from ldcodec.encoder.target import Target
from ldcodec.encoder.whole import CodedWhole, PictureEncoder
from ldcodec.nets.model import Model

COFFEE = Path(__file__).resolve().parent.parent / "docs" / "coffee.jpg"
INDEX = 2000


@pytest.fixture(scope="module")
def coffee() -> NDArray[np.uint8]:
    with Image.open(COFFEE) as picture:
        return np.asarray(picture.convert("RGB"))[100:356, 150:534]


@pytest.fixture(scope="module")
def encoder(coffee: NDArray[np.uint8], shipped_model: Model) -> PictureEncoder:
    return PictureEncoder(coffee, shipped_model)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_steered_file_meets_its_budget(encoder: PictureEncoder, factor: float) -> None:
    plain = encoder.code(INDEX)
    wanted = factor * plain.size
    steered = encoder.code(INDEX, Budget(wanted, shares_at(INDEX)))
    assert abs(steered.size / wanted - 1) < SIZE_TOLERANCE / 2
    assert steered.forecast.size(INDEX) == pytest.approx(plain.size, rel=0.02)  # without steering
    assert abs(encoder.psnr(steered) - encoder.psnr(plain)) < 0.4  # what so many bits are worth


def test_a_budget_that_only_measures_changes_nothing(encoder: PictureEncoder) -> None:
    measured = encoder.code(INDEX, Budget(np.inf, shares_at(INDEX)))
    assert measured.data == encoder.code(INDEX).data
    assert measured.forecast.shares != shares_at(INDEX)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_what_is_out_of_reach_is_given_up(encoder: PictureEncoder, factor: float) -> None:
    budget = Budget(factor * encoder.code(INDEX).size, shares_at(INDEX), reach_at(INDEX))
    with pytest.raises(OutOfBudget) as told:
        encoder.code(INDEX, budget)
    assert told.value.ratio == pytest.approx(1 / factor, rel=0.1)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.5])
def test_a_size_takes_two_codings_at_most(
    encoder: PictureEncoder, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    finished: list[int] = []

    def code(index: int, budget: Budget | None = None) -> CodedWhole:
        coded = PictureEncoder.code(encoder, index, budget)
        finished.append(coded.size)
        return coded

    monkeypatch.setattr(encoder, "code", code)
    file, complaint = encode_to(encoder, Target(rate=rate))
    most = int(rate * encoder.width * encoder.height / 8)
    assert complaint is None and most - max(SIZE_TOLERANCE * most, SLACK_BYTES) <= file.size <= most
    assert len(finished) <= 2


def test_the_second_half_of_the_slices_makes_up_for_the_first(coffee: NDArray[np.uint8], shipped_model: Model) -> None:
    encoder = SlicedEncoder(coffee, shipped_model)
    encoder.spans = slices.cut(384, 256, area=4 * 24)
    plain = encoder.code(INDEX)
    steered = encoder.code(INDEX, Budget(0.97 * plain.size, shares_at(INDEX)))
    half = len(encoder.spans) // 2
    assert steered.container.slices[:half] == plain.container.slices[:half]
    assert abs(steered.size / (0.97 * plain.size) - 1) < SIZE_TOLERANCE / 2
    assert decode_array(steered.data, model=shipped_model).shape == coffee.shape  # every checksum was tested


def test_a_large_picture_of_one_slice_meets_its_size(coffee: NDArray[np.uint8], shipped_model: Model) -> None:
    encoder = SlicedEncoder(coffee, shipped_model)
    assert len(encoder.spans) == 1
    file, complaint = encode_to(encoder, Target(size=6000))
    assert complaint is None and 0.97 * 6000 < file.size <= 6000

"""The orders of elements and channels in which the networks compute."""

import torch
import torch.nn.functional as F
from torch import nn

from ldcodec.entropy.integer import ORDER
from ldcodec.nets.blocks import depth_to_space, regrouped, space_to_depth, upsampled
from ldcodec.nets.rate import by_step, from_steps


def test_each_step_has_the_elements_that_order_names() -> None:
    y = torch.arange(2 * 8 * 4 * 6).view(2, 8, 4, 6)
    parts = by_step(y)
    for k, order in enumerate(ORDER):
        for j, position in enumerate(order):
            here = y[:, 2 * j : 2 * j + 2, position // 2 :: 2, position % 2 :: 2]
            assert torch.equal(parts[k, j], here.flatten(2).transpose(1, 2))


def test_elements_by_step_come_back_in_place() -> None:
    y = torch.randn(2, 8, 4, 6)
    assert torch.equal(from_steps(by_step(y), y.shape[2:]), y)


def test_a_mask_by_step_is_that_of_every_channel() -> None:
    mask = torch.randint(0, 2, (4, 6)).float()
    assert torch.equal(by_step(mask[None, None]).expand(4, 4, 1, 6, 2), by_step(mask.expand(1, 8, 4, 6)))


def test_space_to_depth_is_pixel_unshuffle_in_another_order_of_channels() -> None:
    x, weight = torch.randn(2, 3, 8, 12), torch.randn(5, 3 * 16, 1, 1)
    expected = F.conv2d(F.pixel_unshuffle(x, 4), weight)
    assert torch.allclose(F.conv2d(space_to_depth(x, 4), regrouped(weight, 4, 1)), expected, atol=1e-5)
    assert torch.equal(depth_to_space(space_to_depth(x, 4), 4), x)


def test_upsampled_is_pixel_shuffle_after_the_layer() -> None:
    layer, x = nn.Conv2d(6, 3 * 16, 3, padding=1), torch.randn(2, 6, 4, 5)
    assert torch.allclose(upsampled(layer, x, 4), F.pixel_shuffle(layer(x), 4), atol=1e-6)

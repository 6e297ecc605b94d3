"""The network that predicts the hyper-latent from its neighbours: training in floats, and its integers.

A logistic distribution has two numbers, so the network needs two outputs for a symbol, and the tables need no counting.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ldcodec.entropy.hyperprior import REACH
from ldcodec.entropy.integer import ACTIVATION_BITS, KNOTS
from ldcodec.entropy.neighbours import CLIP, FRACTION_BITS, FRACTIONS, WEIGHT_LIMIT, WIDTHS, NeighbourPrior, groups_of
from ldcodec.errors import ModelError
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training.counting import integer_table, middle, symbols_in_bands

HIDDEN = 96
KNOTS_TRAINED = 9  # of what the quality adds; the tables of a model have 65
BATCH = 1024
EPOCHS = 16
LEAST_STEPS = 100
RATE, DECAY, DROPPED = 4e-3, 0.05, 0.1
FIRST_WIDTH, WIDTHS_PER_E = -3.5, 4  # log of the least scale that has a table, and how many follow to e times as much
FLOOR_SHARE = 0.03  # of a channel's symbols get a larger scale than the network gives: costs nothing, bounds a lot
LEAST_CHANCE = 1e-7  # of any symbol, in training
WEIGHT_BITS = 12

Symbols = NDArray[np.int32]


class NeighbourNetwork(nn.Module):
    """What `NeighbourPrior` computes, in floats. hyper: channels of the hyper-latent; hidden: units."""

    def __init__(self, hyper: int, hidden: int) -> None:
        super().__init__()
        self.near, self.here = nn.Linear(4 * hyper, hidden, bias=False), nn.Linear(2 * hyper, hidden, bias=False)
        self.quality, self.out = nn.Parameter(0.1 * torch.randn(KNOTS_TRAINED, hidden)), nn.Linear(hidden, 2 * hyper)
        for tensor in (self.here.weight, self.out.weight, self.out.bias):
            nn.init.zeros_(tensor)

    def forward(self, around: Tensor, symbols: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of symbols [B, hyper], given those to the left and above [B, 2·hyper] and t [B]."""
        n = symbols.shape[1]
        hidden = self.near(F.dropout(_seen(around), DROPPED, self.training)) + _at(t, len(self.quality)) @ self.quality
        own, found = _seen(symbols), []
        for group in groups_of(n):
            rows = torch.arange(n)[group]
            both = torch.cat([rows, n + rows])  # of means and scales, or of symbols and their magnitudes
            found.append(F.linear(F.leaky_relu(hidden, 1 / 8), self.out.weight[both], self.out.bias[both]).chunk(2, 1))
            hidden = hidden + F.linear(own[:, both], self.here.weight[:, both])
        means, log_scales = zip(*found, strict=True)
        return torch.cat(means, 1), torch.cat(log_scales, 1)


def fitted(samples: Sequence[tuple[float, Symbols]], seed: int = 0, hidden: int = HIDDEN) -> NeighbourPrior:
    """A prior for hyper-latents like these: pairs of a quality t and symbols [hyper, h, w]. hidden: its units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        data = _positions(samples)
        network = NeighbourNetwork(data[1].shape[1], hidden)
        _train(network, data)
        return integer_prior(network.eval(), data)


def analysed(networks: Networks, pictures: Sequence[Pixels], seed: int = 0) -> list[tuple[float, Symbols]]:
    """What `fitted` takes: the hyper-latents of pictures at random qualities, by networks in evaluation mode."""
    rng = np.random.default_rng(seed)
    return [sample for pixels in pictures for sample in symbols_in_bands(networks, middle(pixels), rng)]


def neighbour_tensors(prior: NeighbourPrior) -> dict[str, Tensor]:
    """The entries `neighbours.*` of a model file."""
    found = {name: torch.from_numpy(getattr(prior, name)).short() for name in ("near", "here", "weight")}
    found |= {name: torch.from_numpy(getattr(prior, name)).int() for name in ("counts", "quality", "bias")}
    found |= {"shift": torch.tensor(prior.shift, dtype=torch.int32), "floor": torch.from_numpy(prior.floor)}
    return {f"neighbours.{name}": tensor for name, tensor in found.items()}


def information(symbols: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of whole numbers under logistic distributions, all of one shape."""
    scale = log_scale.clamp(FIRST_WIDTH - 0.5, FIRST_WIDTH + WIDTHS / WIDTHS_PER_E).exp()
    distance = (symbols - mean).abs()  # the tail that is nearer to 0 has more digits
    chance = torch.sigmoid((0.5 - distance) / scale) - torch.sigmoid((-0.5 - distance) / scale)
    return -chance.clamp(min=LEAST_CHANCE).log2()


def _seen(symbols: Tensor) -> Tensor:
    clipped = symbols.clamp(-CLIP, CLIP)
    return torch.cat([clipped, clipped.abs()], 1)


def _at(t: Tensor, knots: int) -> Tensor:
    """The weights of knots, [B, knots], that interpolate a table over the quality in straight lines."""
    return (1 - (t[:, None] * (knots - 1) - torch.arange(knots)).abs()).clamp(min=0)


Positions = tuple[Tensor, Tensor, Tensor]


def _positions(samples: Sequence[tuple[float, Symbols]]) -> Positions:
    """The positions of all samples: symbols to the left and above [N, 2·hyper], their own [N, hyper], and t [N]."""
    around, own, t = [], [], []
    for quality, symbols in samples:
        padded = np.pad(symbols, ((0, 0), (1, 0), (1, 0))).astype(np.int16)
        near = np.concatenate([padded[:, 1:, :-1], padded[:, :-1, 1:]])
        around.append(near.reshape(len(near), -1).T)
        own.append(padded[:, 1:, 1:].reshape(len(symbols), -1).T)
        t.append(np.full(len(own[-1]), quality, np.float32))
    parts = [torch.from_numpy(np.concatenate(part)) for part in (around, own, t)]
    return parts[0], parts[1], parts[2]


def _train(network: NeighbourNetwork, data: Positions) -> None:
    number = len(data[0])
    batch = min(BATCH, number)
    steps = max(LEAST_STEPS, EPOCHS * (number // batch))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    order = torch.randperm(number)
    for step in range(steps):
        place = step % (number // batch)
        order = torch.randperm(number) if place == 0 else order
        around, symbols, t = (part[order[place * batch : (place + 1) * batch]].float() for part in data)
        loss = information(symbols, *network(around, symbols, t)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


@torch.no_grad()
def integer_prior(network: NeighbourNetwork, data: Positions) -> NeighbourPrior:
    """A trained network in integers. Raises ModelError for weights that are too large for them."""
    hyper = network.out.out_features // 2
    units = torch.cat([torch.full((hyper,), float(FRACTIONS)), torch.full((hyper,), float(WIDTHS_PER_E))])[:, None]
    first = torch.cat([torch.zeros(hyper), torch.full((hyper,), -FIRST_WIDTH)])
    weight = network.out.weight * units
    bias = (network.out.bias + first) * units[:, 0] + 0.5  # so that the shift, which rounds down, rounds to nearest
    bits = WEIGHT_BITS
    while bits and float(weight.abs().max()) * 2**bits >= WEIGHT_LIMIT:
        bits -= 1
    shift = bits + ACTIVATION_BITS
    quality = _at(torch.linspace(0, 1, KNOTS), len(network.quality)) @ network.quality
    return NeighbourPrior(
        np.stack([integer_table(chances) for chances in logistic_tables()]),
        _whole(network.near.weight, ACTIVATION_BITS),
        _whole(network.here.weight, ACTIVATION_BITS),
        _whole(quality, ACTIVATION_BITS),
        _whole(weight, bits),
        _whole(bias, shift),
        shift,
        _floor(network, data),
    )


def _floor(network: NeighbourNetwork, data: Positions) -> NDArray[np.uint8]:
    """The scale of each channel that a share FLOOR_SHARE of its symbols stay below, [hyper]."""
    some = torch.randperm(len(data[0]))[: 1 << 15]
    around, symbols, t = (part[some].float() for part in data)
    scales = (network(around, symbols, t)[1] - FIRST_WIDTH) * WIDTHS_PER_E
    found: NDArray[np.float32] = scales.quantile(FLOOR_SHARE, 0).round().clamp(0, WIDTHS - 1).numpy()
    return found.astype(np.uint8)


def _whole(values: Tensor, bits: int) -> NDArray[np.int64]:
    whole: NDArray[np.int64] = (values.double() * 2.0**bits).round().long().numpy()
    if np.abs(whole).max() >= 1 << 31:
        raise ModelError("neighbours: weights too large for integers")
    return whole


def logistic_tables() -> NDArray[np.float64]:
    """The chances of −15 … 15 and of anything else, by rest of the mean and scale: [192, 32]."""
    rest = (np.repeat(np.arange(FRACTIONS), WIDTHS) - FRACTIONS // 2) / (1 << FRACTION_BITS)
    scale = np.exp(FIRST_WIDTH + np.tile(np.arange(WIDTHS), FRACTIONS) / WIDTHS_PER_E)
    distance = np.abs(np.arange(-REACH, REACH + 1) - rest[:, None])
    below, above = (-np.logaddexp(0, -(edge - distance) / scale[:, None]) for edge in (0.5, -0.5))
    chances = np.exp(below) - np.exp(above)
    return np.concatenate([chances, np.maximum(1 - chances.sum(1, keepdims=True), 0)], 1)

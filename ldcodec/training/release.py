"""Trained weights → the model file that ships. The only place where parse-critical numbers are made."""

import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ldcodec.entropy import integer
from ldcodec.entropy.config import CONTEXT_SCALE, Config
from ldcodec.entropy.hyperprior import HyperPrior
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import (
    LOG_RATIO,
    SCALE_COUNT,
    SCALE_MIN,
    SCALE_SPREAD,
    SKIPPED_SCALES,
    Tables,
    edge_shifts,
    make_tables,
)
from ldcodec.entropy.weights import INTEGER_PREFIXES, read_tensors
from ldcodec.errors import ModelError
from ldcodec.nets.model import assembled, packed, packs, save_model
from ldcodec.nets.networks import Networks
from ldcodec.nets.quantise import information
from ldcodec.nets.rate import ContextStep
from ldcodec.pictures.picture import Pixels
from ldcodec.training.checkpoint import rounded
from ldcodec.training.codebook import designed, trellis_tensors
from ldcodec.training.counting import counted
from ldcodec.training.fitting import analysed, fitted, neighbour_tensors
from ldcodec.training.selfcheck import write_check
from ldcodec.training.start import load_networks

WEIGHT_BITS = 12
HEADROOM_BITS = 3  # of features, which reach several hundred before the quality's factor, at most 0.17, is applied


def export_model(
    weights: Path,
    target: Path,
    config: Config | None = None,
    integers_of: Path | None = None,
    pictures: list[Pixels] | None = None,
    anew: str = "trellis",
    compact: bool = False,
) -> bytes:
    """Write a model file and its check file beside it, and return its parse id. Raises ModelError.

    integers_of: a model whose integers are kept, for weights in which only the renderer changed. Otherwise they are
    made from the weights as the model file stores them, large ones in half precision, so that equal weights give equal
    ids. pictures: what the tables of the hyper-latent and of the trellis are counted on, and what the network is fitted
    to that predicts the hyper-latent. Without them the hyper-latent uses tables of the latent, and the model has no
    trellis. With both, only one part is made anew: the "trellis" or the "neighbours" network. compact: see
    `nets.model.save_model`.
    """
    networks = load_networks(weights, config)
    networks.load_state_dict(_as_stored(networks, compact))
    networks.eval()
    if integers_of is not None:
        integers = _integers_of(integers_of)
    else:
        integers = integer_tensors(networks, None if pictures is None else counted(networks, pictures))
    if pictures is not None and (integers_of is None or anew == "neighbours"):
        integers |= neighbour_tensors(fitted(analysed(networks, pictures)))
    if pictures is not None and (integers_of is None or anew == "trellis"):
        integers |= trellis_tensors(designed(assembled(networks, integers), pictures))
    identity = save_model(target, networks, integers, compact=compact)
    write_check(target)
    return identity


def _as_stored(networks: Networks, compact: bool) -> dict[str, Tensor]:
    """The weights as they come back from a model file."""
    found = {name: tensor.float() for name, tensor in rounded(networks).items()}
    for name, tensor in found.items():
        if compact and packs(name, tensor):
            whole, scale = packed(tensor)
            found[name] = whole * scale.reshape(-1, 1, 1, 1)
    return found


def _integers_of(path: Path) -> dict[str, Tensor]:
    integers = read_tensors(path, prefixes=INTEGER_PREFIXES)[0]
    if not integers:
        raise ModelError(f"{path}: holds no integers of a rate model")
    return integers


def integer_tensors(networks: Networks, hyper: HyperPrior | None = None) -> dict[str, Tensor]:
    """The entries `integer.*` and `coder.*` of a model file: int16 weights, int32 biases, shifts and tables.

    hyper: tables for the hyper-latent; without them each of its channels takes one of the latent's tables.
    """
    with torch.no_grad():
        tables = make_tables(edge_shifts(), SCALE_SPREAD)
        entries = {**_hyper(networks, tables), **_steps(networks), **_tables(networks)}
    coder = {"coder.counts": torch.from_numpy(tables.counts).int(), "coder.reach": torch.from_numpy(tables.reach).int()}
    if hyper is not None:
        coder["coder.hyper_counts"] = torch.from_numpy(hyper.counts).int()
        coder["coder.hyper_choice"] = torch.from_numpy(hyper.choice)
    return {**{f"integer.{name}": tensor.contiguous() for name, tensor in entries.items()}, **coder}


def _hyper(networks: Networks, tables: Tables) -> dict[str, Tensor]:
    rate = networks.rate
    first, second, third = (_weights(layer) for layer in rate.synthesis)
    middle = torch.full((1,), 0.5)  # these tables serve models without counted ones, at any quality
    folded = first[1].double() + first[0].double().sum((2, 3)) @ rate.z_mean.double()
    fraction, coder = integer.ACTIVATION_BITS, Coder(tables)
    units = integer.FINENESS_BITS if rate.fineness is not None else 0
    return {
        **_layer("hyper.0", first[0], folded, units, fraction),
        **_layer("hyper.1", *second, fraction, fraction),
        **_layer("hyper.2", *third, fraction, fraction - HEADROOM_BITS),
        "z_index": torch.tensor(
            [cheapest_scale(float(scale), coder) for scale in rate.hyper_scale(middle).flatten()], dtype=torch.uint8
        ),
    }


def cheapest_scale(scale: float, coder: Coder) -> int:
    """The scale index, SKIPPED_SCALES..63, whose table costs least for rounded values of N(0, scale²).

    The nearest scale need not be the best: the hyper-latent is rounded, the tables are those of the latent's quantiser.
    """
    reach = int(coder.tables.reach[SCALE_COUNT - 1])
    symbols = torch.arange(-reach, reach + 1, dtype=torch.float64)
    found = 2.0 ** -information(symbols, torch.tensor(scale, dtype=torch.float64)).numpy()
    likely = found > 1e-8
    shares, values = found[likely], symbols.numpy()[likely].astype(np.int32)
    costs = [(shares * coder.bits(values, np.full(len(values), i, np.uint8))).sum() for i in range(SCALE_COUNT)]
    return max(SKIPPED_SCALES, int(np.argmin(costs)))


def _steps(networks: Networks) -> dict[str, Tensor]:
    if networks.rate.scales is not None:
        weight, bias = _weights(networks.rate.scales)
        return _scale("scale", CONTEXT_SCALE * weight.double(), CONTEXT_SCALE * bias.double())
    entries: dict[str, Tensor] = {}
    for k, step in enumerate(cast(list[ContextStep], list(networks.rate.steps))):
        fraction = integer.ACTIVATION_BITS
        for part in ("mix", "spatial"):
            layer = getattr(step, part)
            entries |= _layer(f"steps.{k}.{part}", *_weights(layer), fraction, fraction)
        weight, bias = _weights(step.head)
        (mean, scale), (mean_bias, scale_bias) = ((CONTEXT_SCALE * both.double()).chunk(2) for both in (weight, bias))
        entries |= _layer(f"steps.{k}.mean", mean, mean_bias, fraction, integer.MEAN_BITS)
        entries |= _scale(f"steps.{k}.scale", scale, scale_bias)
    return entries


def _scale(name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """A head of log-scales, which become scale indices."""
    return _layer(name, weight / LOG_RATIO, bias / LOG_RATIO, integer.ACTIVATION_BITS, integer.INDEX_BITS)


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight [n, m, k, k] and bias [n] of a convolution."""
    weight, bias = layer.weight, layer.bias
    return cast(Tensor, weight), cast(Tensor, bias)


def _layer(name: str, weight: Tensor, bias: Tensor, in_bits: int, out_bits: int) -> dict[str, Tensor]:
    """A layer in integers: weights in the finest unit in which 16 bits hold them, unless the shift would be negative.

    Half of the output's unit is added to the bias, so that the shift, which rounds down, rounds to nearest. Raises
    ModelError for weights or biases beyond 32 bits.
    """
    bits = WEIGHT_BITS
    while bits + in_bits > out_bits and (weight.abs().max() * 2**bits).round() >= 2**15:
        bits -= 1
    shift = bits + in_bits - out_bits
    whole = (weight.double() * 2**bits).round()
    rounded = (bias.double() * 2 ** (bits + in_bits)).round() + (2 ** (shift - 1) if shift else 0)
    if max(whole.abs().max(), rounded.abs().max()) >= 2**31:
        raise ModelError(f"{name}: weights too large for 32-bit integers")
    return {
        f"{name}.weight": whole.to(torch.int16 if whole.abs().max() < 2**15 else torch.int32),
        f"{name}.bias": rounded.to(torch.int32),
        f"{name}.shift": torch.tensor(shift, dtype=torch.int32),
    }


def _tables(networks: Networks) -> dict[str, Tensor]:
    """Tables over the quality, [65, n] int32, in the units of `entropy.integer`."""
    t = torch.linspace(0, 1, integer.KNOTS, dtype=torch.float64)
    expected = networks.scales(t.float()).expected.double().flatten(1)
    factor = networks.rate.quality(t.float()).double().flatten(1)
    floor = expected.clamp(min=1)
    index = (expected.log() - math.log(SCALE_MIN)) / LOG_RATIO
    tables = {
        "factor": _fixed(factor, integer.FACTOR_BITS + HEADROOM_BITS),
        "floor": _fixed(floor, integer.FLOOR_BITS),
        "reciprocal": _fixed(1 / floor, integer.RECIPROCAL_BITS),
        "log_expected": _fixed(index + 0.5, integer.INDEX_BITS),
    }
    if networks.rate.fineness is not None:
        fineness = networks.rate.fineness(t.float()).double().flatten(1)
        tables["unscale"] = _fixed(1 / fineness, integer.FINENESS_BITS)
    return {f"table.{name}": tables[name] for name in integer.table_widths(networks.config)}


def _fixed(values: Tensor, bits: int) -> Tensor:
    return (values * float(2**bits)).round().to(torch.int32)

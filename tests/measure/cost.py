"""The cost of integers in bits, for the default model at five qualities: `python -m tests.measure.cost PICTURE...`.

The bits of the float rate model with unrounded scales are 100 %. Compared with them are the same symbols with each
scale rounded to one of the 64, and the real file without its header, coded with the integer networks.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldcodec.bitstream import layout, quality
from ldcodec.encoder.whole import PictureEncoder
from ldcodec.nets.blocks import padded
from ldcodec.nets.model import Model, load_model
from ldcodec.nets.rate import Rated
from ldcodec.pictures.picture import Pixels

INDICES = (400, 1200, 2000, 2800, 3600)


@dataclass(frozen=True)
class Cost:
    """Bits with unrounded scales, with the 64 scales and in the file; symbols on which integers and floats differ."""

    free: float
    snapped: float
    written: float
    flipped: int


class FreeScales:
    """Within this context, scales are not rounded to the 64 values."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.model.snapped = lambda scale: scale  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        del self.model.snapped


@torch.no_grad()
def rated(pixels: Pixels, model: Model, index: int) -> Rated:
    """What the float rate model, with which the networks are trained, makes of a picture at a quality index."""
    networks, t = model.networks, torch.tensor([quality.fraction(index)])
    y = networks.scaled_latent(networks.analysis.base(padded(pixels)), t)
    coded, mask = layout.coded_size(pixels.shape[1], pixels.shape[0]), torch.zeros(y.shape[2:])
    mask[: coded[0], : coded[1]] = 1
    found: Rated = networks.rate(y, t, networks.scales(t).expected, mask)
    return found


def cost(pixels: Pixels, model: Model, index: int) -> Cost:
    """The cost for one picture at one quality index."""
    snapped, encoder = rated(pixels, model, index), PictureEncoder(pixels, model)
    with FreeScales(model.networks.rate):
        free = rated(pixels, model, index)
    coded = encoder.code(index)
    written = 8.0 * (coded.size - encoder.overhead)
    flipped = int((snapped.symbols[0].cpu().numpy() != coded.parsed.symbols).sum())
    return Cost(float(free.bits), float(snapped.bits), written, flipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    model = load_model(device="cpu")
    pictures = [np.array(Image.open(path).convert("RGB")) for path in parser.parse_args().pictures]
    everything: list[Cost] = []
    for index in INDICES:
        costs = [cost(pixels, model, index) for pixels in pictures]
        show(f"index {index}", costs)
        everything += costs
    show("all", everything)


def show(name: str, costs: list[Cost]) -> None:
    """Print one line of means."""
    free = sum(c.free for c in costs)
    snapped, written = (100 * (sum(getattr(c, key) for c in costs) / free - 1) for key in ("snapped", "written"))
    flipped = sum(c.flipped for c in costs) / len(costs)
    print(f"{name}: 64 scales {snapped:+.3f} %, files {written:+.3f} %, {flipped:.0f} symbols a picture differ")


if __name__ == "__main__":
    main()

"""Compare variants of the trellis: design tables, code real files, and print the bits saved at equal PSNR.

    python -m tests.measure.trellis MODEL --design 'train/*.avif' --pictures 'val/*.avif' --states 8 --step 0.55

What is compared with are files of the scalar quantiser with the same networks; bits at equal PSNR come from a monotone
cubic through their curve, picture by picture.
"""

import argparse
import math
from dataclasses import replace

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from ldcodec.bitstream.quality import STEP_CONSTANT
from ldcodec.entropy import trellis
from ldcodec.entropy.tables import SCALE_COUNT

# Ungerboeck 1982, table I: parity-check polynomials of the best codes by number of states.
POLYNOMIALS = {4: (0o5, 0o2), 8: (0o13, 0o4), 16: (0o23, 0o4), 32: (0o45, 0o10), 64: (0o103, 0o24)}
ANCHORS = (200, 500, 800, 1100, 1450, 1800, 2150, 2500, 2850, 3200, 3550, 3900)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--design", action="append", help="pictures to count tables on; none: those of the model")
    parser.add_argument("--pictures", action="append", required=True)
    parser.add_argument("--states", type=int, default=trellis.STATES, choices=POLYNOMIALS)
    parser.add_argument("--step", type=float, default=trellis.STEP / 512, help="in quantisation steps")
    parser.add_argument("--lane", type=int, default=trellis.LANE)
    parser.add_argument("--first-scale", type=int, default=trellis.FIRST_SCALE)
    parser.add_argument("--weight", type=float, default=1.3, help="of an error, relative to the slope of rate")
    parser.add_argument("--indices", default="600,1200,1900,2600,3300")
    given = parser.parse_args()
    set_variant(given)
    torch.set_num_threads(1)
    saved(given)


def set_variant(given: argparse.Namespace) -> None:
    """Change the constants of the format. This must happen before any module that imports them is imported."""
    taps = POLYNOMIALS[given.states]
    trellis.STATES, trellis.STEP, trellis.LANE = given.states, round(512 * given.step), given.lane
    trellis.QUANTISER_TAPS, trellis.PARITY_TAPS = (taps[0] >> 1, taps[1] >> 1)
    trellis.FIRST_SCALE, trellis.ROWS = given.first_scale, SCALE_COUNT - given.first_scale


def saved(given: argparse.Namespace) -> None:
    """Print for each quality index the bits saved, the PSNR gained at that index, and the bits of scalar's taken."""
    from ldcodec.encoder import viterbi
    from ldcodec.encoder.whole import PictureEncoder
    from ldcodec.nets.model import load_model
    from ldcodec.training.codebook import designed
    from ldcodec.training.counting import middle
    from ldcodec.training.crops import load_pictures

    viterbi.WEIGHT = given.weight * STEP_CONSTANT / 3
    model = load_model(given.model, "cpu")
    scalar = replace(model, parse_id=list(model.coders)[-1])
    if given.design:
        tables = designed(scalar, load_pictures(given.design))
        model = replace(model, coders={model.parse_id: replace(model.coder, trellis=tables)})
    indices = [int(word) for word in given.indices.split(",")]
    rows: list[list[tuple[float, float, float]]] = [[] for _ in indices]
    for pixels in load_pictures(given.pictures):
        encoder = PictureEncoder(middle(pixels), scalar)
        anchors = [encoder.code(index) for index in ANCHORS]
        quality, bits = [encoder.psnr(coded) for coded in anchors], [math.log(coded.size) for coded in anchors]
        equal, at, size = (
            PchipInterpolator(quality, bits),
            PchipInterpolator(ANCHORS, quality),
            PchipInterpolator(ANCHORS, bits),
        )
        encoder.model = model
        for row, index in zip(rows, indices, strict=True):
            coded = encoder.code(index)
            psnr = encoder.psnr(coded)
            first, second = (math.exp(math.log(coded.size) - float(curve)) for curve in (equal(psnr), size(index)))
            row.append((first, second, psnr - float(at(index))))
    for index, row in zip(indices, rows, strict=True):
        equal_psnr, equal_index, gained = np.mean(row, 0)
        print(
            f"index {index}: {100 * (1 - equal_psnr):5.2f} % saved, {gained:+.2f} dB, bits × {equal_index:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

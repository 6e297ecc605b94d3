"""What 8 bits a sample cost: `python -m tests.measure.depth PICTURE... [--qualities 60,90,100]`.

Pictures of 16 bits are made by halving those that are given: the mean of four values of 8 bits, noise included, lies
between levels. Each is coded from 16 bits and from the 8 bits nearest to them. PSNR is against the 16 bits. After that
comes a smooth ramp whose whole range is 16 levels of 8 bits: its distinct values along 512 pixels, and the length of
the longest step.
"""

import argparse

import numpy as np

from ldcodec.codec import decode_array, encode
from ldcodec.decoder.request import Request
from ldcodec.pictures.picture import Pixels, at_depth, total_error
from ldcodec.training.crops import load_pictures


def halved(pixels: Pixels) -> Pixels:
    """The means of squares of 2×2 pixels, uint16."""
    height, width = (length // 2 * 2 for length in pixels.shape[:2])
    squares = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return np.rint(squares.mean((1, 3)) * 257).astype(np.uint16)


def psnr(found: Pixels, expected: Pixels) -> float:
    return float(10 * np.log10(255**2 * expected.size / total_error(found, expected)))


def ramp() -> Pixels:
    """128×512 pixels from 100 to 116 of 255, of 16 bits."""
    row = np.rint(257 * np.linspace(100, 116, 512)).astype(np.uint16)
    return np.broadcast_to(row[None, :, None], (128, 512, 3)).copy()


def longest_step(row: Pixels) -> int:
    edges = np.flatnonzero(np.diff(row.astype(int)))
    return int(np.diff([-1, *edges, len(row) - 1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.depth", description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--qualities", default="60,90,100")
    parser.add_argument("--limit", type=int, default=12)
    options = parser.parse_args()
    pictures = [halved(pixels) for pixels in load_pictures(options.pictures, options.limit)]
    for quality in map(float, options.qualities.split(",")):
        rows = []
        for deep in pictures:
            data = encode(deep, quality=quality, fallback=False, tune="psnr")
            shallow = encode(deep, quality=quality, fallback=False, tune="psnr", depth=8)
            outputs = decode_array(data), decode_array(data, request=Request(depth=8)), decode_array(shallow)
            rows.append((len(data), len(shallow), *(psnr(output, deep) for output in outputs)))
        size, flat, *found = np.mean(rows, axis=0)
        print(
            f"quality {quality:g}: {size:.0f} bytes from 16 bits, {flat:.0f} from 8; PSNR of 16 bits {found[0]:.3f} dB"
        )
        print(f"  of the same file to 8 bits {found[1]:.3f} dB, of a file from 8 bits {found[2]:.3f} dB")
        data = encode(ramp(), quality=quality, fallback=False, tune="psnr")
        for depth in (16, 8):
            output = decode_array(data, request=Request(depth=depth))
            row = output[64, :, 1]
            error = np.abs(at_depth(output, 16) - ramp().astype(float)).max() / 257
            print(
                f"  ramp to {depth} bits: {len(np.unique(row))} values, steps of at most {longest_step(row)} pixels, "
                f"error at most {error:.2f} levels, {psnr(output, ramp()):.2f} dB"
            )


if __name__ == "__main__":
    main()

"""What hostile textures do to a picture: `python -m tests.measure.textures [--count 2000] [--first 0] [--quality 60]`.

Codes pictures of tests.textures with the default model, and prints those of which the part outside the pattern comes
out below 20 dB, and at the end the least figures.
"""

import argparse

import numpy as np

from ldcodec.codec import decode_array, encode
from ldcodec.nets.model import load_model
from ldcodec.pictures.picture import Pixels
from tests.textures import Hostile, hostile

FLOOR = 20.0  # dB


def psnr(decoded: Pixels, texture: Hostile, where: str) -> float:
    mask = getattr(texture, where)
    error = np.square(decoded[mask].astype(float) - texture.pixels[mask]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.textures", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quality", type=float, default=60.0)
    options = parser.parse_args()
    model, found = load_model(), []
    for seed in range(options.first, options.first + options.count):
        texture = hostile(seed)
        data = encode(texture.pixels, quality=options.quality, fallback=False, model=model)
        decoded = decode_array(data, model=model)
        found.append((psnr(decoded, texture, "outside"), psnr(decoded, texture, "inside")))
        if found[-1][0] < FLOOR:
            print(f"{seed}: {texture.kind}: {found[-1][0]:.1f} dB outside, {found[-1][1]:.1f} inside", flush=True)
    outside, inside = np.array(found).T
    print(f"{len(found)} pictures: at least {outside.min():.1f} dB outside the pattern, {inside.min():.1f} inside")


if __name__ == "__main__":
    main()

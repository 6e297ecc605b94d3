"""Tunings at equal bytes beside AVIF: `python -m tests.measure.looks PICTURE... [--rates 0.15,0.3,0.6,1]`.

Every picture is coded within the same number of bytes: by ldcodec with either tuning, and by AVIF (Pillow's libavif at
speed 4 with its own tuning) at the highest quality that fits. Prints means over the pictures.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ldcodec.bench.metrics import ms_ssim, ssimulacra2
from ldcodec.codec import decode_array, encode
from ldcodec.encoder.target import TUNES
from ldcodec.pictures.picture import Pixels
from tests.pictures import psnr


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.looks", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--rates", default="0.15,0.3,0.6,1")
    given = parser.parse_args()
    print("| bits a pixel | codec | PSNR | SSIMULACRA 2 | MS-SSIM |\n|---|---|---|---|---|")
    for rate in map(float, given.rates.split(",")):
        found: dict[str, list[tuple[float, float, float]]] = {}
        for path in given.pictures:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            for name, decoded in coded(pixels, int(rate * pixels[:, :, 0].size / 8)).items():
                found.setdefault(name, []).append(
                    (psnr(decoded, pixels), ssimulacra2(pixels, decoded), ms_ssim(pixels, decoded))
                )
        for name, measures in found.items():
            decibels, ssimulacra, structure = np.mean(measures, axis=0)
            print(f"| {rate:g} | {name} | {decibels:.2f} | {ssimulacra:.1f} | {structure:.4f} |", flush=True)


def coded(pixels: Pixels, size: int) -> dict[str, Pixels]:
    """What becomes of a picture in at most `size` bytes, by codec."""
    found = {f"ldcodec, {t}": decode_array(encode(pixels, size=size, tune=t, fallback=False)) for t in TUNES}
    low, high = 0, 100
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(avif(pixels, middle)) <= size else (low, middle - 1)
    with Image.open(io.BytesIO(avif(pixels, low))) as image:
        found["AVIF"] = np.asarray(image.convert("RGB"))
    return found


def avif(pixels: Pixels, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "AVIF", quality=quality, speed=4)
    return stream.getvalue()


if __name__ == "__main__":
    main()

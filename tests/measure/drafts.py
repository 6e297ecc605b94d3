"""What a draft costs and saves: `python -m tests.measure.drafts PICTURE... [--qualities 20,50,80]`.

Codes each picture with the default model, and prints the PSNR of the decoded picture and of its draft, and the part of
the processor time that the draft takes: of decoding alone on one thread, the median of five pairs one after the other.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldcodec.codec import decode_array, encode
from ldcodec.nets.model import Model, load_model
from tests.pictures import psnr

PAIRS = 5


def seconds(data: bytes, model: Model, draft: bool) -> float:
    start = time.process_time()
    decode_array(data, model=model, draft=draft)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.drafts", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--qualities", default="20,50,80")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model()
    for quality in map(float, options.qualities.split(",")):
        figures = []
        for path in options.pictures:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            data = encode(pixels, quality=quality, fallback=False, model=model)
            full, draft = (psnr(decode_array(data, model=model, draft=draft), pixels) for draft in (False, True))
            ratio = statistics.median(seconds(data, model, True) / seconds(data, model, False) for _ in range(PAIRS))
            figures.append((8 * len(data) / pixels[:, :, 0].size, full, draft, ratio))
            print(f"{path.name}, quality {quality:g}: {full:.2f} dB, draft {draft:.2f} dB in {ratio:.2f} of the time")
        rate, full, draft, ratio = np.mean(figures, axis=0)
        print(f"quality {quality:g}: {rate:.2f} bpp, {full:.2f} dB, draft {draft:.2f} dB in {ratio:.2f} of the time")


if __name__ == "__main__":
    main()

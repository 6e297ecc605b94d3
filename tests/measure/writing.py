"""How large and how slow the formats are that hold every pixel: `python -m tests.measure.writing PICTURE...`.

Codes each picture at quality 50 and writes the decoded picture in turn with each setting. Prints bytes and the median
processor time of seven rounds, beside those of PNG at level 6, the default of zlib.
"""

import argparse
import io
import statistics
import time
from pathlib import Path
from typing import Any

from PIL import Image

from ldcodec.codec import decode, encode
from ldcodec.nets.model import load_model

ROUNDS = 7
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG, level 6": ("PNG", {"compress_level": 6}),
    "PNG, level 3": ("PNG", {"compress_level": 3}),
    "PNG, level 1": ("PNG", {"compress_level": 1}),
    "WebP": ("WEBP", {"lossless": True, "exact": True}),
    "WebP, method 0": ("WEBP", {"lossless": True, "exact": True, "method": 0}),
    "TIFF": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


def written(image: Image.Image, format: str, options: dict[str, Any]) -> tuple[float, int]:
    """Seconds and bytes."""
    buffer, start = io.BytesIO(), time.process_time()
    image.save(buffer, format, **options)
    return time.process_time() - start, buffer.tell()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.writing", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    model = load_model()
    for path in parser.parse_args().pictures:
        image = decode(encode(Image.open(path), quality=50, fallback=False, model=model), model=model)
        rounds = [[written(image, *settings) for settings in SETTINGS.values()] for _ in range(ROUNDS)]
        for name, runs in zip(SETTINGS, zip(*rounds, strict=True), strict=True):
            ratio = statistics.median(run[0] / first[0][0] for run, first in zip(runs, rounds, strict=True))
            seconds, size = statistics.median(run[0] for run in runs), runs[0][1]
            print(f"{path.name}: {name}: {seconds:.3f} s, {ratio:.2f}; {size} bytes, {size / rounds[0][0][1]:.2f}")


if __name__ == "__main__":
    main()

"""Draws docs/comparison.webp, one picture beside ldcodec and AVIF: `python -m tests.measure.comparison`.

The picture is `coffee` of scikit-image, a photograph by Rachel Michetti released under CC0. Both codecs get the same
number of bytes. Figures printed are of the whole picture; the sheet shows a part of it, one pixel a pixel.
"""

import argparse
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ldcodec
from ldcodec.bench.budget import setting_within
from ldcodec.bench.codecs import avif
from ldcodec.bench.metrics import psnr, squared_error, ssimulacra2
from ldcodec.pictures.picture import Pixels

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "comparison.webp"
PART = (188, 48, 600, 348)  # left, top, right, bottom
GAP, STRIP = 6, 24  # between the panels, and for the name below each
Panel = tuple[str, int, Pixels]  # name, bytes of the file, decoded pixels


def coffee() -> Path:
    """The photograph inside an installed scikit-image."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise SystemExit("the picture comes with scikit-image: pip install scikit-image")
    return Path(package.origin).parent / "data" / "coffee.png"


def panels(picture: Path, size: int) -> list[Panel]:
    """The original, AVIF, and ldcodec at its default and at half its realism."""
    with Image.open(picture) as image:
        pixels = np.array(image.convert("RGB"))
    codec = avif()
    other, ours = codec.encode(pixels, setting_within(codec, pixels, size)), ldcodec.encode(pixels, size=size)
    return [
        ("original", picture.stat().st_size, pixels),
        ("AVIF", len(other), codec.decode(other)),
        ("ldcodec", len(ours), _decoded(ours, 0.0)),
        ("ldcodec, --realism 0.5", len(ours), _decoded(ours, 0.5)),
    ]


def _decoded(data: bytes, realism: float) -> Pixels:
    return np.array(ldcodec.decode(data, realism=realism))


def sheet(shown: list[Panel]) -> Image.Image:
    """The panels in two columns, cut to PART, with their names."""
    left, top, right, bottom = PART
    width, height = right - left, bottom - top
    image = Image.new("RGB", (2 * width + GAP, 2 * (height + STRIP)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for i, (name, _, pixels) in enumerate(shown):
        x, y = (i % 2) * (width + GAP), (i // 2) * (height + STRIP)
        image.paste(Image.fromarray(pixels).crop(PART), (x, y))
        draw.text((x + width // 2, y + height + STRIP // 2), name, "black", font, anchor="mm")
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path)
    parser.add_argument("--size", type=int, default=4300, help="bytes for each codec")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    options = parser.parse_args()
    shown = panels(options.picture or coffee(), options.size)
    for name, size, pixels in shown:
        seen = ssimulacra2(shown[0][2], pixels)
        print(f"{name}: {size} bytes, PSNR {psnr(squared_error(shown[0][2], pixels)):.2f} dB, SSIMULACRA 2 {seen:.1f}")
    file = io.BytesIO()
    sheet(shown).save(file, "WEBP", quality=92, method=6)
    options.out.write_bytes(file.getvalue())


if __name__ == "__main__":
    main()

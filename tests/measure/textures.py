"""What hostile textures do to a picture: `python -m tests.measure.textures [--count 2000] [--quality 60] …`.

Codes pictures of tests.textures with the default model and decodes them. A finding is printed: a part outside the
pattern below 20 dB, or a pattern that comes out worse than the linear branch draws it, by 1 dB and below 27 dB. At the
end come the least figures.
"""

import argparse
from typing import NamedTuple

import numpy as np

from ldcodec.bitstream import chunktypes, container
from ldcodec.codec import decode_array, encode
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.library import load_model
from ldcodec.encoder.target import TUNES, VISUAL
from ldcodec.pictures.picture import Pixels
from tests.textures import Hostile, hostile

FLOOR = 20.0  # dB outside the pattern
NEAR, PROMISED = 1.0, 27.0  # dB: a pattern may be worse than a draft by so much, or by more where it is as good as this


class Found(NamedTuple):
    """PSNR in dB outside and inside the pattern, inside as a draft, and the share of the file that is patches."""

    outside: float
    inside: float
    draft: float
    patched: float

    @property
    def bad(self) -> bool:
        return self.outside < FLOOR or self.inside < min(self.draft - NEAR, PROMISED)


def psnr(decoded: Pixels, texture: Hostile, where: str) -> float:
    mask = getattr(texture, where)
    error = np.square(decoded[mask].astype(float) - texture.pixels[mask]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def examined(texture: Hostile, model: EncoderModel, quality: float = 60.0, tune: str = VISUAL) -> Found:
    """What becomes of a picture."""
    data = encode(texture.pixels, quality=quality, fallback=False, tune=tune, model=model)
    decoded, draft = (decode_array(data, draft=draft, model=model) for draft in (False, True))
    patches = container.read(data).chunk(chunktypes.PATCHES) or b""
    inside, as_draft = (psnr(shown, texture, "inside") for shown in (decoded, draft))
    return Found(psnr(decoded, texture, "outside"), inside, as_draft, len(patches) / len(data))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.textures", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quality", type=float, default=60.0)
    parser.add_argument("--tune", choices=TUNES, default=VISUAL)
    options = parser.parse_args()
    model, found = load_model(), []
    for seed in range(options.first, options.first + options.count):
        texture = hostile(seed)
        found.append(examined(texture, model, options.quality, options.tune))
        if found[-1].bad:
            outside, inside, draft, _ = found[-1]
            print(
                f"{seed}: {texture.kind}: {outside:.1f} dB outside, {inside:.1f} inside, draft {draft:.1f}", flush=True
            )
    outside, inside, draft, patched = np.array(found).T
    print(f"{len(found)} pictures, {(patched > 0).mean():.0%} with patches")
    print(f"outside the pattern at least {outside.min():.1f} dB, inside {inside.min():.1f}")
    print(f"inside worse than the draft in {(inside < draft).mean():.0%}, by {(draft - inside).max():.1f} dB at most")


if __name__ == "__main__":
    main()

"""What hostile textures do to a picture: `python -m tests.measure.textures [--count 2000] [--quality 60] …`.

Codes pictures of tests.textures with the default model and decodes them. A finding is printed: a part outside the
pattern below 20 dB, or a pattern that comes out worse than the linear branch draws it, by half a dB and below 40 dB. At
the end come the least figures. For long runs there are small pictures and a file from which a run that was stopped goes
on: `python -m tests.measure.textures --small --count 100000 --state run.json`; `--first` divides it.
"""

import argparse
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldcodec.bitstream import chunktypes, container
from ldcodec.bitstream.atomic import replaced
from ldcodec.bitstream.layout import coded_size
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import Area
from ldcodec.codec import encode
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.tiles import drafted_over, drafts_of, picture_of
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.library import load_model
from ldcodec.encoder.target import TUNES, VISUAL
from ldcodec.pictures import chunks
from ldcodec.pictures.picture import Pixels
from tests.textures import Hostile, hostile

FLOOR = 20.0  # dB outside the pattern
NEAR, PROMISED = 0.5, 40.0  # dB: a pattern may be worse than a draft by so much, or by more where it is as good as this


class Found(NamedTuple):
    """PSNR in dB outside and inside the pattern, inside as a draft; whether patches and drafted squares are stored."""

    outside: float
    inside: float
    draft: float
    patched: bool
    drafted: bool

    @property
    def bad(self) -> bool:
        return self.outside < FLOOR or self.inside < min(self.draft - NEAR, PROMISED)


def psnr(decoded: Pixels, texture: Hostile, where: str) -> float:
    mask = getattr(texture, where)
    error = np.square(decoded[mask].astype(float) - texture.pixels[mask]).sum() / max(1, 3 * mask.sum())
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def examined(texture: Hostile, model: EncoderModel, quality: float = 60.0, tune: str = VISUAL) -> Found:
    """What becomes of a picture."""
    data = encode(texture.pixels, quality=quality, fallback=False, tune=tune, model=model)
    decoded, draft = both_drawn(data, model)
    inside, as_draft = (psnr(shown, texture, "inside") for shown in (decoded, draft))
    kinds = {chunk.kind for chunk in container.read(data).chunks}
    patched, drafted = (kind in kinds for kind in (chunktypes.PATCHES, chunktypes.DRAFTED))
    return Found(psnr(decoded, texture, "outside"), inside, as_draft, patched, drafted)


def both_drawn(data: bytes, model: EncoderModel) -> tuple[Pixels, Pixels]:
    """What `decode_array` draws of a small file, and its draft; it is parsed once."""
    known = container.read(data)
    latent = Latent(Reader(io.BytesIO(data)), model, keep_all=True, drafted=chunks.drafted_of(known))
    rows, columns = coded_size(known.header.width, known.header.height)
    whole, every = Area(0, rows, 0, columns), np.ones((rows, columns, 2, 2), np.bool_)
    decoded = picture_of(latent, DecodeSettings())
    drafts = drafts_of(every, latent.window(whole), whole, whole)
    draft = drafted_over(decoded.copy(), drafts, latent.header, model)
    stored = chunks.patches_of(known, latent.header.grey)
    if stored is not None:
        for shown in (decoded, draft):
            stored.laid(shown, Area(0, shown.shape[0], 0, shown.shape[1]))
    return decoded, draft


@dataclass
class Tally:
    """What was found so far: numbers of pictures, and least and largest figures in dB."""

    options: dict[str, object]  # of the run; another one cannot go on with it
    count: int = 0
    bad: int = 0
    patched: int = 0
    drafted: int = 0
    worse: int = 0  # inside than the draft
    by_a_tenth: int = 0  # of a dB, or more
    outside: float = 999.0
    inside: float = 999.0
    behind: float = 0.0  # the most that a pattern is worse than the draft

    def add(self, found: Found) -> None:
        self.count += 1
        self.bad += found.bad
        self.patched += found.patched
        self.drafted += found.drafted
        self.worse += found.inside < found.draft
        self.by_a_tenth += found.inside < found.draft - 0.1
        self.outside, self.inside = min(self.outside, found.outside), min(self.inside, found.inside)
        self.behind = max(self.behind, found.draft - found.inside)

    def __str__(self) -> str:
        shares = f"{self.patched / self.count:.0%} with patches, {self.drafted / self.count:.0%} with drafted squares"
        return (
            f"{self.count} pictures, {shares}, {self.bad} findings\n"
            f"outside the pattern at least {self.outside:.1f} dB, inside {self.inside:.1f}\n"
            f"inside worse than the draft in {self.worse / self.count:.1%}, in {self.by_a_tenth} by more than 0.1 dB, "
            f"by {self.behind:.1f} dB at most"
        )


def resumed(path: Path | None, options: dict[str, object]) -> Tally:
    """The tally of a run that was stopped, or of a new one."""
    if path is None or not path.exists():
        return Tally(options)
    tally = Tally(**json.loads(path.read_text()))
    if tally.options != options:
        raise SystemExit(f"{path} is of a run with other options: {tally.options}")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.textures", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quality", type=float, default=60.0)
    parser.add_argument("--tune", choices=TUNES, default=VISUAL)
    parser.add_argument("--small", action="store_true", help="pictures of 96×128 to 128×192 instead of 192×256")
    parser.add_argument("--state", type=Path, help="a file to go on from, written every 100 pictures")
    options = parser.parse_args()
    chosen = {name: getattr(options, name) for name in ("first", "quality", "tune", "small")}
    model, tally = load_model(), resumed(options.state, chosen)
    for seed in range(options.first + tally.count, options.first + options.count):
        texture = hostile(seed, options.small)
        found = examined(texture, model, options.quality, options.tune)
        tally.add(found)
        if found.bad:
            figures = f"{found.outside:.1f} dB outside, {found.inside:.1f} inside, draft {found.draft:.1f}"
            print(f"{seed}: {texture.kind}: {figures}", flush=True)
        if options.state is not None and (tally.count % 100 == 0 or tally.count == options.count):
            with replaced(options.state) as temporary:
                temporary.write_text(json.dumps(asdict(tally)))
    print(tally)


if __name__ == "__main__":
    main()

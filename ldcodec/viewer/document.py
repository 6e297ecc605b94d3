"""The page as one HTML document that needs neither a server nor a network: pictures inside it, its script by hash."""

import base64
import hashlib
import html
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from ldcodec import __version__
from ldcodec.bitstream.layout import MAX_QUALITY
from ldcodec.bitstream.reader import Reader
from ldcodec.pictures.colour import space
from ldcodec.viewer.renderings import BitMap, Exhibit, Rendering

EXACT_PIXELS = 3 << 19  # of pictures that are embedded without loss: 1.5 megapixels
LOSSY = {"quality": 95, "method": 4}  # WebP of larger ones; all of a page then take less than 30 MB
UNIT = 1000  # numbers of the bit map are whole thousandths of a bit a pixel
REALISM_NAMES = {0.0: "least error", 0.5: "between", 1.0: "natural"}


@dataclass(frozen=True)
class Subject:
    """What a page is about: how the file is called, and the model's name, None for a picture stored without loss."""

    name: str
    model: str | None


def document(subject: Subject, source: Reader, exhibit: Exhibit) -> str:
    """The page of a file. It holds no address of anything outside itself, and tells the browser to load nothing."""
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("view.css", "view.js"))
    page = Template(files(__package__).joinpath("view.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(subject.name),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_script_text(page_data(subject, source, exhibit)),
    )


def page_data(subject: Subject, source: Reader, exhibit: Exhibit) -> dict[str, Any]:
    """What the page's script reads: pictures as data URIs, the bit map, lines of text."""
    width, height = exhibit.renderings[0].image.size
    return {
        "width": width,
        "height": height,
        "summary": _summary(source),
        "choices": [_choice(rendering) for rendering in exhibit.renderings],
        "reduced": exhibit.factor,
        "original": None if exhibit.original is None else data_uri(exhibit.original),
        "bits": None if exhibit.bits is None else _bits(exhibit.bits),
        "fields": fields(subject, source, exhibit),
        "notes": _notes(exhibit),
    }


def fields(subject: Subject, source: Reader, exhibit: Exhibit) -> list[tuple[str, str]]:
    """What the header says, each as a name and a text."""
    header, slices, chunks = source.header, len(source.spans), range(source.chunk_count)
    payload = sum(source.payload_length(number) for number in range(slices))
    colours = "grey" if header.grey else "RGB"
    told = [("Size", f"{header.width} × {header.height} pixels, {colours}")]
    told.append(("File", f"{source.length:,} bytes"))
    told.append(("Rate", f"{8 * source.length / (header.width * header.height):.3f} bits per pixel"))
    if source.lossless:
        told.append(("Quality", "every pixel exact"))
    else:
        told.append(("Quality", f"{100 * header.quality / MAX_QUALITY:.1f} of 100 (index {header.quality})"))
        told.append(("Payload", f"{payload:,} bytes"))
    if exhibit.bits is not None:
        told.append(("Side information", f"{exhibit.bits.hyper:.1%} of the bits"))
    told.append(("Model", subject.model or "none is needed"))
    if not source.lossless:
        told.append(("Parse id", header.parse_id.hex()))
    told.append(("Slices", f"{slices}"))
    told.append(("Chunks", ", ".join(_chunk(source, number) for number in chunks) or "none"))
    return told


def data_uri(image: Image.Image) -> str:
    """An image as a data URI: lossless WebP up to EXACT_PIXELS, WebP of high quality above, its profile with it."""
    icc = image.info.get("icc_profile")
    kept = {} if icc is None or space(icc) == b"GRAY" else {"icc_profile": icc}  # WebP's pixels are always RGB
    coding: dict[str, Any] = {"lossless": True, "exact": True} if is_exact(image) else LOSSY
    file = io.BytesIO()
    shown = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if image.mode == "LA" else "RGB")
    shown.save(file, "WEBP", **coding, **kept)
    return f"data:image/webp;base64,{_base64(file.getvalue())}"


def is_exact(image: Image.Image) -> bool:
    """Whether a page holds every pixel of an image as it is."""
    return image.width * image.height <= EXACT_PIXELS


def _choice(rendering: Rendering) -> dict[str, Any]:
    realism, steps = rendering.realism, rendering.steps
    text = "stored without loss"
    if realism is not None:
        text = f"realism {realism:g} · {steps} step{'' if steps == 1 else 's'}"
    return {
        "realism": realism,
        "steps": steps,
        "realismName": None if realism is None else f"{realism:g} {REALISM_NAMES.get(realism, '')}",
        "text": text,
        "psnr": rendering.psnr,
        "src": data_uri(rendering.image),
    }


def _bits(bits: BitMap) -> dict[str, Any]:
    rows, columns = bits.values.shape
    numbers = np.clip(np.rint(bits.values * UNIT), 0, 65535).astype("<u2")
    return {
        "rows": rows,
        "columns": columns,
        "left": bits.left,
        "top": bits.top,
        "cell": bits.cell,
        "unit": UNIT,
        "high": _round_top(float(np.percentile(bits.values, 99))),
        "values": _base64(numbers.tobytes()),
    }


def _round_top(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below a value; 0.01 at least."""
    steps = (mantissa * 10.0**power for power in range(-2, 3) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8))
    return next((step for step in steps if step >= value), value)


def _summary(source: Reader) -> str:
    header = source.header
    rate = 8 * source.length / (header.width * header.height)
    size = f"{source.length / 1000:.1f} kB" if source.length < 1e6 else f"{source.length / 1e6:.2f} MB"
    return f"{header.width} × {header.height} · {rate:.3f} bits per pixel · {size}"


def _notes(exhibit: Exhibit) -> list[str]:
    notes = []
    if exhibit.factor > 1:
        notes.append(
            f"Reduced to 1/{exhibit.factor} of its size for this page, with the default settings alone; "
            "ldcodec view --region X,Y,W,H shows a part with every pixel and choice."
        )
    shown = exhibit.renderings[0].image
    notes.append(
        "Pictures in this page are exact."
        if is_exact(shown)
        else "Pictures in this page are WebP of quality 95, so fine colour is softer than the decoder makes it."
    )
    if (exhibit.factor > 1 or not is_exact(shown)) and any(r.psnr is not None for r in exhibit.renderings):
        notes.append("PSNR is of the exact pixels" + (", before they were reduced." if exhibit.factor > 1 else "."))
    return [*notes, f"Made by ldcodec {__version__}."]


def _chunk(source: Reader, number: int) -> str:
    return f"{source.chunk_kind(number)} ({source.chunk_length(number):,} bytes)"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _script_text(value: Any) -> str:
    """JSON that may stand inside <script>: nothing in it can end the element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")

"""The page: one HTML document with its pictures and scripts inside, which needs neither a server nor a network."""

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
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.bitstream.reader import Reader
from ldcodec.pictures.profiles import space
from ldcodec.viewer.renderings import BitMap, PageContent, Rendering

EXACT_PIXELS = 3 << 19  # pictures of up to 1.5 megapixels are embedded losslessly
LOSSY = {"quality": 95, "method": 4}  # WebP for larger ones, so that a page stays below 30 MB
UNIT = 1000  # the bit map is stored in thousandths of a bit per pixel
REALISM_NAMES = {0.0: "least error", 0.5: "between", 1.0: "natural"}


@dataclass(frozen=True)
class Names:
    """What the page calls the file, and its model; None for a lossless file, which needs none."""

    name: str
    model: str | None


def document(names: Names, source: Reader, content: PageContent) -> str:
    """The page of a file. It refers to nothing outside itself, and its policy forbids the browser to load anything."""
    style, script = read_files("slider.css", "view.css"), read_files("view.js", "slider.js")
    return Template(read_files("view.html")).substitute(
        title=html.escape(names.name),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=json_text(page_data(names, source, content)),
    )


def read_files(*names: str) -> str:
    """The contents of files of the viewer, joined: what a page consists of, in part also that of `ldcodec bench`."""
    return "\n".join(files(__package__).joinpath(name).read_text(encoding="utf-8") for name in names)


def page_data(names: Names, source: Reader, content: PageContent) -> dict[str, Any]:
    """What the page's script reads: pictures as data URIs, the bit map, and texts."""
    width, height = content.renderings[0].image.size
    return {
        "width": width,
        "height": height,
        "summary": _summary(source),
        "choices": [_choice(rendering) for rendering in content.renderings],
        "reduced": content.factor,
        "original": None if content.original is None else data_uri(content.original),
        "bits": None if content.bits is None else _bits(content.bits),
        "fields": fields(names, source, content),
        "notes": _notes(content),
    }


def fields(names: Names, source: Reader, content: PageContent) -> list[tuple[str, str]]:
    """The facts about the file, as pairs of name and text."""
    header, slices, chunks = source.header, len(source.spans), range(source.chunk_count)
    payload = sum(source.payload_length(number) for number in range(slices))
    colours = ("grey" if header.grey else "RGB") + (f", {header.depth} bits a sample" if header.depth > 8 else "")
    facts = [("Size", f"{header.width} × {header.height} pixels, {colours}")]
    facts.append(("File", f"{source.length:,} bytes"))
    facts.append(("Rate", f"{8 * source.length / (header.width * header.height):.3f} bits per pixel"))
    if source.lossless:
        facts.append(("Quality", "every pixel exact"))
    else:
        facts.append(("Quality", f"{100 * header.quality / TOP_INDEX:.1f} of 100 (index {header.quality})"))
        facts.append(("Payload", f"{payload:,} bytes"))
    if content.bits is not None:
        facts.append(("Side information", f"{content.bits.hyper:.1%} of the bits"))
    facts.append(("Model", names.model or "not needed"))
    if not source.lossless:
        facts.append(("Parse id", header.parse_id.hex()))
    facts.append(("Slices", f"{slices}"))
    facts.append(("Chunks", ", ".join(_chunk(source, number) for number in chunks) or "none"))
    return facts


def data_uri(image: Image.Image) -> str:
    """An image with its profile as a data URI: lossless WebP up to EXACT_PIXELS, lossy WebP above."""
    icc = image.info.get("icc_profile")
    kept = {} if icc is None or space(icc) == b"GRAY" else {"icc_profile": icc}  # WebP's pixels are always RGB
    coding: dict[str, Any] = {"lossless": True, "exact": True} if is_exact(image) else LOSSY
    file = io.BytesIO()
    shown = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if image.mode == "LA" else "RGB")
    shown.save(file, "WEBP", **coding, **kept)
    return data_address("image/webp", file.getvalue())


def data_address(mime: str, data: bytes) -> str:
    """A data URI that holds a file of a MIME type."""
    return f"data:{mime};base64,{_base64(data)}"


def is_exact(image: Image.Image) -> bool:
    """Whether a page holds an image losslessly."""
    return image.width * image.height <= EXACT_PIXELS


def _choice(rendering: Rendering) -> dict[str, Any]:
    realism, steps = rendering.realism, rendering.steps
    text = "lossless"
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
    """Round up to 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten; at least 0.01."""
    steps = (mantissa * 10.0**power for power in range(-2, 3) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8))
    return next((step for step in steps if step >= value), value)


def _summary(source: Reader) -> str:
    header = source.header
    rate = 8 * source.length / (header.width * header.height)
    size = f"{source.length / 1000:.1f} kB" if source.length < 1e6 else f"{source.length / 1e6:.2f} MB"
    return f"{header.width} × {header.height} · {rate:.3f} bits per pixel · {size}"


def _notes(content: PageContent) -> list[str]:
    notes = []
    if content.factor > 1:
        notes.append(
            f"Reduced to 1/{content.factor} of its size, with the default settings only; "
            "ldcodec view --region X,Y,W,H shows a part with every pixel and setting."
        )
    shown = content.renderings[0].image
    notes.append(
        "The pictures on this page are exact."
        if is_exact(shown)
        else "The pictures on this page are WebP of quality 95: fine colour is softer than the decoder makes it."
    )
    if (content.factor > 1 or not is_exact(shown)) and any(r.psnr is not None for r in content.renderings):
        notes.append("PSNR is measured on the exact pixels" + (", before reduction." if content.factor > 1 else "."))
    return [*notes, f"Made with ldcodec {__version__}."]


def _chunk(source: Reader, number: int) -> str:
    return f"{source.chunk_kind(number)} ({source.chunk_length(number):,} bytes)"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def json_text(value: Any) -> str:
    """JSON for a <script> element, with nothing in it that could end the element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")

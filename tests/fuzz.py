"""A coverage-guided fuzzer for all code that reads a file: `python -m tests.fuzz MINUTES [--seed N] [--corpus DIR]`.

It needs atheris (libFuzzer for Python; https://github.com/google/atheris). An input that raises anything but
LdcodecError, or takes more than 2 GB or 20 s, is a finding: libFuzzer prints it, keeps the input and stops.

The first byte of an input says what the rest is: a file, the payload of a slice, or the content of a chunk. Checksums
always agree, or they would stop nearly every mutation at the door. The golden files are the seeds.
"""

import argparse
import io
import operator
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped, unused-ignore]
from atheris import instrument_bytecode
from atheris.version_dependent import CMP_OP_SHIFT_AMOUNT  # type: ignore[import-untyped, unused-ignore]

COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)  # in CPython's order
TRACED = (int, bytes, str)  # types of operands whose comparison tells libFuzzer what to try next


def compare(left: Any, right: Any, operation: int, place: int, constant: bool) -> Any:
    """Compares for instrumented code in place of atheris, which never frees a result.

    Nothing is lost by that with a bool, but the arrays that comparisons of arrays make would fill 2 GB in ten minutes.
    """
    if isinstance(left, TRACED) and isinstance(right, TRACED):
        return atheris._trace_cmp(left, right, operation, place, constant)
    return COMPARISONS[operation >> CMP_OP_SHIFT_AMOUNT](left, right)


atheris.compare = compare
instrument_bytecode._COMPARE_FUNCTION = "compare"  # an attribute of atheris, which instrumented code looks up

with atheris.instrument_imports(include=["ldcodec"]):
    from ldcodec.bitstream import container, layout
    from ldcodec.bitstream.container import Container
    from ldcodec.bitstream.layout import Header
    from ldcodec.bitstream.reader import Chunk, Reader, Slice
    from ldcodec.bitstream.slices import PIXELS
    from ldcodec.codec import decode_picture
    from ldcodec.decoder.parse import parse
    from ldcodec.decoder.request import Request
    from ldcodec.errors import LdcodecError
    from ldcodec.nets.model import Model, load_model

GOLDEN = Path(__file__).parent / "golden"
LARGEST_SIDE = 96  # pixels, so that an execution takes a few milliseconds
KINDS = ("iccp", "exif", "xmpp", "iptc", "text", "dpis", "grey", "drft", "ALPH", "PTCH", "WEBP", "PNGI")
PAYLOAD, CHUNK, VIEW = 1, 2, 3  # first bytes of inputs; with any other, the input is a whole file


class Agreeing(int):
    """A checksum that equals every number."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def crc32(data: bytes, value: int = 0) -> int:
    """Stands in for zlib.crc32, wherever that is called."""
    return Agreeing(0)


def target(model: Model) -> Callable[[bytes], None]:
    """The function that libFuzzer calls with each input."""

    def run(data: bytes) -> None:
        with suppress(LdcodecError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            part = atheris.FuzzedDataProvider(data[1:])
            kind = data[0] if data else 0
            if kind == PAYLOAD:
                _payload(part, model)
            elif kind == CHUNK:
                _chunk(part, model)
            else:
                _file(data[1:], model, salvage=kind == VIEW)

    return run


def _file(data: bytes, model: Model, salvage: bool) -> None:
    with suppress(LdcodecError):
        container.info(data)
    source = Reader(io.BytesIO(data))
    source.damage()
    header = source.header
    if header.width <= LARGEST_SIDE and header.height <= LARGEST_SIDE:
        named = replace(header, parse_id=_id_of(model, header))
        if source.lossless:
            decode_picture(data)
        else:
            whole = container.read(data)
            coded = container.write(Container(named, whole.slices, whole.chunks))
            decode_picture(coded, model=model, request=Request(salvage=salvage, scale=8 if salvage else 1))


def _id_of(model: Model, header: Header) -> bytes:
    """The id in a header if the model knows it, otherwise one that goes with the quantiser."""
    known = [identity for identity, coder in model.coders.items() if header.trellis == (coder.trellis is not None)]
    return header.parse_id if header.parse_id in known else known[0]


def _header(part: Any, model: Model) -> Header:
    """A header made of the last bytes of an input; `_last_bytes` is the inverse."""
    size = part.ConsumeIntInRange(1, LARGEST_SIDE), part.ConsumeIntInRange(1, LARGEST_SIDE)
    quality, grey, number = (part.ConsumeIntInRange(0, most) for most in (4095, 1, len(model.coders) - 1))
    identity, coder = list(model.coders.items())[number]
    return Header(*size, quality, bool(grey), identity, coder.trellis is not None)


def _last_bytes(header: Header, height: int, model: Model) -> bytes:
    known = list(model.coders)
    number = known.index(header.parse_id) if header.parse_id in known else 0
    fields = [number, header.grey, header.quality & 255, header.quality >> 8, height - 1, header.width - 1]
    return bytes(fields)


def _payload(part: Any, model: Model) -> None:
    header = _header(part, model)
    payload = part.ConsumeBytes(part.remaining_bytes())
    rows = layout.latent_size(header.width, header.height)[0]
    parse(Container(header, (Slice(rows, payload, Agreeing(0)),)), model)


def _chunk(part: Any, model: Model) -> None:
    header, kind = _header(part, model), KINDS[part.ConsumeIntInRange(0, len(KINDS) - 1)]
    rows = layout.latent_size(header.width, header.height)[0]
    exact = kind in ("WEBP", "PNGI")
    if exact:
        header = Header(header.width, header.height, 0, header.grey, bytes(8))
    chunks = (Chunk(kind, part.ConsumeBytes(part.remaining_bytes())),)
    file = container.write(Container(header, (Slice(rows, b"", Agreeing(0)),), chunks))
    decode_picture(file, model=model, request=Request(scale=1 if exact else 16))


def seeds(folder: Path, model: Model) -> None:
    """Write the first inputs: the golden files, their payloads and their chunks."""
    for path in GOLDEN.rglob("*.ldc"):
        data = path.read_bytes()
        source = container.read(data)
        parts = [bytes([0]) + data, bytes([VIEW]) + data]
        spans = Reader(io.BytesIO(data)).spans
        heights = [min(PIXELS * span.rows, source.header.height - PIXELS * span.top) for span in spans]
        parts += [
            bytes([PAYLOAD]) + piece.payload + _last_bytes(source.header, height, model)
            for piece, height in zip(source.slices, heights, strict=True)
        ]
        parts += [bytes([CHUNK]) + chunk.data + bytes(8) for chunk in source.chunks]
        for number, part in enumerate(parts):
            (folder / f"{path.parent.name}-{path.stem}-{number}").write_bytes(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder of inputs, which grows; default: a new one")
    options = parser.parse_args()
    folder = options.corpus or Path(tempfile.mkdtemp(prefix="ldcodec-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(str(GOLDEN / "neighbours"), "cpu")
    seeds(folder, model)
    zlib.crc32 = crc32  # type: ignore[assignment]
    limits = ["-rss_limit_mb=2048", "-timeout=20", "-max_len=4096", f"-artifact_prefix={folder}/finding-"]
    clock = [f"-max_total_time={round(60 * options.minutes)}", f"-seed={options.seed}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *clock, str(folder)], target(model))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

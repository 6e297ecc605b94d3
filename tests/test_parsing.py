"""Payloads that the program writes, read by the parser that was made from docs/parsing.md alone, tests/reference.py."""

import zlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ldcodec.bitstream import container, slices
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.slices import Span
from ldcodec.codec import encode
from ldcodec.decoder.parse import parse, parse_slice
from ldcodec.encoder.latents import Latents, code_slice
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.entropy import trellis
from ldcodec.entropy.integer import Parsed
from ldcodec.entropy.modelfiles import FILE_NAME, find_file
from ldcodec.entropy.tables import SKIPPED_SCALES
from ldcodec.entropy.trellis import EVEN, LANE, ODD, SCALAR
from ldcodec.entropy.weights import read_integers, read_tensors
from ldcodec.errors import DamagedError
from ldcodec.nets.model import DEFAULT_MODEL, Model
from ldcodec.pictures.picture import Pixels
from tests.pictures import noise, texture
from tests.reference import CONSTANTS, Found, Parser, Unreadable, entries_of, parse_id
from tests.test_layout import Layout, layout_of

pytestmark = pytest.mark.usefixtures("without_patches")

PICTURES: dict[str, tuple[Pixels, int]] = {  # and their quality
    "texture": (texture(70, 130), 60),
    "grey": (texture(33, 50)[:, :, 0], 20),
    "noise": (noise(65, 63), 100),
    "flat": (np.full((20, 80, 3), 200, np.uint8), 0),
    "point": (np.zeros((1, 1, 3), np.uint8), 50),
}


@pytest.fixture
def parser(tiny_model_folder: Path, either: Model) -> Parser:
    """That of the files which `either` writes."""
    file, steps = tiny_model_folder / either.name / FILE_NAME, "net.rate.steps."
    floats = {name.removeprefix(steps): array for name, array in read_tensors(file, "np", (steps,))[0].items()}
    return Parser(entries_of(either.parse_id, read_integers(file)[0]), floats)


def agree(found: Found, known: Parsed, parser: Parser) -> bool:
    """Whether all numbers are the same; means of a one-shot model are rounded from floats."""
    loose = parser.networks.one_shot
    near = np.allclose(found.mean, known.mean, rtol=1e-5 * loose, atol=1.0 * loose)
    return near and np.array_equal(found.symbols, known.symbols) and np.array_equal(found.index, known.index)


def parsed(parser: Parser, layout: Layout) -> list[Found]:
    """The slices of a file."""
    found, top = [], 0
    for piece in layout.slices:
        coded = max(0, min(piece.rows, -(-layout.height // 16) - top)), -(-layout.width // 16)
        size = piece.rows, 4 * -(-layout.width // 64)
        found.append(parser.parse(piece.data, layout.index, size, coded, layout.trellis))
        top += piece.rows
    return found


def test_the_constants_are_those_of_the_document() -> None:
    assert len(CONSTANTS) == 6
    assert {name: getattr(trellis, name) for name in CONSTANTS} == CONSTANTS


def test_the_parse_ids_are_those_of_the_document(model: Model, tiny_model_folder: Path) -> None:
    entries, noted = read_integers(tiny_model_folder / "tiny" / FILE_NAME)
    kinds = ("integer.", "coder.", "trellis.", "neighbours.")
    found = [parse_id(entries, *kinds[:count]) for count in (4, 3, 2)]
    assert found == list(model.coders) and found[0] == model.parse_id
    assert [noted[key] for key in ("parse_id", "trellis_id", "scalar_id")] == [identity.hex() for identity in found]


@pytest.mark.parametrize("name", PICTURES)
def test_a_parser_made_from_the_document_reads_what_the_program_writes(
    either: Model, parser: Parser, name: str
) -> None:
    pixels, quality = PICTURES[name]
    data = encode(pixels, quality=quality, fallback=False, model=either)
    layout, known = layout_of(data), parse(container.read(data), either)
    (found,) = parsed(parser, layout)
    assert layout.trellis == (either.coder.trellis is not None)
    assert agree(found, known, parser)
    assert zlib.crc32(found.stored) == layout.slices[0].symbols_crc


def wild_latents(size: tuple[int, int]) -> Latents:
    """Latents with large symbols here and there; size: rows and columns."""
    rng = np.random.default_rng(0)
    hyper = np.rint(3 * rng.standard_cauchy((4, size[0] // 4, size[1] // 4))).clip(-3000, 3000).astype(np.int32)
    return Latents(1500, hyper, (2 * rng.standard_cauchy((32, *size))).clip(-20000, 20000).astype(np.float32))


def test_wild_latents_are_read(either: Model, parser: Parser) -> None:
    size, coded = (12, 16), (11, 13)
    piece, known, _ = code_slice(wild_latents(size), coded, either)
    found = parser.parse(piece.payload, 1500, size, coded, either.coder.trellis is not None)
    assert agree(found, known, parser)
    assert zlib.crc32(found.stored) == piece.symbols_crc


def test_wild_latents_ask_for_everything(model: Model) -> None:
    """Elements without symbols, both signs under every quantiser, several lanes, and escapes of either part."""
    if model.networks.config.one_shot:
        pytest.skip("few of its scales are small; that of the other family asks for everything")
    _, known, _ = code_slice(wild_latents((12, 16)), (11, 13), model)
    symbols, index, kind = (array[:, :11, :13].ravel() for array in (known.symbols, known.index, known.kind))
    assert (index < SKIPPED_SCALES).any() and (kind != SCALAR).sum() / 4 > 2 * LANE
    for quantiser in (SCALAR, EVEN, ODD):
        here = symbols[kind == quantiser]
        assert {-1, 0, 1, -2, 2} <= set(here.tolist())
    plain = (kind == SCALAR) & (index >= SKIPPED_SCALES)
    assert (np.abs(symbols[plain]) > model.coder.tables.reach[index[plain]]).any()
    assert (np.abs(symbols[kind != SCALAR]) > 2 * model.coder.reach[model.coder.first_half :].max()).any()


@pytest.mark.parametrize("change", [b"\0\0\0\0", b"\x5a\xa5\x00\xff", b"\xff\xff\xff\xff"])
def test_both_refuse_the_same_payloads(change: bytes, either: Model, parser: Parser) -> None:
    """Words altered one by one. What neither refuses has the same symbols, which are not those of the checksum."""
    size, coded, trellis = (4, 8), (3, 7), either.coder.trellis is not None
    piece, _, _ = code_slice(wild_latents(size), coded, either)
    header = Header(7 * 16, 3 * 16, 1500, False, either.parse_id, trellis)
    for place in range(0, len(piece.payload), 12):
        payload = piece.payload[:place] + change + piece.payload[place + 4 :]
        try:
            stored = parser.parse(payload, 1500, size, coded, trellis).stored
        except Unreadable:
            stored = None
        altered = replace(piece, payload=payload, symbols_crc=0 if stored is None else zlib.crc32(stored))
        with pytest.raises(DamagedError) if stored is None else nullcontext():
            parse_slice(altered, header, Span(0, 4), either)


def test_slices_are_read_one_by_one(either: Model, parser: Parser) -> None:
    encoder = SlicedEncoder(texture(200, 70), either)
    encoder.spans = slices.cut(70, 200, area=8 * 4)
    layout = layout_of(encoder.code(2000).data)
    assert len(layout.slices) == 4
    for piece, found in zip(layout.slices, parsed(parser, layout), strict=True):
        assert zlib.crc32(found.stored) == piece.symbols_crc


def test_files_of_the_shipped_model_are_read(shipped_model: Model) -> None:
    layout = layout_of(encode(texture(48, 64), quality=50, fallback=False, model=shipped_model))
    entries = read_integers(find_file(DEFAULT_MODEL))[0]
    floats = {name: tensor.numpy() for name, tensor in shipped_model.networks.rate.steps.state_dict().items()}
    (found,) = parsed(Parser(entries_of(shipped_model.parse_id, entries), floats), layout)
    assert zlib.crc32(found.stored) == layout.slices[0].symbols_crc

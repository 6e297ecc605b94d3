"""Properties that hold for whatever Hypothesis makes up: containers, varints, coded symbols and whole pictures.

conftest.py decides which examples are tried: the same in every run, or at night random ones and more of them.
"""

import io
import string
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ldcodec.bitstream import chunktypes, container, layout
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Cursor, Header, varint
from ldcodec.bitstream.quality import TOP_INDEX
from ldcodec.bitstream.reader import Chunk, Reader, Slice
from ldcodec.codec import decode_array, encode
from ldcodec.entropy.tables import SCALE_COUNT, SYMBOL_LIMIT
from ldcodec.errors import DamagedError, FormatError, LdcodecError
from ldcodec.nets.model import Model

Pixels = NDArray[np.uint8]
Draw = Callable[[st.SearchStrategy[Any]], Any]

MOST_SLICES = 6  # of the containers made here; test_slices.py has more
U32 = st.integers(0, (1 << 32) - 1)


def examples(count: int) -> settings:
    """Settings for this many examples at 100 in the profile, in proportion at any other number."""
    return settings(max_examples=count * settings().max_examples // 100)


@st.composite
def sizes(draw: Draw) -> tuple[int, int]:
    """Width and height within the limits of the format, small and extreme ones alike."""
    width = draw(st.integers(1, 300) | st.integers(1, layout.MAX_SIDE))
    highest = min(layout.MAX_SIDE, layout.MAX_PIXELS // width)
    return width, draw(st.integers(1, min(300, highest)) | st.integers(1, highest))


@st.composite
def slices(draw: Draw, width: int, height: int) -> tuple[Slice, ...]:
    """Slices that cover a picture."""
    units = layout.latent_size(width, height)[0] // 4
    inner = draw(st.sets(st.integers(1, units - 1), max_size=MOST_SLICES - 1)) if units > 1 else set()
    edges = [0, *sorted(inner), units]
    payload = st.binary(max_size=40)
    return tuple(Slice(4 * (end - start), draw(payload), draw(U32)) for start, end in pairwise(edges))


LETTERS = st.sampled_from(string.ascii_letters)
UNKNOWN = (
    st.tuples(st.sampled_from(string.ascii_lowercase), LETTERS, LETTERS, LETTERS)
    .map("".join)
    .filter(lambda kind: kind not in chunktypes.DEFINED)
)


@st.composite
def containers(draw: Draw) -> Container:
    """Any container whose fields are in range: lossless or not, with chunks of every type that it may hold."""
    width, height = draw(sizes())
    whole = draw(st.sampled_from([None, None, *sorted(chunktypes.WHOLE_PICTURES)]))
    unfit = chunktypes.WHOLE_PICTURES | ({chunktypes.PATCHES} if whole else set())
    known = draw(st.sets(st.sampled_from(sorted(chunktypes.DEFINED - unfit))))
    kinds = draw(st.permutations([*sorted(known), *([whole] if whole else []), *draw(st.lists(UNKNOWN, max_size=3))]))
    model = st.binary(min_size=8, max_size=8).filter(lambda parse_id: parse_id != chunktypes.NO_MODEL)
    parse_id = chunktypes.NO_MODEL if whole else draw(model)
    trellis = whole is None and draw(st.booleans())
    header = Header(width, height, draw(st.integers(0, TOP_INDEX)), draw(st.booleans()), parse_id, trellis)
    only = (Slice(layout.latent_size(width, height)[0], b"", 0),)  # beside a picture without loss
    pieces = only if whole else draw(slices(width, height))
    return Container(header, pieces, tuple(Chunk(kind, draw(st.binary(max_size=40))) for kind in kinds))


@examples(200)
@given(containers())
def test_a_container_survives_a_file(value: Container) -> None:
    data = container.write(value)
    assert container.read(data) == value
    source = Reader(io.BytesIO(data))
    assert (source.header, source.lossless, source.damage()) == (value.header, value.lossless, [])
    assert tuple(source.chunk(k) for k in range(source.chunk_count)) == value.chunks
    assert tuple(source.slice(k) for k in range(len(source.spans))) == value.slices
    assert [span.rows for span in source.spans] == [piece.rows for piece in value.slices]
    assert source.spans[0].top == 0
    assert all(above.bottom == below.top for above, below in pairwise(source.spans))


@examples(40)
@given(containers())
def test_a_file_has_one_form(value: Container) -> None:
    """Reading and writing gives the same bytes, and the length of a file is that of its parts."""
    data = container.write(value)
    assert container.write(container.read(data)) == data
    held = sum(len(chunk.data) for chunk in value.chunks) + sum(len(piece.payload) for piece in value.slices)
    overhead = container.info(data)["overhead_bytes"]
    assert overhead == len(data) - sum(len(piece.payload) for piece in value.slices)
    assert len(data) - held == layout.read_layout(data, len(data)).start


@examples(80)
@given(containers())
def test_the_header_can_be_read_as_soon_as_it_is_there(value: Container) -> None:
    data = container.write(value)
    start = layout.read_layout(data, len(data)).start
    for length in {start, (start + len(data)) // 2, len(data)}:
        assert layout.read_layout(data[:length], len(data[:length])).header == value.header
        assert Reader(io.BytesIO(data[:length])).header == value.header
    for length in range(start):
        with pytest.raises(FormatError) as caught:
            layout.read_layout(data[:length], length)
        assert length == 0 or isinstance(caught.value, DamagedError)


@st.composite
def mutated(draw: Draw) -> tuple[Container, bytes]:
    """A container, and its file with one change: a byte altered, bytes inserted or deleted, or the rest cut off."""
    value = draw(containers())
    data = container.write(value)
    place = draw(st.integers(0, len(data) - 1))
    change = draw(st.sampled_from(["flip", "insert", "delete", "truncate"]))
    if change == "flip":
        return value, data[:place] + bytes([data[place] ^ draw(st.integers(1, 255))]) + data[place + 1 :]
    if change == "insert":
        return value, data[:place] + draw(st.binary(min_size=1, max_size=5)) + data[place:]
    if change == "delete":
        return value, data[:place] + data[place + draw(st.integers(1, 5)) :]
    return value, data[:place]


def outcome(read: Callable[[], Container]) -> Container | None:
    """What was read, or None if it was refused in one line."""
    try:
        return read()
    except LdcodecError as error:
        assert "\n" not in str(error)
        return None


def by_parts(data: bytes) -> Container:
    """A file of which every part was read through a Reader."""
    source = Reader(io.BytesIO(data))
    source.check_length()
    pieces = tuple(source.slice(k) for k in range(len(source.spans)))
    return Container(source.header, pieces, tuple(source.chunk(k) for k in range(source.chunk_count)))


@pytest.mark.slow
@examples(400)
@given(mutated())
def test_one_change_is_refused_or_changes_nothing(case: tuple[Container, bytes]) -> None:
    value, data = case
    assert outcome(lambda: container.read(data)) in (None, value)
    assert outcome(lambda: by_parts(data)) in (None, value)


@examples(150)
@given(st.binary(max_size=120), st.sampled_from([b"", layout.MAGIC + b"\1", layout.MAGIC + b"\1\0\x80"]))
def test_noise_is_no_file(noise: bytes, start: bytes) -> None:
    assert outcome(lambda: container.read(start + noise)) is None
    assert outcome(lambda: by_parts(start + noise)) is None


@examples(200)
@given(U32, st.binary(max_size=3))
def test_a_varint_comes_back(value: int, rest: bytes) -> None:
    data = varint(value)
    cursor = Cursor(data + rest)
    assert cursor.varint() == value
    assert cursor.position == len(data) <= 5


@examples(200)
@given(st.binary(max_size=8))
def test_bytes_are_the_only_form_of_a_varint_or_none(data: bytes) -> None:
    cursor = Cursor(data)
    try:
        value = cursor.varint()
    except DamagedError:
        return
    assert varint(value) == data[: cursor.position]


@examples(200)
@given(st.binary(max_size=3000) | st.binary(max_size=40).map(lambda text: 50 * text))
def test_a_text_comes_back(text: bytes) -> None:
    packed = chunktypes.pack(text)
    assert chunktypes.unpack(packed) == text
    assert len(packed) <= len(text) + 1


@st.composite
def coded_groups(draw: Draw) -> list[tuple[NDArray[np.int32], NDArray[np.uint8]]]:
    """Up to three groups of symbols, each with a scale index: likely symbols, and any that can be coded."""
    symbol = st.integers(-3, 3) | st.integers(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    pairs = st.lists(st.tuples(symbol, st.integers(0, SCALE_COUNT - 1)), max_size=60)
    return [
        (np.array([s for s, _ in group], np.int32), np.array([i for _, i in group], np.uint8))
        for group in draw(st.lists(pairs, max_size=3))
    ]


@examples(150)
@given(groups=coded_groups())
def test_any_symbols_come_back(model: Model, groups: list[tuple[NDArray[np.int32], NDArray[np.uint8]]]) -> None:
    encoder = model.coder.encoder()
    for symbols, indices in groups:
        encoder.encode(symbols, indices)
    decoder = model.coder.decoder(encoder.finish())
    for symbols, indices in groups:
        assert np.array_equal(decoder.decode(indices), symbols)
    decoder.finish()


@st.composite
def pictures(draw: Draw) -> Pixels:
    """uint8 arrays of 1..40 pixels a side: grey, grey and alpha, RGB, RGBA; flat but for some pixels, or noise."""
    side = st.integers(1, 40)
    shape = draw(st.tuples(side, side)) + draw(st.sampled_from([(), (2,), (3,), (4,)]))
    if draw(st.booleans()):
        noise: Pixels = np.random.default_rng(draw(U32)).integers(0, 256, shape).astype(np.uint8)
        return noise
    flat: Pixels = draw(arrays(np.uint8, shape, fill=st.integers(0, 255)))
    return flat


def expected(pixels: Pixels) -> Pixels:
    """The array of the same picture without alpha, if alpha hides nothing."""
    if pixels.ndim == 2 or pixels.shape[2] == 3 or (pixels[:, :, -1] < 255).any():
        return pixels
    return pixels[:, :, 0] if pixels.shape[2] == 2 else pixels[:, :, :3]


@examples(60)
@given(pixels=pictures(), quality=st.floats(0, 100))
def test_a_picture_keeps_its_shape_and_its_alpha(model: Model, pixels: Pixels, quality: float) -> None:
    found = decode_array(encode(pixels, quality=quality, fallback=False, model=model), model=model)
    original = expected(pixels)
    assert (found.shape, found.dtype.name) == (original.shape, "uint8")
    if original.ndim == 3 and original.shape[2] != 3:
        assert np.array_equal(found[:, :, -1], original[:, :, -1])


@examples(80)
@given(pixels=pictures())
def test_a_picture_without_loss_comes_back_exactly(pixels: Pixels) -> None:
    assert np.array_equal(decode_array(encode(pixels, lossless=True)), expected(pixels))

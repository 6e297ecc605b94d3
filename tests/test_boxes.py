"""Boxes of AVIF and HEIC, made by hand: properties belong to items, and only the main item counts."""

import io
import struct

import pytest

from ldcodec.pictures.boxes import described
from ldcodec.pictures.codepoints import CodePoints


def box(kind: bytes, *content: bytes) -> bytes:
    inner = b"".join(content)
    return struct.pack(">I4s", 8 + len(inner), kind) + inner


def nclx(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 1, 0x80))


def infe(number: int, kind: bytes) -> bytes:
    return box(b"infe", b"\2\0\0\0", struct.pack(">HH", number, 0), kind, b"\0")


def meta(
    properties: list[bytes],
    associations: dict[int, list[int]],
    items: dict[int, bytes],
    primary: int = 1,
    wide: bool = False,
) -> bytes:
    """A `meta` box. associations: numbers of properties, from 1, by item; wide: in two bytes each."""
    form, essential = (">H", 0x8000) if wide else (">B", 0x80)
    entries = b"".join(
        struct.pack(">HB", item, len(numbers)) + b"".join(struct.pack(form, number | essential) for number in numbers)
        for item, numbers in associations.items()
    )
    ipma = box(b"ipma", struct.pack(">II", 1 if wide else 0, len(associations)), entries)
    iinf = box(b"iinf", bytes(4), struct.pack(">H", len(items)), *(infe(*item) for item in items.items()))
    pitm = box(b"pitm", bytes(4), struct.pack(">H", primary))
    return box(b"meta", bytes(4), pitm, iinf, box(b"iprp", box(b"ipco", *properties), ipma))


def look(*parts: bytes) -> tuple[CodePoints | None, int, list[str]]:
    found = described(io.BytesIO(box(b"ftyp", b"heic", bytes(4)) + b"".join(parts)))
    return found.code_points, found.bits, found.parts


@pytest.mark.parametrize("wide", [False, True])
def test_properties_of_the_main_item_count(wide: bool) -> None:
    pixi = box(b"pixi", bytes(4), b"\3\x0a\x0a\x0a")
    properties = [nclx(1, 13), nclx(9, 16), box(b"pixi", bytes(4), b"\1\x08"), pixi]
    found = meta(properties, {1: [1, 3], 7: [2, 4]}, {1: b"hvc1", 7: b"grid"}, primary=7, wide=wide)
    assert look(found) == (CodePoints(9, 16), 10, [])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (b"urn:com:apple:photo:2020:aux:hdrgainmap", "gain map"),
        (b"urn:mpeg:hevc:2015:auxid:2", "auxiliary pictures such as depth"),
        (b"urn:mpeg:hevc:2015:auxid:1", None),
        (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", None),
    ],
)
def test_auxiliary_pictures_are_named_but_for_alpha(kind: bytes, name: str | None) -> None:
    found = meta([box(b"auxC", bytes(4), kind, b"\0")], {2: [1]}, {1: b"hvc1", 2: b"hvc1"})
    assert look(found)[2] == ([name] if name else [])


def test_gain_maps_of_iso_21496_are_named() -> None:
    assert look(meta([], {}, {1: b"av01", 2: b"av01", 3: b"tmap"}))[2] == ["gain map"]


def test_sequences_say_their_colours_in_the_sample_description() -> None:
    entry = box(b"av01", bytes(78), nclx(12, 13), box(b"av1C", b"\x81\x20\x40\0"))
    stsd = box(b"stsd", bytes(8), entry)
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", stsd))))
    assert look(box(b"moov", track)) == (CodePoints(12, 13), 10, [])


@pytest.mark.parametrize("cut", range(0, 140, 7))
def test_cut_boxes_say_what_they_can(cut: int) -> None:
    whole = meta([nclx(12, 13)], {1: [1]}, {1: b"hvc1"})
    assert look(whole[:cut])[0] in (None, CodePoints(12, 13))


def test_many_and_nested_boxes_take_no_time() -> None:
    nested = b""
    for _ in range(2000):
        nested = box(b"trak", nested)
    assert look(box(b"moov", nested), box(b"meta", bytes(4), *[box(b"iprp")] * 50_000)) == (None, 0, [])

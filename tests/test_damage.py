"""Damaged files are refused with the name of what is damaged, restored in part on request, and found by `verify`."""

import io
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldcodec.bitstream import container, layout, slices
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import u32, varint
from ldcodec.bitstream.reader import Chunk, Reader, Slice
from ldcodec.bitstream.slices import PIXELS
from ldcodec.codec import decode_array
from ldcodec.decoder.request import DecodeSettings, Request
from ldcodec.decoder.tiles import halo_of
from ldcodec.encoder.ratecontrol import Coded
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.errors import DamagedError, FormatError, LdcodecWarning, SalvageableError, SalvageWarning
from ldcodec.nets.model import Model
from ldcodec.pictures import chunks, planes
from ldcodec.pictures.picture import Picture, Pixels
from tests.commands import Call
from tests.pictures import texture
from tests.test_container import with_header_crc

HEIGHT, WIDTH = 640, 200
SLICES = 5  # of 128 pixel rows each


@pytest.fixture(scope="module")
def sound(model: Model) -> Container:
    """A file of five slices and one chunk."""
    encoder = SlicedEncoder(texture(HEIGHT, WIDTH), model)
    encoder.spans = slices.cut(WIDTH, HEIGHT, area=8 * 16)
    assert len(encoder.spans) == SLICES
    written: Coded = encoder.code(2000)
    return replace(written.container, chunks=(Chunk("note", b"taken at noon"),))


@pytest.fixture(scope="module")
def whole(sound: Container, model: Model) -> Pixels:
    """The picture of the sound file."""
    return decode_array(container.write(sound), model=model)


def starts(file: Container) -> list[int]:
    """The offset of the payload of each slice, and the end of the file."""
    data = container.write(file)
    lengths = [len(piece.payload) for piece in file.slices]
    return [len(data) - sum(lengths[k:]) for k in range(len(lengths) + 1)]


def altered(file: Container, *slices: int) -> bytes:
    """The file with a byte changed in the middle of some slices, numbered from 0."""
    data, places = bytearray(container.write(file)), starts(file)
    for number in slices:
        data[(places[number] + places[number + 1]) // 2] ^= 0x10
    return bytes(data)


def cut_in(file: Container, number: int) -> bytes:
    """The file cut short in the middle of a slice."""
    places = starts(file)
    return container.write(file)[: (places[number] + places[number + 1]) // 2]


def salvaged(data: bytes, model: Model) -> Pixels:
    with pytest.warns(SalvageWarning):
        return decode_array(data, model=model, request=Request(salvage=True))


def reach(model: Model) -> int:
    """Rows of pixels beside a lost slice that may differ."""
    halo = halo_of(model, DecodeSettings())
    return PIXELS * (halo.denoiser + halo.synthesis)


def test_an_error_names_what_is_damaged(sound: Container, model: Model) -> None:
    with pytest.raises(SalvageableError, match=r"slice 2 of 5 \(rows 128 to 255\) is altered (?!.*--)") as caught:
        decode_array(altered(sound, 1), model=model)
    assert "slice 3" not in str(caught.value)
    with pytest.raises(DamagedError, match=r"slice 4 of 5 .* cut short; slice 5 of 5 \(rows 512 to 639\) is cut short"):
        decode_array(cut_in(sound, 3), model=model)
    with pytest.raises(DamagedError, match="header"):
        decode_array(container.write(sound)[:40], model=model)
    with pytest.raises(DamagedError, match="followed by 3 foreign bytes"):
        decode_array(container.write(sound) + b"abc", model=model)


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_intact_slices_are_the_same_after_salvage(sound: Container, whole: Pixels, model: Model, lost: int) -> None:
    found = salvaged(altered(sound, lost), model)
    top, bottom = 128 * lost - reach(model), 128 * (lost + 1) + reach(model)
    assert found.shape == whole.shape
    assert np.array_equal(found[: max(0, top)], whole[: max(0, top)]) and np.array_equal(found[bottom:], whole[bottom:])
    gone = slice(128 * lost, 128 * (lost + 1))
    assert not np.array_equal(found[gone], whole[gone])
    assert found[gone].std() < whole[gone].std() / 4  # the prior's mean is plain


def test_the_slices_before_a_cut_are_kept(sound: Container, whole: Pixels, model: Model) -> None:
    found = salvaged(cut_in(sound, 3), model)
    kept = 3 * 128 - reach(model)
    assert kept > 128 and np.array_equal(found[:kept], whole[:kept])


def test_symbols_that_differ_are_salvaged_like_altered_bytes(sound: Container, whole: Pixels, model: Model) -> None:
    """A slice whose bytes are sound and whose symbols are not those that were written."""
    pieces = list(sound.slices)
    pieces[4] = replace(pieces[4], symbols_crc=pieces[4].symbols_crc ^ 1)
    data = container.write(replace(sound, slices=tuple(pieces)))
    with pytest.raises(DamagedError, match="symbols"):
        decode_array(data, model=model)
    found = salvaged(data, model)
    kept = 4 * 128 - reach(model)
    assert np.array_equal(found[:kept], whole[:kept]) and not np.array_equal(found[512:], whole[512:])


def test_salvage_of_a_sound_file_changes_nothing(sound: Container, whole: Pixels, model: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_array(container.write(sound), model=model, request=Request(salvage=True))
    assert np.array_equal(found, whole)


def test_a_damaged_chunk_is_left_out(sound: Container, whole: Pixels, model: Model) -> None:
    data = container.write(sound).replace(b"noon", b"nine")
    with pytest.raises(DamagedError, match="chunk note is altered"):
        decode_array(data, model=model)
    with pytest.warns(LdcodecWarning, match="chunk note is altered .* left out"):
        found = decode_array(data, model=model, request=Request(salvage=True))
    assert np.array_equal(found, whole)


def test_nothing_is_made_of_a_file_without_any_intact_slice(sound: Container, model: Model) -> None:
    for data in (altered(sound, *range(SLICES)), container.write(sound)[: starts(sound)[0]]):
        with pytest.raises(DamagedError, match="nothing can be restored"):
            decode_array(data, model=model, request=Request(salvage=True))


def test_a_salvaged_preview_and_region_tell_of_the_loss(sound: Container, model: Model) -> None:
    for view in (Request(scale=8, salvage=True), Request(region=(0, 130, 50, 20), salvage=True)):
        with pytest.warns(SalvageWarning, match="rows 128 to 255"):
            decode_array(altered(sound, 1), model=model, request=view)


def test_slices_lost_side_by_side_are_one_loss(sound: Container, whole: Pixels, call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ldc").write_bytes(altered(sound, 1, 2))
    code, out, err = call("decompress", "a.ldc")
    assert (code, out) == (1, "") and err.count("\n") == 1 and not (tmp_path / "a.png").exists()
    assert "a.ldc: the file is damaged: slice 2 of 5 (rows 128 to 255) is altered" in err
    code, out, err = call("decompress", "a.ldc", "--salvage")
    assert code == 3 and "warning: a.ldc: damaged: rows 128 to 383 are lost" in err
    found = np.asarray(Image.open(tmp_path / "a.png"))
    kept = 384 + 256 - 128  # the last slice
    assert found.shape == whole.shape and np.array_equal(found[kept:], whole[kept:])


def test_an_error_outweighs_a_salvage(sound: Container, call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ldc").write_bytes(altered(sound, 1))
    (tmp_path / "b.ldc").write_bytes(b"no such thing")
    assert call("decompress", "a.ldc", "b.ldc", "--salvage")[0] == 1


def test_verify_finds_what_is_damaged(sound: Container, call: Call, tmp_path: Path) -> None:
    (tmp_path / "sound.ldc").write_bytes(container.write(sound))
    (tmp_path / "bad.ldc").write_bytes(altered(sound, 0, 3))
    (tmp_path / "cut.ldc").write_bytes(container.write(sound)[:30])
    (tmp_path / "text.ldc").write_text("text")
    assert call("verify", "sound.ldc") == (0, "sound.ldc: sound, 5 slices, symbols tested\n", "")
    code, out, err = call("verify", "bad.ldc", "sound.ldc", "cut.ldc", "text.ldc", "none.ldc")
    lines = out.splitlines()
    assert code == 1 and len(lines) == 3 and "text.ldc" in err and "none.ldc" in err and err.count("\n") == 2
    assert lines[0].startswith("bad.ldc: damaged: slice 1 of 5") and "slice 4 of 5" in lines[0]
    assert lines[1].startswith("sound.ldc: sound") and lines[2].startswith("cut.ldc: damaged")


def test_every_damaged_byte_is_found_by_the_reader(sound: Container) -> None:
    """What `verify --quick` does, for a byte in every part of the file and for cuts."""
    data = container.write(sound)
    assert Reader(io.BytesIO(data)).damage() == []
    for place in range(0, len(data), len(data) // 150):
        for bad in (data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], data[:place]):
            try:
                found = Reader(io.BytesIO(bad)).damage()
            except FormatError:
                continue  # the header itself
            assert found and place >= starts(sound)[0] - len(b"taken at noon")


PIXELS_3X2 = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def test_verify_compares_the_sizes_that_stored_pixels_claim(call: Call, tmp_path: Path) -> None:
    """Every checksum of these files is right; only the pixel data show the lie."""
    plane = np.array([[0, 9, 255], [3, 4, 5]], np.uint8)
    sound = chunks.lossless(Picture(PIXELS_3X2, plane))
    (tmp_path / "sound.ldc").write_bytes(container.write(sound))
    assert call("verify", "sound.ldc")[0] == 0
    bad = {
        "webp": (Chunk("WEBP", planes.webp(PIXELS_3X2[:1])), "chunk WEBP is a picture of 3x1 pixels in a file of 3x2"),
        "png": (Chunk("PNGI", planes.png(PIXELS_3X2[:, :2])), "chunk PNGI is a picture of 2x2 pixels in a file of 3x2"),
        "text": (Chunk("PNGI", b"no picture at all"), "chunk PNGI is not PNG data"),
    }
    for name, (chunk, reason) in bad.items():
        lying = replace(sound, chunks=(*sound.chunks[:-1], chunk))
        (tmp_path / f"{name}.ldc").write_bytes(container.write(lying))
        code, out, err = call("verify", f"{name}.ldc")
        assert (code, err) == (1, "") and out.startswith(f"{name}.ldc: damaged: {reason}"), out
        assert call("decompress", f"{name}.ldc")[0] == 1, "what verify refuses, decompress refuses"


def test_verify_compares_the_size_of_alpha(sound: Container, call: Call, tmp_path: Path) -> None:
    for byte, data, reason in ((b"\1", planes.png(PIXELS_3X2[..., 0]), "3x2 pixels"), (b"\7", b"", "unknown coding")):
        lying = replace(sound, chunks=(Chunk("ALPH", byte + data),))
        (tmp_path / "a.ldc").write_bytes(container.write(lying))
        code, out, _ = call("verify", "--quick", "a.ldc")
        assert code == 1 and "chunk ALPH is " in out and reason in out


def test_a_picture_without_loss_has_one_slice_without_symbols() -> None:
    """Files with the right lengths and checksums that no writer of ours makes."""
    good = chunks.lossless(Picture(np.zeros((100, 20, 3), np.uint8), None))
    assert Reader(io.BytesIO(container.write(good))).lossless
    for pieces in (
        (Slice(4, b"", 0), Slice(4, b"", 0)),
        (Slice(8, b"more", 0),),
        (Slice(8, b"", 5),),
    ):
        lying = replace(good, slices=pieces)
        with pytest.raises(FormatError, match="its picture is lossless"):
            container.write(lying)
        data = unchecked(lying)
        for read in (lambda d: Reader(io.BytesIO(d)), container.read):
            with pytest.raises(FormatError, match=r"contradicts itself: .* although its picture is lossless"):
                read(data)


def unchecked(file: Container) -> bytes:
    """The bytes of a file in extended form, whatever it says. Only the header's checksum is right."""
    header = file.header
    word = layout.FLAG_EXTENDED | (layout.FLAG_GREY if header.grey else 0)
    parts = [layout.MAGIC, struct.pack("<BH", layout.VERSION, word), header.parse_id]
    parts += [varint(number) for number in (header.width, header.height, len(file.chunks), len(file.slices))]
    parts += [chunk.kind.encode() + varint(len(chunk.data)) + bytes(4) for chunk in file.chunks]
    parts += [varint(s.rows) + varint(len(s.payload)) + u32(s.symbols_crc) + bytes(4) for s in file.slices]
    body = [chunk.data for chunk in file.chunks] + [piece.payload for piece in file.slices]
    return with_header_crc(b"".join(parts), b"".join(body))

"""Damage on the command line: what the commands say about it, and what they restore all the same."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldcodec.bitstream import container, reader, slices
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import encode
from ldcodec.encoder import sliced
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Picture
from tests.commands import TINY, Call, error_line
from tests.pictures import texture

WIDTH, HEIGHT = 150, 900
ALPHA = np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))


@pytest.fixture(scope="module")
def coded(model: Model) -> bytes:
    """A file of five slices with alpha and Exif."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sliced, "cut", lambda width, height: slices.cut(width, height, area=12 * 12))
    patch.setattr(slices, "WHOLE_AREA", 0)
    picture = Picture(texture(HEIGHT, WIDTH), ALPHA, None, b"II*\0\x08\0\0\0\0\0")
    data = encode(picture, quality=60, fallback=False, model=model)
    patch.undo()
    assert len(container.read(data).slices) == 5
    return data


def altered(data: bytes, number: int) -> bytes:
    """The file with one bit changed in the middle of slice `number`."""
    source = Reader(io.BytesIO(data))
    lengths = [source.payload_length(k) for k in range(len(source.spans))]
    place = len(data) - sum(lengths[number:]) + lengths[number] // 2
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def altered_chunk(data: bytes, kind: str) -> bytes:
    """The file with the last byte of a chunk changed."""
    chunk = container.read(data).chunk(kind)
    assert chunk is not None
    place = data.index(chunk) + len(chunk) - 1
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def shown(path: str) -> np.ndarray:
    """The pixels of a picture file."""
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_a_damaged_slice_is_named_and_refused(call: Call, coded: bytes) -> None:
    Path("bad.ldc").write_bytes(altered(coded, 2))
    code, _, err = call("decompress", "bad.ldc", *TINY)
    assert code == 1 and not Path("bad.png").exists()
    assert "slice 3 of 5 (rows 384 to 575) is altered" in error_line(err) and "--salvage" in err


def test_salvage_restores_the_other_slices(call: Call, coded: bytes) -> None:
    Path("good.ldc").write_bytes(coded)
    Path("bad.ldc").write_bytes(altered(coded, 2))
    assert call("decompress", "good.ldc", *TINY)[0] == 0
    code, _, err = call("decompress", "bad.ldc", "--salvage", *TINY)
    assert code == 3
    assert err.startswith("warning: bad.ldc: damaged: rows 384 to 575 are lost and were filled in by the model")
    difference = np.abs(shown("bad.png") - shown("good.png"))
    reach = int(err.split(" rows next")[0].split()[-1])
    assert difference[: 384 - reach].max() <= 1 and difference[576 + reach :].max() <= 1
    assert difference[400:560, :, :3].mean() > 1
    assert not difference[:, :, 3].any()


@pytest.mark.parametrize("kept", [1, 3])
def test_a_file_cut_short_keeps_the_slices_before_the_cut(call: Call, coded: bytes, kept: int) -> None:
    source = Reader(io.BytesIO(coded))
    lengths = [source.payload_length(k) for k in range(len(source.spans))]
    Path("good.ldc").write_bytes(coded)
    Path("cut.ldc").write_bytes(coded[: len(coded) - sum(lengths[kept:]) + 5])
    assert call("decompress", "cut.ldc", *TINY)[0] == 1
    assert call("decompress", "cut.ldc", "--salvage", *TINY)[0] == 3
    assert call("decompress", "good.ldc", *TINY)[0] == 0
    rows = source.spans[kept - 1].bottom * 16 - 64
    assert np.abs(shown("cut.png")[:rows] - shown("good.png")[:rows]).max() <= 1


def test_a_preview_of_a_damaged_file(call: Call, coded: bytes) -> None:
    Path("bad.ldc").write_bytes(altered(coded, 0))
    assert call("decompress", "bad.ldc", "--scale", "1/8", *TINY)[0] == 1
    code, _, err = call("decompress", "bad.ldc", "--scale", "1/8", "--salvage", *TINY)
    assert code == 3 and "rows 0 to 191 are lost" in err
    assert shown("bad.png").shape == (113, 19, 4)


@pytest.mark.parametrize(("kind", "lost"), [("exif", "Exif"), ("ALPH", "alpha")])
def test_a_damaged_chunk_is_left_out(call: Call, coded: bytes, kind: str, lost: str) -> None:
    Path("bad.ldc").write_bytes(altered_chunk(coded, kind))
    code, _, err = call("decompress", "bad.ldc", *TINY)
    assert code == 1 and f"chunk {kind} is altered" in error_line(err)
    code, _, err = call("decompress", "bad.ldc", "--salvage", *TINY)
    assert code == 0 and f"chunk {kind} is altered (its CRC-32 differs) and was left out" in err
    with Image.open("bad.png") as image:
        assert (lost == "Exif") == ("exif" not in image.info) and (lost == "alpha") == (image.mode == "RGB")


def test_nothing_can_be_salvaged_of_a_damaged_header_or_a_lost_picture(call: Call, coded: bytes) -> None:
    lossless = encode(texture(60, 50), lossless=True)
    for data in (coded[:40] + b"?" + coded[41:], altered_chunk(lossless, "WEBP"), coded[:30]):
        Path("bad.ldc").write_bytes(data)
        code, _, err = call("decompress", "bad.ldc", "--salvage", *TINY)
        assert code == 1 and not Path("bad.png").exists()
        assert "ldcodec: error: bad.ldc: " in err


def test_verify_says_what_is_sound_and_what_is_not(call: Call, coded: bytes) -> None:
    Path("good.ldc").write_bytes(coded)
    Path("exact.ldc").write_bytes(encode(texture(60, 50), lossless=True))
    Path("bad.ldc").write_bytes(altered(altered_chunk(coded, "exif"), 4))
    code, out, err = call("verify", "good.ldc", "exact.ldc", *TINY)
    assert (code, err) == (0, "")
    assert out == (
        "good.ldc: sound, 5 slices, symbols tested\n"
        "exact.ldc: sound, 1 slice, symbols none: the picture is stored without loss\n"
    )
    code, out, _ = call("verify", "--json", "bad.ldc", "good.ldc", "--quick")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1 and not first["sound"] and second == second | {"sound": True, "symbols": "not tested"}
    assert [part.split(" is ")[0] for part in first["damage"]] == ["chunk exif", "slice 5 of 5 (rows 768 to 899)"]


def test_verify_finds_symbols_that_another_machine_would_get_wrong(call: Call, coded: bytes) -> None:
    """The bytes are sound, but decode to other symbols than were written, as if the arithmetic differed."""
    source = container.read(coded)
    wrong = list(source.slices)
    wrong[1] = reader.Slice(wrong[1].rows, wrong[1].payload, wrong[1].symbols_crc ^ 1)
    Path("wrong.ldc").write_bytes(container.write(container.Container(source.header, tuple(wrong), source.chunks)))
    assert call("verify", "--quick", "wrong.ldc", *TINY)[0] == 0
    code, out, _ = call("verify", "wrong.ldc", *TINY)
    assert code == 1 and out.startswith("wrong.ldc: damaged: slice 2 of 5 (rows 192 to 383)")


def test_verify_without_the_model_says_so(call: Call, coded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("good.ldc").write_bytes(coded)
    monkeypatch.setenv("LDCODEC_MODELS", "")
    code, out, _ = call("verify", "good.ldc")
    assert code == 0
    assert out.endswith(
        f"symbols not tested: the model {container.read(coded).header.parse_id.hex()} is not installed\n"
    )

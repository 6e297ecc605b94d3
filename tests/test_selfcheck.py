"""`ldcodec verify --self`: a model's check file passes where the integers are right and fails where they are not."""

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from ldcodec.bitstream import container
from ldcodec.decoder.parse import parse
from ldcodec.entropy.arithmetic import NumpyArithmetic
from ldcodec.entropy.modelfiles import CHECK_FILE, FILE_NAME, find_file
from ldcodec.entropy.tables import SCALE_COUNT
from ldcodec.entropy.trellis import EVEN, SCALAR, half_of, table_of
from ldcodec.nets.model import DEFAULT_MODEL, Model
from ldcodec.training.__main__ import main
from ldcodec.training.selfcheck import check_picture, write_check
from tests.commands import Call, error_line
from tests.test_model import honest, stored


@pytest.fixture
def mine(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the tiny model and its check file."""
    folder = shutil.copytree(tiny_model_folder / "tiny", tmp_path / "mine")
    result = CliRunner().invoke(main, ["check", str(folder)], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, f"{folder / CHECK_FILE}\n")
    return folder


def change(folder: Path, tell: bool) -> None:
    """Alters biases that every mean depends on; tell: the weights and the check file name the new integers."""
    tensors, metadata = stored(folder / FILE_NAME)
    tensors["integer.hyper.0.bias"] = tensors["integer.hyper.0.bias"] + 5000
    metadata = honest(tensors, metadata) if tell else metadata
    save_file(tensors, str(folder / FILE_NAME), metadata)
    if tell:
        source = container.read((folder / CHECK_FILE).read_bytes())
        header = replace(source.header, parse_id=bytes.fromhex(metadata["parse_id"]))
        (folder / CHECK_FILE).write_bytes(container.write(replace(source, header=header)))


def test_the_shipped_model_decodes_what_it_should(call: Call, shipped_model: Model) -> None:
    code, out, err = call("verify", "--self")
    assert (code, err) == (0, "")
    assert out.startswith(f"{DEFAULT_MODEL}: this machine decodes what it should, symbols tested on cpu")
    assert len(out.splitlines()) == 1


def test_the_shipped_check_file_puts_much_to_the_test(shipped_model: Model) -> None:
    path = find_file(DEFAULT_MODEL).with_name(CHECK_FILE)
    assert path.stat().st_size < 20_000
    parsed = parse(container.read(path.read_bytes()), shipped_model)
    assert len(np.unique(parsed.index)) == SCALE_COUNT
    coder, path = shipped_model.coder, parsed.kind != SCALAR
    plain = np.abs(parsed.symbols[~path]) > coder.tables.reach[parsed.index[~path]]
    parity, half = half_of(parsed.symbols[path])
    tables = coder.first_half + table_of(parsed.index[path], parsed.kind[path] - EVEN, parity)
    assert plain.any() or (np.abs(half) > coder.reach[tables]).any()  # escaped ones


def test_a_machine_that_agrees(call: Call, mine: Path) -> None:
    assert call("verify", "--self", "--model", mine)[0] == 0
    code, out, err = call("verify", "--self", "--model", mine, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["sound"], found["slices"]) == (str(mine), True, 1)


def test_a_machine_that_computes_something_else(call: Call, mine: Path) -> None:
    """Everything agrees but the symbols, as if an operation of this machine were wrong."""
    change(mine, tell=True)
    code, out, err = call("verify", "--self", "--model", mine)
    assert (code, out) == (1, "")
    assert "the symbols come out wrong on cpu" in error_line(err)


def test_the_arithmetic_that_decodes_is_tested(call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ncnn")  # without it PyTorch decodes
    monkeypatch.setattr(NumpyArithmetic, "floored", lambda self, x: np.ceil(x, out=x))
    code, out, err = call("verify", "--self", "--model", mine)
    assert (code, out) == (1, "")
    assert "the symbols come out wrong on cpu" in error_line(err)


def test_integers_that_are_not_those_that_the_model_names(call: Call, mine: Path) -> None:
    change(mine, tell=False)
    code, out, err = call("verify", "--self", "--model", mine)
    assert (code, out) == (1, "")
    assert "not those of parse id" in error_line(err)


def test_a_check_file_that_is_missing_damaged_or_of_another_model(call: Call, mine: Path) -> None:
    path = mine / CHECK_FILE
    data = path.read_bytes()
    source = container.read(data)
    other = container.write(replace(source, header=replace(source.header, parse_id=bytes(range(8)))))
    for content, message in ((data[:-1], "install the model again"), (other, "written with model 0001020304050607")):
        path.write_bytes(content)
        code, out, err = call("verify", "--self", "--model", mine)
        assert (code, out) == (1, "")
        assert message in error_line(err)
    path.unlink()
    code, out, err = call("verify", "--self", "--model", mine)
    assert (code, out) == (1, "")
    assert "without check.ldc" in error_line(err)
    assert call("verify", "--self", "--model", "nonesuch")[0] == 1


def test_wrong_use(call: Call) -> None:
    for arguments in ([], ["--self", "a.ldc"], ["--self", "--quick"]):
        code, out, err = call("verify", *arguments)
        assert (code, out) == (2, "") and "--self" in error_line(err), arguments


def test_the_picture_is_always_the_same() -> None:
    picture = check_picture()
    assert picture.shape == (192, 192, 3)
    assert f"{zlib.crc32(picture.tobytes()):08x}" == "0667d42c"


def test_missing_weights_are_reported(mine: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(mine / "none.safetensors")])
    assert result.exit_code == 1 and "no such weights file" in str(result.exception)
    assert write_check(mine / FILE_NAME) == mine / CHECK_FILE

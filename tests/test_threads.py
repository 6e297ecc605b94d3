"""Work in threads: its order, its errors, and the number of threads."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ldcodec.bitstream import slices
from ldcodec.bitstream.container import Container, write
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import decode_array
from ldcodec.decoder import latent as latents
from ldcodec.decoder import threads as sharing
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.parse import parse_slice
from ldcodec.decoder.request import Request
from ldcodec.decoder.threads import map_in_threads
from ldcodec.encoder import library
from ldcodec.encoder.sliced import SlicedEncoder
from ldcodec.entropy.integer import Parsed
from ldcodec.errors import DamagedError
from ldcodec.nets.model import Model
from tests.commands import environment
from tests.pictures import texture


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of PyTorch's threads during the test, which the test must not change."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param, "the setting was not left as it was"
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sound(model: Model) -> Container:
    """A file of six slices."""
    encoder = SlicedEncoder(texture(700, 150), model)
    encoder.spans = slices.cut(150, 700, area=8 * 12)
    assert len(encoder.spans) == 6
    return encoder.code(2000).container


def altered(file: Container, *slices: int) -> bytes:
    """The file with a byte changed in the payload of each of these slices, numbered from 0."""
    data = bytearray(write(file))
    for number in slices:
        data[len(data) - sum(len(piece.payload) for piece in file.slices[number:])] ^= 1
    return bytes(data)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_few_are_ahead(workers: int) -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            begun.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.01 if number % 2 else 0)
        return number * number

    for taken, found in enumerate(map_in_threads(work, items(), workers)):
        assert found == taken * taken and len(begun) <= taken + workers
    assert taken == 9


def test_items_are_worked_on_at_once_and_share_the_threads_of_torch() -> None:
    """Each waits for the other, so the test would hang if they ran one after the other."""
    before, meeting = torch.get_num_threads(), threading.Barrier(2, timeout=60)

    def met(number: int) -> int:
        meeting.wait()
        return torch.get_num_threads()

    torch.set_num_threads(4)
    try:
        found = list(map_in_threads(met, range(4), 2))
        assert found == [2] * 4 and torch.get_num_threads() == 4
        fresh: list[int] = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [4]
    finally:
        torch.set_num_threads(before)


def test_an_error_is_raised_in_its_place() -> None:
    def work(number: int) -> int:
        if number % 2:
            raise DamagedError(str(number))
        return number

    found = map_in_threads(work, range(8), 3)
    assert next(found) == 0
    with pytest.raises(DamagedError, match=r"^1$"):
        next(found)


def test_there_are_no_more_threads_than_pytorch_has_than_work_and_than_memory_allows(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        for count, most, expected in [(9, 9, 5), (2, 9, 2), (9, 3, 3), (9, 0, 1), (0, 9, 1)]:
            monkeypatch.setattr(latents, "PARSED_AT_ONCE", most)
            assert latents.at_once(model, count, 1) == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_slices_in_threads_have_the_symbols_of_each_alone(sound: Container, model: Model, threads: int) -> None:
    reader = Reader(io.BytesIO(write(sound)))
    alone = [
        parse_slice(piece, sound.header, span, model) for piece, span in zip(sound.slices, reader.spans, strict=True)
    ]
    where: set[str] = set()

    def seen(parsed: Parsed) -> Parsed:
        where.add(threading.current_thread().name)
        return parsed

    for one, other in zip(alone, Latent(reader, model).each(range(6), seen), strict=True):
        assert np.array_equal(one.symbols, other.symbols)
        assert np.array_equal(one.mean, other.mean) and np.array_equal(one.index, other.index)
    assert (threading.current_thread().name in where) == (threads == 1)


@pytest.mark.parametrize(("area", "at_once"), [(8 * 12, 1), (2 * 8 * 12, 2), (100 * 8 * 12, 5)])
def test_slices_at_once_keep_to_the_bound(
    sound: Container, model: Model, monkeypatch: pytest.MonkeyPatch, area: int, at_once: int
) -> None:
    """With five threads and six slices of at most 8×12 latent positions."""
    monkeypatch.setattr(latents, "PARSED_AT_ONCE", area)
    asked: list[int] = []

    def one_by_one(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
        asked.append(workers)
        return map(function, items)

    monkeypatch.setattr(latents, "map_in_threads", one_by_one)
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        list(Latent(Reader(io.BytesIO(write(sound))), model).each(range(6), lambda parsed: None))
    finally:
        torch.set_num_threads(before)
    assert asked == [at_once]


def test_slices_of_a_model_of_ncnn_are_coded_and_parsed_at_once(tiny_model_folder: Path) -> None:
    """And are the same as one after the other."""
    cpumodel = pytest.importorskip("ldcodec.engine.cpumodel", reason="no ncnn")
    found, where = [], [set[str](), set[str]()]
    for threads in (1, 2):
        engine = cpumodel.load_model(str(tiny_model_folder / "tiny"), threads)
        encoder = SlicedEncoder(texture(700, 150), engine)
        encoder.spans = slices.cut(150, 700, area=8 * 12)
        coded = encoder.code(2000)

        def use(parsed: Parsed, seen: set[str] = where[threads - 1]) -> int:
            seen.add(threading.current_thread().name)
            return int(parsed.symbols.sum())

        found.append((coded.data, list(Latent(Reader(io.BytesIO(coded.data)), engine).each(range(6), use))))
    assert found[0] == found[1]
    assert threading.current_thread().name in where[0] and threading.current_thread().name not in where[1]


def test_damage_is_reported_as_by_one_thread(sound: Container, model: Model, threads: int) -> None:
    latent = Latent(Reader(io.BytesIO(altered(sound, 1, 4))), model, salvage=True)
    for _ in latent.each(range(6), lambda parsed: None):
        pass
    assert [damage.slice for damage in latent.damaged] == [1, 4]
    with pytest.raises(DamagedError, match=r"slice 2 of 6 .* altered"):
        list(Latent(latent.source, model).each(range(6), lambda parsed: None))


def test_pictures_and_previews_are_the_same_with_any_number_of_threads(
    sound: Container, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "WHOLE_AREA", 0)
    monkeypatch.setattr(slices, "TILE", 16)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(
                [decode_array(write(sound), model=model, request=view) for view in (Request(), Request(scale=4))]
            )
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


LIBRARY = "import os, ldcodec; ldcodec.decode"
PROGRAM = "import os, ldcodec.__main__, ldcodec.cli; ldcodec.cli.main = lambda: None; ldcodec.__main__.start()"
WORKER = "import os, ldcodec.jobs.limits as limits; limits.bound_threads(1)"


@pytest.mark.parametrize(
    ("code", "given", "policy"),
    [(LIBRARY, "", " "), (PROGRAM, "", "passive 20"), (WORKER, "", "passive 20"), (PROGRAM, "active", "active 20")],
    ids=["library", "program", "worker", "chosen"],
)
def test_threads_wait_asleep_in_processes_of_our_own(code: str, given: str, policy: str) -> None:
    """libgomp, which PyTorch's wheels bring, and NumPy's OpenBLAS read the variables when they are loaded."""
    surroundings = {name: value for name, value in environment().items() if name not in sharing.WAITING}
    show = "print(os.environ.get('OMP_WAIT_POLICY', ''), os.environ.get('OPENBLAS_THREAD_TIMEOUT', ''))"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}; {show}"],
        env=surroundings | ({"OMP_WAIT_POLICY": given} if given else {}),
        capture_output=True,
        text=True,
    )
    assert found.stdout == f"{policy}\n", found.stderr


NOTING = """
import os, sys
class Noting:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Noting())
from ldcodec import cli
assert cli.run(sys.argv[1:]) == 0
"""


@pytest.mark.parametrize("command", [["decompress", "-o", "a.ppm"], ["view", "-o", "a.html", "--no-open"]])
def test_matrix_products_keep_to_the_threads_that_are_asked_for(
    command: list[str], ldc: bytes, tiny_model: str, tmp_path: Path
) -> None:
    """NumPy's library for them reads the environment when it is loaded."""
    (tmp_path / "a.ldc").write_bytes(ldc)
    arguments = [*command, "a.ldc", "--threads", "3", "--quiet"]
    found = subprocess.run(
        [sys.executable, "-c", NOTING, *arguments],
        cwd=tmp_path,
        env=environment(tiny_model),
        capture_output=True,
        text=True,
    )
    assert (found.stdout, found.returncode) == ("3 3\n", 0), found.stderr


@pytest.mark.parametrize(
    ("text", "most"),
    [("250000 100000", 3), ("200000 100000", 2), ("5000 100000", 1), ("max 100000", 8), ("", 8), (None, 8)],
)
def test_cores_are_those_of_the_control_group(
    text: str | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(sharing, "CPU_MAX", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert sharing.cores() == most


@pytest.mark.parametrize(
    ("text", "load", "free"),
    [
        ("ctxt 77\nprocs_running 1\nprocs_blocked 0\n", 7.0, 6),  # this process alone, whatever was before
        ("procs_running 3\n", 0.0, 6),  # two others, for which there are two cores beside the six
        ("procs_running 5\n", 0.0, 4),
        ("procs_running 40\n", 0.0, 1),
        ("ctxt 77\n", 4.6, 3),
        (None, 3.4, 5),
        (None, None, 6),
    ],
)
def test_cores_are_left_to_those_who_use_them(
    text: str | None, load: float | None, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def average() -> tuple[float, float, float]:
        if load is None:
            raise OSError
        return load, 9.0, 9.0

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(sharing, "cores", lambda: 6)
    monkeypatch.setattr(os, "getloadavg", average, raising=False)
    monkeypatch.setattr(sharing, "STATISTICS", tmp_path / "stat")
    if text is not None:
        (tmp_path / "stat").write_text(text)
    assert sharing.free_cores() == free


def test_threads_are_no_more_than_the_cores_unless_asked_for(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(sharing, "CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(library, "by_ncnn", lambda device: False)
    monkeypatch.setenv("LDCODEC_MODELS", tiny_model)
    before = torch.get_num_threads()
    try:
        for given, threads in [(None, 1), (3, 3)]:
            torch.set_num_threads(2)
            library.load_model("tiny", "cpu", given)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

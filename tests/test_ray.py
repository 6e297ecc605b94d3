"""Folders processed by Ray on this machine, some with processes that die."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldcodec
from ldcodec.decoder.threads import WAITING
from ldcodec.jobs.limits import THREAD_VARIABLES, Limits
from ldcodec.jobs.messages import JobResult
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import Job, created, opened
from ldcodec.jobs.ray import Actor
from ldcodec.jobs.work import Work
from tests.commands import Call, environment, error_line
from tests.test_folders import summary, tree, wait_until

RAY = ["-o", "archive", "--engine", "ray", "--jobs", "2"]
COUNT = 40
PATIENCE = 300.0  # seconds, on a machine that does much else


@pytest.fixture
def ray() -> None:
    """Skips a test where Ray is not."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    pytest.importorskip("ray.data", reason="needs the extra `ray`")


def noise(folder: Path, count: int) -> None:
    """Pictures 0.png, 1.png … that take a moment."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (200, 200, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def actors_below(process: int) -> list[int]:
    """The processes of Ray's actors that have this one among their ancestors."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            number = int(entry.name)
            names[number] = (entry / "cmdline").read_bytes().decode(errors="replace")
            parents[number] = int(re.sub(r".*\)", "", (entry / "stat").read_text()).split()[1])
        except (ValueError, OSError):  # no process, or not any more
            continue

    def below(number: int) -> bool:
        return number == process or (number in parents and below(parents[number]))

    return [number for number, name in names.items() if name.startswith("ray::MapWorker") and below(number)]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_process_that_is_killed_loses_nothing(ray: None, tmp_path: Path) -> None:
    """One of two, in the middle. A file that is no picture is listed, all others are done, none is half-written."""
    noise(tmp_path / "photos", COUNT)
    (tmp_path / "photos" / "bad.png").write_bytes(b"text")
    run = [sys.executable, "-m", "ldcodec", "compress", "photos", "--lossless", *RAY]
    archive = tmp_path / "archive"
    with subprocess.Popen(
        run, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: len(list(archive.glob("*.ldc"))) >= 3, PATIENCE)
            os.kill(actors_below(process.pid)[0], signal.SIGKILL)
            assert len(list(archive.glob("*.ldc"))) < COUNT
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.terminate()
    assert (process.returncode, summary(out)) == (1, (COUNT, 0, 1)), err
    assert err.splitlines() == [
        f"ldcodec: error: {tmp_path}/photos/bad.png: not a picture in a known format, or damaged in its first bytes",
        "failed: photos/bad.png",
    ]
    assert tree(archive) == sorted(f"{number}.ldc" for number in range(COUNT))
    for number in range(COUNT):
        with Image.open(tmp_path / "photos" / f"{number}.png") as original:
            restored = ldcodec.decode((archive / f"{number}.ldc").read_bytes())
            assert np.array_equal(np.asarray(restored), np.asarray(original))


ONE_KILLS = """
import sys
from pathlib import Path
from ldcodec.jobs import ray as cluster
from ldcodec.jobs.paths import Job
from ldcodec.jobs.work import Work
from tests.strange import strange

cluster.FILES_PER_TASK, cluster.RETRIES = 2, 1
jobs = [Job(f"{sys.argv[1]}/{name}", f"{sys.argv[1]}/{name}.out") for name in ("a", "dies", "b", "c")]
for job in jobs:
    Path(job.source).write_text("")
work = Work(strange, None, None, "cpu", 1)
for job, outcome in cluster.outcomes(work, jobs, cluster.Cluster(1, 1), False):
    print(">", Path(job.source).name, outcome.failures, *(line for line, _ in outcome.lines))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_file_that_kills_its_process_takes_no_other_with_it(ray: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_KILLS, str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    found = sorted(line[2:] for line in done.stdout.splitlines() if line.startswith("> "))
    line = f"ldcodec: error: {tmp_path}/dies: its process ended each time, perhaps for want of memory"
    assert (done.returncode, found) == (0, ["a 0", "b 0", "c 0", f"dies 1 {line}"]), done.stderr


def copied(job: Job, options: None, models: Models, limits: Limits) -> JobResult:
    with opened(job.source) as source, created(job.target, None, job.unfinished) as stream:
        stream.write(source.read())
    return JobResult(1, 1, 1, 1, 0.0)


def test_what_a_dead_process_has_begun_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREAD_VARIABLES, *WAITING):  # an actor sets them for its process, which is this one here
        monkeypatch.setenv(name, "1")
    (tmp_path / "source").write_bytes(b"all of it")
    left = tmp_path / ".ldcodec-0123456789abcdef.tmp"
    left.write_bytes(b"begun")
    actor = Actor(Work(copied, None, None, "cpu", 10**9), 1, True)
    names = {"source": tmp_path / "source", "target": tmp_path / "target", "unfinished": left}
    done = actor({"number": np.array([7])} | {column: np.array([str(name)]) for column, name in names.items()})
    assert list(done["number"]) == [7] and done["outcome"][0].failures == 0
    assert (tmp_path / "target").read_bytes() == b"all of it" and done["outcome"][0].written == 9
    assert not left.exists()


def test_nothing_to_do_starts_no_ray(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(tmp_path / "photos", 1)
    assert call("compress", "photos", "-o", "archive", "-r", "--lossless", "--jobs", "1")[0] == 0
    monkeypatch.setitem(sys.modules, "ray", None)
    assert summary(call("compress", "photos", "--lossless", *RAY)[1]) == (0, 1, 0)


def test_a_missing_extra_is_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(tmp_path / "photos", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = call("compress", "photos", "--lossless", *RAY)
    assert (code, out) == (1, "")
    assert error_line(err) == "ldcodec: error: --engine ray needs more packages: pip install 'ldcodec[ray]'\n"


def test_an_address_where_nobody_listens(
    ray: None, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(tmp_path / "photos", 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        code, out, err = call("compress", "photos", "--lossless", *RAY)
    assert (code, out) == (1, "")
    assert error_line(err) == f"ldcodec: error: no Ray at {address}: Connection refused\n"

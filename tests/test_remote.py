"""Inputs and outputs that are URLs, against a store on this machine, a web server and fsspec's own memory."""

import functools
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldcodec
from ldcodec.bitstream import container, slices
from ldcodec.bitstream.reader import FIRST_BYTES, Reader
from ldcodec.encoder import sliced
from ldcodec.jobs import remote
from ldcodec.jobs.manifest import FILE_NAME
from ldcodec.nets.model import Model
from tests.commands import Call, environment, error_line, start
from tests.pictures import photo, png, texture
from tests.store import REASON, Store, store_of_objects
from tests.test_folders import summary, wait_until

pytest.importorskip("fsspec", reason=REASON)
pytestmark = pytest.mark.network

EXACT = ["-r", "--jobs", "1", "--lossless"]  # needs no model
NAMES = ("2024/june/a.png", "2024/b.PNG", "c.png")
TINY = ["--quality", "50", "--model", "tiny"]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A store of objects."""
    with store_of_objects() as running:
        yield running


@pytest.fixture(scope="module")
def sliced_file(model: Model) -> bytes:
    """A file of many slices, of about 128 rows each, where a picture of its size would have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "WHOLE_AREA", 0)
        patch.setattr(sliced, "cut", lambda width, height: slices.cut(width, height, area=8 * 20))
        return ldcodec.encode(texture(800, 330), quality=60, fallback=False, model=model)


@pytest.fixture
def bucket(store: Store) -> str:
    """An empty bucket, and no request counted so far."""
    url = store.bucket()
    store.requests.clear()
    return url


@pytest.fixture
def photos(store: Store, bucket: str) -> str:
    """A folder with three pictures in a tree, and files that are to be left alone."""
    for seed, name in enumerate(NAMES):
        store.put(f"{bucket}/photos/{name}", png(seed=seed))
    for name in ("notes.txt", ".hidden.png", ".cache/x.png"):
        store.put(f"{bucket}/photos/{name}", png())
    return f"{bucket}/photos"


def lines(store: Store, folder: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in store.get(f"{folder}/{FILE_NAME}").decode().splitlines()]


def same_pixels(store: Store, photos: str, archive: str) -> None:
    """Every output is whole and holds what its input does."""
    for name in NAMES:
        data = store.get(f"{archive}/{name.rsplit('.', 1)[0]}.ldc")
        with Image.open(io.BytesIO(store.get(f"{photos}/{name}"))) as original:
            assert np.array_equal(np.asarray(ldcodec.decode(data)), np.asarray(original))


def test_what_a_url_is() -> None:
    for name in ("s3://b/a.png", "https://h/a.png", "memory://a"):
        assert remote.is_remote(name)
    for name in ("C:\\a.png", "C://a.png", "a.png", "/tmp/a://b", "-", "s3:/b"):
        assert not remote.is_remote(name)


def test_there_and_back(call: Call, store: Store, bucket: str, tmp_path: Path) -> None:
    store.put(f"{bucket}/a.png", png())
    code, out, err = call("compress", f"{bucket}/a.png", "-o", f"{bucket}/new/a.ldc", *TINY)
    assert (code, err) == (0, "")
    data = store.get(f"{bucket}/new/a.ldc")
    assert out.startswith(f"{bucket}/a.png → {bucket}/new/a.ldc  40x24  {len(data)} bytes")
    assert call("decompress", f"{bucket}/new/a.ldc", "-o", "local.png", "--model", "tiny")[0] == 0
    assert call("decompress", f"{bucket}/new/a.ldc", "-o", f"{bucket}/b.png", "--model", "tiny")[0] == 0
    assert store.get(f"{bucket}/b.png") == (tmp_path / "local.png").read_bytes()
    assert store.keys(bucket) == ["a.png", "b.png", "new/a.ldc"]


def test_local_to_remote_to_beside(call: Call, store: Store, bucket: str, tmp_path: Path) -> None:
    """Without -o the output stands beside its input; a slash at the end makes a folder of several."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    assert call("compress", "a.png", "b.png", "-o", f"{bucket}/x", "--lossless")[0] == 0
    assert call("decompress", f"{bucket}/x/a.ldc")[0] == 0
    assert call("compress", "a.png", "-o", bucket, "--lossless")[0] == 0
    assert store.keys(bucket) == ["a.ldc", "x/a.ldc", "x/a.png", "x/b.ldc"]


def test_nothing_is_overwritten_without_force(call: Call, store: Store, bucket: str) -> None:
    store.put(f"{bucket}/a.png", png())
    store.put(f"{bucket}/a.ldc", b"mine")
    code, out, err = call("compress", f"{bucket}/a.png", "--lossless")
    assert (code, out) == (1, "")
    assert f"{bucket}/a.ldc: exists already; --force overwrites it" in error_line(err)
    assert store.get(f"{bucket}/a.ldc") == b"mine"
    assert call("compress", f"{bucket}/a.png", "--lossless", "--force")[0] == 0
    assert container.read(store.get(f"{bucket}/a.ldc")).lossless


def test_a_region_asks_for_the_slices_it_needs(
    call: Call, store: Store, bucket: str, sliced_file: bytes, tmp_path: Path
) -> None:
    data = sliced_file
    (tmp_path / "local.ldc").write_bytes(data)
    store.put(f"{bucket}/a.ldc", data)
    store.requests.clear()
    region = ["--region", "10,20,300,40", "--model", "tiny"]
    assert call("decompress", f"{bucket}/a.ldc", "-o", "remote.png", *region)[0] == 0
    reader = Reader(io.BytesIO(data))
    payloads = [reader.payload_length(number) for number in range(len(reader.spans))]
    asked = [(request.method, request.bytes) for request in store.requests]
    assert asked[:2] == [("HEAD", 0), ("GET", FIRST_BYTES)]
    count = len(asked) - 2
    assert 1 <= count < len(payloads) / 2
    assert asked[2:] == [("GET", length) for length in payloads[:count]]
    assert call("decompress", "local.ldc", "-o", "local.png", *region)[0] == 0
    assert (tmp_path / "remote.png").read_bytes() == (tmp_path / "local.png").read_bytes()


def test_a_whole_file_is_asked_for_once(call: Call, store: Store, bucket: str, ldc: bytes) -> None:
    """Though it is read twice: for its checksums and for its content."""
    store.put(f"{bucket}/a.ldc", ldc)
    store.requests.clear()
    assert call("verify", f"{bucket}/a.ldc", "--model", "tiny") == (
        0, f"{bucket}/a.ldc: sound, 1 slice, symbols tested\n", "",
    )  # fmt: skip
    assert [(request.method, request.bytes) for request in store.requests] == [("HEAD", 0), ("GET", len(ldc))]


def test_info_reads_the_header(call: Call, store: Store, bucket: str, sliced_file: bytes, tmp_path: Path) -> None:
    data = sliced_file
    store.put(f"{bucket}/a.ldc", data)
    (tmp_path / "a.ldc").write_bytes(data)
    store.requests.clear()
    code, out, _ = call("info", f"{bucket}/a.ldc", "--json")
    assert code == 0 and sum(request.bytes for request in store.requests) == FIRST_BYTES < len(data)
    assert json.loads(out) | {"name": "a.ldc"} == json.loads(call("info", "a.ldc", "--json")[1])
    text = call("info", f"{bucket}/a.ldc")[1].splitlines()
    assert text[1:] == call("info", "a.ldc")[1].splitlines()[1:]
    store.put(f"{bucket}/cut.ldc", data[:-1])
    code, out, err = call("info", f"{bucket}/cut.ldc")
    assert (code, out) == (1, "") and "cut short or has grown" in error_line(err)


def test_damage_is_reported(call: Call, store: Store, bucket: str, ldc: bytes) -> None:
    store.put(f"{bucket}/a.ldc", ldc[:-1] + bytes([ldc[-1] ^ 1]))
    store.put(f"{bucket}/b.ldc", b"text")
    code, out, _ = call("verify", f"{bucket}/a.ldc", "--quick")
    assert code == 1 and "slice 1 of 1" in out
    code, _, err = call("decompress", f"{bucket}/b.ldc", "-o", "x.png")
    assert code == 1 and "not an .ldc file" in error_line(err)


@pytest.mark.parametrize("size", [1000, 60 << 20], ids=["in one request", "in several"])
def test_an_output_that_is_not_completed_leaves_the_older_one(store: Store, bucket: str, size: int) -> None:
    """The larger one has sent a part by then; none of it is left in the store."""
    url = f"{bucket}/a.bin"
    store.put(url, b"older")
    with pytest.raises(KeyboardInterrupt), remote.created(url, f"{bucket}/unused") as stream:
        stream.write(bytes(size))
        raise KeyboardInterrupt
    assert store.keys(bucket) == ["a.bin"] and store.get(url) == b"older"
    assert not store.client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://")).get("Uploads")
    sent = [request for request in store.requests if request.method == "POST"]
    assert bool(sent) == (size > 50 << 20)


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_elsewhere_an_output_is_moved_to_its_name(protocol: str, tmp_path: Path) -> None:
    import fsspec

    folder = f"{protocol}://{tmp_path}/folder"
    remote.make_folder(folder)
    with pytest.raises(KeyboardInterrupt), remote.created(f"{folder}/a.bin", f"{folder}/.tmp") as stream:
        stream.write(b"begun")
        raise KeyboardInterrupt
    assert remote.listed(folder) == {}
    with remote.created(f"{folder}/a.bin", f"{folder}/.tmp") as stream:
        stream.write(b"whole")
        assert list(remote.listed(folder)) == [".tmp"]
    assert list(remote.listed(folder)) == ["a.bin"]
    with fsspec.open(f"{folder}/a.bin", "rb") as file:
        assert file.read() == b"whole"


def test_the_memory_of_fsspec(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    for url in ("memory://there/a.ldc", "memory://a.ldc"):
        assert call("compress", "a.png", "-o", url, "--lossless")[0] == 0
        assert call("decompress", url, "-o", "b.png", "-f")[0] == 0
        with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
            assert before.tobytes() == after.tobytes()
        assert f"{url}: exists already" in call("compress", "a.png", "-o", url, *TINY)[2]


@pytest.mark.parametrize("format", ["TIFF", "QOI", "WEBP", "PPM"])
def test_every_format_is_read_from_a_url(format: str, call: Call, tmp_path: Path) -> None:
    """Pillow asks one format after the other whether a file is its own, and some of them read lines."""
    import fsspec

    file = io.BytesIO()
    photo().save(file, format, **({"lossless": True} if format == "WEBP" else {}))
    fsspec.filesystem("memory").pipe("/formats/a", file.getvalue())
    assert call("compress", "memory://formats/a", "-o", "a.ldc", "--lossless")[0] == 0
    assert ldcodec.decode((tmp_path / "a.ldc").read_bytes()).tobytes() == photo().tobytes()


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder on an FTP server, which is also `ftp` in the folder of the test."""
    authorizers = pytest.importorskip("pyftpdlib.authorizers", reason=REASON)
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    (tmp_path / "ftp").mkdir()
    authorizer = authorizers.DummyAuthorizer()
    authorizer.add_anonymous(str(tmp_path / "ftp"), perm="elradfmwMT")
    server = FTPServer(("127.0.0.1", 0), type("Handler", (FTPHandler,), {"authorizer": authorizer}))
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"ftp://127.0.0.1:{server.address[1]}"
    stopped.set()
    thread.join()


@pytest.mark.filterwarnings("ignore:The async:DeprecationWarning")  # of what the server imports
@pytest.mark.filterwarnings("ignore:write permissions:RuntimeWarning")  # for whoever asks
def test_ftp(call: Call, ftp: str, tmp_path: Path) -> None:
    """Its files in fsspec have a cache of their own. A folder there knows by their times what has changed."""
    folder, picture = tmp_path / "ftp", png(400, 300)
    (folder / "a.png").write_bytes(picture)
    assert call("compress", f"{ftp}/a.png", "-o", f"{ftp}/a.ldc", "--lossless")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.ldc", "a.png"]
    assert f"{ftp}/a.ldc: exists already" in call("compress", f"{ftp}/a.png", "--lossless")[2]
    for more, size in [([], (400, 300)), (["--region", "9,8,70,60"], (70, 60))]:
        assert call("decompress", f"{ftp}/a.ldc", "-o", "b.png", "-f", *more)[0] == 0
        with Image.open(tmp_path / "b.png") as restored:
            assert restored.size == size
    assert summary(call("compress", ftp, "-o", f"{ftp}/archive", *EXACT)[1]) == (1, 0, 0)
    assert summary(call("compress", ftp, "-o", f"{ftp}/archive", *EXACT)[1]) == (0, 1, 0)
    os.utime(folder / "a.png", (0, 0))
    assert summary(call("compress", ftp, "-o", f"{ftp}/archive", *EXACT)[1]) == (1, 0, 0)


WRONG: dict[str, tuple[list[str], str]] = {
    "no key": (["info", "{b}/none.ldc"], "/none.ldc: no such file"),
    "no bucket": (["info", "s3://none-such/a.ldc"], "s3://none-such/a.ldc: no such bucket"),
    "a folder": (["compress", "{b}/photos", "-o", "x.ldc", "--lossless"], "is a folder, not a file; --recursive"),
    "no bucket to write to": (["compress", "{b}/c.png", "-o", "s3://none-such/a.ldc", "--lossless"], "no such bucket"),
    "no such protocol": (["info", "nonesuch://b/a.ldc"], "unknown protocol nonesuch://"),
    "another extra": (["info", "gs://b/a.ldc"], "gs:// needs more packages: Please install gcsfs"),
    "no server": (["info", "http://127.0.0.1:{closed}/a.ldc"], "Cannot connect to host 127.0.0.1"),
    "no page": (["info", "{web}/open/none.ldc"], "/open/none.ldc: no such file"),
    "a page as output": (["compress", "{b}/c.png", "-o", "https://h/a.ldc", "--lossless"], "can be read only"),
    "output is input": (["compress", "{b}/c.png", "-o", "{b}/c.png", "--lossless"], "would replace the input"),
    "no tree": (["compress", "{b}/none", "-o", "out", "-r", "--lossless", "-q"], "no such file or folder"),
    "no bucket for a tree": (["compress", "{b}/photos", "-o", "s3://none-such", "-r", "--lossless"], "no such bucket"),
}


def test_what_cannot_be_is_one_line(call: Call, store: Store, bucket: str) -> None:
    pytest.importorskip("aiohttp", reason=REASON)
    store.put(f"{bucket}/c.png", png())
    store.put(f"{bucket}/photos/c.png", png())
    store.client.create_bucket(Bucket="open", ACL="public-read")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        for name, (arguments, message) in WRONG.items():
            if name == "another extra" and has_module("gcsfs"):
                continue
            code, out, err = call(*(part.format(b=bucket, closed=closed, web=store.url) for part in arguments))
            assert (code, out) == (2 if name == "output is input" else 1, ""), name
            assert message in error_line(err.split("failed: ")[0]), name


def has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_a_missing_extra_is_named() -> None:
    urls = {"s3fs": "s3://b/a.ldc", "aiohttp": "https://h/a.ldc"}
    code = f"import sys; from ldcodec.cli import run; sys.modules |= dict.fromkeys({list(urls)}); "
    code += f"[run(['info', url]) for url in {list(urls.values())}]"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"ldcodec: error: {url}: {url.split(':')[0]}:// needs more packages: pip install 'ldcodec[remote]'"
        for url in urls.values()
    ]


def test_no_credentials_is_one_line(store: Store, bucket: str, tmp_path: Path) -> None:
    surroundings = {name: value for name, value in environment().items() if not name.startswith("AWS_")}
    surroundings |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": store.url}
    run = [sys.executable, "-m", "ldcodec", "info", f"{bucket}/a.ldc"]
    done = subprocess.run(run, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unable to locate credentials" in error_line(done.stderr)


def test_a_tree_there_and_back(call: Call, store: Store, photos: str, bucket: str, tmp_path: Path) -> None:
    archive = f"{bucket}/archive"
    code, out, err = call("compress", photos, "-o", archive, *EXACT)
    assert (code, err, summary(out)) == (0, "", (3, 0, 0))
    assert "other files left alone (1): 1 .txt" in out
    assert store.keys(archive) == [FILE_NAME, "2024/b.ldc", "2024/june/a.ldc", "c.ldc"]
    same_pixels(store, photos, archive)
    assert summary(call("decompress", archive, "-o", "back", "-r", "--jobs", "1")[1]) == (3, 0, 0)
    assert summary(call("compress", "back", "-o", f"{bucket}/again", *EXACT)[1]) == (3, 0, 0)
    assert store.keys(f"{bucket}/again") == store.keys(archive)
    assert (tmp_path / "back/2024/june/a.png").is_file()
    assert summary(call("decompress", archive, "-o", "back", "-r", "--jobs", "1")[1]) == (0, 3, 0)


def test_what_is_done_is_not_done_again(call: Call, store: Store, photos: str, bucket: str) -> None:
    archive = f"{bucket}/archive/"
    assert call("compress", photos, "-o", archive, *EXACT)[0] == 0
    store.requests.clear()
    assert summary(call("compress", photos, "-o", archive, *EXACT)[1]) == (0, 3, 0)
    asked = Counter(request.method for request in store.requests)
    assert set(asked) <= {"GET", "HEAD"} and asked["GET"] == 3  # two listings and the manifest, however many files
    store.put(f"{photos}/c.png", png(seed=0))
    store.put(f"{photos}/2024/c.png", png(seed=8))
    store.client.delete_object(Bucket=bucket.removeprefix("s3://"), Key="archive/2024/b.ldc")
    assert summary(call("compress", photos, "-o", archive, *EXACT)[1]) == (3, 1, 0)
    store.put(f"{photos}/c.png", png(seed=0))  # at another time, the same content
    assert summary(call("compress", photos, "-o", archive, *EXACT)[1]) == (0, 4, 0)
    same_pixels(store, photos, archive.rstrip("/"))


def test_failures_are_listed_and_the_rest_is_done(
    call: Call, store: Store, photos: str, bucket: str
) -> None:  # fmt: skip
    store.put(f"{photos}/bad.jpg", b"text")
    store.put(f"{bucket}/archive/c.ldc", b"mine")
    code, out, err = call("compress", photos, "-o", f"{bucket}/archive", *EXACT)
    assert (code, summary(out)) == (1, (2, 0, 2))
    assert {f"failed: {photos}/bad.jpg", f"failed: {photos}/c.png"} <= set(err.splitlines())
    assert f"{bucket}/archive/c.ldc: exists already" in err
    assert store.get(f"{bucket}/archive/c.ldc") == b"mine"
    code, _, err = call("compress", photos, "-o", f"{bucket}/archive", *EXACT, "--strip")
    assert code == 2 and "its files were made with strip False" in error_line(err)


def test_an_output_folder_within_the_input(call: Call, store: Store, photos: str) -> None:
    for expected in ((3, 0, 0), (0, 3, 0)):
        assert summary(call("compress", photos, "-o", f"{photos}/archive", *EXACT)[1]) == expected
    assert summary(call("decompress", f"{photos}/archive", "-o", f"{photos}/archive/png", *EXACT[:3])[1]) == (3, 0, 0)
    assert summary(call("compress", photos, "-o", f"{photos}/archive", *EXACT)[1]) == (0, 3, 0)


def test_a_key_does_not_leave_the_output_folder(
    call: Call, store: Store, bucket: str, tmp_path: Path
) -> None:  # fmt: skip
    """Keys are any text; a stranger may have chosen them. Hidden ones are passed over, a rooted one is a failure."""
    for key in ("photos/../../up.png", "photos//rooted.png", "photos/a\\..\\..\\up.png", "photos/c.png"):
        store.put(f"{bucket}/{key}", png())
    inner = tmp_path / "inner" / "archive"
    assert summary(call("compress", f"{bucket}/photos", "-o", inner, *EXACT)[1]) == (1, 0, 1)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ldc"))
    assert found == ["inner/archive/c.ldc"]


def test_resuming_after_a_kill(call: Call, store: Store, photos: str, bucket: str, tmp_path: Path) -> None:
    """Killed after its first file: what is there is whole and, being begun by us, may be made again."""
    for name in NAMES:
        noise = np.random.default_rng(len(name)).integers(0, 256, (300, 300, 3)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        store.put(f"{photos}/{name}", file.getvalue())
    archive = f"{bucket}/archive"
    process = start("compress", photos, "-o", archive, *EXACT, cwd=tmp_path)
    wait_until(lambda: any(key.endswith(".ldc") for key in store.keys(archive)))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = [key for key in store.keys(archive) if key.endswith(".ldc")]
    assert all(container.read(store.get(f"{archive}/{key}")).lossless for key in before)
    assert {line["begin"] for line in lines(store, archive) if "begin" in line} == {
        "2024/b.ldc", "2024/june/a.ldc", "c.ldc",
    }  # fmt: skip
    code, out, err = call("compress", photos, "-o", archive, *EXACT)
    assert (code, err, summary(out)) == (0, "", (3, 0, 0))
    same_pixels(store, photos, archive)
    assert summary(call("compress", photos, "-o", archive, *EXACT)[1]) == (0, 3, 0)


TWO_CORES = """
from ldcodec.cli import main
from ldcodec.jobs import workers
workers.cores = lambda: 2
main(["compress", {0!r}, "-o", {1!r}, "-r", "--jobs", "2", "--lossless"])
"""


@pytest.mark.slow
def test_two_processes(store: Store, photos: str, bucket: str, tmp_path: Path) -> None:
    store.requests.clear()
    run = [sys.executable, "-c", TWO_CORES.format(photos, f"{bucket}/archive")]
    done = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, summary(done.stdout)) == (0, "", (3, 0, 0))
    asked = Counter((request.method, Path(request.path).suffix.lower()) for request in store.requests)
    four = {("HEAD", ".png"), ("GET", ".png"), ("PUT", ".ldc"), ("HEAD", ".ldc")}
    assert {key: asked[key] for key in asked if key[1] in (".png", ".ldc")} == dict.fromkeys(four, 3)
    same_pixels(store, photos, f"{bucket}/archive")


def test_the_web(call: Call, store: Store, bucket: str, sliced_file: bytes, tmp_path: Path) -> None:
    """A server that sends parts is asked for parts."""
    pytest.importorskip("aiohttp", reason=REASON)
    data = sliced_file
    store.put(f"{bucket}/a.ldc", data, ACL="public-read")
    url = f"{store.url}/{bucket.removeprefix('s3://')}/a.ldc"
    store.requests.clear()
    assert call("decompress", url, "-o", "part.png", "--region", "10,20,300,40", "--model", "tiny")[0] == 0
    sent = [request.bytes for request in store.requests if request.method == "GET"]
    assert sent[:2] == [1, FIRST_BYTES] and sum(sent) < len(data) / 2
    assert call("decompress", url, "-o", "whole.png", "--model", "tiny")[0] == 0
    with Image.open(tmp_path / "part.png") as part, Image.open(tmp_path / "whole.png") as whole:
        crop = np.asarray(whole.crop((10, 20, 310, 60)), int)
        assert np.abs(np.asarray(part, int) - crop).max() <= 1
    store.put(f"{bucket}/mine.ldc", data)
    code, _, err = call("info", url.replace("a.ldc", "mine.ldc"))
    assert code == 1 and "the server answers 403" in error_line(err)


@pytest.fixture
def plain_web(tmp_path: Path) -> Iterator[str]:
    """A web server that cannot send parts of files, such as Python's own."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=str(tmp_path))
    ) as server:  # fmt: skip
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("block", [remote.BLOCK, 64], ids=["small files", "large files"])
def test_a_web_server_that_sends_no_parts(
    block: int, call: Call, plain_web: str, ldc: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    pytest.importorskip("aiohttp", reason=REASON)
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "a.ldc").write_bytes(ldc)
    monkeypatch.setattr(remote, "BLOCK", block)
    code, _, err = call("compress", f"{plain_web}/a.png?size=full", "-o", "new/", "--lossless")
    assert (code, err) == (0, "") and (tmp_path / "new/a.ldc").is_file()
    for more in ([], ["--region", "1,2,30,20"]):
        assert call("decompress", f"{plain_web}/a.ldc", "-o", "there.png", "-f", "--model", "tiny", *more)[0] == 0
        assert call("decompress", "a.ldc", "-o", "here.png", "-f", "--model", "tiny", *more)[0] == 0
        assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    assert "a.ldc: 40x24, RGB" in call("info", f"{plain_web}/a.ldc")[1]

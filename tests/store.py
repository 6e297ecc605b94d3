"""An object store on this machine that counts requests and bytes: moto's server behind a WSGI wrapper."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

REASON = "needs the extras `remote` and `dev`"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Request:
    """A request as the server saw it, and the number of bytes it answered with."""

    method: str
    path: str
    status: int
    bytes: int


@dataclass
class Store:
    """The server; `requests` may be emptied at any time."""

    url: str
    requests: list[Request] = field(default_factory=list)
    client: Any = None
    buckets: int = 0

    def bucket(self) -> str:
        """The URL of a new bucket."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def put(self, url: str, data: bytes, **options: Any) -> None:
        """Store an object."""
        bucket, key = url.removeprefix("s3://").split("/", 1)
        self.client.put_object(Bucket=bucket, Key=key, Body=data, **options)

    def get(self, url: str) -> bytes:
        """The content of an object."""
        bucket, key = url.removeprefix("s3://").split("/", 1)
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def keys(self, url: str) -> list[str]:
        """All keys in a bucket or folder, relative to it."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix and prefix.rstrip("/") + "/"
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return [entry["Key"].removeprefix(prefix) for entry in found]


class _Counted:
    """A WSGI application that notes every request and the length of its answer."""

    def __init__(self, app: Any, requests: list[Request]) -> None:
        self._app, self._requests = app, requests

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        statuses: list[str] = []

        def start(status: str, *more: Any) -> Any:
            statuses.append(status)
            return start_response(status, *more)

        body = b"".join(self._app(environ, start))
        sent = 0 if environ["REQUEST_METHOD"] == "HEAD" else len(body)
        path = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else "")
        self._requests.append(Request(environ["REQUEST_METHOD"], path, int(statuses[0].split()[0]), sent))
        return [body]


@contextmanager
def store_of_objects() -> Iterator[Store]:
    """A server for S3 that this process and its children use within the block."""
    pytest.importorskip("s3fs", reason=REASON)
    server = pytest.importorskip("moto.server", reason=REASON)
    import boto3
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    store = Store(f"http://{host}:{port}")
    running._server.app = _Counted(running._server.app, store.requests)
    settings = ENVIRONMENT | {"AWS_ENDPOINT_URL": store.url}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    s3fs.S3FileSystem.clear_instance_cache()
    store.client = boto3.client("s3")
    try:
        yield store
    finally:
        store.client.close()
        s3fs.S3FileSystem.clear_instance_cache()
        running.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

"""The batches of CIFAR-10 in their python and binary versions (cs.toronto.edu/~kriz/cifar.html).

The python version is a pickle, which may run code when it is read. Here an unpickler reads it that knows what an array
needs, five names, and refuses all else.
"""

import io
import pickle  # noqa: TID251 (the unpickler below refuses everything but arrays)
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.errors import PictureError

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
NUMBERS = 3 * 32 * 32  # of one picture: red, green and blue planes
LARGEST = 1 << 28  # bytes of a batch; those of CIFAR-10 have 31 million
ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and arrays; raises PictureError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """What an array needs."""
        if (module, name) not in ARRAYS:
            raise PictureError(f"the batch names {module}.{name}, which arrays do not need: refused")
        if name == "encode":
            return _bytes_of
        return np.ndarray.__reduce__(np.zeros(1))[0] if name == "_reconstruct" else getattr(np, name)


def _bytes_of(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; no other encoding is looked up."""
    if encoding != "latin1":
        raise PictureError(f"the batch asks for the encoding {encoding!r}: refused")
    return text.encode("latin1")


def read_python_batch(path: Path) -> Batch:
    """Pictures [N, 3, 32, 32] uint8 and labels [N] of a batch of the python version; PictureError if it is none."""
    try:
        batch = Unpickler(io.BytesIO(_content(path)), encoding="bytes").load()
        data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    except Exception as error:  # a damaged stream may fail in any opcode, with any class
        raise PictureError(f"{path}: not a batch of CIFAR-10 ({type(error).__name__})") from error
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != NUMBERS or labels.shape != data.shape[:1]:
        raise PictureError(f"{path}: not a batch of CIFAR-10 (its arrays have other sizes)")
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def read_binary_batch(path: Path) -> Batch:
    """The same of a batch of the binary version: a byte of label and 3072 of picture, again and again."""
    content = _content(path)
    if not content or len(content) % (1 + NUMBERS):
        raise PictureError(f"{path}: {len(content)} bytes are not whole pictures of {1 + NUMBERS}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + NUMBERS)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > LARGEST:
        raise PictureError(f"{path}: too large for a batch of CIFAR-10")
    return content

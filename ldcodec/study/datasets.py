"""The pictures of a run, from files that the user names. Nothing is downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ldcodec.errors import LdcodecError, UsageError
from ldcodec.study.formats import CIFAR_SIDE, Labelled, class_folders, read_cifar_batch, read_class_folders, read_idx
from ldcodec.study.runs import SOURCES, StudySettings

FEWEST = 12  # pictures for training and for tests: every measure needs some in each third of a quarter
HELD_OUT = 3  # in data without a split, every third picture is for tests


@dataclass(frozen=True)
class Pictures:
    """Pictures [N, C, n, n] uint8 and their classes [N] int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, places: Tensor | slice) -> "Pictures":
        """The pictures at these places."""
        return Pictures(self.pixels[places], self.labels[places])

    def floats(self) -> Tensor:
        """All pixels as float32 in 0..1."""
        return self.pixels.float() / 255


@dataclass(frozen=True)
class Dataset:
    """Pictures to train with, to code, and to compare the coded ones with."""

    train: Pictures
    coded: Pictures
    reference: Pictures

    @property
    def colours(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.train.pixels.shape[1])

    @property
    def side(self) -> int:
        """Width and height in pixels."""
        return int(self.train.pixels.shape[2])

    @property
    def classes(self) -> int:
        """One more than the largest class number."""
        return int(self.train.labels.max()) + 1


def load(settings: StudySettings) -> Dataset:
    """The pictures that the settings name, shuffled, with the test pictures halved into coded and reference.

    The order is the same in all runs. It matters for class folders, whose first pictures are all of one class. Raises
    PictureError for files that cannot be read, and UsageError where there are no or too few pictures.
    """
    train, test = _LOADERS[settings.dataset](settings)
    order = _order(len(test))
    if len(test) < FEWEST or len(train) < FEWEST:
        raise UsageError(f"{settings.dataset}: too few pictures, {len(train)} to train with and {len(test)} to test")
    half = len(test) // 2
    return Dataset(train.part(_order(len(train))), test.part(order[:half]), test.part(order[half : 2 * half]))


def _order(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).permutation(count))


def _digits(_settings: StudySettings) -> tuple[Pictures, Pictures]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise LdcodecError("digits come with scikit-learn: pip install 'ldcodec[study]'") from error
    found = load_digits()
    levels = np.minimum(found.images * 16, 255).astype(np.uint8)[:, None]  # 0..16 in the source
    return _split((levels, found.target.astype(np.int64)))


def _mnist(settings: StudySettings) -> tuple[Pictures, Pictures]:
    root = Path(settings.data)
    found = [_idx_pair(root, prefix) for prefix in ("train", "t10k")]
    if found[0] is not None and found[1] is not None:
        return _pictures(found[0]), _pictures(found[1])
    return _folders(settings, 28, 1)


def _idx_pair(root: Path, prefix: str) -> Labelled | None:
    for ending in ("", ".gz"):
        pictures, labels = (root / f"{prefix}-{kind}{ending}" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if pictures.exists() and labels.exists():
            return read_idx(pictures)[:, None], read_idx(labels).astype(np.int64)
    return None


def _cifar10(settings: StudySettings) -> tuple[Pictures, Pictures]:
    root = Path(settings.data)
    batches = [path for k in range(1, 6) if (path := root / f"data_batch_{k}.bin").exists()]
    test = root / "test_batch.bin"
    if not batches or not test.exists():
        return _folders(settings, CIFAR_SIDE, 3)
    pixels, labels = zip(*(read_cifar_batch(path) for path in batches), strict=True)
    return _pictures((np.concatenate(pixels), np.concatenate(labels))), _pictures(read_cifar_batch(test))


def _folder(settings: StudySettings) -> tuple[Pictures, Pictures]:
    return _folders(settings, settings.side, 3)


def _folders(settings: StudySettings, side: int, colours: int) -> tuple[Pictures, Pictures]:
    root = Path(settings.data)
    train, test = root / "train", root / "test"
    if class_folders(train) and class_folders(test):
        return tuple(_pictures(read_class_folders(part, side, colours)) for part in (train, test))  # type: ignore[return-value]
    if class_folders(root):
        return _split(read_class_folders(root, side, colours))
    raise UsageError(f"{root}: nothing to read for {settings.dataset}; {SOURCES[settings.dataset]}")


def _split(found: Labelled) -> tuple[Pictures, Pictures]:
    whole = _pictures(found)
    held = torch.arange(len(whole)) % HELD_OUT == 0
    return whole.part(~held), whole.part(held)


def _pictures(found: Labelled) -> Pictures:
    pixels, labels = found
    if len(pixels) != len(labels):
        raise UsageError(f"there are {len(pixels)} pictures, but {len(labels)} labels")
    return Pictures(torch.tensor(pixels), torch.tensor(labels))  # copies: arrays over bytes are read-only


_LOADERS: dict[str, Callable[[StudySettings], tuple[Pictures, Pictures]]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "folder": _folder,
}

"""Weights files on the search path and what their first bytes tell, read with the standard library alone.

A safetensors file begins with the length of a JSON header (8 bytes), then the header: for each tensor its type, shape
and place. So the parse id, and the few integers that bound how small a payload can be, cost no import of torch.
"""

import json
import math
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from ldcodec.errors import ModelError

FILE_NAME = "model.safetensors"
CHECK_FILE = "check.ldc"  # beside it: a file whose symbols are known to be right
SEARCH_VARIABLE = "LDCODEC_MODELS"
HEADER_LIMIT = 1 << 20  # bytes of JSON at the front of a weights file
PRECISION = 24  # bits of a frequency table; equals gaussian.PRECISION (tested)
SLACK_BITS = 64  # the coder's state, which it need not write in full


def search_path() -> list[Path]:
    """Folders of models: those of LDCODEC_MODELS, then the ones that came with the program."""
    named = [Path(p) for p in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if p]
    package = Path(__file__).resolve().parent.parent
    return [*named, package / "models", package.parent / "models"]


def find_file(name_or_path: str) -> Path:
    """The weights file of a name on the search path, or of a path; raises ModelError if there is none."""
    direct = Path(name_or_path)
    candidates = [direct, direct / FILE_NAME]
    if name_or_path and direct.name == name_or_path:
        candidates = [folder / name_or_path / FILE_NAME for folder in search_path()] + candidates
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ModelError(f"no model {name_or_path!r}: give a path, or set {SEARCH_VARIABLE} to the folder that holds it")


def known_models() -> Iterator[tuple[Path, str]]:
    """(weights file, parse id in hex) of every model on the search path; files that are none are passed over."""
    for folder in search_path():
        for path in sorted(folder.glob(f"*/{FILE_NAME}")):
            identity = metadata(path).get("parse_id", "")
            if identity:
                yield path, identity


def find_identity(identity: bytes) -> Path | None:
    """The weights file with a parse id, None if no model on the search path has it."""
    return next((path for path, known in known_models() if known == identity.hex()), None)


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read from its header alone; empty if there is none."""
    found = _header(path).get("__metadata__", {})
    return found if isinstance(found, dict) else {}


def least_hyper_bits(path: Path) -> float:
    """Bits that one position of the hyper-latent takes at least, all its channels; 0 where the file does not tell."""
    try:
        counts, reach = (_integers(path, name, "i") for name in ("coder.counts", "coder.reach"))
        costs = _least_costs(counts, [k + 2 for k in reach])
        if "coder.hyper_choice" not in _header(path):
            return sum(costs[index] for index in _integers(path, "integer.z_index", "B"))
        own, choice = _integers(path, "coder.hyper_counts", "i"), _integers(path, "coder.hyper_choice", "B")
        costs += _least_costs(own, [_shape(path, "coder.hyper_counts")[1]] * _shape(path, "coder.hyper_counts")[0])
        _, channels, contexts = _shape(path, "coder.hyper_choice")
        return sum(_cheapest(costs, choice, channel, channels, contexts) for channel in range(channels))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0.0


def is_too_small(payload_bytes: int, hyper_positions: int, least_bits: float) -> bool:
    """Whether a payload of so many bytes cannot hold the symbols of so many hyper-latent positions.

    Latent elements may cost nothing, but every symbol of the hyper-latent is coded with one of few tables, so it takes
    at least what the likeliest symbol of the cheapest of them takes, whatever wrote the file.
    """
    return 8 * payload_bytes + SLACK_BITS < hyper_positions * least_bits * (1 - 1e-3)


def _least_costs(counts: Sequence[int], lengths: Sequence[int]) -> list[float]:
    """Bits of the likeliest symbol of each table; counts: those of all, one after the other."""
    ends = list(accumulate(lengths))
    return [PRECISION - math.log2(max(counts[end - n : end])) for n, end in zip(lengths, ends, strict=True)]


def _cheapest(costs: list[float], choice: Sequence[int], channel: int, channels: int, contexts: int) -> float:
    """The least cost of a channel's tables; choice: [bands, channels, contexts], flat."""
    starts = range(channel * contexts, len(choice), channels * contexts)
    return min(costs[index] for start in starts for index in choice[start : start + contexts])


def _shape(path: Path, name: str) -> list[int]:
    shape: list[int] = _header(path)[name]["shape"]
    return shape


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= HEADER_LIMIT else {}
        return header if isinstance(header, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _integers(path: Path, name: str, code: str) -> Sequence[int]:
    """A tensor of int32 (code i) or uint8 (code B)."""
    start, end = _header(path)[name]["data_offsets"]
    values = array(code)
    with path.open("rb") as file:
        data_start = 8 + int.from_bytes(file.read(8), "little")
        file.seek(data_start + start)
        values.frombytes(file.read(min(end - start, HEADER_LIMIT)))
    if sys.byteorder == "big":
        values.byteswap()
    return values

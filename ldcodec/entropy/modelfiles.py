"""Find model files on the search path and read their metadata, with the standard library alone.

A safetensors file begins with the length of its JSON header (8 bytes) and that header, which includes the metadata. So
the parse id and configuration of a model can be read without importing NumPy or torch.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ldcodec.entropy.config import Config, from_mapping
from ldcodec.errors import ModelError

DEFAULT_MODEL = "base"
FILE_NAME = "model.safetensors"
CHECK_FILE = "check.ldc"  # next to the weights: a file whose symbols are known, for `ldcodec verify --self`
ID_KEYS = ("parse_id", "trellis_id", "scalar_id")  # of the metadata: that of new files, and those of older ones
SEARCH_VARIABLE = "LDCODEC_MODELS"
HEADER_LIMIT = 1 << 20  # bytes of JSON; the first 8 bytes of any other file may claim far more


def search_path() -> list[Path]:
    """Folders that may hold models: those in LDCODEC_MODELS, then those installed with the package."""
    named = [Path(p) for p in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if p]
    package = Path(__file__).resolve().parent.parent
    return [*named, package / "models", package.parent / "models"]  # in a wheel; in a clone of the repository


def find_file(name_or_path: str) -> Path:
    """Find the weights file of a model by its name on the search path or by its path. Raises ModelError."""
    direct = Path(name_or_path)
    candidates = [direct, direct / FILE_NAME]
    if name_or_path and direct.name == name_or_path:  # a bare name
        candidates = [folder / name_or_path / FILE_NAME for folder in search_path()] + candidates
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ModelError(f"no model {name_or_path!r}: give a path, or set {SEARCH_VARIABLE} to the folder that holds it")


def known_models() -> Iterator[tuple[Path, set[str]]]:
    """Yield the weights file and parse ids (in hex) of every model on the search path; other files are skipped."""
    for folder in search_path():
        for path in sorted(folder.glob(f"*/{FILE_NAME}")):
            found = metadata(path)
            identities = {found[key] for key in ID_KEYS if found.get(key)}
            if identities:
                yield path, identities


def find_identity(identity: bytes) -> Path | None:
    """Find the weights file with a parse id on the search path; None if there is none."""
    return next((path for path, known in known_models() if identity.hex() in known), None)


def metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file; empty for any other file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))["__metadata__"] if length <= HEADER_LIMIT else {}
        return entries if isinstance(entries, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def read_config(path: Path) -> Config:
    """Read the configuration of a weights file. Raises ModelError if it is missing or impossible."""
    try:
        return from_mapping(json.loads(metadata(path)["config"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: no readable configuration") from error

"""The parse-critical tensors of a weights file: reading, checking, hashing them, and the rate model that they define.

A parse id is a hash of the integer tensors: a file that names it can be parsed with these and with no others. Files of
the scalar quantiser need no tables of the trellis, so they name a hash without these and outlive changes to them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ldcodec.entropy.arithmetic import Arithmetic
from ldcodec.entropy.config import Config
from ldcodec.entropy.hyperprior import CONTEXTS, HyperPrior, channelwise
from ldcodec.entropy.integer import KNOTS, IntegerRateModel
from ldcodec.entropy.modelfiles import read_config
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import SCALE_COUNT, Tables
from ldcodec.entropy.trellis import MOMENT_BITS, TrellisTables
from ldcodec.errors import ModelError

FORMAT = "ldcodec-weights-1"
SCALAR_PREFIXES = ("integer.", "coder.")
PARSED_PREFIXES = (*SCALAR_PREFIXES, "trellis.")
INTEGER_PREFIXES = (*PARSED_PREFIXES, "moments.")  # the last are integers, but say nothing about how to parse
CODER_PREFIXES = ("coder.", "trellis.", "moments.", "integer.z_index")
INTEGER_TYPES = ("int16", "int32", "uint8")


class Shaped(Protocol):
    """An array or a tensor."""

    @property
    def shape(self) -> Any: ...


def read_tensors(
    path: Path, framework: str = "pt", prefixes: tuple[str, ...] = ("",)
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the tensors of a safetensors file whose names begin with one of the prefixes, and the metadata.

    framework: "pt" for PyTorch tensors, "np" for NumPy arrays. Raises ModelError if the file cannot be read.
    """
    try:
        with safe_open(str(path), framework) as file:
            names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118 (it is no dict)
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error


def read_integers(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the parse-critical tensors and the metadata of a safetensors file.

    Raises ModelError if the file cannot be read or one of these tensors is not of an integer type.
    """
    arrays, metadata = read_tensors(path, "np", INTEGER_PREFIXES)
    for name, array in arrays.items():
        if array.dtype.name not in INTEGER_TYPES:
            raise ModelError(f"{path}: {name} must hold integers, not {array.dtype}")
    return arrays, metadata


def parse_id(arrays: Mapping[str, NDArray[Any]], prefixes: tuple[str, ...] = PARSED_PREFIXES) -> bytes:
    """The first 8 bytes of a SHA-256 over name, type, shape and values of the tensors with these prefixes."""
    digest = hashlib.sha256(FORMAT.encode())
    for name in sorted(n for n in arrays if n.startswith(prefixes)):
        array = np.asarray(arrays[name])
        digest.update(f"{name} torch.{array.dtype.name} {array.shape}\n".encode())  # types are spelt as in PyTorch
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:8]


def scalar_id(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The parse id of files of the scalar quantiser; that of all files if the model has no trellis."""
    return parse_id(arrays, SCALAR_PREFIXES)


def rate_model(
    path: Path, config: Config, arrays: Mapping[str, NDArray[Any]], arithmetic: Arithmetic
) -> tuple[IntegerRateModel, Coder]:
    """Build the rate model and its coder from the tensors `integer.*` and `coder.*` of a file; others are ignored.

    Raises ModelError for tensors that are missing, of the wrong shape or not exact.
    """
    check_shapes(path, arrays, integer_shapes(config))
    entries = {name.removeprefix("integer."): a for name, a in arrays.items() if name.startswith("integer.")}
    return IntegerRateModel(config, entries, arithmetic), _coder(path, config, arrays)


def read_coder(path: Path) -> Coder:
    """Read the coder of a weights file without its networks. Raises ModelError like `rate_model`."""
    config, (arrays, _) = read_config(path), read_tensors(path, "np", CODER_PREFIXES)
    return _coder(path, config, arrays)


def _coder(path: Path, config: Config, arrays: Mapping[str, NDArray[Any]]) -> Coder:
    for name in ("coder.counts", "coder.reach", "integer.z_index"):
        if name not in arrays:
            raise ModelError(f"{path}: {name} is missing")
    tables = Tables(arrays["coder.counts"].astype(np.int64), arrays["coder.reach"].astype(np.int64))
    if len(tables.reach) != SCALE_COUNT:
        raise ModelError(f"{path}: coder.reach has {len(tables.reach)} entries, not {SCALE_COUNT}")
    hyper = _hyper_prior(path, config, arrays) or channelwise(arrays["integer.z_index"])
    return Coder(tables, hyper, _trellis(path, arrays))


def _trellis(path: Path, arrays: Mapping[str, NDArray[Any]]) -> TrellisTables | None:
    """The tables of the trellis, or None for a model without them."""
    names = ("trellis.odd", "trellis.counts", "trellis.reach", "moments.inwards", "moments.deviation")
    missing = [name for name in names if name not in arrays]
    if len(missing) == len(names):
        return None
    if missing:
        raise ModelError(f"{path}: {missing[0]} is missing")
    odd, counts, reach = (arrays[f"trellis.{name}"].astype(np.int64) for name in ("odd", "counts", "reach"))
    inwards, deviation = (
        arrays[f"moments.{name}"] * np.float32(2.0**-MOMENT_BITS) for name in ("inwards", "deviation")
    )
    return TrellisTables(odd, Tables(counts, reach), inwards, deviation)


def _hyper_prior(path: Path, config: Config, arrays: Mapping[str, NDArray[Any]]) -> HyperPrior | None:
    """The hyper-latent's own tables, or None for a model without them."""
    if "coder.hyper_choice" not in arrays:
        return None
    choice = arrays["coder.hyper_choice"]
    check_shapes(path, arrays, {"coder.hyper_choice": (*choice.shape[:1], config.hyper, CONTEXTS)})
    if "coder.hyper_counts" not in arrays:
        raise ModelError(f"{path}: coder.hyper_counts is missing")
    return HyperPrior(arrays["coder.hyper_counts"].astype(np.int64), choice.astype(np.uint8))


def integer_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every parse-critical tensor except the frequency tables, which `Tables` checks."""
    m, ctx, hyper = config.latent, config.context, config.hyper
    layers = {"hyper.0": (4 * ctx, hyper, 1), "hyper.1": (4 * ctx, ctx, 1), "hyper.2": (ctx, ctx, 3)}
    for k in range(4):
        layers |= {f"steps.{k}.mix": (ctx, ctx + (m if k else 0), 1), f"steps.{k}.spatial": (ctx, ctx, 3)}
        layers |= {f"steps.{k}.mean": (m, ctx, 1), f"steps.{k}.scale": (m, ctx, 1)}
    shapes: dict[str, tuple[int, ...]] = {"integer.z_index": (hyper,), "integer.table.factor": (KNOTS, ctx)}
    shapes |= {f"integer.table.{name}": (KNOTS, m) for name in ("floor", "reciprocal", "log_expected")}
    for name, (rows, columns, size) in layers.items():
        shapes |= {
            f"integer.{name}.weight": (rows, columns, size, size),
            f"integer.{name}.bias": (rows,),
            f"integer.{name}.shift": (),
        }
    return shapes


def check_shapes(path: Path, arrays: Mapping[str, Shaped], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError if an array of a file is missing or of another shape."""
    for name, shape in shapes.items():
        if name not in arrays:
            raise ModelError(f"{path}: {name} is missing")
        if tuple(arrays[name].shape) != shape:
            raise ModelError(f"{path}: {name} has shape {tuple(arrays[name].shape)}, not {shape}")

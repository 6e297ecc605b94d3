"""The parse-critical tensors of a weights file: reading, checking, hashing them, and the rate model that they define.

A parse id is a hash of the integer tensors: a file that names it can be parsed with these and with no others. New files
name the hash of all of them. Older ones name a hash without what their writer did not know, so a model goes on reading
them when that is added or changes.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ldcodec.entropy import modelfiles
from ldcodec.entropy.arithmetic import Arithmetic
from ldcodec.entropy.config import Config
from ldcodec.entropy.hyperprior import CONTEXTS, HyperPrior, channelwise
from ldcodec.entropy.integer import KNOTS, IntegerRateModel, MeanStep, table_widths
from ldcodec.entropy.modelfiles import ID_KEYS, read_config
from ldcodec.entropy.neighbours import NeighbourPrior
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.tables import SCALE_COUNT, Tables
from ldcodec.entropy.trellis import MOMENT_BITS, TrellisTables
from ldcodec.errors import ModelError

FORMAT = "ldcodec-weights-1"
SCALAR_PREFIXES = ("integer.", "coder.")
TRELLIS_PREFIXES = (*SCALAR_PREFIXES, "trellis.")
PARSED_PREFIXES = (*TRELLIS_PREFIXES, "neighbours.")
ID_PREFIXES = dict(zip(ID_KEYS, (PARSED_PREFIXES, TRELLIS_PREFIXES, SCALAR_PREFIXES), strict=True))
INTEGER_PREFIXES = (*PARSED_PREFIXES, "moments.")  # the last are integers, but say nothing about how to parse
CODER_PREFIXES = ("coder.", "trellis.", "moments.", "neighbours.", "integer.z_index")
INTEGER_TYPES = ("int16", "int32", "uint8")
TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "<u1"}
SCALE = ".scale8"  # behind the name of a tensor of 8 bits: what its whole numbers count, for each output channel


class Shaped(Protocol):
    """An array or a tensor."""

    @property
    def shape(self) -> Any: ...


def read_tensors(
    path: Path, framework: str = "pt", prefixes: tuple[str, ...] = ("",)
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the tensors of a safetensors file whose names begin with one of the prefixes, and the metadata.

    framework: "pt" for PyTorch tensors, "np" for NumPy arrays. Weights of 8 bits become float32. Raises ModelError if
    the file cannot be read, or if weights of 8 bits have no scale that fits.
    """
    try:
        with safe_open(str(path), framework) as file:
            names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118 (it is no dict)
            tensors = {name: file.get_tensor(name) for name in names}
            return _unpacked(path, tensors), file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error


def view_tensors(path: Path, prefixes: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file whose names begin with one of the prefixes, as views of the mapped file.

    Nothing but weights of 8 bits is copied, and only what is used is read. Raises ModelError as `read_tensors` does.
    """
    try:
        with safe_open(str(path), "np"):  # which tests that types and shapes agree with places, and these with the file
            pass
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    found: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name.startswith(prefixes):
            if entry["dtype"] not in TYPES:
                raise ModelError(f"{path}: {name} holds {entry['dtype']}, which is of no use here")
            shape, kind = entry["shape"], np.dtype(TYPES[entry["dtype"]])
            place = start + entry["data_offsets"][0]
            found[name] = np.frombuffer(mapped, kind, math.prod(shape), place).reshape(shape)
    return _unpacked(path, found)


def _unpacked(path: Path, tensors: dict[str, Any]) -> dict[str, Any]:
    """The same tensors, but instead of whole numbers [n, …] and their scale [n] the product, float32."""
    for name in [name for name in tensors if name.endswith(SCALE)]:
        scale = tensors.pop(name)
        whole = tensors.get(name.removesuffix(SCALE), scale)
        kinds = [str(part.dtype).removeprefix("torch.") for part in (whole, scale)]
        if kinds != ["int8", "float32"] or tuple(scale.shape) != tuple(whole.shape[:1]) or not whole.ndim:
            raise ModelError(f"{path}: {name} is not the scale of weights of 8 bits")
        tensors[name.removesuffix(SCALE)] = whole * scale.reshape(-1, *[1] * (whole.ndim - 1))
    return tensors


def read_integers(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The parse-critical tensors, as views, and the metadata of a safetensors file.

    Raises ModelError if the file cannot be read or one of these tensors is not of an integer type.
    """
    arrays = view_tensors(path, INTEGER_PREFIXES)
    for name, array in arrays.items():
        if array.dtype.name not in INTEGER_TYPES:
            raise ModelError(f"{path}: {name} must hold integers, not {array.dtype}")
    return arrays, modelfiles.metadata(path)


def parse_ids(arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """The parse ids of a model by their keys in its metadata, equal where it has no tensors to tell them apart.

    `parse_id` is that of new files, `trellis_id` of files that do not predict the hyper-latent from neighbours, and
    `scalar_id` of those that have no trellis either. Each is the first 8 bytes of a SHA-256 over name, type, shape and
    values of the tensors with its prefixes.
    """
    digests = dict.fromkeys(ID_PREFIXES, hashlib.sha256(FORMAT.encode()))  # one until they differ: most is in all three
    for name in sorted(arrays):
        keys = [key for key, prefixes in ID_PREFIXES.items() if name.startswith(prefixes)]
        longer = {digest: _with_tensor(digest, name, arrays[name]) for digest in {digests[key] for key in keys}}
        digests |= {key: longer[digests[key]] for key in keys}
    return {key: digest.digest()[:8] for key, digest in digests.items()}


def _with_tensor(digest: "hashlib._Hash", name: str, array: NDArray[Any]) -> "hashlib._Hash":
    """A copy of a digest that has also seen a tensor."""
    longer = digest.copy()
    longer.update(f"{name} torch.{array.dtype.name} {array.shape}\n".encode())  # types are spelt as in PyTorch
    longer.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).data)
    return longer


def checked_ids(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> dict[str, bytes]:
    """The `parse_ids` of a file's integer tensors. Raises ModelError unless the metadata name them."""
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: not a model of format {FORMAT}")
    found = parse_ids(arrays)
    named = {key: metadata[key] for key in found if key in metadata}
    if "parse_id" not in named or named != {key: found[key].hex() for key in named}:  # some models lack the other two
        raise ModelError(f"{path}: the integer weights are not those of parse id {metadata.get('parse_id')}")
    return found


def rate_model(
    path: Path,
    config: Config,
    arrays: Mapping[str, NDArray[Any]],
    ids: Mapping[str, bytes],
    arithmetic: Arithmetic,
    means: MeanStep,
) -> tuple[IntegerRateModel, dict[bytes, Coder]]:
    """Build the rate model of a weights file from its integer tensors, and a coder for each of its parse ids.

    ids: the `parse_ids` of the tensors; means: the context steps of a one-shot model; others do not call it.

    Raises ModelError for tensors that are missing, of the wrong shape or not exact.
    """
    check_shapes(path, arrays, integer_shapes(config))
    entries = {name.removeprefix("integer."): a for name, a in arrays.items() if name.startswith("integer.")}
    coders: dict[bytes, Coder] = {}
    for key, identity in ids.items():
        if identity not in coders:
            coders[identity] = _coder(path, config, arrays, key)
    return IntegerRateModel(config, entries, arithmetic, means), coders


def read_coder(path: Path, identity: bytes | None = None) -> Coder:
    """Read the coder of a weights file for the files that name a parse id, or for new ones, without its networks.

    Raises ModelError like `rate_model`, and for a parse id that the file's metadata do not name.
    """
    config, arrays, named = read_config(path), view_tensors(path, CODER_PREFIXES), modelfiles.metadata(path)
    keys = [key for key in ID_KEYS if identity is None or named.get(key) == identity.hex()]
    if not keys:
        raise ModelError(f"{path}: is not the model of this file")
    return _coder(path, config, arrays, keys[0])


def _coder(path: Path, config: Config, every: Mapping[str, NDArray[Any]], key: str) -> Coder:
    """The coder of the files whose parse id has this key."""
    known = ID_PREFIXES[key] if key == "scalar_id" else (*ID_PREFIXES[key], "moments.")  # which belong to a trellis
    arrays = {name: array for name, array in every.items() if name.startswith(known)}
    for name in ("coder.counts", "coder.reach", "integer.z_index"):
        if name not in arrays:
            raise ModelError(f"{path}: {name} is missing")
    tables = Tables(arrays["coder.counts"].astype(np.int64), arrays["coder.reach"].astype(np.int64))
    if len(tables.reach) != SCALE_COUNT:
        raise ModelError(f"{path}: coder.reach has {len(tables.reach)} entries, not {SCALE_COUNT}")
    hyper = _neighbours(path, config, arrays) or _hyper_prior(path, config, arrays)
    return Coder(tables, hyper or channelwise(arrays["integer.z_index"]), _trellis(path, arrays))


def _neighbours(path: Path, config: Config, arrays: Mapping[str, NDArray[Any]]) -> NeighbourPrior | None:
    """What predicts the hyper-latent from its neighbours, or None for a model that does not."""
    found = {name.removeprefix("neighbours."): a for name, a in arrays.items() if name.startswith("neighbours.")}
    if not found:
        return None
    for field in fields(NeighbourPrior):
        if field.name not in found:
            raise ModelError(f"{path}: neighbours.{field.name} is missing")
    check_shapes(path, arrays, {"neighbours.floor": (config.hyper,), "neighbours.shift": ()})
    numbers = {name: found[name].astype(np.int64) for name in found if name not in ("shift", "floor")}
    return NeighbourPrior(**numbers, shift=int(found["shift"]), floor=found["floor"].astype(np.uint8))


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
    layers |= {"scale": (m, ctx, 1)} if config.one_shot else {}
    for k in range(0 if config.one_shot else 4):
        layers |= {f"steps.{k}.mix": (ctx, ctx + (m if k else 0), 1), f"steps.{k}.spatial": (ctx, ctx, 3)}
        layers |= {f"steps.{k}.mean": (m, ctx, 1), f"steps.{k}.scale": (m, ctx, 1)}
    shapes: dict[str, tuple[int, ...]] = {"integer.z_index": (hyper,)}
    shapes |= {f"integer.table.{name}": (KNOTS, width) for name, width in table_widths(config).items()}
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

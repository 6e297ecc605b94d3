"""A model → a folder of ONNX graphs and integer tensors, for programs that have neither torch nor ncnn (docs/onnx.md).

Every graph is compared with the networks before the folder is kept. All its files carry the stamp of the export, so
that whoever reads them can tell whether they belong together.
"""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from ldcodec.bitstream.slices import VIEW_SCALES
from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.modelfiles import find_file
from ldcodec.entropy.weights import parse_ids, read_integers
from ldcodec.errors import LdcodecError, ModelError
from ldcodec.nets.denoiser import Prepared
from ldcodec.nets.model import HALVED_ABOVE, Model, load_model
from ldcodec.nets.networks import Networks

FORMAT = "ldcodec-onnx-2"
DESCRIPTION = "model.json"
INTEGERS = "integers.safetensors"
STAMP = "ldcodec-stamp"  # the key of the stamp in the metadata of graphs and tensors
EXTRA = "pip install 'ldcodec[onnx]'"
OPSET = 18
TRACED = 4, 8  # rows and columns of the latent that is traced; the graphs accept any size
COMPARED = (4, 4), (12, 8)  # rows and columns of the latents on which graphs and networks are compared
TOLERANCE = 1e-3  # of a value, or of one where it is smaller: a quarter of an 8-bit level in pictures


@dataclass(frozen=True)
class Exported:
    """size: bytes of all files; difference: between values of the graphs and torch's at most, see TOLERANCE."""

    size: int
    difference: float


@dataclass(frozen=True)
class _Part:
    """What a graph computes, and the names of its inputs and outputs."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Traced(nn.Module):
    """A function of the networks as a module, which is what torch's exporter takes."""

    def __init__(self, networks: Networks, function: Callable[..., Any]) -> None:
        super().__init__()
        self.networks, self.function = networks, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def export(name_or_path: str, folder: Path, force: bool = False) -> Exported:
    """Write the folder of a model, whole or not at all; `force` replaces an older export.

    Raises LdcodecError if the path is taken by anything else, the extra is not installed or nothing can be written;
    ModelError if the model cannot be loaded or its graphs do not compute what torch does.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise LdcodecError(f"the export needs {' and '.join(missing)}: {EXTRA}")
    try:
        if os.path.lexists(folder) and not (force and _is_export(folder)):
            advice = "it holds no export that --force could replace" if force else "--force replaces an older export"
            raise LdcodecError(f"{folder}: already exists; {advice}")
        weights = find_file(name_or_path)
        return _placed(load_model(str(weights), "cpu"), weights, folder.absolute())
    except OSError as error:
        raise LdcodecError(f"{folder}: {error.strerror or error}") from error


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export and nothing else, which would be lost with it."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    described = {DESCRIPTION, INTEGERS}
    return described <= names and all(name.endswith(".onnx") for name in names - described)


def _placed(model: Model, weights: Path, folder: Path) -> Exported:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ldcodec-", dir=folder.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        difference = _write(model, weights, made)
        size = sum(path.stat().st_size for path in made.iterdir())
        if os.path.lexists(folder):
            os.replace(folder, Path(place) / "old")
        os.replace(made, folder)
    return Exported(size, difference)


def _write(model: Model, weights: Path, folder: Path) -> float:
    """Write all files, and return the largest difference between values of the graphs and torch's."""
    stamp = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    arrays, metadata = read_integers(weights)
    (folder / INTEGERS).write_bytes(save(arrays, metadata=metadata | {STAMP: stamp}))
    description = _description(model, parse_ids(arrays), stamp)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    differences = []
    for name, part in _parts(model.networks).items():
        path = folder / f"{name}.onnx"
        _write_graph(model.networks, part, path, stamp)
        difference = _difference(model.networks, part, path)
        if not difference < TOLERANCE:  # nor NaN
            raise ModelError(f"{weights}: its graph {name} computes other values than torch, by up to {difference:.2g}")
        differences.append(difference)
    return max(differences)


def _description(model: Model, identities: dict[str, bytes], stamp: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": model.name,
        **{key: identity.hex() for key, identity in identities.items()},
        "stamp": stamp,
        "textured": model.networks.textured,
        "denoiser_halo": model.networks.denoiser_halo,
        "synthesis_halo": model.networks.synthesis_halo,
        "config": asdict(model.networks.config),
    }


def _parts(networks: Networks) -> dict[str, _Part]:
    """The graphs of a model by name."""
    known, drawn, picture = ("centre", "deviation", "scale", "quality"), ("latent", "quality"), ("picture",)
    parts = {
        "condition": _Part(lambda *given: networks.denoiser.prepare(Condition(*given)), known, Prepared._fields),
        "denoiser": _Part(
            lambda u, time, *given: networks.denoiser(u, time, Prepared(*given)),
            ("u", "time", *Prepared._fields),
            ("v",),
        ),
        "synthesis": _Part(networks.picture, drawn, picture),
    }
    if networks.textured:
        parts["texture"] = _Part(lambda latent, t: networks.picture(latent, t, 1.0), drawn, picture)
    for scale in VIEW_SCALES:
        parts[f"preview{scale}"] = _Part(_preview(networks, scale), drawn, picture)
    for step in range(4 if networks.config.one_shot else 0):
        parts[f"means{step}"] = _Part(_means(networks, step), ("context", "decoded")[: 1 + (step > 0)], ("means",))
    return parts


def _preview(networks: Networks, scale: int) -> Callable[..., Any]:
    return lambda latent, t: networks.preview(latent, t, scale)


def _means(networks: Networks, step: int) -> Callable[..., Any]:
    return lambda context, decoded=None: networks.rate.means(step, context, decoded)


def _inputs(networks: Networks, rows: int, columns: int) -> dict[str, Tensor]:
    """The inputs of all graphs by name, random but as large as a picture's; one position leaves that range."""
    chance = torch.Generator().manual_seed(rows)
    time, quality = torch.rand(2, 1, generator=chance)
    u, spread, share = torch.randn(3, 1, networks.config.latent, rows, columns, generator=chance)
    scale = networks.scales(quality).expected.expand_as(u).contiguous()
    centre, deviation = scale * spread, 0.3 * share.sigmoid()
    centre[..., -1, -1] *= 100  # there the synthesis draws by its shortcut alone
    known = {"centre": centre, "deviation": deviation, "scale": scale, "quality": quality}
    prepared = networks.denoiser.prepare(Condition(**known))
    context = torch.randn(1, networks.config.context, rows, columns, generator=chance)
    drawn = {"latent": centre + deviation * u, "context": context, "decoded": spread}
    return known | {"u": u, "time": time, **drawn, **prepared._asdict()}


@torch.no_grad()
def _write_graph(networks: Networks, part: _Part, path: Path, stamp: str) -> None:
    import onnx

    inputs = {name: tensor for name, tensor in _inputs(networks, *TRACED).items() if name in part.inputs}
    spatial = {name: {2: "rows", 3: "columns"} for name, x in inputs.items() if x.dim() == 4 and x.shape[2] > 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the older exporter, and about traced shapes, which are dynamic
        torch.onnx.export(
            _Traced(networks, part.function).eval(),
            tuple(inputs[name] for name in part.inputs),
            str(path),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_axes=spatial,
            opset_version=OPSET,
            dynamo=False,  # the newer exporter needs onnxscript
        )
    graph = onnx.load(str(path))
    _halve(graph.graph)
    onnx.helper.set_model_props(graph, {STAMP: stamp})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def _halve(graph: Any) -> None:
    """Store weights in half precision where that loses nothing, as the weights files of releases do.

    A Cast, which onnxruntime folds when it loads the graph, restores them.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size > HALVED_ABOVE and (half.astype(np.float32) == values).all():
            name = f"{tensor.name}/half"
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, name))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


@torch.no_grad()
def _difference(networks: Networks, part: _Part, path: Path) -> float:
    """The largest difference between values of a graph and torch's, see TOLERANCE; NaN if any value is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # by itself it binds threads to cores that this process may not have
    options.log_severity_level = 3  # only errors, which are raised as exceptions anyway
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    differences = []
    for size in COMPARED:
        inputs = _inputs(networks, *size)
        computed = part.function(*(inputs[name] for name in part.inputs))
        expected = [computed.numpy()] if isinstance(computed, Tensor) else [tensor.numpy() for tensor in computed]
        found = session.run(list(part.outputs), {name: inputs[name].numpy() for name in part.inputs})
        for one, other in zip(found, expected, strict=True):
            differences.append((np.abs(one - other) / np.maximum(1, np.abs(other))).max())
    return float(np.max(differences))

"""A model → a folder of ONNX graphs and integer tensors, which is compared with the model before it is kept."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ldcodec.bitstream import container, layout
from ldcodec.bitstream.slices import VIEW_SCALES
from ldcodec.decoder import parse, reverse
from ldcodec.decoder.request import DecodeSettings
from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.integer import Parsed
from ldcodec.entropy.modelfiles import CHECK_FILE, find_file
from ldcodec.entropy.tables import SCALE_COUNT
from ldcodec.entropy.weights import parse_ids, read_integers
from ldcodec.errors import LdcodecError, ModelError
from ldcodec.nets.denoiser import Prepared
from ldcodec.nets.model import HALVED_ABOVE, Model, load_model
from ldcodec.nets.networks import Networks
from ldcodec.onnx.folder import DESCRIPTION, INTEGERS, STAMP, Description, graph_names, preview_name
from ldcodec.onnx.runtime import EXTRA, OnnxModel, load

OPSET = 18
EXAMPLE = 4, 8  # rows and columns of the latent that is traced; the graphs accept any size
COMPARED = (4, 4), (12, 8)  # rows and columns of the latents on which graphs and torch are compared
TOLERANCE = 1.0  # 8-bit levels

Apply = Callable[..., Any]


@dataclass(frozen=True)
class Exported:
    """size: bytes of all files; difference: by how many 8-bit levels a picture differs from torch's at most."""

    size: int
    difference: float


@dataclass(frozen=True)
class _GraphSpec:
    """What a graph computes, an example of each input by name, and the names of its outputs."""

    function: Apply
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class _Graph(nn.Module):
    """A function of the networks as a module, which is what torch's exporter takes."""

    def __init__(self, networks: Networks, function: Apply) -> None:
        super().__init__()
        self.networks, self.function = networks, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def export(name_or_path: str, folder: Path, force: bool = False) -> Exported:
    """Write the folder of a model, whole or not at all; `force` replaces an older export.

    Raises LdcodecError if the path is taken by anything else, the extra is not installed or nothing can be written;
    ModelError if the model cannot be loaded or its graphs do not compute torch's pictures.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise LdcodecError(f"the export needs {' and '.join(missing)}: {EXTRA}")
    if os.path.lexists(folder) and not (force and (folder / DESCRIPTION).is_file()):
        advice = "it holds no export that --force could replace" if force else "--force replaces an older export"
        raise LdcodecError(f"{folder}: already exists; {advice}")
    weights = find_file(name_or_path)
    model = load_model(str(weights), "cpu")
    try:
        return _placed(model, weights, folder.absolute())
    except OSError as error:
        raise LdcodecError(f"{folder}: {error.strerror or error}") from error


def _placed(model: Model, weights: Path, folder: Path) -> Exported:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ldcodec-", dir=folder.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        _write(model, weights, made)
        exported = Exported(sum(path.stat().st_size for path in made.iterdir()), _compare(model, weights, made))
        if os.path.lexists(folder):
            os.replace(folder, Path(place) / "old")
        os.replace(made, folder)
    return exported


def _write(model: Model, weights: Path, folder: Path) -> None:
    from safetensors.numpy import save

    stamp = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    networks = model.networks
    specs = _graph_specs(networks)
    for name in graph_names(networks.textured):
        _write_graph(networks, specs[name], folder / f"{name}.onnx", stamp)
    arrays, metadata = read_integers(weights)
    (folder / INTEGERS).write_bytes(save(arrays, metadata=metadata | {STAMP: stamp}))
    ids = {key: identity.hex() for key, identity in parse_ids(arrays).items()}
    description = Description(
        weights.parent.name,
        ids["parse_id"],
        ids["scalar_id"],
        stamp,
        networks.textured,
        networks.denoiser_halo,
        networks.synthesis_halo,
        networks.config,
        ids["trellis_id"],
    )
    (folder / DESCRIPTION).write_text(description.text(), encoding="utf-8")


def _graph_specs(networks: Networks) -> dict[str, _GraphSpec]:
    latent, one = torch.ones(1, networks.config.latent, *EXAMPLE), torch.ones(1)
    known = {"centre": latent, "deviation": latent, "scale": latent, "quality": one}
    prepared = networks.denoiser.prepare(Condition(*known.values()))
    drawn = {"latent": latent, "quality": one}
    specs = {
        "condition": _GraphSpec(lambda *given: networks.denoiser.prepare(Condition(*given)), known, Prepared._fields),
        "denoiser": _GraphSpec(
            lambda u, time, *given: networks.denoiser(u, time, Prepared(*given)),
            {"u": latent, "time": one, **prepared._asdict()},
            ("v",),
        ),
        "synthesis": _GraphSpec(lambda latent, t: networks.picture(latent, t), drawn, ("picture",)),
        "texture": _GraphSpec(lambda latent, t: networks.picture(latent, t, 1.0), drawn, ("picture",)),
    }
    for scale in VIEW_SCALES:
        specs[preview_name(scale)] = _GraphSpec(_preview(networks, scale), drawn, ("picture",))
    return specs


def _preview(networks: Networks, scale: int) -> Apply:
    return lambda latent, t: networks.preview(latent, t, scale)


def _write_graph(networks: Networks, spec: _GraphSpec, path: Path, stamp: str) -> None:
    import onnx

    spatial = {name: {2: "rows", 3: "columns"} for name, x in spec.inputs.items() if x.dim() == 4 and x.shape[2] > 1}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the older exporter, and about traced shapes, which are dynamic
        torch.onnx.export(
            _Graph(networks, spec.function).eval(),
            tuple(spec.inputs.values()),
            str(path),
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
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


def _compare(model: Model, weights: Path, folder: Path) -> float:
    """The largest difference in 8-bit levels between torch's pictures and the graphs', for made-up symbols.

    Several realisms and a second step are tried, and the model's check file must parse. Raises ModelError.
    """
    other = load(folder, 1)
    check = weights.with_name(CHECK_FILE)
    if check.is_file():
        parse.parse(container.read(check.read_bytes()), other)
    difference = max(
        _difference(model, other, _made_up(model, number, size), settings)
        for number, size in enumerate(COMPARED)
        for settings in (DecodeSettings(), DecodeSettings(realism=0.5), DecodeSettings(2, 1.0, "heun"))
    )
    if not difference < TOLERANCE:
        raise ModelError(f"{weights}: its graphs compute other pictures than torch, by up to {difference:.2f} levels")
    return difference


def _made_up(model: Model, seed: int, size: tuple[int, int]) -> Parsed:
    """Random symbols [C, h, w] as a file might hold them, with one deviation for each channel."""
    rng = np.random.default_rng(seed)
    shape = model.networks.config.latent, *size
    index = np.broadcast_to(rng.integers(0, SCALE_COUNT // 2, shape[0])[:, None, None], shape).astype(np.uint8)
    symbols = np.rint(rng.normal(size=shape) * 0.11 * 1.13**index).astype(np.int32)
    return Parsed(symbols, rng.integers(-300, 301, shape).astype(np.int32), index, np.zeros(shape, np.uint8))


def _difference(model: Model, other: OnnxModel, parsed: Parsed, settings: DecodeSettings) -> float:
    pictures = []
    for one in (model, other):
        header = layout.Header(16 * parsed.index.shape[2], 16 * parsed.index.shape[1], 2000, False, one.parse_id)
        known = reverse.condition(parsed, header, one)
        restored = reverse.reverse_diffusion(known, one, settings)
        texture = settings.plan(one.networks.textured).texture
        picture = one.networks.picture(restored.latent, known.quality, texture, restored.grained)
        pictures.append(np.asarray(picture))
    return 255 * float(np.abs(pictures[0] - pictures[1]).max())

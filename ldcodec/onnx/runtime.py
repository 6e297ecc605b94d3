"""An exported model that decodes without torch: graphs through onnxruntime on the CPU, integers through NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcodec.diffusion.posterior import Condition
from ldcodec.entropy.arithmetic import NumpyArithmetic
from ldcodec.entropy.integer import IntegerRateModel
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.weights import parse_id, rate_model, read_integers
from ldcodec.errors import LdcodecError, ModelError
from ldcodec.onnx.folder import INTEGERS, STAMP, Description, describe, preview_name
from ldcodec.pictures.guard import first_line

EXTRA = "pip install 'ldcodec[onnx]'"
SPINNING = "session.intra_op.allow_spinning"  # threads that wait for others sleep, as those of OpenMP (`__main__`)

Floats = NDArray[np.float32]


class Graphs:
    """The float networks of a folder (`decoder.reverse.FloatNetworks`); each graph is loaded when first needed."""

    def __init__(self, folder: Path, description: Description, threads: int) -> None:
        """threads: for each graph. Raises LdcodecError without onnxruntime."""
        self._folder, self._description = folder, description
        self._session = cache(_opener(threads))
        self.textured = description.textured
        self.denoiser_halo, self.synthesis_halo = description.denoiser_halo, description.synthesis_halo

    def array(self, values: Floats) -> Floats:
        """The values unchanged: the arrays of this backend are NumPy's."""
        return values

    def denoise(self, condition: Condition[Floats]) -> Callable[[Floats, float], Floats]:
        """The velocity of the reverse diffusion, a function of (u, time); the condition is prepared once."""
        centre, deviation, scale = condition.centre, condition.deviation, condition.scale
        features, factor = self._run(
            "condition", centre=centre, deviation=deviation, scale=scale, quality=condition.quality
        )

        def velocity(u: Floats, time: float) -> Floats:
            return self._run("denoiser", u=u, time=np.array([time], np.float32), features=features, factor=factor)[0]

        return velocity

    def picture(self, latent: Floats, quality: Floats, texture: float, grained: Floats) -> Floats:
        """Synthesise a picture: the smooth one, the textured one, or a mixture of both."""
        if not self.textured or texture == 0:
            return self._run("synthesis", latent=latent, quality=quality)[0]
        natural = self._run("texture", latent=grained, quality=quality)[0]
        if texture != 1:
            least = self._run("synthesis", latent=latent, quality=quality)[0]
            natural -= least
            natural *= np.float32(texture)
            natural += least
        return natural

    def preview(self, latent: Floats, quality: Floats, scale: int) -> Floats:
        """Draw a preview at 1/scale of the size, or a draft at scale 1."""
        return self._run(preview_name(scale), latent=latent, quality=quality)[0]

    def levels(self, picture: Floats, grey: bool) -> NDArray[np.uint8]:
        """8-bit pixels of a picture [3, H, W] in 0..1; halves are rounded to even, as torch does."""
        shown = picture.mean(0) if grey else picture.transpose(1, 2, 0)
        shown = np.multiply(shown, np.float32(255), order="C")
        np.rint(shown, out=shown)
        return np.clip(shown, 0, 255, out=shown).astype(np.uint8)

    def _run(self, name: str, **inputs: Floats) -> list[Floats]:
        path = self._folder / f"{name}.onnx"
        session = self._session(path, self._description.stamp)
        try:
            found: list[Floats] = session.run(None, inputs)
        except Exception as error:  # onnxruntime raises several classes of its own
            raise LdcodecError(f"{path}: onnxruntime failed: {first_line(error)}") from error
        return found


@dataclass(frozen=True)
class OnnxModel:
    """A model that decodes without torch; see `decoder.protocols.DecoderModel`."""

    name: str
    parse_id: bytes
    coders: dict[bytes, Coder]
    networks: Graphs
    integers: IntegerRateModel

    @property
    def coder(self) -> Coder:
        """The coder of new files."""
        return self.coders[self.parse_id]


def load(folder: Path, threads: int) -> OnnxModel:
    """Load the model of a folder. Its integers are checked now, its graphs when they are first needed.

    threads: for each graph; NumPy's follow the environment. Raises ModelError for a folder that is missing, of another
    version or inconsistent, and LdcodecError without onnxruntime.
    """
    description = describe(folder)
    networks = Graphs(folder, description, threads)
    path = folder / INTEGERS
    arrays, metadata = read_integers(path)
    identity = parse_id(arrays)
    if identity.hex() != description.parse_id or metadata.get(STAMP) != description.stamp:
        raise ModelError(f"{path}: belongs to another export; export the model again")
    integers, coders = rate_model(path, description.config, arrays, NumpyArithmetic())
    return OnnxModel(description.name, identity, coders, networks, integers)


def _opener(threads: int) -> Callable[[Path, str], Any]:
    """A function that opens a graph and checks its stamp. Raises LdcodecError without onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise LdcodecError(f"ONNX networks need onnxruntime: {EXTRA}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(SPINNING, "0")
    options.enable_cpu_mem_arena = False  # the arena would keep as much memory as the largest tile ever took
    options.log_severity_level = 3  # only errors, which are raised as exceptions anyway

    def opened(path: Path, stamp: str) -> Any:
        if not path.is_file():
            raise ModelError(f"{path}: missing; export the model again")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises several classes of its own
            raise ModelError(f"{path}: not a readable ONNX graph: {first_line(error)}") from error
        if session.get_modelmeta().custom_metadata_map.get(STAMP) != stamp:
            raise ModelError(f"{path}: belongs to another export; export the model again")
        return session

    return opened

"""A model without torch: float networks through ncnn, integers through NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import safe_open

from ldcodec.engine.cpunetworks import CpuNetworks
from ldcodec.entropy.arithmetic import NumpyArithmetic
from ldcodec.entropy.integer import IntegerRateModel
from ldcodec.entropy.modelfiles import find_file, read_config
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.weights import checked_ids, rate_model, read_integers


@dataclass(frozen=True)
class CpuModel:
    """A loaded model, see `encoder.interface.EncoderModel`. path: of its weights; threads: of each network."""

    path: Path
    name: str
    parse_id: bytes
    coders: dict[bytes, Coder]
    networks: CpuNetworks
    integers: IntegerRateModel
    threads: int

    @property
    def coder(self) -> Coder:
        """The coder of the files that it writes."""
        return self.coders[self.parse_id]

    def __reduce__(self) -> tuple[Callable[[str, int], "CpuModel"], tuple[str, int]]:
        """Copies are the model itself, and another process loads it from its file: ncnn's networks cannot travel."""
        return load_model, (str(self.path), self.threads)


def load_model(name_or_path: str, threads: int) -> CpuModel:
    """Load a model by name or path. Its integers are checked now, its networks when they are first needed.

    threads: of each network. Raises ModelError like `nets.model.load_model`.
    """
    path = find_file(name_or_path).resolve()
    return _load(path, path.stat().st_mtime_ns, threads)


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int, threads: int) -> CpuModel:  # a changed file is another key
    arrays, metadata = read_integers(path)
    config, ids = read_config(path), checked_ids(path, arrays, metadata)
    with safe_open(str(path), "np") as file:
        textured = any(name.startswith("net.texture.") for name in file.keys())  # noqa: SIM118 (it is no dict)
    networks = CpuNetworks(path, config, textured, threads)
    integers, coders = rate_model(path, config, arrays, ids, NumpyArithmetic(), networks.means)
    return CpuModel(path, path.parent.name, ids["parse_id"], coders, networks, integers, threads)

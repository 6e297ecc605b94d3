"""Which library computes the networks: ncnn on CPUs, PyTorch on GPUs and where there is no ncnn.

PyTorch alone could say whether there is a GPU, but to import it takes longer than to decode a picture. So it is asked
only where a driver has left a trace.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ldcodec.bitstream.arguments import check_type
from ldcodec.decoder.threads import cores
from ldcodec.entropy.modelfiles import DEFAULT_MODEL, SEARCH_VARIABLE, find_file, find_identity
from ldcodec.errors import ModelError, UsageError

if TYPE_CHECKING:
    from ldcodec.encoder.interface import EncoderModel

DEVICES = "auto", "cpu", "cuda"
DRIVERS = "/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "C:/Windows/System32/nvcuda.dll"  # NVIDIA, WSL, AMD, Windows


def load_model(name_or_path: str | None = None, device: str = "auto", threads: int | None = None) -> "EncoderModel":
    """Load a model by name (default: base) or path. The last few models stay loaded.

    device: "auto", "cpu" or "cuda"; threads: of the CPU, all cores by default.

    Raises ModelError and UsageError like `nets.model.load_model`.
    """
    if name_or_path is not None:
        check_type("the model", name_or_path, str | os.PathLike, "a name or a path")
    if device not in DEVICES:
        raise UsageError(f"device must be auto, cpu or cuda, not {device!r}")
    weights = str(find_file(str(name_or_path or DEFAULT_MODEL)))
    if not by_ncnn(device):
        from ldcodec.nets.model import load_model

        return load_model(weights, device, threads or _threads_of_torch())
    from ldcodec.engine.cpumodel import load_model as load_cpu_model

    return load_cpu_model(weights, threads or cores())


def find_model(identity: bytes, device: str = "auto", threads: int | None = None) -> "EncoderModel":
    """Load the model with a parse id. Raises ModelError if no model on the search path has it."""
    path = find_identity(identity)
    if path is not None:
        return load_model(str(path), device, threads)
    raise ModelError(
        f"this file needs the model {identity.hex()}, which is not installed; "
        f"set {SEARCH_VARIABLE} to the folder that holds it"
    )


def description(device: str = "auto", threads: int | None = None, processes: int = 1) -> str:
    """Which library computes and with how many threads, in words; arguments as of `load_model`, no model is loaded.

    Raises UsageError for a GPU that is missing.
    """
    if by_ncnn(device):
        import ncnn  # type: ignore[import-untyped]

        return f"ncnn {ncnn.__version__}, {_in_words(threads or cores(), processes)}"
    import torch

    from ldcodec.nets.model import device_named

    place = device_named(device).type
    missing = "; ncnn is not installed" if place == "cpu" else ""
    return f"PyTorch {torch.__version__} on {place}, {_in_words(threads or _threads_of_torch(), processes)}{missing}"


def by_ncnn(device: str) -> bool:
    """Whether ncnn computes on a device: "auto", "cpu" or "cuda"."""
    return find_spec("ncnn") is not None and device != "cuda" and not (device == "auto" and has_gpu())


def has_gpu() -> bool:
    """Whether there is a GPU that PyTorch computes on."""
    if not any(map(os.path.exists, DRIVERS)) or find_spec("torch") is None:
        return False
    from torch.cuda import is_available

    return is_available()


def _threads_of_torch() -> int:
    """By itself PyTorch has as many as the cores that it is bound to, or as OMP_NUM_THREADS says."""
    import torch

    return min(torch.get_num_threads(), cores())


def _in_words(threads: int, processes: int) -> str:
    text = f"{threads} thread" + ("" if threads == 1 else "s")
    return text + (f" in each of {processes} processes" if processes > 1 else "")

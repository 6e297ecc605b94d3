"""Trained weights → the model file that ships."""

from pathlib import Path

from torch import Tensor

from ldcodec.entropy.config import Config
from ldcodec.entropy.weights import INTEGER_PREFIXES, read_tensors
from ldcodec.errors import ModelError
from ldcodec.nets.model import save_model
from ldcodec.pictures.picture import Pixels
from ldcodec.training.checkpoint import rounded
from ldcodec.training.counting import counted
from ldcodec.training.integers import integer_tensors
from ldcodec.training.selfcheck import write_check
from ldcodec.training.start import load_networks


def export_model(
    weights: Path,
    target: Path,
    config: Config | None = None,
    integers_of: Path | None = None,
    pictures: list[Pixels] | None = None,
) -> bytes:
    """Writes a model file, its check file beside it, and returns its parse id.

    weights: a weights file; target: the file to write; integers_of: a model whose integers are kept, for weights in
    which only the renderer changed. Otherwise they are made from the weights as the model file stores them, large ones
    in half precision, so that equal weights give equal ids; pictures: those on which tables of the hyper-latent are
    counted, None for tables of the latent. Raises ModelError for files that do not fit.
    """
    networks = load_networks(weights, config)
    networks.load_state_dict({name: tensor.float() for name, tensor in rounded(networks).items()})
    networks.eval()
    if integers_of is not None:
        integers = _integers(integers_of)
    else:
        integers = integer_tensors(networks, None if pictures is None else counted(networks, pictures))
    identity = save_model(target, networks, integers)
    write_check(target)
    return identity


def _integers(path: Path) -> dict[str, Tensor]:
    integers = {name: tensor for name, tensor in read_tensors(path)[0].items() if name.startswith(INTEGER_PREFIXES)}
    if not integers:
        raise ModelError(f"{path}: holds no integers of a rate model")
    return integers

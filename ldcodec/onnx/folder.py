"""The folder that `ldcodec export --onnx` writes: graphs, integer tensors, and model.json, which describes them.

model.json needs only the standard library. Every file of an export carries its stamp, so that two are never mixed.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ldcodec.bitstream.slices import VIEW_SCALES
from ldcodec.entropy.config import Config, from_mapping
from ldcodec.entropy.modelfiles import search_path
from ldcodec.errors import ModelError

FORMAT = "ldcodec-onnx-2"
DESCRIPTION = "model.json"
INTEGERS = "integers.safetensors"
STAMP = "ldcodec-stamp"  # the key of the stamp in the metadata of graphs and tensors
PLACE = "onnx"  # name of the folder next to a weights file
ADVICE = "`ldcodec export --onnx DIR` writes them"
DESCRIPTION_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class Description:
    """The contents of model.json.

    name: of the model; parse_id, scalar_id, trellis_id: in hex, the last empty in older exports; stamp: of the export,
    in hex; textured: whether it has a second synthesis; denoiser_halo, synthesis_halo: how far the networks see, in
    latent positions; config: their sizes.
    """

    name: str
    parse_id: str
    scalar_id: str
    stamp: str
    textured: bool
    denoiser_halo: int
    synthesis_halo: int
    config: Config
    trellis_id: str = ""

    @property
    def identities(self) -> list[str]:
        """The parse ids of the files that it decodes, in hex."""
        return [self.parse_id, self.trellis_id, self.scalar_id]

    def text(self) -> str:
        """The description as JSON, for model.json."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=2) + "\n"


def graph_names(textured: bool) -> list[str]:
    """The names of a model's graphs; each is stored as NAME.onnx."""
    previews = [preview_name(scale) for scale in VIEW_SCALES]
    return ["condition", "denoiser", "synthesis", *(["texture"] if textured else []), *previews]


def preview_name(scale: int) -> str:
    """The name of the graph for previews at 1/scale of the size; 1 is that of drafts."""
    return f"preview{scale}"


def describe(folder: Path) -> Description:
    """Read the description of a folder. Raises ModelError if it holds no export that this version can read."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ModelError(f"{folder}: holds no ONNX networks; {ADVICE}")
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(DESCRIPTION_LIMIT))
        if found.pop("format") != FORMAT:
            raise ModelError(f"{path}: not in the format {FORMAT}; export the model again")
        return _checked(Description(**found | {"config": from_mapping(found["config"])}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as the description of ONNX networks") from error


def _checked(description: Description) -> Description:
    for field in fields(description):
        value = getattr(description, field.name)
        if field.type in (str, bool, int) and type(value) is not field.type:
            raise TypeError(field.name)
    if min(description.denoiser_halo, description.synthesis_halo) < 0:
        raise ValueError("halo")
    bytes.fromhex("".join(description.identities))
    return description


def find_folder(parse_id: bytes) -> Path:
    """Find the export for a parse id on the search path of models: MODEL/onnx next to a weights file, or MODEL itself.

    Raises ModelError if there is none.
    """
    for folder in _folders():
        try:
            description = describe(folder)
            if parse_id.hex() in description.identities:
                return folder
        except ModelError:
            continue
    raise ModelError(
        f"no ONNX networks of the model {parse_id.hex()} are installed; {ADVICE}, --onnx DIR names the folder"
    )


def _folders() -> Iterator[Path]:
    for place in search_path():
        for pattern in (f"*/{PLACE}/{DESCRIPTION}", f"*/{DESCRIPTION}"):
            yield from (path.parent for path in sorted(place.glob(pattern)))

"""The work of a command on one input, in a form that other processes can run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import Console, JobResult
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import Job

IRRELEVANT = ("preserve",)  # options that change nothing in an output but its times
LATER = {"tune": "psnr", "depth": None, "hdr": False, "roi": None}  # what older manifests mean that do not name them


@dataclass(frozen=True)
class Work:
    """A function of a job and everything it needs; can be sent to another process.

    options: a dataclass of what the command line asks for, the same for every input.
    """

    function: Callable[[Job, Any, Models, Limits], JobResult]
    options: Any
    model: str | None
    device: str
    max_pixels: int

    def prepared(self, console: Console, threads: int | None, share: float | None = None) -> Callable[[Job], JobResult]:
        """The function of a job alone, with models that are loaded once. share: of the memory; see `Limits`."""
        models, limits = Models(self.model, self.device, threads), Limits(console, self.max_pixels, share)
        return lambda job: self.function(job, self.options, models, limits)

    def relevant_options(self) -> dict[str, Any]:
        """The options that affect the outputs, as they come back from JSON."""
        fields = {name: value for name, value in asdict(self.options).items() if name not in IRRELEVANT}
        fields = {name: value for name, value in fields.items() if name not in LATER or LATER[name] != value}
        # Manifests hold the function's name: under another one, folders made before would be refused.
        found: dict[str, Any] = _as_json({"work": self.function.__name__.strip("_"), "model": self.model} | fields)
        return found


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(inner) for name, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, tuple | list) else value

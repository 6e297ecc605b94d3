"""What a command does with each of its inputs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ldcodec.jobs.limits import Claims
from ldcodec.jobs.messages import Batch, Models, Result
from ldcodec.jobs.paths import Job

INDIFFERENT = ("preserve", "shown")  # fields of an order that change nothing in an output but its times


@dataclass(frozen=True)
class Work:
    """A function of a job, and all that it needs, in a form that can be sent to another process.

    order: a dataclass of what the options ask for, the same for every input. onnx: the folder of ONNX networks that
    decode, "" for the installed one that a file needs; None: torch decodes.
    """

    function: Callable[[Job, Any, Models, Claims], Result]
    order: Any
    model: str | None
    device: str
    max_pixels: int
    onnx: str | None = None

    def begun(self, batch: Batch, threads: int | None, share: float | None = None) -> Callable[[Job], Result]:
        """The function of a job, with models that are loaded once; share: of the memory, as `Claims` takes it."""
        models, claims = self._models(threads), Claims(batch, self.max_pixels, share)
        return lambda job: self.function(job, self.order, models, claims)

    def _models(self, threads: int | None) -> Models:
        if self.onnx is None:
            return Models(self.model, self.device, threads)
        from ldcodec.jobs.models import OnnxModels

        return OnnxModels(self.onnx, threads)

    def options(self) -> dict[str, Any]:
        """What decides what becomes of an input, as it is when it comes back from JSON."""
        fields = {name: value for name, value in asdict(self.order).items() if name not in INDIFFERENT}
        found: dict[str, Any] = _as_json({"work": self.function.__name__.strip("_"), "model": self.model} | fields)
        return found


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(inner) for name, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, tuple | list) else value

"""The models that the jobs of one command need, each loaded once, when the first sound input asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ldcodec.errors import ChosenModelError, ModelError

if TYPE_CHECKING:
    from ldcodec.decoder.protocols import DecoderModel
    from ldcodec.encoder.interface import EncoderModel


class Models:
    """Models by ncnn or PyTorch, see `encoder.library`."""

    def __init__(self, name: str | None, device: str, threads: int | None) -> None:
        """name: of the model to use, or its path; None for the default one and for those that files name."""
        self._name, self._device, self.threads = name, device, threads
        self._loaded: dict[bytes | None, EncoderModel] = {}
        self._loading = 0.0  # seconds

    def clock(self) -> float:
        """Seconds of a clock that stands still while a model is loaded: the difference of two readings is work."""
        return perf_counter() - self._loading

    def chosen(self) -> "EncoderModel":
        """The model named by the user, or the default one. Raises ChosenModelError."""
        if None not in self._loaded:
            with self._stopped_clock():
                from ldcodec.encoder.library import load_model

                try:
                    self._loaded[None] = load_model(self._name, self._device, self.threads)
                except ModelError as error:
                    raise ChosenModelError(str(error)) from error
        return self._loaded[None]

    def of_file(self, parse_id: bytes) -> "DecoderModel":
        """The model that a file was written with, unless the user names one. Raises ModelError."""
        if self._name is not None:
            return self.chosen()
        if parse_id not in self._loaded:
            with self._stopped_clock():
                from ldcodec.encoder.library import find_model

                self._loaded[parse_id] = find_model(parse_id, self._device, self.threads)
        return self._loaded[parse_id]

    def weights(self, parse_id: bytes | None = None) -> Path | None:
        """The weights file of a parse id, or of the model that `chosen` loads; None if there is none.

        Nothing is loaded.
        """
        from ldcodec.entropy.modelfiles import DEFAULT_MODEL, find_file, find_identity

        with suppress(ModelError):
            if self._name is None and parse_id is not None:
                return find_identity(parse_id)
            return find_file(self._name or DEFAULT_MODEL)
        return None

    @contextmanager
    def _stopped_clock(self) -> Iterator[None]:
        start = perf_counter()
        yield
        self._loading += perf_counter() - start

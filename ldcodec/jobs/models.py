"""Decoding through ONNX graphs, as the command line asks for it: torch is never imported."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldcodec.errors import ModelError
from ldcodec.jobs.cores import bound, cores
from ldcodec.jobs.messages import Models

if TYPE_CHECKING:
    from ldcodec.decoder.protocols import DecoderModel


class OnnxModels(Models):
    """Loads folders of ONNX networks where `Models` loads weights for torch."""

    def __init__(self, folder: str, threads: int | None) -> None:
        """folder: as --onnx names it, "" for the installed one that a file needs."""
        super().__init__(None, "cpu", threads)
        self._folder, self._threads = folder, threads
        self._loaded: dict[Path, DecoderModel] = {}

    def of_file(self, parse_id: bytes) -> "DecoderModel":
        """The model that a file was written with, or the one that the command line names. Raises ModelError."""
        from ldcodec.onnx.runtime import load

        folder = self._folder_of(parse_id)
        if folder not in self._loaded:
            try:
                self._loaded[folder] = load(folder, self._threads or cores())
            except ModelError as error:
                if self._folder:  # no input can be read without it
                    raise click.ClickException(str(error)) from error
                raise
        return self._loaded[folder]

    def weights(self, parse_id: bytes) -> Path | None:
        """The integers that a file will be read with, None if there are none; nothing is loaded."""
        from ldcodec.onnx.folder import INTEGERS

        try:
            path = self._folder_of(parse_id) / INTEGERS
        except ModelError:
            return None
        return path if path.is_file() else None

    def _folder_of(self, parse_id: bytes) -> Path:
        from ldcodec.onnx.folder import find_folder

        return Path(self._folder) if self._folder else find_folder(parse_id)


def folder_of(backend: str | None, onnx: str | None, model: str | None, device: str, threads: int | None) -> str | None:
    """What the options say of ONNX: None for torch, "" for an installed folder, else its path.

    For ONNX, NumPy's threads are bounded too, which only works before it is imported. Raises UsageError.
    """
    if backend != "onnx" and onnx is None:
        return None
    if backend == "torch":
        raise click.UsageError("--onnx belongs to --backend onnx")
    if model is not None:
        raise click.UsageError("--model names weights for torch; ONNX networks are named with --onnx DIR")
    if device == "cuda":
        raise click.UsageError("--backend onnx computes on the CPU")
    if threads is not None:
        bound(threads)
    return onnx or ""

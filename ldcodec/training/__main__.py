"""python -m ldcodec.training: train a model in stages, export it, measure it."""

import signal
import sys
from pathlib import Path
from types import FrameType

import click
import torch

from ldcodec.errors import LdcodecError, UsageError
from ldcodec.networks import Networks
from ldcodec.training.autoencoder import AutoencoderStage
from ldcodec.training.denoiser import DenoiserStage
from ldcodec.training.pictures import Crops, load_pictures
from ldcodec.training.settings import Settings, override, read_settings
from ldcodec.training.stages import Stage
from ldcodec.training.start import block_covariance, fresh_networks, load_networks
from ldcodec.training.trainer import Trainer


@click.group()
def main() -> None:
    """Train ldcodec's networks and turn them into a model."""


def training_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options that both training stages take."""
    for option in reversed(
        [
            click.option(
                "--settings", "settings_file", type=click.Path(path_type=Path), help="TOML file; see docs/training.md."
            ),
            click.option(
                "--start", type=click.Path(path_type=Path), help="Weights to start from: a model, weights or a state."
            ),
            click.option(
                "--resume", type=click.Path(path_type=Path), help="State to go on from, with its moments and its clock."
            ),
            click.option("--data", multiple=True, help="Pictures: tar, folder, file or a pattern of them; repeatable."),
            click.option("--validation", multiple=True, help="Held-out pictures, likewise."),
            click.option(
                "--out", type=click.Path(path_type=Path), required=True, help="Folder for weights and states."
            ),
            click.option(
                "--minutes",
                "--time-budget",
                type=float,
                help="Time of the stage in all, earlier runs of a state included.",
            ),
            click.option("--threads", type=int, help="CPU threads."),
            click.option("--device", help="auto, cpu or cuda."),
            click.option("--seed", type=int, help="Of crops, qualities and noise."),
        ]
    ):
        command = option(command)
    return command


@main.command()
@training_options
def autoencoder(**options: object) -> None:
    """Stage 1: transforms and rate model."""
    _train("autoencoder", options)


@main.command()
@training_options
def denoiser(**options: object) -> None:
    """Stage 2: denoiser and synthesis on frozen symbols."""
    _train("denoiser", options)


def _train(name: str, options: dict[str, object]) -> None:
    settings = _settings(name, options)
    torch.set_num_threads(settings.run.threads)
    device = _device(settings.run.device)
    found = load_pictures(settings.data.pictures)
    click.echo(f"{len(found)} training pictures, {device}")
    start, resume = options["start"], options["resume"]
    networks = _networks(name, settings, found, start, resume)
    networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = _stage(name, networks, settings)
    _compile(networks, device)
    largest = max(max(p.crop, p.descent_crop if p.descent else 0) for p in stage.phases)
    held_out = (
        load_pictures(settings.data.validation, settings.data.validation_pictures) if settings.data.validation else []
    )
    minutes = getattr(settings, name).minutes
    trainer = Trainer(
        stage,
        Crops(found, device, largest),
        minutes,
        settings,
        Path(str(options["out"])),
        held_out=held_out,
        report=_say,
    )
    if resume is not None:
        trainer.resume(Path(str(resume)))
    _stop_politely(trainer)
    trainer.run()


def _settings(name: str, options: dict[str, object]) -> Settings:
    file = options["settings_file"]
    settings = read_settings(Path(str(file))) if file else Settings()
    lists = {"pictures": options["data"] or None, "validation": options["validation"] or None}
    run = {key: options[key] for key in ("threads", "device", "seed")}
    return override(settings, data=lists, run=run, **{name: {"minutes": options["minutes"]}})


def _networks(name: str, settings: Settings, found: list, start: object, resume: object) -> Networks:  # type: ignore[type-arg]
    if start is not None and resume is not None:
        raise UsageError("give --start or --resume, not both")
    source = start if start is not None else resume
    if source is not None:
        return load_networks(Path(str(source)), settings.model)
    if name != "autoencoder":
        raise UsageError(f"stage {name} needs trained weights: --start FILE")
    return fresh_networks(settings.model, block_covariance(found), settings.run.seed)


def _stage(name: str, networks: Networks, settings: Settings) -> Stage:
    if name == "autoencoder":
        return AutoencoderStage(networks, settings.autoencoder)
    return DenoiserStage(networks, settings.denoiser)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device on this machine")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _compile(networks: Networks, device: torch.device) -> None:
    """Only where kernel launches bound the speed; on a CPU compiling takes longer than it saves."""
    if device.type == "cuda":
        for part in (networks.analysis, networks.rate, networks.denoiser, networks.synthesis):
            part.compile()


def _stop_politely(trainer: Trainer) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        trainer.stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def run() -> None:
    """The entry point: errors become one line and an exit code."""
    try:
        main(prog_name="python -m ldcodec.training")
    except LdcodecError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()

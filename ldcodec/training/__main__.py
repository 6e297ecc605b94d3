"""python -m ldcodec.training: train a model in stages, export it, measure it."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click
import torch

from ldcodec.bench.curves import curve_of, read_curves
from ldcodec.bitstream.quality import TOP_INDEX, nearest_index
from ldcodec.decoder.request import DecodeSettings
from ldcodec.entropy.modelfiles import FILE_NAME, find_file
from ldcodec.entropy.rangecoder import Coder
from ldcodec.entropy.weights import read_coder
from ldcodec.errors import LdcodecError, UsageError
from ldcodec.nets.model import device_named, load_model
from ldcodec.nets.networks import Networks
from ldcodec.pictures.picture import Pixels
from ldcodec.training.autoencoder import AutoencoderStage
from ldcodec.training.checkpoint import Progress, progress_of, write_weights
from ldcodec.training.crops import Crops, load_pictures
from ldcodec.training.denoising import DenoiserStage
from ldcodec.training.grafting import grafted
from ldcodec.training.profiling import TimedStep, report
from ldcodec.training.release import export_model
from ldcodec.training.selfcheck import write_check
from ldcodec.training.settings import Phase, TrainingSettings, override, read_settings
from ldcodec.training.sprint import adapt, fastest, hand_back
from ldcodec.training.stages import Stage
from ldcodec.training.start import block_covariance, fresh_networks, load_networks
from ldcodec.training.texture import TextureStage
from ldcodec.training.trainer import Trainer
from ldcodec.training.validation import comparison, table
from ldcodec.training.validation import evaluate as evaluate_model
from ldcodec.training.widening import widened

FILE = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Train ldcodec's networks and turn them into a model."""


SETTINGS = click.option("--settings", "settings_file", type=FILE, help="TOML file; see docs/training.md.")
DATA = click.option("--data", multiple=True, help="Pictures: a tar, folder, file or pattern; repeatable.")
THREADS = click.option("--threads", type=int, help="CPU threads.")
DEVICE = click.option("--device", help="auto, cpu or cuda.")
STAGE_OPTIONS = (
    SETTINGS,
    click.option("--start", type=FILE, help="Start from the weights in this model, weights file or state."),
    click.option("--resume", type=FILE, help="Continue this state, with its optimiser and clock."),
    DATA,
    click.option("--validation", multiple=True, help="Held-out pictures, likewise; repeatable."),
    click.option("--out", type=FILE, required=True, help="Folder for weights and states."),
    click.option("--minutes", "--time-budget", type=float, help="Time of the stage, including that of a resumed run."),
    THREADS,
    DEVICE,
    click.option("--trellis", type=FILE, help="Quantise by the trellis of this model; stages 2 and 3."),
    click.option("--teacher", type=FILE, help="Learn from the pictures of this model too; stage 1."),
    click.option("--seed", type=int, help="Seed of crops, qualities and noise."),
)


def training_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of every training stage to a command."""
    for option in reversed(STAGE_OPTIONS):
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


@main.command()
@training_options
def texture(**options: object) -> None:
    """Stage 3: a second synthesis for natural texture."""
    _train("texture", options)


@main.command()
@training_options
@click.option("--trials", default=60.0, show_default=True, help="Seconds to find the fastest way to make a step.")
def sprint(trials: float, **options: object) -> None:
    """Stage 1 on a GPU that is at hand for minutes: picks batch and compilation, and leaves small files."""

    def prepare(stage: Stage, crops: Crops) -> bool:
        way = fastest(stage, crops, trials, click.echo)
        click.echo(f"{way.batch} crops a step, {'compiled' if way.compiled else 'not compiled'}")
        adapt(stage, way)
        return way.compiled

    _train("autoencoder", options, prepare, hand_back)


@main.command()
@SETTINGS
@click.option("--start", type=FILE, help="Weights; the default is untrained networks.")
@DATA
@click.option("--batch", default=8, show_default=True, help="Crops in a step.")
@click.option("--crop", default=192, show_default=True, help="Side of a crop, a multiple of 64.")
@click.option("--steps", default=5, show_default=True, type=click.IntRange(1), help="Timed steps; the best counts.")
@THREADS
@DEVICE
def profile(batch: int, crop: int, steps: int, **options: object) -> None:
    """Show where the time of a step of stage 1 goes, and how its FLOP/s compare with what the device can do."""
    phase = Phase(batch=batch, crop=crop)  # checks both as for a run
    settings = _settings("autoencoder", {**options, "validation": (), "seed": None, "minutes": None})
    torch.set_num_threads(settings.run.threads)
    device = device_named(settings.run.device)
    found = load_pictures(settings.data.pictures)
    networks = _networks("autoencoder", settings, found, options["start"], None)
    stage = _stage("autoencoder", networks, settings, device)
    for line in report(TimedStep(stage, Crops(found, device, crop), phase.batch, phase.crop), steps):
        click.echo(line)


@main.command()
@click.argument("weights", type=FILE)
@click.argument("target", type=FILE)
@click.option(
    "--settings",
    "settings_file",
    type=FILE,
    required=True,
    help="TOML file with the larger sizes.",
)
def widen(weights: Path, target: Path, settings_file: Path) -> None:
    """Turn trained WEIGHTS into larger networks, TARGET, that do the same: a start for stage 1."""
    networks = widened(load_networks(weights), read_settings(settings_file).model)
    write_weights(target, networks, Progress("autoencoder"))
    click.echo(f"{target}: {sum(p.numel() for p in networks.parameters()) / 1e6:.1f} million weights")


@main.command()
@click.argument("weights", type=FILE)
@click.argument("target", type=FILE)
@click.option("--settings", "settings_file", type=FILE, required=True, help="TOML file with the other sizes.")
def graft(weights: Path, target: Path, settings_file: Path) -> None:
    """Make networks of other sizes, TARGET, from the parts of trained WEIGHTS that fit: a start for stage 1."""
    networks, kept = grafted(load_networks(weights), read_settings(settings_file).model)
    write_weights(target, networks, Progress("autoencoder"))
    count = sum(p.numel() for p in networks.parameters())
    click.echo(f"{target}: {count / 1e6:.1f} million weights, kept: {', '.join(kept) or 'nothing'}")


@main.command()
@click.argument("weights", type=FILE)
@click.argument("target", type=FILE)
@click.option(
    "--integers",
    type=FILE,
    help="Keep the integers of this model, and so its parse id; with --data, all but the part --anew.",
)
@click.option("--data", multiple=True, help="Count tables on these pictures; repeatable.")
@click.option(
    "--anew",
    type=click.Choice(["trellis", "neighbours"]),
    default="trellis",
    show_default=True,
    help="What --data is for with --integers: the trellis, or the network that predicts the hyper-latent.",
)
@click.option("--compact", is_flag=True, help="Store the blocks of the analysis in 8 bits.")
def export(weights: Path, target: Path, integers: Path | None, data: tuple[str, ...], anew: str, compact: bool) -> None:
    """Turn WEIGHTS into a model file and its check file. TARGET is the file or its folder, such as models/base."""
    target = target if target.suffix == ".safetensors" else target / FILE_NAME
    kept = integers / FILE_NAME if integers is not None and integers.is_dir() else integers
    pictures = load_pictures(data) if data else None
    identity = export_model(weights, target, integers_of=kept, pictures=pictures, anew=anew, compact=compact)
    click.echo(f"{target}: parse id {identity.hex()}")


@main.command()
@click.argument("model", type=FILE)
def check(model: Path) -> None:
    """Write the check file of MODEL, a model file or its folder, for `ldcodec verify --self`."""
    click.echo(write_check(model / FILE_NAME if model.is_dir() else model))


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "--qualities",
    default="0,12.5,25,37.5,50,62.5,75,87.5,100",
    show_default=True,
    help="0 to 100, comma-separated.",
)
@click.option("--indices", help="Quality indices 0 to 4095 instead, comma-separated.")
@click.option("--anchors", type=click.Path(path_type=Path, exists=True), multiple=True, help="Curves to compare with.")
@click.option("--out", type=FILE, help="JSON file for the curve.")
@click.option("--name", help="Name of the curve; default: that of the model.")
@click.option("--steps", type=int, help="Steps of the reverse process.")
@click.option("--realism", type=float, default=0.0, show_default=True)
@click.option("--effort", type=click.IntRange(1, 9), default=1, show_default=True, help="Effort of the encoder.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
def evaluate(model: str, pictures: tuple[str, ...], **options: Any) -> None:
    """Measure MODEL on PICTURES through real files: bits a pixel and PSNR at each quality."""
    torch.set_num_threads(options["threads"])
    loaded = load_model(model, options["device"])
    settings = DecodeSettings(steps=options["steps"], realism=options["realism"])
    anchors = read_curves(list(options["anchors"]))
    points = evaluate_model(load_pictures(pictures), loaded, _indices(options), settings, click.echo, options["effort"])
    click.echo(table(points))
    name, listed = options["name"] or loaded.name, [asdict(point) for point in points]
    if options["out"] is not None:
        options["out"].write_text(json.dumps({"name": name, "points": listed}, indent=1) + "\n")
    for line in comparison(anchors, curve_of(name, listed)):
        click.echo(line)


def _indices(options: dict[str, Any]) -> list[int]:
    try:
        if options["indices"]:
            indices = [int(text) for text in options["indices"].split(",")]
        else:
            indices = [nearest_index(float(text) / 100) for text in options["qualities"].split(",")]
    except ValueError as error:
        raise UsageError("qualities and indices are numbers separated by commas") from error
    if not all(0 <= index <= TOP_INDEX for index in indices):
        raise UsageError(f"quality indices are from 0 to {TOP_INDEX}")
    return indices


def _train(
    name: str,
    options: dict[str, object],
    prepare: Callable[[Stage, Crops], bool] = lambda *_: True,
    saved: Callable[[Trainer], None] | None = None,
) -> None:
    """Run a stage. prepare: changes it for the machine, and says whether to compile its steps; saved: see `Trainer`."""
    settings = _settings(name, options)
    torch.set_num_threads(settings.run.threads)
    device = device_named(settings.run.device)
    found = load_pictures(settings.data.pictures)
    click.echo(f"{len(found)} training pictures, {device}")
    resume = options["resume"]
    networks = _networks(name, settings, found, options["start"], resume)
    teacher = None if options["teacher"] is None else load_networks(Path(str(options["teacher"])))
    stage = _stage(name, networks, settings, device, _coder(options["trellis"]), teacher)
    largest = max(max(p.crop, p.descent_crop if p.descent else 0) for p in stage.phases)
    held_out = (
        load_pictures(settings.data.validation, settings.data.validation_pictures) if settings.data.validation else []
    )
    minutes = getattr(settings, name).minutes
    crops = Crops(found, device, largest)
    trainer = Trainer(
        stage,
        crops,
        minutes,
        settings,
        Path(str(options["out"])),
        held_out=held_out,
        report=click.echo,
        compiled=prepare(stage, crops),
        saved=saved,
    )
    if resume is not None:
        trainer.resume(Path(str(resume)))
    _stop_politely(trainer)
    trainer.run()


def _settings(name: str, options: dict[str, object]) -> TrainingSettings:
    file, start = options["settings_file"], options["start"]
    settings = read_settings(Path(str(file))) if file else TrainingSettings()
    reached = None if start is None else progress_of(Path(str(start)))
    if reached is not None and (reached.stage, name) == ("autoencoder", "autoencoder") and reached.phase:
        settings = override(settings, autoencoder={"decoder": Phase(share=0)})  # nothing in these weights is fresh
    lists = {"pictures": options["data"] or None, "validation": options["validation"] or None}
    run = {key: options[key] for key in ("threads", "device", "seed")}
    return override(settings, data=lists, run=run, **{name: {"minutes": options["minutes"]}})


def _networks(name: str, settings: TrainingSettings, found: list[Pixels], start: object, resume: object) -> Networks:
    if start is not None and resume is not None:
        raise UsageError("give --start or --resume, not both")
    source = start if start is not None else resume
    if source is not None:
        return load_networks(Path(str(source)), settings.model)
    if name != "autoencoder":
        raise UsageError(f"stage {name} needs trained weights: --start FILE")
    return fresh_networks(settings.model, block_covariance(found), settings.run.seed)


def _coder(model: object) -> Coder | None:
    """The coder of a model with a trellis; None for no model."""
    if model is None:
        return None
    coder = read_coder(find_file(str(model)))
    if coder.trellis is None:
        raise UsageError(f"{model}: this model has no trellis")
    return coder


def _stage(
    name: str,
    networks: Networks,
    settings: TrainingSettings,
    device: torch.device,
    coder: Coder | None = None,
    teacher: Networks | None = None,
) -> Stage:
    """The stage, with networks on the device and in channels-last memory."""
    if name == "texture":
        networks.add_texture()
    networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if name == "autoencoder":
        return AutoencoderStage(networks, settings.autoencoder, teacher and teacher.to(device))
    if name == "texture":
        return TextureStage(networks, settings.texture, coder)
    return DenoiserStage(networks, settings.denoiser, coder)


def _stop_politely(trainer: Trainer) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        trainer.stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def run() -> None:
    """The entry point: errors become one line and an exit code."""
    try:
        main(prog_name="python -m ldcodec.training")
    except LdcodecError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()

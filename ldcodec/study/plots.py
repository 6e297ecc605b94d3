"""Plots: the rate–distortion–perception plane, the entropies over time, and sheets of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ldcodec.errors import LdcodecError
from ldcodec.study.datasets import Dataset
from ldcodec.study.evaluation import generated
from ldcodec.study.rates import send, statistics
from ldcodec.study.results import DECODER, ONE_STEP, Quality, RunResult
from ldcodec.study.toycodec import StudyCodec

PLANE, ENTROPIES = "plane.png", "entropies.png"
MARKERS = {DECODER: "o", ONE_STEP: "s"}
LABELS = {"decoder alone": "o", "conditional, one step": "s", "conditional, realism > 0": "^"}
BOUND = 3.01  # dB: perfect realism costs at most twice the least squared error (Blau and Michaeli 2018, theorem 2)
ZOOM = 48  # the least side of a picture in a sheet, in pixels


def draw(results: Sequence[RunResult], folder: Path) -> list[Path]:
    """Write the plane of all results and the entropies of the first, and return both paths.

    Raises LdcodecError if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LdcodecError("plots need matplotlib: pip install 'ldcodec[study]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / PLANE, folder / ENTROPIES]
    for path, fill in zip(paths, (_plane, _over_time), strict=True):
        figure = Figure(figsize=(8, 5), dpi=130, layout="constrained")
        fill(figure, results)
        figure.savefig(path)
    return paths


def _plane(figure, results: Sequence[RunResult]) -> None:  # type: ignore[no-untyped-def]
    """A panel for each data set, since their bits and distances cannot be compared."""
    names = sorted({result.settings.dataset for result in results}, reverse=True)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(figure, axes, [result for result in results if result.settings.dataset == name])
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xlabel("coded bits a pixel")
    figure.axes[0].set_ylabel("PSNR in dB")
    for label, marker in LABELS.items():
        figure.axes[0].scatter([], [], marker=marker, color="#555555", label=label)
    figure.axes[0].plot([], [], "_", color="#d55e00", markersize=12, label="bound: 3 dB below the best")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _panel(figure, axes, results: Sequence[RunResult]) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    found = [(r, q) for r in results for q in r.qualities if q.psnr is not None]
    distances = [max(q.frechet.mean, 1e-3) for _, q in found]
    norm = LogNorm(min(distances), max(max(distances), 1.01 * min(distances)))
    for result in results:
        shown = [_psnr(q) for q in result.qualities if q.psnr is not None]
        bits = result.coded.mean / result.pixels
        axes.plot([bits] * len(shown), shown, color="#bbbbbb", linewidth=0.8, zorder=1)
        if result.settings.conditional:
            axes.plot([bits], [max(shown) - BOUND], marker="_", markersize=12, color="#d55e00", zorder=2)
    for (result, quality), distance in zip(found, distances, strict=True):
        place = result.coded.mean / result.pixels, _psnr(quality)
        marker = MARKERS.get(quality.way, "^")
        drawn = axes.scatter(*place, c=[distance], norm=norm, marker=marker, s=28, cmap="viridis", zorder=3)
    ticks = LogLocator(subs=(1, 1.5, 2, 3, 5, 7))
    bar = figure.colorbar(drawn, ax=axes, ticks=ticks, format=StrMethodFormatter("{x:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label("Fréchet distance of features, less is better", fontsize=8)


def _psnr(quality: Quality) -> float:
    return float("nan") if quality.psnr is None else quality.psnr.mean


def _over_time(figure, results: Sequence[RunResult]) -> None:  # type: ignore[no-untyped-def]
    axes = figure.add_subplot()
    for result in results[:1]:
        time = [row.time for row in result.entropies]
        axes.plot(time, [row.note - row.given for row in result.entropies], label="note: Gaussian H(Z_t) − H(Z_t|X)")
        axes.plot(time, [row.information for row in result.entropies], label="true I(X; Z_t) of the measured pictures")
        if all(row.denoising is not None for row in result.entropies):
            by = [(row.denoising or 0.0) - row.given for row in result.entropies]
            axes.plot(time, by, label="upper bound by denoising")
        axes.axhline(result.coded.mean, color="#999999", linewidth=0.8, label="bits that were written")
        axes.set_title(result.settings.name, fontsize=10, loc="left")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("t")
    axes.set_ylabel("bits a picture")
    axes.legend(fontsize=8, frameon=False)


@torch.no_grad()
def sheet(codec: StudyCodec, data: Dataset, path: Path, columns: int = 12) -> None:
    """Write a sheet with a row of originals, of decoded, (if conditional) of restored, and of generated pictures."""
    torch.manual_seed(5)
    columns = min(columns, len(data.coded))
    x = data.coded.part(slice(0, columns)).floats()
    model = codec.autoencoder
    given = statistics(model.mean(data.train.part(slice(0, 1000)).floats()))
    z = send(codec.settings.latent, model.mean(x), model.width(), given, 0).z
    lines = [x, model.decode(z)]
    if codec.restorer is not None:
        lines += [codec.restored(z, 0.0, 1), codec.restored(z, 1.0, codec.settings.sample_steps)]
    _save([*lines, generated(codec, columns)], path)


def _save(lines: Sequence[Tensor], path: Path) -> None:
    framed = [F.pad(line.clamp(0, 1), (0, 1, 0, 1), value=0.5) for line in lines]
    pixels = torch.cat([torch.cat(list(line), 2) for line in framed], 1)
    levels = (255 * pixels).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(levels[:, :, 0] if levels.shape[2] == 1 else levels))
    zoom = max(1, ZOOM // lines[0].shape[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)

"""`ldcodec view`: a page with several renderings of a file, its original to compare with, and a map of its bits."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldcodec.cli.decompress import region_option
from ldcodec.cli.options import PATH, device_option, max_pixels_option, threads_option
from ldcodec.errors import LdcodecError, UsageError, one_line
from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import Console, library_output_as_warnings
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import (
    STREAM,
    Job,
    check,
    check_extension,
    created,
    name_of,
    opened,
    origin_of,
    reader_of,
    standard,
)

if TYPE_CHECKING:
    from ldcodec.bitstream.reader import Reader
    from ldcodec.decoder.protocols import DecoderModel
    from ldcodec.decoder.request import Request
    from ldcodec.pictures.picture import Picture
    from ldcodec.viewer.renderings import PageContent


@click.command(short_help="Show a file in the browser.")
@click.argument("source", type=PATH, metavar="FILE")
@click.option(
    "--original", type=PATH, metavar="PICTURE", help="The picture that the file was made from, to compare with."
)
@click.option("-o", "--output", type=PATH, metavar="PAGE", help="The page to write.  [default: a temporary file]")
@click.option("--no-open", is_flag=True, help="Do not open the page in the browser.")
@region_option
@click.option("--model", metavar="NAME|PATH", help="Model to use instead of the one that the file names.")
@device_option()
@threads_option()
@max_pixels_option(hidden=True)
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--force", "-f", is_flag=True, help="Overwrite an existing page.")
def view(
    source: str,
    original: str | None,
    output: str | None,
    no_open: bool,
    region: tuple[int, int, int, int] | None,
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
    force: bool,
) -> int:
    """Show an .ldc file (- for standard input) in the browser, as one page that needs neither server nor network.

    The page shows the picture with realism 0, 0.5 and 1 in one step and in four, the original behind a movable border,
    a map of where the bits went, and the header. Pictures above 4.2 megapixels are reduced to that size and rendered
    once; --region shows a part of them in full.
    """
    source, original, output = standard(source, 0), original and standard(original, 0), output and standard(output, 1)
    if source == STREAM and original == STREAM:
        raise UsageError("standard input can be read only once")
    console = Console(quiet)
    with console.reporting(name_of(source), alone=True):
        job = Job(source, output or _temporary(source))
        check(job, force)
        check_extension(job.target, (".html", ".htm", ""))
        page = _page(job, original, region, Models(model, device, threads), Limits(console, max_pixels), console)
        with created(job.target, origin_of(source, preserve=False)) as stream:
            stream.write(page.encode())
        if not quiet:
            names = f"{one_line(job.source_name)} → {one_line(job.target_name)}"
            console.say(f"{names}  {len(page.encode())} bytes", error=job.target == STREAM)
        if not no_open and job.target != STREAM:
            _open(job.target)
    return console.exit_code


def _temporary(source: str) -> str:
    """A path in a new folder that only this user can read. It is never removed: a browser may read it at any time."""
    import tempfile

    name = "page" if source == STREAM else os.path.splitext(os.path.basename(source))[0]
    return os.path.join(tempfile.mkdtemp(prefix="ldcodec-view-"), f"{name}.html")


def _open(page: str) -> None:
    import webbrowser

    if not webbrowser.open(Path(os.path.abspath(page)).as_uri()):
        raise LdcodecError(f"no browser was found; open {page} yourself")


def _page(
    job: Job,
    original: str | None,
    region: tuple[int, int, int, int] | None,
    models: Models,
    limits: Limits,
    console: Console,
) -> str:
    with opened(job.source) as stream:
        source = reader_of(stream)
        limits.check_file(source, region, 1, models.weights(source.header.parse_id))
        model = None if source.lossless else models.of_file(source.header.parse_id)
        from ldcodec.decoder.request import Request
        from ldcodec.viewer.document import Names, document

        before = None if original is None else _original(original, limits)
        content = _content(source, model, Request(region), before, console)
        names = Names(os.path.basename(job.source_name), None if model is None else model.name)
        return document(names, source, content)


def _original(path: str, limits: Limits) -> "Picture":
    from ldcodec.pictures.read import read

    with opened(path) as stream, library_output_as_warnings():
        limits.check_picture(stream)
        return read(stream, name_of(path))


def _content(
    source: "Reader", model: "DecoderModel | None", view: "Request", original: "Picture | None", console: Console
) -> "PageContent":
    """What the page shows, with a progress bar over its renderings on a terminal."""
    from tqdm import tqdm

    from ldcodec.viewer.renderings import content_of

    with tqdm(unit="rendering", leave=False, disable=not console.shows_progress) as bar:
        return content_of(source, model, view, original, bar.update)

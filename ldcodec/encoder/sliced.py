"""Encode a large picture: analysed tile by tile, coded slice by slice, never held in floats as a whole.

picture ─ tiles with a halo ─ y of a few slices ─┬─ slice ─ h_a ─ z ─► integer rate model ─► range coder
                                                 └─ slice ─ …
A search for a size or a PSNR codes samples of the picture first.
"""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ldcodec.bitstream import chunktypes, container, layout, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Reader, Slice
from ldcodec.bitstream.slices import (
    PIXELS,
    REFINED_MARGIN,
    UNIT,
    Area,
    Span,
    coded_rows,
    cut,
    groups,
    is_large,
    meeting,
    tiling,
)
from ldcodec.decoder.latent import Compact, Latent, at_once, compact
from ldcodec.decoder.progress import Told, begun
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.threads import ahead, map_in_threads
from ldcodec.decoder.tiles import halo_of, tiles_of
from ldcodec.encoder.drafting import strange_places, with_drafts
from ldcodec.encoder.interface import EncoderModel, Floats
from ldcodec.encoder.latents import Latents, code_slice, latents_of
from ldcodec.encoder.masking import Weights, even, visual
from ldcodec.encoder.outlook import Forecast, Guess, Outlook, outlook_of
from ldcodec.encoder.patching import Losses, chosen, losses, patch
from ldcodec.encoder.ratecontrol import Coded, Encoder
from ldcodec.encoder.steering import Budget, OutOfBudget, shares_at
from ldcodec.encoder.target import PSNR, VISUAL, Roi
from ldcodec.encoder.whole import PictureEncoder, header_of
from ldcodec.pictures import chunks
from ldcodec.pictures.alpha import filled
from ldcodec.pictures.frame import framed, framed_area
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Picture, Pixels, is_neutral, total_error

SAMPLES = 16
SAMPLE_SIDE = 256  # pixels: all samples together are a megapixel
GUESSED = 1 << 12  # latent positions that a guess of the size looks at, or up to twice as many


def encoder_for(
    source: Picture, model: EncoderModel, effort: int = 1, tune: str = PSNR, roi: Roi | None = None
) -> Encoder[Any]:
    """Choose the encoder for a picture's size. Colours hidden by alpha are smoothed first, so that they cost little.

    tune: psnr or visual, which weighs errors and tunes the analysis of a model that can be tuned; roi: a region of
    interest, within the picture; see `encoder.masking`.
    """
    pixels = source.pixels if source.alpha is None else filled(source.pixels, source.alpha)
    extra = chunks.pack(source)
    if is_neutral(pixels):  # else the networks would give it a tint
        pixels, extra = np.ascontiguousarray(pixels[:, :, 1]), (*extra, Chunk(chunktypes.NEUTRAL, b""))
    kind = SlicedEncoder if is_large(*pixels.shape[1::-1]) else PictureEncoder
    weights = visual(pixels, model.networks.basis()) if tune == VISUAL else None
    if roi is not None:
        weights = (weights or even(pixels, model.networks.basis())).favouring(roi)
    return kind(pixels, model, extra, effort, weights, source.depth, float(tune == VISUAL))


class _Part(NamedTuple):
    """A coded slice, what it tells of other qualities, the error of each of its blocks, and what it was parsed to.

    The last is kept only where the picture is to be drawn.
    """

    piece: Slice
    outlook: Outlook
    lost: Losses
    parsed: Compact | None


class SlicedEncoder:
    """The encoder of a large picture."""

    def __init__(
        self,
        picture: Pixels,
        model: EncoderModel,
        extra: tuple[Chunk, ...] = (),
        effort: int = 1,
        weights: Weights | None = None,
        depth: int = 8,
        tuning: float = 0.0,
    ) -> None:
        """See `PictureEncoder`."""
        self.weights, self.depth, self.tuning = weights, depth, tuning
        self.picture, self.model, self.chunks, self.effort = picture, model, extra, effort
        self.height, self.width = picture.shape[:2]
        self.spans = cut(self.width, self.height)

    def guess_size(self, index: int) -> float:
        """A rough prediction of the file size in bytes at a quality index, from some rows of blocks."""
        return sum(self._guessed(index, self.spans)) / 8 + self._overhead

    def guess_psnr(self, index: int) -> float:
        """A rough prediction of the PSNR in dB at a quality index, from the samples."""
        return self._sampled.psnr(index)

    def _guessed(self, index: int, spans: list[Span]) -> list[float]:
        """Bits of some slices as the linear shortcut has them."""
        return [
            guess.bits(index) * math.prod(coded_rows(span, self.width, self.height))
            for span, guess in zip(self.spans, self._guesses, strict=True)
            if span in spans
        ]

    @cached_property
    def _guesses(self) -> list[Guess]:
        """One of each slice, from some of its rows of blocks."""
        every = max(1, math.prod(layout.coded_size(self.width, self.height)) // GUESSED)
        guesses = []
        for span in self.spans:
            top, bottom = span.pixel_rows(self.height)
            first = top + PIXELS * np.arange(min(every // 2, span.rows - 1), span.rows, every)
            seen = (first[:, None] + np.arange(PIXELS)).ravel()
            linear = self.model.networks.shortcut(framed(self.picture[seen[seen < bottom]]))
            guesses.append(Guess(linear[:, : len(first), : layout.coded_size(self.width, self.height)[1]]))
        return guesses

    @cached_property
    def _sampled(self) -> Guess:
        planes = [sample.analysed[1] for sample in self._samples]
        return Guess(np.concatenate([plane.reshape(len(plane), -1) for plane in planes], 1))

    def rehearse(self, index: int, drawn: bool) -> Forecast:
        """Code the samples at a quality index. drawn: whether to decode them as well, for their error."""
        told, coded = begun("sample", len(self._samples)), []
        for sample in self._samples:
            coded.append((sample, sample.code(index, Budget(math.inf, shares_at(index)))))
            told()
        # The samples' share is that of the bits, as the shortcut has them in both.
        share = self._sampled.bits(index) * sum(s.rows * s.columns for s in self._samples)
        share /= sum(self._guessed(index, self.spans))
        errors = [quality.error_of_psnr(sample.psnr(file)) for sample, file in coded] if drawn else []
        outlooks = [outlook for _, file in coded for outlook in file.forecast.outlooks]
        return Forecast(index, outlooks, share, self._overhead, sum(errors) / len(errors) if drawn else None)

    @cached_property
    def _samples(self) -> list[PictureEncoder]:
        return [
            PictureEncoder(
                self._pixels(place), self.model, weights=self._weights(place), depth=self.depth, tuning=self.tuning
            )
            for place in self._places
        ]

    @cached_property
    def _places(self) -> list[Area]:
        return sample_places(self.width, self.height)

    def _pixels(self, place: Area) -> Pixels:
        return self.picture[place.top : place.bottom, place.left : place.right]

    def _weights(self, place: Area) -> Weights | None:
        """The weights of a sample, which are repeated where its latent reaches beyond the picture's."""
        if self.weights is None:
            return None
        sides = layout.latent_size(place.right - place.left, place.bottom - place.top)
        starts = place.top // PIXELS, place.left // PIXELS
        rows, columns = (
            np.minimum(start + np.arange(side), most - 1)
            for start, side, most in zip(starts, sides, self.weights.position.shape, strict=True)
        )
        return self.weights.within(rows, columns)

    def code(self, index: int, budget: Budget | None = None) -> Coded:
        """See `PictureEncoder.code`. Of several slices, the second half is steered."""
        parts = self._all_parts(index, budget)
        taken = chosen(self.picture, np.concatenate([part.lost for part in parts]), index)
        if not taken.any():
            return self._drafted(self._file(index, parts, self.chunks), parts, taken)
        smooth, stored = patch(self.picture, taken)
        rows = np.flatnonzero(taken.any(1))
        sight = self.model.networks.config.analysis.halo + (REFINED_MARGIN if self.effort > 1 else 0)
        numbers = meeting(self.spans, int(rows[0]) - sight, int(rows[-1]) + 1 + sight)
        again = self._parts(
            index, smooth, {self.spans[number]: None for number in numbers}, begun("slice", len(numbers))
        )
        parts[numbers[0] : numbers[-1] + 1] = again
        return self._drafted(self._file(index, parts, (*self.chunks, stored)), parts, taken)

    def _drafted(self, coded: Coded, parts: list[_Part], taken: Mask) -> Coded:
        parsed = {number: part.parsed for number, part in enumerate(parts) if part.parsed is not None}
        return with_drafts(coded, self.picture, self._strange, taken, self.model, parsed)

    @cached_property
    def _strange(self) -> Mask:
        return strange_places(self.picture)

    @cached_property
    def _drawn(self) -> Mask:
        """Which rows of the latent are seen where something strange is drawn."""
        halo = halo_of(self.model, DecodeSettings())
        rows = self._strange.nonzero()[0] // 8
        sight = 1 + halo.synthesis + halo.denoiser
        drawn = np.zeros(self.spans[-1].bottom, np.bool_)
        for row in set(rows.tolist()):
            drawn[max(0, row - sight) : row + sight + 1] = True
        return drawn

    def _file(self, index: int, parts: list["_Part"], extra: tuple[Chunk, ...]) -> Coded:
        file = Container(self._header(index), tuple(part.piece for part in parts), extra)
        overhead = self._overhead + sum(len(chunk.data) for chunk in extra[len(self.chunks) :])
        return Coded(file, container.write(file), Forecast(index, [part.outlook for part in parts], 1, overhead))

    def psnr(self, coded: Coded) -> float:
        """PSNR in dB of the picture that a decoder makes of a file with default settings."""
        drafted = chunks.drafted_of(coded.container)
        latent = Latent(Reader(io.BytesIO(coded.data)), self.model, drafted=drafted)
        stored, total = chunks.patches_of(coded.container, self.picture.ndim == 2), 0.0
        for place, pixels in tiles_of(latent, Area(0, self.height, 0, self.width), DecodeSettings()):
            if stored is not None:
                stored.laid(pixels, place)
            original = self.picture[place.top : place.bottom, place.left : place.right]
            total += total_error(pixels, original)
        return quality.psnr(total / self.picture.size)

    @cached_property
    def _overhead(self) -> int:
        empty = tuple(Slice(span.rows, b"", 0) for span in self.spans)
        return len(container.write(Container(self._header(0), empty, self.chunks)))

    def _header(self, index: int) -> Header:
        return header_of(self.picture, index, self.model, self.chunks, self.depth)

    def _all_parts(self, index: int, budget: Budget | None) -> list["_Part"]:
        """The parts of the whole picture. The second half of them shares what the first one leaves of a budget.

        Each gets its share by what the shortcut tells, so that slices can be coded in any order. Raises OutOfBudget
        before the second half, if that is out of reach.
        """
        told = begun("slice", len(self.spans))
        if budget is None:
            return list(self._parts(index, self.picture, dict.fromkeys(self.spans), told))
        half = len(self.spans) // 2
        free, steered = self.spans[:half], self.spans[half:]
        parts = list(self._parts(index, self.picture, dict.fromkeys(free, Budget(math.inf, budget.shares)), told))
        bits, shares = 8 * (budget.amount - self._overhead), budget.shares
        if parts:
            forecast = Forecast(index, [part.outlook for part in parts], 1, 0)
            bits, shares = bits - 8 * forecast.size(index), forecast.shares
            likely = 8 * forecast.size(index) * sum(self._guessed(index, steered)) / sum(self._guessed(index, free))
            if abs(math.log(max(bits, 1.0) / likely)) > budget.reach:
                raise OutOfBudget((8 * forecast.size(index) + likely) / max(8 * budget.amount, 1.0))
        guessed = self._guessed(index, steered)
        budgets = [Budget(bits * guess / sum(guessed), shares) for guess in guessed]
        return parts + list(self._parts(index, self.picture, dict(zip(steered, budgets, strict=True)), told))

    def _parts(self, index: int, picture: Pixels, spans: Mapping[Span, Budget | None], told: Told) -> Iterator["_Part"]:
        """Code some slices, each with a budget of its payload's bits or none. told: called after each."""
        header = self._header(index)
        analysed = (latents for group in groups(list(spans)) for latents in self._latents(index, picture, group))

        def coded(item: tuple[Span, Latents]) -> _Part:
            span, latents = item
            found = code_slice(latents, coded_rows(span, self.width, self.height), self.model, spans[span])
            lost = losses(self.picture, found.parsed, header, span, self.model)
            kept = compact(found.parsed) if self._drawn[span.top : span.bottom].any() else None
            return _Part(found.piece, outlook_of(latents, found, self.model), lost, kept)

        columns = layout.latent_size(self.width, self.height)[1]
        threads = at_once(self.model, len(spans), max((span.rows for span in spans), default=1) * columns)
        # Slices are analysed while others are coded, unless there is only one.
        with self.model.integers.arithmetic.beside() if len(spans) > 1 else nullcontext():
            for part in map_in_threads(coded, zip(spans, ahead(analysed), strict=True), threads):
                told()
                yield part

    def _latents(self, index: int, picture: Pixels, group: list[Span]) -> Iterator[Latents]:
        """The latents of neighbouring slices, which are analysed, and with effort refined, together."""
        margin = REFINED_MARGIN if self.effort > 1 else 0
        rows = Span(max(0, group[0].top - margin), min(self.spans[-1].bottom, group[-1].bottom + margin))
        y, z = scaled_rows(picture, self.model, index, rows, self.tuning), None
        if self.effort > 1:
            from ldcodec.encoder.refine import refined_rows

            y, z = refined_rows(self.model, picture, y, rows, index, self.effort, self.tuning)
        for span in group:
            top, bottom = span.top - rows.top, span.bottom - rows.top
            hyper = None if z is None else z[:, top // UNIT : bottom // UNIT]
            weights = self.weights and self.weights.within(np.arange(span.top, span.bottom), np.arange(y.shape[2]))
            yield latents_of(np.ascontiguousarray(y[:, top:bottom]), index, self.model, hyper, weights)


def scaled_rows(picture: Pixels, model: EncoderModel, index: int, span: Span, tuning: float = 0.0) -> Floats:
    """Analyse some rows of a picture tile by tile: their latent in steps, [M, rows, w].

    Halos make it equal to the analysis of the whole picture, up to float rounding.
    """
    total_rows, columns = layout.latent_size(picture.shape[1], picture.shape[0])
    networks, t = model.networks, quality.fraction(index)
    scaled = np.empty((networks.config.latent, span.rows, columns), np.float32)
    halo = networks.config.analysis.halo
    for tile in tiling(Area(span.top, span.bottom, 0, columns), halo):
        seen = tile.grown(halo, total_rows, columns)
        analysed = networks.analysed(framed_area(picture, seen))
        rows, inner = tile.inside(seen)
        values = networks.latent(analysed, t, tuning)[:, rows, inner]
        scaled[:, tile.top - span.top : tile.bottom - span.top, tile.left : tile.right] = values
    return scaled


def sample_places(width: int, height: int) -> list[Area]:
    """The samples of a picture, in pixels: at the centres of a grid of nearly square cells."""
    columns = min(SAMPLES, max(1, round(math.sqrt(SAMPLES * width / height))))
    rows = max(1, SAMPLES // columns)
    tall, wide = min(SAMPLE_SIDE, height // rows), min(SAMPLE_SIDE, width // columns)
    places = []
    for k in range(rows * columns):
        row, column = divmod(k, columns)
        # Rounded down to whole latent positions.
        top = ((2 * row + 1) * height // (2 * rows) - tall // 2) // PIXELS * PIXELS
        left = ((2 * column + 1) * width // (2 * columns) - wide // 2) // PIXELS * PIXELS
        places.append(Area(max(0, top), max(0, top) + tall, max(0, left), max(0, left) + wide))
    return places

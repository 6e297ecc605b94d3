"""Encode a large picture: analysed tile by tile, coded slice by slice, never held in floats as a whole.

picture ─ tiles with a halo ─ y of a few slices ─┬─ slice ─ h_a ─ z ─► integer rate model ─► range coder
                                                 └─ slice ─ …
A rate search estimates sizes from samples of the picture and corrects them by the first file that it codes.
"""

import io
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldcodec.bitstream import container, layout, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Reader, Slice
from ldcodec.bitstream.slices import PIXELS, REFINED_MARGIN, TILE, UNIT, Area, Span, coded_rows, cut, is_large
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.tiles import evenly, tiles_of
from ldcodec.encoder.ratecontrol import Coded, Encoder
from ldcodec.encoder.refine import refined_rows
from ldcodec.encoder.whole import Latents, PictureEncoder, code_slice, header_of, latents_of
from ldcodec.nets.blocks import pixels_of
from ldcodec.nets.model import Model
from ldcodec.pictures import chunks
from ldcodec.pictures.alpha import filled
from ldcodec.pictures.picture import Picture, Pixels

SAMPLES = 16
SAMPLE_SIDE = 384  # pixels: all samples together are 2.4 megapixels


def encoder_for(source: Picture, model: Model, effort: int = 1) -> Encoder[Any]:
    """Choose the encoder for a picture's size. Colours hidden by alpha are smoothed first, so that they cost little."""
    pixels = source.pixels if source.alpha is None else filled(source.pixels, source.alpha)
    kind = SlicedEncoder if is_large(*pixels.shape[1::-1]) else PictureEncoder
    return kind(pixels, model, chunks.pack(source), effort)


class SlicedEncoder:
    """The encoder of a large picture: size and PSNR are estimated from samples."""

    def __init__(self, picture: Pixels, model: Model, extra: tuple[Chunk, ...] = (), effort: int = 1) -> None:
        """See `PictureEncoder`."""
        self.picture, self.model, self.chunks, self.effort = picture, model, extra, effort
        self.height, self.width = picture.shape[:2]
        self.spans = cut(self.width, self.height)
        self._samples: list[PictureEncoder] = []

    def guess_size(self, index: int) -> float:
        """A rough prediction of the file size in bytes at a quality index, from the samples' guesses."""
        return self._from_samples([sample.guess_size(index) - sample.overhead for sample in self.samples()])

    def estimate_size(self, index: int) -> float:
        """The file size in bytes at a quality index, predicted from the samples by the float rate model."""
        return self._from_samples([sample.estimate_size(index) - sample.overhead for sample in self.samples()])

    def estimate_psnr(self, index: int) -> float:
        """The PSNR in dB at a quality index, predicted from the samples by the float rate model."""
        # The mean is one of squared errors, not of decibels.
        errors = [quality.error_of_psnr(sample.estimate_psnr(index)) for sample in self.samples()]
        return quality.psnr(sum(errors) / len(errors))

    def code(self, index: int) -> Coded:
        """Code the picture at a quality index in 0..4095."""
        file = Container(self._header(index), tuple(self._slices(index)), self.chunks)
        return Coded(file, container.write(file))

    def psnr(self, coded: Coded) -> float:
        """PSNR in dB of the picture that a decoder makes of a file with default settings."""
        latent = Latent(Reader(io.BytesIO(coded.data)), self.model)
        total = 0.0
        for place, pixels in tiles_of(latent, Area(0, self.height, 0, self.width), DecodeSettings()):
            original = self.picture[place.top : place.bottom, place.left : place.right]
            total += float(np.square(pixels.astype(np.float32) - original).sum(dtype=np.float64))
        return quality.psnr(total / self.picture.size)

    def samples(self) -> list[PictureEncoder]:
        """Encoders of samples spread evenly over the picture, created on first use."""
        if not self._samples:
            places = sample_places(self.width, self.height)
            self._samples = [
                PictureEncoder(self.picture[place.top : place.bottom, place.left : place.right], self.model)
                for place in places
            ]
        return self._samples

    def _from_samples(self, sizes: list[float]) -> float:
        sampled = sum(sample.width * sample.height for sample in self.samples())
        share: float = sampled / (self.width * self.height)
        return sum(sizes) / share + self._overhead

    @cached_property
    def _overhead(self) -> int:
        empty = tuple(Slice(span.rows, b"", 0) for span in self.spans)
        return len(container.write(Container(self._header(0), empty, self.chunks)))

    def _header(self, index: int) -> Header:
        return header_of(self.picture, index, self.model)

    def _slices(self, index: int) -> Iterator[Slice]:
        for group in groups(self.spans):
            for span, latents in zip(group, self._latents(index, group), strict=True):
                yield code_slice(latents, coded_rows(span, self.width, self.height), self.model)[0]

    def _latents(self, index: int, group: list[Span]) -> Iterator[Latents]:
        """The latents of neighbouring slices, which are analysed, and with effort refined, together."""
        margin = REFINED_MARGIN if self.effort > 1 else 0
        rows = Span(max(0, group[0].top - margin), min(self.spans[-1].bottom, group[-1].bottom + margin))
        y, z = scaled_rows(self.picture, self.model, index, rows), None
        if self.effort > 1:
            y, z = refined_rows(self.model.networks, self.picture, y, rows, index, self.effort)
        for span in group:
            top, bottom = span.top - rows.top, span.bottom - rows.top
            hyper = None if z is None else z[:, :, top // UNIT : bottom // UNIT]
            yield latents_of(y[:, :, top:bottom].contiguous(), index, self.model, hyper)


def groups(spans: list[Span]) -> list[list[Span]]:
    """Group neighbouring slices to be analysed together: as many as fit the height of a tile, at least one."""
    grouped: list[list[Span]] = []
    for span in spans:
        if grouped and span.bottom - grouped[-1][0].top <= TILE:
            grouped[-1].append(span)
        else:
            grouped.append([span])
    return grouped


@torch.no_grad()
def scaled_rows(picture: Pixels, model: Model, index: int, span: Span) -> Tensor:
    """Analyse some rows of a picture tile by tile: their latent in steps, [1, M, rows, w].

    Halos make it equal to the analysis of the whole picture, up to float rounding.
    """
    total_rows, columns = layout.latent_size(picture.shape[1], picture.shape[0])
    t = torch.tensor([quality.fraction(index)], dtype=torch.float32, device=model.device)
    scaled = t.new_empty(1, model.networks.config.latent, span.rows, columns)
    for top, bottom in evenly(span.top, span.bottom, TILE):
        for left, right in evenly(0, columns, TILE):
            tile = Area(top, bottom, left, right)
            seen = tile.grown(model.networks.config.transform_halo, total_rows, columns)
            base = model.networks.analysis.base(pixels_of(picture, seen, model.device))
            rows, inner = tile.inside(seen)
            values = model.networks.scaled_latent(base, t)[:, :, rows, inner]
            scaled[:, :, top - span.top : bottom - span.top, left:right] = values
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

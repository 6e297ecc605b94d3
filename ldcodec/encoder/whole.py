"""Encode a picture in one pass, following the block diagram.

picture ─ analysis base ── finish(quality) ─ y ─ h_a ─ round ─ z ─► integer rate model ─ symbols ─► range coder
"""

from dataclasses import dataclass, replace
from functools import cached_property

from ldcodec.bitstream import chunktypes, container, layout, quality
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk, Slice
from ldcodec.bitstream.slices import Area, Span
from ldcodec.decoder.latent import compact
from ldcodec.decoder.request import DecodeSettings
from ldcodec.decoder.reverse import condition, render
from ldcodec.decoder.tiles import drafted_over, drafts_of
from ldcodec.encoder.drafting import strange_places, with_drafts
from ldcodec.encoder.interface import EncoderModel
from ldcodec.encoder.latents import Latents, code_slice, latents_of
from ldcodec.encoder.masking import Weights
from ldcodec.encoder.outlook import Forecast, Guess, outlook_of
from ldcodec.encoder.patching import chosen, losses, patch
from ldcodec.encoder.ratecontrol import Coded
from ldcodec.encoder.steering import Budget
from ldcodec.entropy.integer import Parsed
from ldcodec.pictures import chunks
from ldcodec.pictures.frame import framed
from ldcodec.pictures.patches import Mask
from ldcodec.pictures.picture import Pixels, total_error


@dataclass(frozen=True)
class CodedWhole(Coded):
    """A coded file and the parsed latent in it."""

    parsed: Parsed


class PictureEncoder:
    """The encoder of a picture that fits into one pass. What does not depend on the quality is computed only once."""

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
        """picture: (H, W, 3) RGB or (H, W) grey; extra: chunks stored along with it and counted in every size.

        effort: 1 to 9; from 2 on, `code` refines the latent (`encoder.refine`), which loads PyTorch.
        weights: of the squared errors, None for 1; depth: bits a sample of the picture, 8 for uint8; tuning: of the
        analysis, see `encoder.interface`.
        """
        self.weights, self.depth, self.tuning = weights, depth, tuning
        self.picture, self.model, self.chunks, self.effort = picture, model, extra, effort
        self.height, self.width = picture.shape[:2]
        self.rows, self.columns = layout.coded_size(self.width, self.height)
        self.analysed = model.networks.analysed(framed(picture))

    def guess_size(self, index: int) -> float:
        """A rough prediction of the file size in bytes, from every other row and column."""
        return self._guess.bits(index) * self.rows * self.columns / 8 + self.overhead

    def guess_psnr(self, index: int) -> float:
        """A rough prediction of the PSNR in dB, from every other row and column."""
        return self._guess.psnr(index)

    @cached_property
    def _guess(self) -> Guess:
        return Guess(self.analysed[1][:, : self.rows : 2, : self.columns : 2])

    def rehearse(self, index: int, drawn: bool) -> None:
        """Nothing: the whole picture is quickly coded."""

    @cached_property
    def overhead(self) -> int:
        """Length of the file in bytes without its payload."""
        return len(container.write(Container(self._header(0), (Slice(self._slice_rows(), b"", 0),), self.chunks)))

    def latents(self, index: int) -> Latents:
        """Analyse the picture at a quality index in 0..4095, and refine the result if the effort says so."""
        scaled = self.model.networks.latent(self.analysed, quality.fraction(index), self.tuning)
        if self.effort == 1:
            return latents_of(scaled, index, self.model, None, self.weights)
        from ldcodec.encoder.refine import refined_rows

        span = Span(0, self._slice_rows())
        y, z = refined_rows(self.model, self.picture, scaled, span, index, self.effort, self.tuning)
        return latents_of(y, index, self.model, z, self.weights)

    def code(self, index: int, budget: Budget | None = None) -> CodedWhole:
        """Code the picture at a quality index in 0..4095, and blocks of it exactly where that is better.

        budget: of the file, if it is to be steered towards a size. Raises OutOfBudget where that is out of its reach.
        """
        coded, span = self.write(self.latents(index), budget), Span(0, self._slice_rows())
        lost = losses(self.picture, coded.parsed, coded.container.header, span, self.model)
        taken = chosen(self.picture, lost, index)
        if taken.any():
            smooth, stored = patch(self.picture, taken)
            extra = (*self.chunks, stored)
            rest = PictureEncoder(smooth, self.model, extra, self.effort, self.weights, self.depth, self.tuning)
            coded = rest.write(rest.latents(index), budget)
        return with_drafts(coded, self.picture, self._strange, taken, self.model, {0: compact(coded.parsed)})

    @cached_property
    def _strange(self) -> Mask:
        return strange_places(self.picture)

    def write(self, latents: Latents, budget: Budget | None = None) -> CodedWhole:
        """Code latents as a file. From here on everything is exact: equal latents give equal files on every machine."""
        bits = budget and replace(budget, amount=8 * (budget.amount - self.overhead))
        found = code_slice(latents, (self.rows, self.columns), self.model, bits)
        file = Container(self._header(latents.index), (found.piece,), self.chunks)
        forecast = Forecast(latents.index, [outlook_of(latents, found, self.model)], 1, self.overhead)
        return CodedWhole(file, container.write(file), forecast, found.parsed)

    def psnr(self, coded: CodedWhole) -> float:
        """PSNR in dB of the picture that a decoder makes of a file with default settings."""
        header = replace(coded.container.header, grey=self.picture.ndim == 2)  # drawn as what was coded
        decoded = render(condition(coded.parsed, header, self.model), header, self.model, DecodeSettings())
        whole = Area(0, self.rows, 0, self.columns)
        drafts = drafts_of(chunks.drafted_of(coded.container), coded.parsed, whole, whole)
        drafted_over(decoded, drafts, header, self.model)
        stored = chunks.patches_of(coded.container, header.grey)
        if stored is not None:
            stored.laid(decoded, Area(0, self.height, 0, self.width))
        return quality.psnr(total_error(decoded, self.picture) / self.picture.size)

    def _header(self, index: int) -> Header:
        return header_of(self.picture, index, self.model, self.chunks, self.depth)

    def _slice_rows(self) -> int:
        return layout.latent_size(self.width, self.height)[0]


def header_of(picture: Pixels, index: int, model: EncoderModel, extra: tuple[Chunk, ...], depth: int) -> Header:
    """The header of a picture's file at a quality index, given the other chunks of the file."""
    height, width = picture.shape[:2]
    grey = picture.ndim == 2 and all(chunk.kind != chunktypes.NEUTRAL for chunk in extra)
    return Header(width, height, index, grey, model.parse_id, model.coder.trellis is not None, depth)

"""A plugin with which Pillow, and whatever reads pictures through it, opens and saves .ldc files.

    import ldcodec.pillow                       or ldcodec.register()
    Image.open("photo.ldc")                     reads size, mode and metadata; pixels are decoded on first use
    image.save("photo.ldc", rate=0.5)           or size=, psnr=, quality=, lossless=True

Errors are those of Pillow's own formats: UnidentifiedImageError for an unreadable header, OSError for a file that
cannot be decoded or a picture that cannot be stored, ValueError for wrong options.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from PIL import Image, ImageFile, UnidentifiedImageError

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.layout import MAGIC, Header
from ldcodec.bitstream.reader import Reader
from ldcodec.bitstream.slices import PREVIEW_SCALES
from ldcodec.errors import DamagedError, FormatError, LdcodecError, LdcodecWarning, UsageError

FORMAT = "LDC"
EXTENSION = ".ldc"
MIME = "image/x-ldc"
DEEP = "I;16"  # Pillow's only mode of 16 bits
DEFAULT_QUALITY = 60.0  # if `save` is given no target
TARGETS = ("rate", "size", "psnr", "quality", "lossless")
SETTINGS = (
    "strip",
    "fallback",
    "effort",
    "tune",
    "depth",
    "hdr",
    "roi",
    "model",
)  # options that `save` passes on to `ldcodec.encode`
METADATA = ("exif", "xmp", "icc_profile", "dpi")  # options of `save` that replace the image's own metadata

_KEYS = {  # of `info`, and how the chunks are read
    chunktypes.ICC: ("icc_profile", chunktypes.unpack),
    chunktypes.EXIF: ("exif", chunktypes.unpack),
    chunktypes.XMP: ("xmp", chunktypes.unpack),
    chunktypes.IPTC: ("iptc", chunktypes.unpack),
    chunktypes.TEXTS: ("texts", chunktypes.unpack_texts),
    chunktypes.RESOLUTION: ("dpi", chunktypes.unpack_resolution),
}


class LdcImageFile(ImageFile.ImageFile):
    """An .ldc file as a Pillow image of mode L, LA, RGB or RGBA; its pixels are decoded when they are first used.

    Grey of more than 8 bits a sample has the mode I;16; colours and alpha, for which Pillow has no such mode, have 8.
    `info` holds icc_profile, exif, xmp, iptc, texts and dpi if the file does. `draft`, which `thumbnail` calls, turns
    the image into a preview at 1/2 to 1/16 of the size, decoded without diffusion. With
    ImageFile.LOAD_TRUNCATED_IMAGES, the intact parts of a damaged file are restored. The weights that a file names must
    be on the search path.
    """

    format = FORMAT
    format_description = "ldcodec learned image"

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the smallest preview that is not smaller than `size`, (width, height) in pixels, as for JPEG.

        Returns the mode and the box of the picture in pixels of the preview, or None if a preview was chosen already.
        """
        width, height = self.size
        if size is None or len(self.tile) != 1 or self.tile[0].args != (1,):
            return None
        reduction = min(width // max(1, size[0]), height // max(1, size[1]))
        scale = max((scale for scale in PREVIEW_SCALES if scale <= reduction), default=1)
        self._size = -(-width // scale), -(-height // scale)
        self._set_tile(scale)
        return self.mode, (0, 0, width / scale, height / scale)

    def verify(self) -> None:
        """Test the checksums of the whole file, without decoding it; as in any format, the image is then closed.

        Raises OSError for a damaged file, RuntimeError unless called directly after `open`.
        """
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        with _pillow_errors():
            Reader(cast(BinaryIO, self.fp)).check()
        super().verify()

    def load_seek(self, pos: int) -> None:
        """Nothing to seek; but the presence of this method makes ImageFile.Parser wait for the whole file."""

    def _open(self) -> None:
        try:
            source = Reader(cast(BinaryIO, self.fp))
        except FormatError as error:
            raise UnidentifiedImageError(f"cannot identify image file {self.filename!r}: {error}") from error
        kinds = [source.chunk_kind(number) for number in range(source.chunk_count)]
        self._mode = _mode(source.header, chunktypes.ALPHA in kinds)
        self._size = source.header.width, source.header.height
        for number, kind in enumerate(kinds):
            if kind in _KEYS:
                self._keep(*_KEYS[kind], source, number)
        self._set_tile(1)

    def _set_tile(self, scale: int) -> None:
        self.tile = [ImageFile._Tile(FORMAT, (0, 0, *self.size), 0, (scale,))]

    def _keep(self, key: str, unpack: Callable[[bytes], Any], source: Reader, number: int) -> None:
        """Copy a chunk into `info`; a damaged one is left out with a warning, as the picture may be intact."""
        try:
            text = unpack(source.chunk(number).data)
        except DamagedError:
            text = None
        if text is None:
            warnings.warn(f"its {key} cannot be read and is left out", LdcodecWarning, stacklevel=2)
        else:
            self.info[key] = chunktypes.EXIF_MARK + text if key == "exif" else text


class LdcDecoder(ImageFile.PyDecoder):
    """Pillow's decoder of the pixels; its argument is the scale of the preview, 1 for the picture itself."""

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Decode the whole file. Raises OSError."""
        from ldcodec.codec import decode
        from ldcodec.decoder.request import Request

        depth = 16 if self.mode == DEEP else 8
        request = Request(scale=self.args[0], salvage=ImageFile.LOAD_TRUNCATED_IMAGES, depth=depth)
        with _pillow_errors():
            image = decode(Reader(cast(BinaryIO, self.fd)), request=request)
        if image.mode != self.mode:  # a damaged file whose alpha plane was lost
            image = image.convert(self.mode)
        self.set_as_raw(image.tobytes())
        return -1, 0


def register() -> None:
    """Register the format with Pillow; importing this module does it."""
    Image.register_open(FORMAT, LdcImageFile, _accept)
    Image.register_decoder(FORMAT, LdcDecoder)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    from ldcodec.codec import encode

    options = {name: value for name, value in image.encoderinfo.items() if name in TARGETS + SETTINGS}
    if all(options.get(name) is None or options[name] is False for name in TARGETS):
        options["quality"] = DEFAULT_QUALITY
    with _pillow_errors():
        data = encode(_described(image), **options)
    stream.write(data)


def _save_all(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    """What `save` with save_all=True or append_images calls."""
    if image.encoderinfo.get("append_images") or getattr(image, "is_animated", False):
        raise ValueError("an .ldc file holds one picture; save each by itself")
    _save(image, stream, filename)


def _described(image: Image.Image) -> Image.Image:
    """The image with the metadata given to `save` in place of its own; an empty value removes it.

    As in Pillow's own formats, a given Exif orientation applies to the pixels as they are.
    """
    given = {key: image.encoderinfo[key] for key in METADATA if key in image.encoderinfo}
    if not given:
        return image
    from ldcodec.pictures.read import info_of, warn_of_frames

    own = info_of(image)
    warn_of_frames(image)  # its copy knows of no others
    exif = given.pop("exif", own["exif"])
    given["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    described = image.copy()  # a copy has no format, so that a TIFF image's own tags are not read again
    described.info.update(own | given)
    described.info = {key: value for key, value in described.info.items() if value}
    return described


def _mode(header: Header, alpha: bool) -> str:
    if header.grey and header.depth > 8 and not alpha:
        return DEEP
    return ("L" if header.grey else "RGB") + ("A" if alpha else "")


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Turn our errors into those that callers of Pillow expect: ValueError for wrong use, else OSError."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error
    except LdcodecError as error:
        raise OSError(str(error)) from error


register()

"""`Picture` ⇄ the chunks that hold all of it but the pixels."""

from ldcodec.bitstream import chunktypes
from ldcodec.bitstream.container import Container
from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.reader import Chunk
from ldcodec.errors import DamagedError
from ldcodec.pictures import planes
from ldcodec.pictures.guard import warn
from ldcodec.pictures.picture import Picture, Pixels

_WEBP, _PNG = b"\0", b"\1"


def pack(picture: Picture) -> tuple[Chunk, ...]:
    """The chunks of a picture's profile, Exif, XMP and alpha, as far as it has them.

    Raises PictureError for an alpha plane of more pixels than `planes.readable` allows.
    """
    texts = ((chunktypes.ICC, picture.icc), (chunktypes.EXIF, picture.exif), (chunktypes.XMP, picture.xmp))
    found = [Chunk(kind, chunktypes.pack(text)) for kind, text in texts if text is not None]
    if picture.alpha is not None:
        found.append(Chunk(chunktypes.ALPHA, _packed_alpha(picture.alpha)))
    return tuple(found)


def unpack(pixels: Pixels, plane: Pixels | None, source: Container) -> Picture:
    """The picture of decoded pixels, uint8 (H, W, 3) or (H, W), and an alpha plane (H, W), with a file's metadata.

    Metadata that cannot be read are left out with an LdcodecWarning.
    """
    icc, exif, xmp = (_text(source, kind) for kind in (chunktypes.ICC, chunktypes.EXIF, chunktypes.XMP))
    return Picture(pixels, plane, icc, exif, xmp)


def alpha(source: Container) -> Pixels | None:
    """The alpha plane of a file, uint8 (H, W), or None if all is opaque. Raises DamagedError."""
    data = source.chunk(chunktypes.ALPHA)
    if data is None:
        return None
    read = {_WEBP: planes.read_webp, _PNG: planes.read_png}.get(data[:1])
    if read is None:
        raise DamagedError(f"chunk {chunktypes.ALPHA} is coded in an unknown way")
    try:
        return read(data[1:], _size(source.header), True)
    except DamagedError as error:
        raise DamagedError(f"chunk {chunktypes.ALPHA}: {error}") from error


def size_problem(chunk: Chunk, size: tuple[int, int]) -> str | None:
    """What is wrong with a chunk of pixels in a file of this width and height, told by the beginning of its own data;
    None where nothing is, and for other chunks.
    """
    form, data = chunk.kind, chunk.data
    if form == chunktypes.ALPHA:
        form, data = {_WEBP: chunktypes.WEBP, _PNG: chunktypes.PNG}.get(data[:1], ""), data[1:]
        if not form:
            return "coded in an unknown way"
    if form not in chunktypes.WHOLE_PICTURES:
        return None
    claimed = (planes.webp_size if form == chunktypes.WEBP else planes.png_size)(data)
    name = "WebP" if form == chunktypes.WEBP else "PNG"
    if claimed is None:
        return f"no {name} data of the kind that a file may hold"
    if claimed == size:
        return None
    return f"a picture of {claimed[0]}x{claimed[1]} pixels in a file of {size[0]}x{size[1]}"


def _packed_alpha(plane: Pixels) -> bytes:
    forms = [_PNG + planes.png(plane)]
    if planes.fits_webp(plane):
        forms.append(_WEBP + planes.webp(plane))
    return min(forms, key=len)


def _text(source: Container, kind: str) -> bytes | None:
    data = source.chunk(kind)
    text = None if data is None else chunktypes.unpack(data)
    if data is not None and text is None:
        warn(f"chunk {kind} cannot be read and is left out")
    return text


def _size(header: Header) -> tuple[int, int]:
    return header.width, header.height

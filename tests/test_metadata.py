"""Metadata beside the pixels: each is kept or named in a warning, and nothing that is kept points to what is gone."""

import hashlib
import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from ldcodec.bitstream import chunktypes, container
from ldcodec.errors import LdcodecWarning, PictureError
from ldcodec.pictures import chunks
from ldcodec.pictures.codepoints import CURVES, PRIMARIES
from ldcodec.pictures.gifblocks import described as described_gif
from ldcodec.pictures.metadata import strip
from ldcodec.pictures.notes import Notes
from ldcodec.pictures.picture import Picture
from ldcodec.pictures.profiles import made
from ldcodec.pictures.read import from_image, read
from ldcodec.pictures.write import to_image, write
from tests.pictures import SRGB, colours, exif_of

IPTC = b"\x1c\x02\x78\x00\x08A parrot\x1c\x02\x19\x00\x05birds"
RESOURCE = b"8BIM\x04\x04\0\0" + len(IPTC).to_bytes(4, "big") + IPTC + bytes(len(IPTC) % 2)
TEXTS = (("Description", "A parrot"), ("Author", "Zoë – 名"), ("Comment", "one"), ("Comment", "two"))
NOTES = Notes(IPTC, TEXTS, (300.0, 150.5))
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
GAIN_MAP = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" hdrgm:GainMapMax="2"'
APPLE = 'xmlns:H="http://ns.apple.com/HDRGainMap/1.0/" H:HDRGainMapVersion="65536"'
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
CONTAINER = (
    'xmlns:C="http://ns.google.com/photos/1.0/container/" xmlns:I="http://ns.google.com/photos/1.0/container/item/"'
)
TITLE = '<dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">Ü &amp; &lt;</dc:title>'


def packet(attributes: str = "", content: str = "", quote: str = '"') -> bytes:
    """An XMP packet of one description with a title."""
    head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    description = f'<rdf:Description rdf:about="" {attributes}>{TITLE}{content}</rdf:Description>'
    rdf = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>{description}</rdf:RDF></x:xmpmeta>'
    return (head + rdf + '<?xpacket end="w"?>').replace('"', quote).encode()


def segment(number: int, data: bytes) -> bytes:
    return b"\xff" + bytes([number]) + (len(data) + 2).to_bytes(2, "big") + data


def jpeg(*segments: bytes, after: bytes = b"", **options: Any) -> bytes:
    """A JPEG file with segments after its first one, and bytes after its end."""
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "JPEG", **options)
    data = file.getvalue()
    place = 4 + int.from_bytes(data[4:6], "big")
    return data[:place] + b"".join(segments) + data[place:] + after


def png(*added: tuple[bytes, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "PNG", **options)
    inner = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in added
    )
    return file.getvalue()[:33] + inner + file.getvalue()[33:]


def tiff(tags: dict[int, tuple[int, Any]]) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        info.tagtype[tag] = kind
        info[tag] = value
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "TIFF", tiffinfo=info)
    return file.getvalue()


def webp(kind: bytes, data: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "WEBP", lossless=True, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    body = file.getvalue()[8:] + kind + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def avif(kind: bytes, data: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(colours(16, 16)).save(file, "AVIF")
    return file.getvalue() + (len(data) + 8).to_bytes(4, "big") + kind + data


def told(data: bytes) -> tuple[Picture, str]:
    """A picture and the warnings that reading it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = read(io.BytesIO(data))
    return picture, "; ".join(str(entry.message) for entry in caught)


def silent(data: bytes) -> Picture:
    picture, warning = told(data)
    assert not warning
    return picture


def written(picture: Picture, format: str) -> bytes:
    file = io.BytesIO()
    write(picture, file, format)
    return file.getvalue()


def test_notes_survive_a_file() -> None:
    stored = chunks.lossless(Picture(colours(), notes=NOTES))
    again = container.read(container.write(stored))
    assert chunks.unpack(colours(), None, again).notes == NOTES
    assert {"iptc", "text", "dpis"} <= {chunk.kind for chunk in again.chunks}


@pytest.mark.parametrize("data", [b"", b"\0a", b"\0a\0", b"\0a\0b\0c\0", b"\0\xff\0\0", b"\2a\0b\0"])
def test_damaged_chunks_of_texts_are_refused(data: bytes) -> None:
    assert chunktypes.unpack_texts(data) is None


@pytest.mark.parametrize("data", [b"", bytes(8), b"\1\0\0\0\0\0\0\0", bytes(7) + b"\1\1"])
def test_damaged_chunks_of_resolution_are_refused(data: bytes) -> None:
    assert chunktypes.unpack_resolution(data) is None


def test_images_carry_notes() -> None:
    picture = Picture(colours(), notes=NOTES)
    image = to_image(picture)
    assert (image.info["dpi"], image.info["iptc"], image.info["texts"]) == (NOTES.resolution, IPTC, TEXTS)
    assert from_image(image).notes == NOTES
    assert strip(picture).notes == Notes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
def test_formats_keep_notes_or_tell(format: str) -> None:
    given = Notes(IPTC, (("Description", "A parrot"), ("Comment", "one")), (300.0, 150.0))
    kept = {
        "PNG": given,
        "JPEG": Notes(IPTC, (("Comment", "one"),), (300.0, 150.0)),
        "TIFF": Notes(IPTC, (), (300.0, 150.0)),
        "BMP": Notes(None, (), (300.0, 150.0)),
    }.get(format, Notes())
    names = [("IPTC", kept.iptc != given.iptc), ("comments and other texts", kept.texts != given.texts)]
    lost = ", ".join([name for name, is_lost in [*names, ("resolution", kept.resolution is None)] if is_lost])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = written(Picture(colours(), notes=given), format)
    messages = [str(entry.message) for entry in caught]
    assert messages == ([f"{format} cannot hold its {lost}, left out"] if lost else [])
    found = silent(data).notes
    assert (found.iptc, found.texts) == (kept.iptc, kept.texts)
    if kept.resolution is not None:
        assert found.resolution == pytest.approx(kept.resolution, rel=1e-4)


def test_all_texts_survive_png_but_for_those_under_one_keyword() -> None:
    texts = (*TEXTS[:3], ("Long", "x" * 5000), ("Title", "tab\tand\nline"))
    assert set(silent(written(Picture(colours(), notes=Notes(texts=texts)), "PNG")).notes.texts) == set(texts)
    _, warning = told(written(Picture(colours(), notes=Notes(texts=TEXTS)), "PNG"))
    assert "texts under a keyword that is there again" in warning


@pytest.mark.parametrize("keyword", ["", " a", "a" * 80, "名", "a\nb", "XML:com.adobe.xmp", "Raw profile type exif"])
def test_keywords_that_png_forbids_are_told(keyword: str) -> None:
    with pytest.warns(LdcodecWarning, match="PNG cannot hold its comments and other texts"):
        data = written(Picture(colours(), notes=Notes(texts=((keyword, "text"),))), "PNG")
    assert silent(data).notes.texts == ()


@pytest.mark.parametrize("raw", [IPTC, RESOURCE], ids=["bare", "resource"])
@pytest.mark.parametrize("kind", ["iptc", "8bim"])
def test_iptc_in_texts_of_png(kind: str, raw: bytes) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(raw):8d}\n{raw.hex()}\n\0", zip=True)
    found = silent(png(pnginfo=text))
    assert found.notes == Notes(IPTC)


def test_profile_in_texts_of_png() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type icc", f"\nicc\n{len(SRGB):8d}\n{SRGB.hex()}\n", zip=True)
    assert silent(png(pnginfo=text)).icc == SRGB


def test_iptc_of_jpeg_and_tiff() -> None:
    path = b"8BIM\x07\xd0\x01p\0\0\0\x04path"
    found, warning = told(jpeg(segment(0xED, b"Photoshop 3.0\0" + path + RESOURCE)))
    assert found.notes.iptc == IPTC
    assert "no place for its Photoshop settings" in warning
    assert silent(jpeg(segment(0xED, b"Photoshop 3.0\0" + RESOURCE))).notes.iptc == IPTC
    assert silent(tiff({33723: (7, IPTC)})).notes.iptc == IPTC
    assert silent(tiff({34377: (1, RESOURCE)})).notes.iptc == IPTC


@pytest.mark.parametrize(
    "content", [b"", b"8BIM", b"8BIM\x04\x04\xff", b"8BIM\x04\x04\0\0\xff\xff\xff\xff", b"8BIM" * 9]
)
def test_damaged_resources_hold_nothing(content: bytes) -> None:
    assert read(io.BytesIO(jpeg(segment(0xED, b"Photoshop 3.0\0" + content)))).notes.iptc is None


def test_comments_of_jpeg_and_gif() -> None:
    data = jpeg(segment(0xFE, "zwei Wörter".encode()), segment(0xFE, b"caf\xe9\0"), comment=b"first")
    assert {text for _, text in silent(data).notes.texts} == {"first", "zwei Wörter", "café"}
    file = io.BytesIO()
    Image.fromarray(colours()).convert("P").save(file, "GIF", comment=b"of a GIF")
    assert silent(file.getvalue()).notes.texts == (("Comment", "of a GIF"),)


@pytest.mark.parametrize("dpi", [(300, 300), (96, 96), (72, 100), (1200, 600)])
def test_resolution_comes_back(dpi: tuple[int, int]) -> None:
    for format in ("JPEG", "PNG", "TIFF", "BMP"):
        file = io.BytesIO()
        Image.fromarray(colours()).save(file, format, dpi=dpi)
        found = silent(file.getvalue())
        assert found.notes.resolution == pytest.approx(dpi, rel=1e-3), format
        back = written(chunks.unpack(colours(), None, chunks.lossless(found)), format)
        with Image.open(io.BytesIO(back)) as image:
            assert image.info["dpi"] == pytest.approx(dpi, rel=1e-3), format


def test_the_usual_resolution_takes_no_bytes() -> None:
    assert silent(jpeg(dpi=(72, 72))).notes.resolution is None
    assert silent(tiff({})).notes.resolution is None
    assert silent(jpeg(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")).notes.resolution is None


def test_pixels_that_are_not_square_are_told() -> None:
    data = jpeg()
    place = data.index(b"JFIF\0") + 7
    assert "not square" in told(data[:place] + b"\0\0\2\0\1" + data[place + 5 :])[1]
    assert "not square" in told(tiff({282: (5, 2.0), 283: (5, 1.0), 296: (3, 1)}))[1]
    assert "not square" in told(png((b"pHYs", struct.pack(">IIB", 2, 1, 0))))[1]


def test_xmp_that_promises_nothing_stays_byte_for_byte() -> None:
    for xmp in (packet(), packet(quote="'"), packet('xmlns:a="b" a:GainMap="1"'), b"not XML at all <"):
        assert silent(jpeg(xmp=xmp)).xmp == xmp


PROMISES = {
    "Android": (GAIN_MAP, "", "gain map"),
    "Apple": (APPLE, "", "gain map"),
    "elements": ("", f"<h:Version {GAIN_MAP.split()[0].replace('hdrgm', 'h')}>1.0</h:Version>", "gain map"),
    "motion": (f'{CAMERA} GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', "", "film"),
    "micro video": (f'{CAMERA} GCamera:MicroVideo="1" GCamera:MicroVideoOffset="4123"', "", "film"),
    "provenance": ('xmlns:t="http://purl.org/dc/terms/" t:provenance="self#jumbf=/c2pa/x"', "", None),
}


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("kind", PROMISES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_xmp_points_to_nothing_that_is_gone(form: str, kind: str, quote: str) -> None:
    attributes, content, name = PROMISES[kind]
    xmp = packet(attributes, content, quote)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, form, **({"pnginfo": text} if form == "PNG" else {"xmp": xmp}))
    found, warning = told(file.getvalue())
    assert warning == (f"an .ldc file has no place for its {name}, left out" if name else "")
    assert found.xmp is not None
    kept = found.xmp.decode()
    words = ("Version", "GainMapMax", "MotionPhoto=", "MicroVideo", "provenance")
    assert not [word for word in words if word in kept]
    assert TITLE in kept.replace("'", '"')
    assert kept.startswith("<?xpacket begin=")
    assert kept.endswith("?>")


@pytest.mark.parametrize(
    ("semantic", "name"), [("GainMap", "gain map"), ("MotionPhoto", "film"), ("Depth", "depth map")]
)
def test_directories_of_containers_are_taken_down(semantic: str, name: str) -> None:
    items = "".join(f'<rdf:li><C:Item I:Semantic="{kind}" I:Length="9"/></rdf:li>' for kind in ("Primary", semantic))
    directory = f"<C:Directory {CONTAINER}><rdf:Seq>{items}</rdf:Seq></C:Directory>"
    found, warning = told(jpeg(xmp=packet(content=directory)))
    assert name in warning
    assert found.xmp is not None
    assert b"Semantic" not in found.xmp
    assert TITLE.encode() in found.xmp


def extended(xmp: bytes, size: int = 60_000) -> tuple[str, list[bytes]]:
    """The GUID of extended XMP, and its segments."""
    guid = hashlib.md5(xmp).hexdigest().upper()
    head = b"http://ns.adobe.com/xmp/extension/\0" + guid.encode() + len(xmp).to_bytes(4, "big")
    starts = range(0, len(xmp), size)
    return guid, [segment(0xE1, head + start.to_bytes(4, "big") + xmp[start : start + size]) for start in starts]


EXTENSION = packet('xmlns:d="http://ns.google.com/photos/1.0/depthmap/" d:Data="' + "QUJD" * 30_000 + '"')


def test_extended_xmp_becomes_part_of_the_packet() -> None:
    guid, segments = extended(EXTENSION)
    main = packet(f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid}"')
    found = silent(jpeg(*segments[::-1], xmp=main))  # in any order
    assert found.xmp is not None
    assert b"QUJD" * 30_000 in found.xmp
    assert b"HasExtendedXMP" not in found.xmp
    again = silent(written(found, "PNG"))
    assert again.xmp == found.xmp


def test_extended_xmp_that_is_not_whole_is_told() -> None:
    guid, segments = extended(EXTENSION)
    main = packet(f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid}"')
    damaged = segments[0][:-1] + b"\0"
    for parts in (segments[1:], [damaged, *segments[1:]], []):
        found, warning = told(jpeg(*parts, xmp=main))
        assert "extended XMP" in warning
        assert found.xmp is not None
        assert b"HasExtendedXMP" not in found.xmp


HOSTILE = {
    "entities": b'<!DOCTYPE a [<!ENTITY b "hdr-gain-map">]><a>&b;</a>',
    "depth": b"<a>" * 5000 + b"hdr-gain-map" + b"</a>" * 5000,
    "not XML": b"<hdr-gain-map",
    "encoding": b"<?xml version='1.0' encoding='nonsense'?><a>hdr-gain-map</a>",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_xmp_is_left_out_and_told(kind: str) -> None:
    found, warning = told(jpeg(xmp=HOSTILE[kind]))
    assert "its XMP is left out" in warning
    assert found.xmp is None


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_sizes_and_thumbnails_of_xmp_follow_the_pixels(orientation: int) -> None:
    spaces = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    given = f'{spaces} tiff:Orientation="{orientation}" tiff:ImageWidth="7" tiff:ImageLength="5"'
    content = "<exif:PixelXDimension>7</exif:PixelXDimension><exif:PixelYDimension>5</exif:PixelYDimension>"
    content += '<xmp:Thumbnails xmlns:xmp="http://ns.adobe.com/xap/1.0/">QUJD</xmp:Thumbnails>'
    found = silent(jpeg(xmp=packet(given, content)))
    assert found.xmp is not None
    kept = found.xmp.decode()
    assert f'tiff:ImageWidth="{found.width}"' in kept
    assert f"<exif:PixelYDimension>{found.height}<" in kept
    assert 'tiff:Orientation="1"' in kept
    assert ("Thumbnails" in kept) == (orientation == 1)


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(100)
PARTS = {
    "film after the end": (lambda: jpeg(after=FILM), "film"),
    "film of Samsung": (lambda: jpeg(after=bytes(20) + b"MotionPhoto_Data" + FILM), "film"),
    "picture after the end": (lambda: jpeg(after=jpeg()), "second picture"),
    "something after the end": (lambda: jpeg(after=b"SEFH" + bytes(9)), "data after its end"),
    "gain map of ISO 21496": (lambda: jpeg(segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")), "gain map"),
    "C2PA in JPEG": (lambda: jpeg(segment(0xEB, b"JP\0\1\0\0\0\1jumbc2pa")), "C2PA credentials"),
    "C2PA in PNG": (lambda: png((b"caBX", b"jumb")), "C2PA credentials"),
    "C2PA in TIFF": (lambda: tiff({52545: (7, b"jumb")}), "C2PA credentials"),
    "C2PA in WebP": (lambda: webp(b"C2PA", b"jumb"), "C2PA credentials"),
    "C2PA in AVIF": (
        lambda: avif(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"jumb"),
        "C2PA credentials",
    ),
    "film in AVIF": (lambda: avif(b"mpvd", FILM), "film"),
    "FlashPix": (lambda: jpeg(segment(0xE2, b"FPXR\0")), "FlashPix data"),
    "APP4": (lambda: jpeg(segment(0xE4, b"maker's own")), "APP4 data"),
    "GeoTIFF": (lambda: tiff({33550: (12, (1.0, 1.0, 0.0)), 34735: (3, (1, 1, 0, 0))}), "GeoTIFF tags"),
    "place": (lambda: tiff({286: (5, 2.0)}), r"tag 286 \(XPosition\)"),
    "time": (lambda: png((b"tIME", bytes(7))), "time of its last change"),
    "background": (lambda: png((b"bKGD", bytes(6))), "background colour"),
    "language": (lambda: png((b"iTXt", b"Title\0\0\0de\0Titel\0Papagei")), "languages of texts"),
    "private": (lambda: png((b"prVt", b"")), "chunk prVt"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_what_has_no_place_is_named_once(kind: str) -> None:
    make, name = PARTS[kind]
    with pytest.warns(LdcodecWarning, match=f"^an .ldc file has no place for its {name}, left out$") as caught:
        read(io.BytesIO(make()))
    assert len(caught) == 1


def test_several_parts_are_named_in_one_warning() -> None:
    data = jpeg(segment(0xE4, b"x"), segment(0xE4, b"y"), after=FILM, xmp=packet(GAIN_MAP))
    assert told(data)[1] == "an .ldc file has no place for its APP4 data, film, gain map, left out"


def test_padding_after_the_end_is_nothing() -> None:
    silent(jpeg(after=bytes(1000) + b"\r\n"))


def test_end_markers_inside_segments_are_not_the_end() -> None:
    silent(jpeg(segment(0xFE, b"\xff\xd9" + FILM)))


def test_maker_notes_do_not_move() -> None:
    """They refer to places in their file, so TIFF, whose tags are written anew, cannot keep them."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[ExifTags.Base.MakerNote] = b"maker's own"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    found = silent(jpeg(exif=exif.tobytes()))
    assert found.exif == exif.tobytes()[6:]
    with pytest.warns(LdcodecWarning, match="TIFF cannot hold its maker notes, left out"):
        data = written(found, "TIFF")
    assert b"maker's own" not in data
    assert b"03:04:05" in data
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "TIFF", exif=exif.tobytes())
    assert b"maker's own" in file.getvalue()
    found, warning = told(file.getvalue())
    assert "maker notes" in warning
    assert found.exif is not None
    assert b"maker's own" not in found.exif


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
def test_changed_metadata_is_read_or_refused() -> None:
    """Whatever a byte is changed to, the picture is read, since its metadata is beside it, or refused in one line."""
    guid, segments = extended(EXTENSION[:600] + EXTENSION[-300:])
    main = packet(f'{GAIN_MAP} xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid}"')
    photoshop = segment(0xED, b"Photoshop 3.0\0" + RESOURCE)
    data = jpeg(
        photoshop, segment(0xEB, b"JP\0\1"), *segments, after=FILM, xmp=main, comment=b"comment", dpi=(300, 300)
    )
    rng = np.random.default_rng(2)
    start = data.index(b"\xff\xdb")
    for place in rng.integers(2, start, 300):
        changed = data[:place] + bytes([int(rng.integers(0, 256))]) + data[place + 1 :]
        try:
            picture = read(io.BytesIO(changed))
        except Exception as error:
            assert type(error).__name__ == "PictureError"
            continue
        container.read(container.write(chunks.lossless(picture)))


def test_extended_xmp_claims_no_memory() -> None:
    head = b"http://ns.adobe.com/xmp/extension/\0"
    parts = [segment(0xE1, head + b"%032d" % number + b"\0\xff\xff\xff" + bytes(5)) for number in range(3000)]
    assert silent(jpeg(*parts)).xmp is None


def test_tags_of_exif_that_tiff_cannot_take_are_told() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x4746] = "Maker", 5
    with pytest.warns(LdcodecWarning, match="TIFF cannot hold its other tags of Exif, left out"):
        written(Picture(colours(), exif=exif.tobytes()[6:]), "TIFF")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("resolution", [(0.01, 0.01), (1.0, 429_000.0), (70_000.0, 300.0)])
@pytest.mark.parametrize("iptc", [b"\x1c", b"\x1c" + bytes(70_000), b"not IPTC"])
def test_strange_notes_of_files_are_written_or_told(format: str, resolution: tuple[float, float], iptc: bytes) -> None:
    """A file may hold notes that no picture had."""
    texts = (
        ("Comment", ""),
        ("Comment", "x" * 70_000),
        ("a\x7f", "b"),
        ("Comment", "\x01\r\n\ud7ff"),
        ("é" * 79, "\xff"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LdcodecWarning)
        assert read(io.BytesIO(written(Picture(colours(16, 16), notes=Notes(iptc, texts, resolution)), format)))


def gif(*extensions: bytes, after: bytes = b"") -> bytes:
    """A GIF file with extensions before its picture, and bytes after its end."""
    file = io.BytesIO()
    Image.fromarray(colours()).quantize(16).save(file, "GIF")
    data = file.getvalue()
    place = 13 + (3 << (data[10] & 7) + 1)
    return data[:place] + b"".join(extensions) + data[place:] + after


def blocks(data: bytes) -> bytes:
    parts = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def test_xmp_and_profile_of_gif_are_kept() -> None:
    magic = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    xmp = packet('xmlns:a="b" a:c="' + "d" * 700 + '"')
    assert silent(gif(b"!\xff\x0bXMP DataXMP" + xmp + magic)).xmp == xmp
    p3 = made(CURVES[13], PRIMARIES[12], "P3")
    assert silent(gif(b"!\xff\x0bICCRGBG1012" + blocks(p3), b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0")).icc == p3


def test_other_extensions_of_gif_are_told() -> None:
    assert "its plain text over the picture, left out" in told(gif(b"!\1\x0c" + bytes(12) + blocks(b"text")))[1]
    assert "its application data, left out" in told(gif(b"!\xff\x0bSOMETHING01" + blocks(b"data" * 100)))[1]


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_cut_extensions_of_gif_end_the_search(cut: int) -> None:
    data = gif(b"!\xff\x0bICCRGBG1012" + blocks(b"profile" * 3))
    assert described_gif(io.BytesIO(data[:cut])).xmp is None


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize(("after", "name"), [(b"\0\0\0\x18ftypmp42" + bytes(99), "film"), (b"PK\3\4 zip", "")])
def test_what_follows_a_picture_is_told(form: str, after: bytes, name: str) -> None:
    file = io.BytesIO()
    Image.fromarray(colours(16, 16)).save(file, form)
    warning = told(file.getvalue() + after)[1]
    if form != "AVIF":  # whose boxes may go on after their picture
        assert warning == f"an .ldc file has no place for its {name or 'data after its end'}, left out"


@pytest.mark.parametrize("kind", [b"xml ", b"asoc", b"sefd"])
def test_boxes_of_other_programs_are_told(kind: bytes) -> None:
    assert f"no place for its box {kind.decode().strip()}, left out" in told(avif(kind, b"data"))[1]
    assert not told(avif(b"free", b"data"))[1]


def test_texts_of_png_that_cannot_be_inflated_are_told() -> None:
    sound = (b"iTXt", b"Title\0\1\0\0\0" + zlib.compress("Zoë".encode()))
    assert silent(png(sound)).notes.texts == (("Title", "Zoë"),)
    for bad in ((b"zTXt", b"Author\0\0nonsense"), (b"iTXt", b"Author\0\1\0\0\0nonsense")):
        found, warning = told(png(sound, bad))
        assert warning == "an .ldc file has no place for its damaged texts, left out"
        assert ("Title", "Zoë") in found.notes.texts


def test_texts_that_pillow_does_not_read_are_not_called_damage() -> None:
    with pytest.raises(PictureError, match="its texts, once inflated, are longer"):
        read(io.BytesIO(png((b"zTXt", b"Author\0\0" + zlib.compress(bytes(1 << 21))))))


def test_marker_of_exif_within_png() -> None:
    assert silent(png((b"eXIf", b"Exif\0\0" + exif_of("<", 6)))).pixels.shape == (7, 5, 3)


def test_one_of_two_xmp_is_told() -> None:
    mark = b"http://ns.adobe.com/xap/1.0/\0"
    assert "its second XMP" in told(jpeg(segment(0xE1, mark + packet()), segment(0xE1, mark + packet())))[1]


@pytest.mark.parametrize(("extra", "is_told"), [((2,), False), ((1,), False), ((0,), True), ((2, 0), True)])
def test_channels_beyond_colours_and_alpha_are_told(extra: tuple[int, ...], is_told: bool) -> None:
    values = np.dstack([colours(), *[np.full((5, 7), 200, np.uint8)] * len(extra)])
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    described = {256: 7, 257: 5, 258: (8,) * values.shape[2], 259: 1, 262: 2, 277: values.shape[2], 338: extra}
    for tag, value in (described | {273: 0, 279: values.size}).items():
        tags[tag] = value
    file = io.BytesIO()
    tags.save(file)
    found, warning = told(file.getvalue() + values.tobytes())
    assert np.array_equal(found.pixels, colours()) or extra == (1,)
    assert ("channels that are neither colours nor alpha" in warning) == is_told


def test_layers_and_sizes_that_are_left_out_are_told() -> None:
    file = io.BytesIO()
    Image.fromarray(colours(64, 64)).save(file, "ICO", sizes=[(16, 16), (32, 32)])
    assert "its smaller sizes" in told(file.getvalue())[1]
    assert "its layers" in told(photoshop((0, 0, 3, 3), (1, 1, 4, 4)))[1]
    assert silent(photoshop()).pixels.shape == silent(photoshop((0, 0, 5, 7))).pixels.shape == (5, 7, 3)
    with pytest.warns(LdcodecWarning, match="layers"):
        assert read(io.BytesIO(photoshop((0, 0, 3, 3), (1, 1, 4, 4))), frame=1).pixels.shape == (5, 7, 3)
    with pytest.raises(PictureError, match="no picture number 2; the file holds 1"):
        read(io.BytesIO(photoshop((0, 0, 3, 3), (1, 1, 4, 4))), frame=2)


def photoshop(*layers: tuple[int, int, int, int]) -> bytes:
    """A Photoshop file of 7×5 pixels with layers of one grey channel at top, left, bottom and right."""
    records, content = b"", b""
    for top, left, bottom, right in layers:
        pixels = bytes(2) + bytes((bottom - top) * (right - left))
        records += struct.pack(">4iHhI", top, left, bottom, right, 1, 0, len(pixels))
        records += b"8BIMnorm\xff\0\0\0" + struct.pack(">III", 12, 0, 0) + b"\1L\0\0"
        content += pixels
    info = struct.pack(">h", len(layers)) + records + content
    info += bytes(len(info) % 2)
    masks = struct.pack(">II", len(info) + 8, len(info)) + info + bytes(4) if layers else bytes(4)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 5, 7, 8, 3) + bytes(8)
    return head + masks + bytes(2) + colours().transpose(2, 0, 1).tobytes()

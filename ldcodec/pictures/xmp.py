"""XMP as bytes: what no longer holds of the picture is changed; where nothing is, not a byte is."""

import re
from collections.abc import Callable, Iterator
from xml.dom.minidom import Attr, Document, Element, Text, parseString

from ldcodec.pictures.exif import SIDEWAYS

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_NOTE = "http://ns.adobe.com/xmp/note/"
_GAIN_MAPS = ("http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/")
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_CONTAINERS = ("http://ns.google.com/photos/1.0/container/", "http://ns.google.com/photos/dd/1.0/container/")
_DUBLIN_CORE = "http://purl.org/dc/terms/"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_SIZES = (
    ("http://ns.adobe.com/tiff/1.0/", "ImageWidth", "ImageLength"),
    ("http://ns.adobe.com/exif/1.0/", "PixelXDimension", "PixelYDimension"),
)
_DEEPEST = 100  # elements within each other; XMP has about ten

# Words without which nothing is to be done; before these, XMP is not even parsed.
_SUSPECT = re.compile(
    rb"hdr-gain-map|HDRGainMap|1\.0/container/|MotionPhoto|MicroVideo|HasExtendedXMP|HasExtendedXmp|provenance"
)
_TURNED = re.compile(rb"Thumbnails|ImageWidth|PixelXDimension")
_NAMES = {"gainmap": "gain map", "motionphoto": "film", "depth": "depth map"}  # of what a container holds


class XmpError(ValueError):
    """The packet is not XML, or of a kind that no XMP is."""


def orientation(xmp: bytes) -> int | None:
    """The orientation that XMP asks for, 1 to 8; None if it says nothing."""
    found = re.search(rb'tiff:Orientation\s*(?:=\s*["\']|>)\s*([1-8])', xmp)
    return int(found[1]) if found else None


def upright(xmp: bytes, turned: int) -> bytes:
    """XMP of a picture that was turned as its orientation, 1 to 8, asked: that becomes 1. Raises XmpError.

    As in Exif, thumbnails are left out and sizes change places.
    """
    xmp = re.sub(rb'(tiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]', rb"\g<1>1", xmp)
    if turned == 1 or not _TURNED.search(xmp):
        return xmp
    document = _parsed(xmp)
    changed = _remove(document, lambda space, name, _: (space, name) == (_BASIC, "Thumbnails"))
    if turned in SIDEWAYS:
        changed = [*changed, *(kind for kind in _SIZES if _exchange(document, *kind))]
    return _bytes(document) if changed else xmp


def consistent(xmp: bytes, extended: dict[str, bytes]) -> tuple[bytes, list[str]]:
    """XMP that points to nothing outside itself, and names of what it spoke of. Raises XmpError.

    extended: XMP that did not fit beside it in its file, by GUID; it becomes part of the packet.
    """
    if not _SUSPECT.search(xmp.replace(b"\0", b"")):  # UTF-16 without its zeros
        return xmp, []
    document = _parsed(xmp)
    parts = _promises(document)
    removed = _remove(document, _is_promise)
    guids = [value for _, name, value in removed if name == "HasExtendedXMP"]
    for guid in guids:
        if guid in extended:
            _merge(document, _parsed(extended[guid]))
        else:
            parts.append("extended XMP")
    return (_bytes(document) if removed else xmp), parts


def _is_promise(space: str, name: str, text: str = "") -> bool:
    """Whether a property speaks of data that stand beside the picture in its file."""
    return (
        space in _GAIN_MAPS
        or (space in _CONTAINERS and name == "Directory")
        or (space == _CAMERA and name.startswith(("MotionPhoto", "MicroVideo")))
        or (space, name) == (_NOTE, "HasExtendedXMP")
        or ((space, name) == (_DUBLIN_CORE, "provenance") and not text.startswith(("http:", "https:")))
    )


def _promises(document: Document) -> list[str]:
    """Names of the data that properties speak of."""
    found = []
    for element in _elements(document):
        names = [(element.namespaceURI or "", _local(element))]
        attributes = [attribute for attribute in _attributes(element) if attribute.namespaceURI != _XMLNS]
        names += [(attribute.namespaceURI or "", _local(attribute)) for attribute in attributes]
        if any(space in _GAIN_MAPS for space, _ in names):
            found.append("gain map")
        if any(space == _CAMERA and _is_promise(space, name) for space, name in names):
            found.append("film")
        semantics = [attribute.value for attribute in attributes if _local(attribute) == "Semantic"]
        found += [_NAMES.get(kind.lower(), "further pictures") for kind in semantics if kind != "Primary"]
    return found


def _parsed(xmp: bytes) -> Document:
    if b"<!DOCTYPE" in xmp.replace(b"\0", b""):  # entities may expand without end, and XMP has none
        raise XmpError("it has a document type")
    try:
        document: Document = parseString(xmp.strip(b"\0 \r\n\t"))
    except Exception as error:  # expat, and codecs of whatever encoding the packet names
        raise XmpError("it is not XML") from error
    for _ in _elements(document):  # raises if they are too deep
        pass
    return document


def _bytes(document: Document) -> bytes:
    return "".join(node.toxml() for node in document.childNodes).encode("utf-8")


def _elements(document: Document) -> Iterator[Element]:
    """All elements, a parent before its children. Raises XmpError if they are too deep."""
    waiting = [(element, 1) for element in _children(document)]
    while waiting:
        element, depth = waiting.pop()
        if depth > _DEEPEST:
            raise XmpError("its elements are too deep")
        yield element
        waiting += [(child, depth + 1) for child in _children(element)]


def _children(node: Document | Element) -> list[Element]:
    return [child for child in node.childNodes if isinstance(child, Element)]


def _attributes(element: Element) -> list[Attr]:
    found = (element.attributes.item(number) for number in range(element.attributes.length))
    return [attribute for attribute in found if isinstance(attribute, Attr)]


def _local(node: Element | Attr) -> str:
    return str(node.localName or node.nodeName)


def _remove(document: Document, wanted: Callable[[str, str, str], bool]) -> list[tuple[str, str, str]]:
    """Remove properties, as attributes or elements; returns namespace, name and text of each that was there."""
    removed = []
    for element in list(_elements(document)):
        space, name = element.namespaceURI or "", _local(element)
        text = _content(element)
        if wanted(space, name, text) and element.parentNode is not None:
            removed.append((space, name, text))
            element.parentNode.removeChild(element)
        for attribute in _attributes(element):
            space, name = attribute.namespaceURI or "", _local(attribute)
            if space != _XMLNS and wanted(space, name, attribute.value):
                removed.append((space, name, attribute.value))
                element.removeAttributeNode(attribute)
    return removed


def _content(element: Element) -> str:
    return "".join(child.data for child in element.childNodes if isinstance(child, Text)).strip()


def _merge(document: Document, extension: Document) -> None:
    """Append the descriptions of an extension to those of a packet, with the prefixes that hold for them."""
    target, source = (found.getElementsByTagNameNS(_RDF, "RDF") for found in (document, extension))
    if not target or not source:
        raise XmpError("it has no RDF")
    above = [source[0].parentNode, source[0]]
    attributes = [attribute for element in above if isinstance(element, Element) for attribute in _attributes(element)]
    prefixes = [attribute for attribute in attributes if attribute.namespaceURI == _XMLNS]
    for child in _children(source[0]):
        copy = document.importNode(child, True)
        for prefix in prefixes:
            if not copy.hasAttribute(prefix.name):
                copy.setAttributeNS(_XMLNS, prefix.name, prefix.value)
        target[0].appendChild(copy)


def _exchange(document: Document, space: str, one: str, other: str) -> bool:
    """Exchange the values of two properties of one description, attributes or elements; False if they are not there."""
    for element in _elements(document):
        pair: list[object] = [element.getAttributeNodeNS(space, name) for name in (one, other)]
        if None in pair:
            inside = {_local(child): child for child in _children(element) if child.namespaceURI == space}
            pair = [inside[name].firstChild if name in inside else None for name in (one, other)]
        first, second = pair
        if isinstance(first, Attr | Text) and isinstance(second, Attr | Text):
            first.nodeValue, second.nodeValue = second.nodeValue, first.nodeValue
            return True
    return False

"""Metadata in texts of PNG, as ImageMagick, exiftool and libavif put it there: a name, a length, hexadecimal digits."""

import re

from PIL import Image

from ldcodec.pictures.guard import warn

PREFIX = "Raw profile type "  # begins the keyword


def raw_profile(image: Image.Image, kind: str) -> bytes | None:
    """The data of a kind (exif, APP1, xmp, iptc, 8bim, icc) in the texts of a loaded image; None if there are none.

    Warns of a text that holds fewer bytes than it says.
    """
    text = image.info.get(PREFIX + kind)
    if not isinstance(text, str):
        return None
    found = re.match(r"\s*\w+\s+(\d+)\s+([\da-fA-F\s]*)", text)
    digits = "" if found is None else "".join(found[2].split())
    length = 0 if found is None else 2 * int(found[1][:9])
    if not 0 < length <= len(digits):
        warn("its damaged metadata is ignored")
        return None
    return bytes.fromhex(digits[:length])  # whatever follows does not belong to it


def as_text(kind: str, data: bytes) -> str:
    """The text of which `raw_profile` gives the data."""
    digits = data.hex()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return "\n".join(["", kind, f"{len(data):8d}", *lines, ""])

"""What a picture file says of its picture that Pillow does not tell."""

from dataclasses import dataclass, field

from ldcodec.pictures.codepoints import CodePoints


@dataclass
class Findings:
    """What looking at a file has found.

    bits: of a sample, and white: its largest value, both 0 if unknown; extended_xmp: by its GUID, in JPEG; turned: the
    orientation that Pillow applies as it decodes; parts: names of what an .ldc file has no place for; refused: why its
    pixels, which Pillow would show wrongly, are not read.
    """

    code_points: CodePoints | None = None
    icc: bytes | None = None
    bits: int = 0
    white: int = 0
    exif: bytes | None = None
    xmp: bytes | None = None
    extended_xmp: dict[str, bytes] = field(default_factory=dict)
    iptc: bytes | None = None
    comments: list[bytes] = field(default_factory=list)
    turned: int = 1
    parts: list[str] = field(default_factory=list)
    refused: str | None = None

"""What the bench knows of a codec: two functions between pixels and bytes, and its scale of quality."""

from collections.abc import Callable
from dataclasses import dataclass

from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels


class MissingCodecError(LdcodecError):
    """A codec's library is not installed; the text says what brings it."""


@dataclass(frozen=True)
class Codec:
    """A codec with everything fixed but one number, its setting.

    name: in tables and files; title: in plots; library: names and versions, settings: the fixed ones, in words.
    scale: settings from the smallest file to the largest; whole: whether only whole numbers are settings.
    encode: uint8 (H, W, 3) RGB and a setting → the bytes of a file; decode: those bytes → uint8 (H, W, 3).
    """

    name: str
    title: str
    library: str
    settings: str
    scale: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes], Pixels]
    whole: bool = True

    @property
    def version(self) -> str:
        """All that two measurements must share to be of the same curve."""
        return f"{self.library}; {self.settings}"

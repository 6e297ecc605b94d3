"""What of a file's picture is wanted: all of it, a region, a smaller preview, or what damage has left."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldcodec.bitstream.layout import Header
from ldcodec.bitstream.slices import PREVIEW_SCALES, Area
from ldcodec.errors import UsageError
from ldcodec.pictures.picture import Pixels

SCALES = (1, *PREVIEW_SCALES)


@dataclass(frozen=True)
class View:
    """What of a file is wanted.

    region: (x, y, width, height) in pixels, None for all; scale: 1, or 2, 4, 8 or 16 for a preview at 1/scale of the
    size; salvage: restore what damage has left. Raises UsageError outside these.
    """

    region: tuple[int, int, int, int] | None = None
    scale: int = 1
    salvage: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UsageError(f"the scale must be 1/1, 1/2, 1/4, 1/8 or 1/16, not 1/{self.scale}")
        if self.region is not None and self.scale != 1:
            raise UsageError("a preview shows the whole picture: give a region or a scale")

    def area(self, header: Header) -> Area | None:
        """The region, None for the whole picture. Raises UsageError where it leaves the picture."""
        if self.region is None:
            return None
        x, y, width, height = self.region
        if min(x, y) < 0 or min(width, height) < 1 or x + width > header.width or y + height > header.height:
            size = f"{header.width}x{header.height}"
            raise UsageError(f"the region {x},{y},{width},{height} does not lie in a picture of {size} pixels")
        return Area(y, y + height, x, x + width)

    def shown(self, plane: Pixels) -> Pixels:
        """What the view shows of a whole plane, (H, W) or (H, W, C): a preview has means over boxes, sides rounded
        up.
        """
        if self.scale != 1:
            return np.asarray(Image.fromarray(plane).reduce(self.scale))
        if self.region is None:
            return plane
        x, y, width, height = self.region
        return plane[y : y + height, x : x + width]

"""Butteraugli, by the program `butteraugli_main` of libjxl, which Debian has in libjxl-devtools."""

import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from ldcodec.errors import LdcodecError
from ldcodec.pictures.picture import Pixels

PROGRAM = "butteraugli_main"


def distance(original: Pixels, decoded: Pixels) -> float:
    """The 3-norm of Butteraugli's map of differences, 0 for a copy; 1 is about what can just be seen.

    original, decoded: uint8 (H, W, 3). Raises LdcodecError if the program is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="ldcodec-bench-") as folder:
        files = [Path(folder, name) for name in ("original.png", "decoded.png")]
        for file, pixels in zip(files, (original, decoded), strict=True):
            Image.fromarray(pixels).save(file, compress_level=1)
        try:
            done = subprocess.run([PROGRAM, *files], capture_output=True, text=True)
        except OSError as error:
            raise LdcodecError(f"Butteraugli needs the program {PROGRAM} ({error.strerror})") from error
    found = re.search(r"^3-norm: (\S+)$", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise LdcodecError(f"{PROGRAM} failed: {' '.join(done.stderr.split()) or 'it names no 3-norm'}")
    return float(found[1])

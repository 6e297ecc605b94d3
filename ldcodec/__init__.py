"""A learned codec for photographs with a conditional latent diffusion decoder.

    data = ldcodec.encode(image, rate=0.5)      Pillow image or array → bytes of an .ldc file
    image = ldcodec.decode(data)                → Pillow image
    ldcodec.info(data)                          → dict of the header fields; needs no model
    ldcodec.register()                          teach Pillow to open and save .ldc files

Everything except the errors is imported on first use, which keeps `import ldcodec` fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ldcodec.errors import (
    DamagedError,
    FormatError,
    LdcodecError,
    LdcodecWarning,
    ModelError,
    PictureError,
    TargetError,
    UsageError,
)

if TYPE_CHECKING:
    from ldcodec.bitstream.container import info
    from ldcodec.codec import decode, encode
    from ldcodec.encoder.library import load_model
    from ldcodec.pillow import register

__version__ = "0.1.0"

__all__ = [
    "DamagedError",
    "FormatError",
    "LdcodecError",
    "LdcodecWarning",
    "ModelError",
    "PictureError",
    "TargetError",
    "UsageError",
    "__version__",
    "decode",
    "encode",
    "info",
    "load_model",
    "register",
]

_HOMES = {  # public name → (module, attribute); importing them here would load NumPy, Pillow and torch
    "decode": ("ldcodec.codec", "decode"),
    "encode": ("ldcodec.codec", "encode"),
    "info": ("ldcodec.bitstream.container", "info"),
    "load_model": ("ldcodec.encoder.library", "load_model"),
    "register": ("ldcodec.pillow", "register"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ldcodec' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value: object = getattr(import_module(module), attribute)
    globals()[name] = value  # later look-ups bypass this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

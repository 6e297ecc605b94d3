"""Codecs by name."""

from functools import lru_cache

from ldcodec.bench.codecs import Codec, MissingCodecError
from ldcodec.bench.peers import PEERS
from ldcodec.bench.subject import NAME, RATE_NAME, Subject, constant_quality, constant_rate
from ldcodec.errors import UsageError

NAMES = (NAME, *PEERS)
USUAL = (NAME, "jpeg", "webp", "jp2", "avif", "jxl", "heic")  # those of them that are installed, without --codecs


@lru_cache(maxsize=32)
def codec(name: str, subject: Subject) -> Codec:
    """The codec of a name. Raises UsageError for an unknown one, MissingCodecError without its library, ModelError."""
    if name == NAME:
        return constant_quality(subject)
    if name == RATE_NAME:
        return constant_rate(subject)
    if name not in PEERS:
        raise UsageError(f"unknown codec {name!r}; there are {', '.join(NAMES)}, and all")
    return PEERS[name]()


def choose(names: list[str], subject: Subject) -> tuple[list[Codec], list[str]]:
    """The codecs of these names that are installed, ldcodec's own first, and a line for each one that is not."""
    own = [NAME, *([RATE_NAME] if subject.rates else [])] if NAME in names else []
    found, missing = [], []
    for name in [*own, *(name for name in dict.fromkeys(names) if name not in own)]:
        try:
            found.append(codec(name, subject))
        except MissingCodecError as error:
            missing.append(str(error))
    return found, missing

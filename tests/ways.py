"""Every way to draw a file in full or in part, for what must hold in each of them."""

from collections.abc import Callable
from typing import Any

import pytest

from ldcodec.decoder.request import Request

OPTIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "steps": {"steps": 2},
    "realism": {"realism": 1.0},
    "draft": {"draft": True},
    "salvage": {"request": Request(salvage=True)},
    "region": {},
}


def in_every_way(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with the name of each way as `way`, on a picture drawn in one pass and on one drawn in parts."""
    several_sizes = pytest.mark.usefixtures("either_size")(test)
    named = pytest.mark.parametrize("way", OPTIONS)(several_sizes)
    return pytest.mark.filterwarnings("ignore:its model has no synthesis for texture")(named)


def options_of(way: str, region: tuple[int, int, int, int]) -> dict[str, Any]:
    """The options of `decode` for a way; region: what of the picture is drawn by the way of that name."""
    return {"request": Request(region=region)} if way == "region" else OPTIONS[way]

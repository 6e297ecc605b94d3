"""Colours named by numbers: the primaries and transfer curves of ITU-T H.273, for nclx boxes and PNG's cICP."""

from dataclasses import dataclass

Point = tuple[float, float]  # x, y of CIE 1931

PQ, HLG = 16, 18  # transfer curves of ITU-R BT.2100, for more brightness than ICC profiles of displays describe
UNSPECIFIED = 2


@dataclass(frozen=True)
class Primaries:
    """The chromaticities of the three lights of a display, and of its white."""

    red: Point
    green: Point
    blue: Point
    white: Point = (0.3127, 0.3290)  # D65


@dataclass(frozen=True)
class TransferCurve:
    """Light of a value v in 0..1: (a·v + b)^gamma from v = d on, and c·v below."""

    gamma: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


@dataclass(frozen=True)
class CodePoints:
    """What a file declares: numbers of PRIMARIES and of CURVES, and whether values use the full range of their bits."""

    primaries: int
    transfer: int
    full: bool = True

    @property
    def known(self) -> bool:
        """Whether they say anything."""
        return (self.primaries, self.transfer) != (UNSPECIFIED, UNSPECIFIED)


def pack(points: CodePoints) -> bytes:
    """Code points as PNG's cICP holds those of RGB."""
    return bytes([points.primaries, points.transfer, 0, points.full])


def unpack(data: bytes) -> CodePoints | None:
    """The inverse of `pack` for PQ and HLG in full range; None for anything else."""
    sound = len(data) == 4 and data[1] in (PQ, HLG) and data[2:] == b"\0\1"
    return CodePoints(data[0], data[1]) if sound else None


_BT709 = TransferCurve(1 / 0.45, 1 / 1.099297, 0.099297 / 1.099297, 1 / 4.5, 0.081243)

SRGB = Primaries((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_RGB = Primaries((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB_CURVE = TransferCurve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
ADOBE_CURVE = TransferCurve(563 / 256)

PRIMARIES = {
    1: SRGB,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), (0.310, 0.316)),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
CURVES = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _BT709),  # they differ beyond 0..1 only
    4: TransferCurve(2.2),
    5: TransferCurve(2.8),
    7: TransferCurve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913),
    8: TransferCurve(1.0),
    13: SRGB_CURVE,
    17: TransferCurve(2.6),
}

"""Colours as files declare them, read with littlecms as an independent judge."""

import base64
import contextlib
import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from ldcodec.errors import LdcodecWarning, PictureError
from ldcodec.pictures.codepoints import CURVES, PRIMARIES, Primaries, TransferCurve
from ldcodec.pictures.metadata import strip
from ldcodec.pictures.picture import Picture, Pixels
from ldcodec.pictures.profiles import is_srgb, made
from ldcodec.pictures.read import from_image, read
from ldcodec.pictures.write import write
from tests.pictures import SRGB, colours, gradient, grey

# From CIE XYZ under D65, as the standards print them: IEC 61966-2-1 inverted, SMPTE EG 432-1, ITU-R BT.2020, Adobe RGB.
TO_XYZ = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]])
FROM_XYZ = {
    "sRGB": [[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]],
    "P3": [[2.49350, -0.93138, -0.40271], [-0.82949, 1.76266, 0.02362], [0.03585, -0.07617, 0.95688]],
    "BT.2020": [[1.71665, -0.35567, -0.25337], [-0.66668, 1.61648, 0.01577], [0.01764, -0.04277, 0.94210]],
    "Adobe": [[2.04137, -0.56495, -0.34469], [-0.96927, 1.87601, 0.04156], [0.01345, -0.11839, 1.01541]],
}
CODES = {"sRGB": 1, "P3": 12, "BT.2020": 9}
PICTURE = gradient(24, 32)
TEN_BITS = base64.b85decode(  # grey from 0 to 1008 of 1023, 8×8 pixels of AVIF
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10002%ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004sdC7Z2$lO00031"
    "0016oY;R)#0000)000310RR910RR926951Jy#N3JC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lr"
    "sCWdHyG000002mk;82mk;85O8UDX#fBK00RmN3IG5A3}JRLLxCVb000006Ju{|a&BX6cmM(b0ssJj0000NX>e^}0000000001009I60)qqq006~pWMO"
    "m?015~=2)|<j0sxRQt^p7L004^YlfNf@eTGtFoXD?-wgcn+MwRkyWw<aWuZp+AdDq_e+l4o&mm_Regf|b3HAyX-^Z~jZea#>@`hP|#JOBS|S(JZ;uE"
    "TlN7@hAKed+sXf(z$in)NfvokPix^=AADT=#emQ%M4@f7x?sKCicr!zsvKeK2L4F~GS7?k!E0T<a+cndK!jL7pLbWxbr4aZnZn+7|)1QETwizdhdaF"
    "^1Ch5x;Cj"
)


def light_of(pixels: Pixels) -> np.ndarray:
    """Linear light of sRGB, 1 for white."""
    values = pixels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def coded(pixels: Pixels, space: str, curve: Any) -> Pixels:
    """The colours of an sRGB picture as values of another space with an encoding curve."""
    light = light_of(pixels) @ (np.array(FROM_XYZ[space]) @ TO_XYZ).T
    return np.rint(255 * curve(np.clip(light, 0, 1))).astype(np.uint8)


def srgb_curve(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def bt709_curve(light: np.ndarray) -> np.ndarray:
    return np.where(light < 0.018054, 4.5 * light, 1.099297 * light**0.45 - 0.099297)


def pq_curve(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    powered = np.clip(nits / 10000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375


def shown(picture: Picture) -> Pixels:
    """A picture in sRGB, by littlecms."""
    image = Image.fromarray(picture.pixels)
    if picture.icc is None:
        return np.asarray(image.convert("RGB"))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    srgb = ImageCms.createProfile("sRGB")
    flags = ImageCms.Flags.NOOPTIMIZE  # its shortcuts for 8 bits are 10 levels off for straight curves
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(image, profile, srgb, intent, "RGB", flags=flags)
    assert converted is not None
    return np.asarray(converted)


def far(first: Pixels, second: Pixels) -> float:
    """The mean difference in levels."""
    return float(np.abs(first.astype(int) - second).mean())


def with_chunks(pixels: Pixels, *chunks: tuple[bytes, bytes], **options: Any) -> bytes:
    """A PNG file with chunks after its header."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    inner = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return file.getvalue()[:33] + inner + file.getvalue()[33:]


def avif(pixels: Pixels, primaries: int, transfer: int) -> bytes:
    """A lossless AVIF file whose nclx box names other colours than Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=100, subsampling="4:4:4", speed=10)
    data = file.getvalue()
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def chromaticities(primaries: Primaries) -> bytes:
    """The content of PNG's cHRM."""
    points = (primaries.white, primaries.red, primaries.green, primaries.blue)
    return struct.pack(">8I", *(round(100_000 * value) for point in points for value in point))


def linear_in_name() -> bytes:
    """A profile whose text says sRGB and whose curves are straight."""
    return made(TransferCurve(1.0), PRIMARIES[1], "Linear sRGB")


@pytest.mark.parametrize("transfer", [13, 1, 14, 4, 8])
@pytest.mark.parametrize("space", CODES)
def test_code_points_of_png(space: str, transfer: int) -> None:
    curve = {13: srgb_curve, 4: lambda v: v ** (1 / 2.2), 8: lambda v: v}.get(transfer, bt709_curve)
    values = coded(PICTURE, space, curve)
    data = with_chunks(values, (b"cICP", bytes([CODES[space], transfer, 0, 1])))
    for found in (read(io.BytesIO(data)), from_image(Image.open(io.BytesIO(data)))):
        assert np.array_equal(found.pixels, values)
        assert far(shown(found), PICTURE) < (2.5 if transfer == 8 else 1)
        assert far(strip(found).pixels, PICTURE) < (2.5 if transfer == 8 else 1)


@pytest.mark.parametrize("space", CODES)
def test_code_points_of_avif(space: str) -> None:
    found = read(io.BytesIO(avif(coded(PICTURE, space, srgb_curve), CODES[space], 13)))
    assert far(shown(found), PICTURE) < 1.5
    assert (found.icc is None) == (space == "sRGB")


def test_code_points_outlive_the_loading_of_a_file(tmp_path: Any) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(avif(coded(PICTURE, "P3", srgb_curve), 12, 13))
    with Image.open(path) as image:
        image.load()
        assert far(shown(from_image(image)), PICTURE) < 1.5


@pytest.mark.parametrize("number", sorted(PRIMARIES))
@pytest.mark.parametrize("curve", sorted(CURVES))
def test_every_pair_of_code_points_has_a_profile_that_littlecms_takes(number: int, curve: int) -> None:
    icc = made(CURVES[curve], PRIMARIES[number], "any")
    white = shown(Picture(np.full((1, 1, 3), 255, np.uint8), icc=icc))
    black = shown(Picture(np.zeros((1, 1, 3), np.uint8), icc=icc))
    assert white.min() >= 254
    assert black.max() <= 1
    middle = shown(Picture(np.full((1, 1, 3), 128, np.uint8), icc=icc)).astype(int)
    assert np.ptp(middle) <= 2  # grey stays grey under any white
    assert is_srgb(icc, grey=False) == (curve == 13 and number == 1)


def test_values_of_narrow_range_are_widened() -> None:
    values = np.array([[[16, 16, 16], [235, 235, 235], [126, 16, 235], [0, 255, 16]]], np.uint8)
    found = read(io.BytesIO(with_chunks(values, (b"cICP", bytes([1, 13, 0, 0])))))
    assert found.pixels.tolist() == [[[0, 0, 0], [255, 255, 255], [128, 0, 255], [0, 255, 0]]]


def test_unknown_code_points_are_told() -> None:
    for points, text in (((200, 13), "primaries 200"), ((1, 200), "curve 200")):
        with pytest.warns(LdcodecWarning, match=f"unknown {text}"):
            assert read(io.BytesIO(with_chunks(colours(), (b"cICP", bytes([*points, 0, 1]))))).icc is None


def test_cicp_precedes_other_declarations() -> None:
    """PNG, third edition: cICP, then iCCP, then sRGB, then gAMA and cHRM."""
    values = coded(PICTURE, "P3", srgb_curve)
    chunks = [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0"), (b"cICP", bytes([12, 13, 0, 1]))]
    found = read(io.BytesIO(with_chunks(values, *chunks, icc_profile=linear_in_name())))
    assert far(shown(found), PICTURE) < 1
    assert read(io.BytesIO(with_chunks(values, *chunks[:2], icc_profile=linear_in_name()))).icc == linear_in_name()
    assert read(io.BytesIO(with_chunks(values, *chunks[:2]))).icc is None


def test_profiles_precede_nclx() -> None:
    file = io.BytesIO()
    Image.fromarray(colours(16, 16)).save(file, "AVIF", icc_profile=linear_in_name())
    assert read(io.BytesIO(file.getvalue())).icc == linear_in_name()


@pytest.mark.parametrize("gamma", [1.0, 0.5, 1 / 1.8, 1 / 2.6])
def test_gamma_of_png(gamma: float) -> None:
    values = coded(PICTURE, "sRGB", lambda light: light**gamma)
    found = read(io.BytesIO(with_chunks(values, (b"gAMA", struct.pack(">I", round(100_000 * gamma))))))
    assert np.array_equal(found.pixels, values)
    assert far(shown(found), PICTURE) < 2.5


@pytest.mark.parametrize("gamma", [45455, 45000, 46000])
def test_the_gamma_that_stands_for_srgb_is_srgb(gamma: int) -> None:
    chunks = [(b"gAMA", struct.pack(">I", gamma)), (b"cHRM", chromaticities(PRIMARIES[1]))]
    assert read(io.BytesIO(with_chunks(colours(), *chunks))).icc is None
    assert read(io.BytesIO(with_chunks(grey(), chunks[0]))).icc is None


def test_chromaticities_of_png() -> None:
    adobe = Primaries((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
    values = coded(PICTURE, "Adobe", lambda light: light ** (1 / 2.2))
    chunks = [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chromaticities(adobe))]
    assert far(shown(read(io.BytesIO(with_chunks(values, *chunks)))), PICTURE) < 1
    values = coded(PICTURE, "P3", srgb_curve)  # without a gamma, the curve is that of sRGB
    found = read(io.BytesIO(with_chunks(values, (b"cHRM", chromaticities(PRIMARIES[12])))))
    assert far(shown(found), PICTURE) < 1


def test_chromaticities_of_tiff() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[318], tags[319] = (0.3127, 0.329), (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    file = io.BytesIO()
    Image.fromarray(coded(PICTURE, "P3", srgb_curve)).save(file, "TIFF", tiffinfo=tags)
    assert far(shown(read(io.BytesIO(file.getvalue()))), PICTURE) < 1


@pytest.mark.parametrize(
    "chunk",
    [
        (b"gAMA", struct.pack(">I", 1)),
        (b"gAMA", struct.pack(">I", 2**32 - 1)),
        (b"cHRM", bytes(32)),
        (b"cHRM", struct.pack(">8I", *[33333] * 8)),
        (b"cHRM", struct.pack(">8I", *[2**32 - 1] * 8)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 0, 0, 1, 1, 2, 2)),
    ],
)
def test_impossible_colours_are_told(chunk: tuple[bytes, bytes]) -> None:
    with pytest.warns(LdcodecWarning, match="no light can have"):
        found = read(io.BytesIO(with_chunks(colours(), chunk)))
    assert (found.icc, np.array_equal(found.pixels, colours())) == (None, True)


def adobe_exif(order: str, space: int, index: bytes | None) -> bytes:
    """Exif with a colour space and an interoperability index."""
    interop = b"" if index is None else struct.pack(f"{order}HHHI4sI", 1, 1, 2, 4, index + b"\0", 0)
    second = 8 + 2 + 12 + 4
    third = second + 2 + 12 * (1 if index is None else 2) + 4
    pointer = b"" if index is None else struct.pack(f"{order}HHII", 0xA005, 4, 1, third)
    details = struct.pack(f"{order}HHHIHH", 1 if index is None else 2, 0xA001, 3, 1, space, 0) + pointer + bytes(4)
    main = struct.pack(f"{order}IHHHIII", 8, 1, 0x8769, 4, 1, second, 0)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + main + details + interop


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("space", "index", "wide"),
    [(2, None, True), (0xFFFF, b"R03", True), (0xFFFF, b"R98", False), (0xFFFF, None, False), (1, b"R98", False)],
)
def test_adobe_rgb_of_exif(space: int, index: bytes | None, wide: bool, order: str) -> None:
    file = io.BytesIO()
    values = coded(PICTURE, "Adobe", lambda light: light ** (256 / 563)) if wide else PICTURE
    options = {"exif": b"Exif\0\0" + adobe_exif(order, space, index), "quality": 100, "subsampling": "4:4:4"}
    Image.fromarray(values).save(file, "JPEG", **options)
    found = read(io.BytesIO(file.getvalue()))
    assert (found.icc is not None) == wide
    assert far(shown(found), PICTURE) < 1.5
    Image.fromarray(values).save(file := io.BytesIO(), "JPEG", icc_profile=SRGB, **options)
    assert read(io.BytesIO(file.getvalue())).icc == SRGB  # a profile says more


@pytest.mark.parametrize("shape", ["colour", "grey"])
def test_pq_within_reference_white_becomes_the_same_colours(shape: str) -> None:
    picture = PICTURE if shape == "colour" else np.repeat(PICTURE[:, :, :1], 3, axis=2)
    values = coded(picture, "BT.2020", lambda light: pq_curve(203 * light))
    given = values if shape == "colour" else values[:, :, 0]
    for data in (with_chunks(given, (b"cICP", bytes([9, 16, 0, 1]))), avif(values, 9, 16)):
        with pytest.warns(LdcodecWarning, match="high dynamic range"):
            found = read(io.BytesIO(data))
        assert found.icc is None
        assert (
            far(found.pixels if found.pixels.ndim == 3 else found.pixels[:, :, None], picture) < 4
        )  # PQ of 8 bits is coarse


def test_brighter_parts_of_pq_are_bent_and_dark_ones_stay() -> None:
    nits = np.linspace(0, 1, 256) ** 3 * 1000
    values = np.repeat(np.rint(255 * pq_curve(nits)).astype(np.uint8)[None, :, None], 3, axis=2)
    with pytest.warns(LdcodecWarning, match="high dynamic range"):
        found = read(io.BytesIO(with_chunks(values, (b"cICP", bytes([9, 16, 0, 1]))))).pixels[0, :, 1]
    dark = nits < 60
    assert np.abs(found[dark].astype(float) - 255 * srgb_curve(nits[dark] / 203)).max() < 6  # PQ of 8 bits is coarse
    assert (np.diff(found.astype(int)) >= 0).all()
    assert found[-1] >= 253
    assert len(np.unique(found[nits > 203])) > 5  # nothing is cut off at white


def test_hlg() -> None:
    """At 75 % of the signal HLG has reference white, 203 of 1000 cd/m²: ITU-R BT.2408."""
    signal = np.array([0, 64, 128, 191], np.uint8)
    values = np.repeat(np.repeat(signal[None, :, None], 3, axis=2), 4, axis=0)
    with pytest.warns(LdcodecWarning, match="high dynamic range"):
        found = read(io.BytesIO(with_chunks(values, (b"cICP", bytes([9, 18, 0, 1]))))).pixels[0, :, 1]
    scene = np.array([0, (64 / 255) ** 2 / 3, (128 / 255) ** 2 / 3])
    expected = 255 * srgb_curve(1000 / 203 * scene**1.2)
    assert np.abs(found[:3] - expected).max() < 2
    assert found[3] >= 253


def test_ten_bits_are_kept_in_their_brightness() -> None:
    pytest.importorskip("imagecodecs")
    found = read(io.BytesIO(TEN_BITS))
    assert found.depth == 10
    assert np.abs(found.pixels[:, :, 0].ravel() * (1023 / 65535) - np.arange(64) * 16).max() < 32


def test_strip_looks_at_what_a_profile_does() -> None:
    values = coded(PICTURE, "sRGB", lambda light: light)
    stripped = strip(Picture(values, None, linear_in_name()))
    assert far(stripped.pixels, PICTURE) < 2.5
    nameless = made(CURVES[13], PRIMARIES[1], "")
    assert np.array_equal(strip(Picture(values, None, nameless)).pixels, values)
    assert is_srgb(SRGB, grey=False)
    assert not is_srgb(b"", grey=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_grey_with_a_profile_of_colours_keeps_its_curve(form: str) -> None:
    """PNG allows no profile of RGB beside grey, and readers ignore it there."""
    light = np.arange(256, dtype=np.uint8)[None].repeat(8, axis=0)
    file = io.BytesIO()
    Image.fromarray(light).save(file, "TIFF", icc_profile=linear_in_name())
    found = read(io.BytesIO(file.getvalue()))
    assert found.icc is not None
    assert found.icc[16:20] == b"GRAY"
    assert np.array_equal(found.pixels, light)
    expected = 255 * srgb_curve(light / 255)
    assert np.abs(shown(found)[:, :, 1] - expected).max() < 3
    if form != "WEBP":
        write(found, back := io.BytesIO(), form)
        assert np.abs(shown(read(io.BytesIO(back.getvalue())))[:, :, 1] - expected)[:, 16:].max() < 6


def test_grey_with_srgb_needs_no_profile() -> None:
    file = io.BytesIO()
    Image.fromarray(grey()).save(file, "JPEG", icc_profile=SRGB, quality=100)
    assert read(io.BytesIO(file.getvalue())).icc is None


def test_profiles_without_what_they_need_are_told() -> None:
    empty = made(CURVES[13], PRIMARIES[12], "")[:128] + bytes(4)
    empty = len(empty).to_bytes(4, "big") + empty[4:]
    with pytest.warns(LdcodecWarning, match="colour profile is damaged"):
        assert read(io.BytesIO(with_chunks(colours(), icc_profile=empty))).icc is None


@pytest.mark.filterwarnings("ignore::ldcodec.errors.LdcodecWarning")
def test_changed_boxes_are_read_or_refused() -> None:
    """Whatever the boxes of a file claim, the result is pixels or a PictureError."""
    data = avif(colours(16, 16), 12, 13)
    rng = np.random.default_rng(5)
    start = data.index(b"mdat")
    for place in rng.integers(0, start, 200):
        changed = data[:place] + bytes([int(rng.integers(0, 256))]) + data[place + 1 :]
        with contextlib.suppress(PictureError):
            assert read(io.BytesIO(changed)).pixels.ndim == 3


@pytest.mark.parametrize("form", ["PPM", "BMP"])
def test_formats_without_profiles_get_srgb(form: str) -> None:
    picture = Picture(coded(PICTURE, "P3", srgb_curve), None, made(CURVES[13], PRIMARIES[12], "P3"))
    with pytest.warns(LdcodecWarning, match=f"{form} cannot hold its colour profile"):
        write(picture, file := io.BytesIO(), form)
    assert far(read(io.BytesIO(file.getvalue())).pixels, PICTURE) < 1


def test_profile_of_bmp() -> None:
    icc = made(CURVES[13], PRIMARIES[12], "P3")
    file = io.BytesIO()
    Image.fromarray(coded(PICTURE, "P3", srgb_curve)).save(file, "BMP")
    fields, pixels = file.getvalue()[14:54], file.getvalue()[54:]
    header = b"\x7c\0\0\0" + fields[4:40] + bytes(16) + b"DEBM" + bytes(48)
    header += struct.pack("<IIII", 4, 124 + len(pixels), len(icc), 0)
    start = 14 + len(header)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels) + len(icc), 0, 0, start)
    found = read(io.BytesIO(head + header + pixels + icc))
    assert found.icc == icc
    assert far(shown(found), PICTURE) < 1


def test_damaged_profiles_are_told() -> None:
    """One that PNG cannot inflate, and one of JPEG of which a part is missing."""
    with pytest.warns(LdcodecWarning, match="damaged colour profile"):
        read(io.BytesIO(with_chunks(colours(), (b"iCCP", b"name\0\0nonsense"))))
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, "JPEG", icc_profile=SRGB)
    with pytest.warns(LdcodecWarning, match="damaged colour profile"):
        read(io.BytesIO(file.getvalue().replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2")))


def test_a_profile_behind_the_pixels_of_png_is_not_called_damaged() -> None:
    data = with_chunks(colours(), (b"iCCP", b"name\0\0" + zlib.compress(made(CURVES[13], PRIMARIES[12], "P3"))))
    start, end = data.index(b"iCCP") - 4, data.index(b"IDAT") - 4
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    with warnings.catch_warnings(action="error"):
        assert read(io.BytesIO(late)).icc == made(CURVES[13], PRIMARIES[12], "P3")


def jpeg_2000(values: Pixels, colour: bytes) -> bytes:
    """A JP2 file with this content of its `colr` box."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG2000")
    data = file.getvalue()
    place = data.index(b"colr") - 4
    length = int.from_bytes(data[place : place + 4], "big")
    box = (8 + len(colour)).to_bytes(4, "big") + b"colr" + colour
    header = data.index(b"jp2h") - 4
    whole = int.from_bytes(data[header : header + 4], "big") + len(box) - length
    data = data[:place] + box + data[place + length :]
    return data[:header] + whole.to_bytes(4, "big") + data[header + 4 :]


def test_profile_of_jpeg_2000() -> None:
    icc = made(CURVES[13], PRIMARIES[12], "P3")
    found = read(io.BytesIO(jpeg_2000(coded(PICTURE, "P3", srgb_curve), b"\2\0\0" + icc)))
    assert found.icc == icc
    assert far(shown(found), PICTURE) < 1


@pytest.mark.parametrize(("space", "is_read"), [(16, True), (18, True), (14, False), (20, False), (21, False)])
def test_colour_spaces_of_jpeg_2000_are_known_or_refused(space: int, is_read: bool) -> None:
    """sRGB and sYCC, but not CIE Lab, e-sRGB and ROMM RGB, which decoders hand out as if they were sRGB."""
    data = io.BytesIO(jpeg_2000(PICTURE, b"\1\0\0" + space.to_bytes(4, "big")))
    if is_read:
        assert read(data).icc is None
        return
    with pytest.raises(PictureError, match=f"space {space} of JPEG 2000"):
        read(data)

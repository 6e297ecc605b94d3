"""Render ldcodec/bench/landscape.png, the picture that the examples use: `python -m tests.landscape [OUT.png]`.

A mountain lake by fractal noise: smooth sky and haze; ripples, grass and forest for texture; crests, trees for edges.
NumPy and Pillow only; the same seed and size give the same picture. Lengths are metres, colours linear RGB in 0..1.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]

SHIPPED = Path(__file__).resolve().parent.parent / "ldcodec" / "bench" / "landscape.png"
SIZE = (768, 512)
OVERSAMPLING = 2
FOCAL = 0.96  # in picture widths: a horizontal view of 55 degrees
HORIZON = 0.53  # share of the picture above it
EYE = 10.0  # above the lake, whose level is 0
# Samples along each column of the picture: close together first, then even, so that steep far faces get enough of them.
DEPTH = np.concatenate([np.geomspace(4.0, 1800.0, 800), np.linspace(1800.0, 13000.0, 1001)[1:]])
SUN = np.array([-0.72, 0.50, -0.48]) / np.linalg.norm([-0.72, 0.50, -0.48])  # x right, y up, z away
FLOWERS = (236, 232, 222), (232, 190, 40), (188, 52, 44), (132, 96, 176)
HAZE = np.array([0.62, 0.71, 0.82])


def smooth(low: float, high: float, x: Array) -> Array:
    """0 below low, 1 above high, a cubic between; low > high falls instead."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def mix(a: Array, b: Array, share: Array) -> Array:
    """Colours a to b [..., 3] by a share [...]."""
    return np.asarray(a + (b - a) * share[..., None])


def hashed(i: Array, j: Array, seed: int) -> Array:
    """A number in 0..1 for each point of the integer lattice."""
    a = i.astype(np.int64).astype(np.uint32) * np.uint32(0x8DA6B343)
    h = a ^ (j.astype(np.int64).astype(np.uint32) * np.uint32(0xD8163841)) ^ np.uint32(seed * 0x9E3779B & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray((h ^ (h >> np.uint32(16))) / 2.0**32)


def noise(x: Array, y: Array, seed: int) -> Array:
    """Gradient noise (Perlin 2002, "Improving noise") in about -0.7..0.7, features one unit apart."""
    i, j = np.floor(x), np.floor(y)
    u, v = x - i, y - j
    corners = []
    for di, dj in ((0, 0), (1, 0), (0, 1), (1, 1)):
        angle = 2 * np.pi * hashed(i + di, j + dj, seed)
        corners.append(np.cos(angle) * (u - di) + np.sin(angle) * (v - dj))
    fade_u, fade_v = (w**3 * (w * (6 * w - 15) + 10) for w in (u, v))
    near, far = (a + (b - a) * fade_u for a, b in (corners[:2], corners[2:]))
    return np.asarray(near + (far - near) * fade_v)


def fractal(x: Array, y: Array, seed: int, octaves: int = 6, gain: float = 0.5) -> Array:
    """Octaves of noise, each twice as fine and `gain` times as strong as the one before."""
    return np.asarray(sum(gain**k * noise(x * 2**k, y * 2**k, seed + k) for k in range(octaves)))


def ridged(x: Array, y: Array, seed: int, octaves: int = 7) -> Array:
    """Mountain crests in 0..1.5: folded noise in which valleys stay smooth and crests grow detail."""
    total, weight = np.zeros_like(x), np.ones_like(x)
    for k in range(octaves):
        fold = (1 - np.abs(noise(x * 2**k, y * 2**k, seed + k)) * 1.6) ** 2
        total += 0.45**k * fold * weight
        weight = np.clip(1.5 * fold, 0, 1)
    return total * 0.75


def canopy(x: Array, z: Array) -> Array:
    """Height in 0..1 of conifers that stand one to a cell of 9 m."""
    best = np.zeros_like(x)
    i, j = np.floor(x / 9), np.floor(z / 9)
    for di, dj in np.ndindex(3, 3):
        a, b = i + di - 1, j + dj - 1
        away = np.hypot(x / 9 - a - hashed(a, b, 71), z / 9 - b - hashed(a, b, 72))
        best = np.maximum(best, (0.55 + 0.45 * hashed(a, b, 73)) * np.clip(1 - away / 0.75, 0, 1))
    return best


def forest_share(x: Array, z: Array, ground: Array) -> Array:
    """Where the forest stands, 0..1: on the far shore, up to the tree line, with clearings."""
    patches = smooth(-0.30, -0.12, fractal(x / 420, z / 420, 61, 4))
    return (
        patches * smooth(2, 9, ground) * smooth(620, 380, ground + 220 * fractal(x / 500, z / 500, 62, 4)) * (z > 300)
    )


def meadow(x: Array, z: Array) -> Array:
    """The near shore, from which the picture is taken."""
    edge = 34 + 9 * fractal(x / 22 + 3, z / 60, 11, 4) + 0.55 * np.abs(x - 4)
    return (7.2 + 0.9 * fractal(x / 9, z / 9, 12, 5)) * smooth(1.35, 0.75, z / edge) - 6 * smooth(0.9, 1.4, z / edge)


def terrain(x: Array, z: Array) -> tuple[Array, Array]:
    """Height of the ground with its trees, and the share of forest, at every (x, z)."""
    shore = smooth(900, 2300, z + 0.35 * x + 420 * fractal(x / 700 + 5, z / 700, 21, 6))
    hills = 330 * shore * (0.55 + fractal(x / 900, z / 900, 31, 8))
    far = smooth(2600, 7600, z + 900 * fractal(x / 2500, z / 2500, 41, 3))
    height = meadow(x, z) + hills + 1500 * far * ridged(x / 4600 + 0.35, z / 4600 + 0.1, 52)
    forest = forest_share(x, z, height)
    return height + 19 * forest * canopy(x, z), forest


class View:
    """What each column of the picture meets on its way out: arrays [depth, column]."""

    def __init__(self, width: int) -> None:
        self.slope = (np.arange(width) + 0.5 - width / 2) / (FOCAL * width)
        self.x, self.z = DEPTH[:, None] * self.slope, np.repeat(DEPTH[:, None], width, 1)
        self.ground, self.forest = terrain(self.x, self.z)
        self.height = np.maximum(self.ground, 0)
        self.rise = np.maximum.accumulate((self.height - EYE) / DEPTH[:, None], 0)

    def normals(self) -> Array:
        """Unit normals [depth, column, 3] of the ground."""
        across = np.gradient(self.height, axis=1) / (np.gradient(self.slope) * DEPTH[:, None])
        away = np.gradient(self.height, DEPTH, axis=0) - across * self.slope
        normal = np.stack([-across, np.ones_like(across), -away], -1)
        return np.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True))

    def hits(self, rise: Array) -> Array:
        """The depth index, with a fraction, where each column reaches each sight line; len(DEPTH) in the sky."""
        after = np.stack([np.searchsorted(column, rise) for column in self.rise.T], 1)
        late, columns = np.clip(after, 1, len(DEPTH) - 1), np.arange(len(self.slope))
        low, high = self.rise[late - 1, columns], self.rise[late, columns]
        share = np.clip((rise[:, None] - low) / np.maximum(high - low, 1e-12), 0, 1)
        return np.where(after < len(DEPTH), late - 1 + share, len(DEPTH))


def paint(view: View, normal: Array) -> Array:
    """Unlit colours [depth, column, 3] of the land: rock, then grass where it is level, snow on high ledges, forest."""
    x, z, height, up = view.x, view.z, view.height, normal[..., 1]
    grain = np.where(z < 200, fractal(x / 1.5, z / 1.5, 81, 4), fractal(x / 260, height / 70 + z / 900, 81, 6, 0.6))
    dry = smooth(-0.4, 0.6, fractal(x / 60, z / 60, 82) + grain)
    tufts = 1 + 0.4 * fractal(x / 7, z / 7, 84, 4) * (z > 200)
    grass = mix(np.array([0.11, 0.155, 0.045]), np.array([0.20, 0.19, 0.075]), dry) * tufts[..., None]
    rock = np.array([0.23, 0.21, 0.20]) * (1 + 0.5 * grain)[..., None]
    bare = mix(rock, grass, smooth(0.62, 0.80, up + 0.12 * grain) * smooth(900, 500, height))
    snow = smooth(0.50, 0.66, up + 0.15 * grain) * smooth(850, 1150, height + 300 * grain)
    needles = np.array([0.035, 0.070, 0.030]) * (1 + 0.7 * grain)[..., None]
    return mix(mix(bare, np.array([0.86, 0.89, 0.94]), snow), needles, view.forest)


def surface(view: View) -> Array:
    """Lit colours [depth, column, 3] of the land, shadows of clouds and haze included."""
    normal, x, z = view.normals(), view.x, view.z
    clouds = 0.45 + 0.55 * smooth(-0.25, 0.1, fractal(x / 2600 + 7, z / 2600, 83, 4))
    sun = np.clip(normal @ SUN, 0, 1) * clouds * np.where(z < 300, 1, clouds)
    sky_light = 0.25 + 0.25 * normal[..., 1]
    light = sun[..., None] * np.array([2.5, 2.25, 1.85]) + sky_light[..., None] * np.array([0.55, 0.75, 1.05])
    return mix(paint(view, normal) * light, HAZE, 0.92 * (1 - np.exp(-z / 11000)))


def sky(slope: Array, rise: Array) -> Array:
    """Colours [row, column, 3] of the sky along sight lines; clouds lie on a plane, thin towards the horizon."""
    across, up = np.broadcast_arrays(slope, np.maximum(rise, 1e-3)[:, None])
    blue = mix(HAZE, np.array([0.10, 0.25, 0.58]), smooth(0, 0.62, up) ** 0.7)
    x, y = across / (up + 0.10) * 1.5, 1.5 / (up + 0.10)
    x = x + 0.25 * fractal(x * 1.3, y * 1.3, 94, 4)
    density, towards_sun = (fractal(x * 0.8 + d, y * 0.8 + d, 91, 8, 0.55) for d in (0.0, -0.06))
    cover = smooth(0.02, 0.42, density)
    light = np.clip(0.86 - 1.5 * (towards_sun - density) - 0.28 * cover, 0.3, 1.1)
    return mix(blue, light[..., None] * np.array([0.98, 0.95, 0.92]), cover * smooth(0.0, 0.16, up) * 0.92)


def water(picture: Array, view: View, rise: Array, horizon: int) -> Array:
    """The lake [row, column, 3] along falling sight lines: ripples shift the mirror image, steep views see in."""
    depth = EYE / np.maximum(-rise, 1e-3)
    x, z = depth[:, None] * view.slope, np.repeat(depth[:, None], len(view.slope), 1)
    calm = 0.25 + 0.75 * smooth(-0.2, 0.25, fractal(x / 90, z / 260, 104, 3))
    swell = fractal(x / 2.4, z / 7, 101, 5, 0.6) * calm * np.exp(-z / 500)
    rows, columns = np.indices(x.shape)
    mirrored = horizon - rows - 0.10 * horizon * (np.abs(swell) + 0.35 * swell)
    aside = columns + 0.012 * len(view.slope) * fractal(x / 3, z / 5, 103, 3) * calm
    source = picture[np.clip(mirrored, 0, horizon - 1).astype(int), np.clip(aside, 0, len(view.slope) - 1).astype(int)]
    grazing = np.clip((1 + rise) ** 5, 0, 1)[:, None] * (0.92 - 0.5 * np.clip(swell, -0.5, 0.7))
    return mix(np.array([0.02, 0.07, 0.085]), source * np.array([0.90, 0.96, 0.98]), np.clip(grazing, 0, 1))


def land_and_sky(width: int, height: int) -> Array:
    """The picture [height, width, 3] without what is drawn on top."""
    view, horizon = View(width), round(HORIZON * height)
    rise = (horizon - np.arange(height) - 0.5) / (FOCAL * width)
    hit = view.hits(rise)
    inside, columns = np.minimum(hit, len(DEPTH) - 2).astype(int), np.arange(width)
    land = surface(view)
    lit = mix(land[inside, columns], land[inside + 1, columns], np.clip(hit - inside, 0, 1))
    picture = np.where((hit < len(DEPTH))[..., None], lit, sky(view.slope, rise))
    lake = (view.ground[inside, columns] < 0)[horizon:]
    picture[horizon:][lake] = water(picture, view, rise[horizon:], horizon)[lake]
    return picture


def blade(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], near: float) -> None:
    """One bent blade of grass, sometimes with a flower; near = 0 at the far end of the meadow, 1 at the lower edge."""
    width, height = size
    x, y = rng.uniform(0, width), height * (0.675 + 0.375 * near) + rng.normal(0, 0.006 * height)
    tall, lean = height * (0.007 + 0.08 * near**1.5) * rng.uniform(0.5, 1.3), rng.normal(0.25, 0.35)
    line = [(x + lean * tall * k * k / 16, y - tall * k / 4) for k in range(5)]
    light, dry = rng.uniform(0.35, 1.0), rng.beta(1.2, 3)
    fill = int((92 + 104 * dry) * light), int((128 + 48 * dry) * light), int((44 + 52 * dry) * light)
    draw.line(line, fill=fill, width=max(1, round(height * 0.0035 * near)))
    if rng.random() < 0.022 * (1.1 - near):
        (x, y), radius = line[-1], height * (0.0012 + 0.0036 * near)
        draw.ellipse((x - radius, y - 0.8 * radius, x + radius, y + 0.8 * radius), fill=FLOWERS[rng.integers(4)])


def fir(draw: ImageDraw.ImageDraw, rng: np.random.Generator, foot: tuple[float, float], tall: float) -> None:
    """A fir from its foot up: whorls of drooping twigs, darker on the side away from the sun."""
    x, y = foot
    draw.line([(x, y), (x, y - 0.97 * tall)], fill=(46, 36, 28), width=max(1, round(tall / 70)))
    for up in np.sort(rng.uniform(0.06, 1.0, 900)):
        side = rng.uniform(-1, 1)
        reach = 0.20 * tall * (1.02 - up) ** 0.85 * rng.uniform(0.5, 1.0) * (1 + 0.25 * np.sin(up * 75))
        tip = (x + side * reach, y - (up - 0.03 - 0.05 * abs(side)) * tall)
        light = 0.35 + 0.5 * (side < 0) * abs(side) + rng.uniform(0, 0.35)
        fill = int(46 * light), int(74 * light), int(38 * light)
        draw.line([(x + 0.25 * side * reach, y - up * tall), tip], fill=fill, width=max(1, round(tall / 190)))


def draw_plants(image: Image.Image, rng: np.random.Generator) -> None:
    """Firs at both sides, then the grass and flowers of the meadow, far ones first."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    for x, y, tall in ((0.205, 0.735, 0.30), (0.075, 0.80, 0.66), (0.155, 0.775, 0.46), (0.955, 0.76, 0.38)):
        fir(draw, rng, (x * width, y * height), tall * height)
    for near in np.sort(rng.uniform(0, 1, 14000)):
        blade(draw, rng, image.size, near)


def render(size: tuple[int, int] = SIZE, seed: int = 7) -> Image.Image:
    """The picture at (width, height); the seed moves the plants, the land stays."""
    width, height = (side * OVERSAMPLING for side in size)
    linear = np.clip(land_and_sky(width, height) * 1.05, 0, 1)
    pixels = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image = Image.fromarray(np.round(255 * pixels).astype(np.uint8))
    draw_plants(image, np.random.default_rng(seed))
    return image.resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    render().save(sys.argv[1] if len(sys.argv) > 1 else SHIPPED, optimize=True)

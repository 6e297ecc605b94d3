"""`ldcodec view`: the contents of a page, and how it behaves in a browser without a network."""

import base64
import hashlib
import io
import json
import re
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ldcodec.bitstream import container
from ldcodec.bitstream.reader import Reader
from ldcodec.codec import decode_array, encode
from ldcodec.decoder.latent import Latent
from ldcodec.decoder.parse import parse_slice
from ldcodec.decoder.request import Request
from ldcodec.entropy.integer import Parsed
from ldcodec.nets.model import Model
from ldcodec.pictures.picture import Pixels
from ldcodec.pictures.planes import WEBP_SIDE
from ldcodec.viewer import document, renderings
from ldcodec.viewer.renderings import SHOWN_PIXELS, reduction
from tests.browser import Page
from tests.commands import Call
from tests.pictures import texture

HEIGHT, WIDTH = 150, 200


@pytest.fixture(autouse=True)
def _no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that opens the user's own browser by mistake fails."""
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail(f"opened {address}"))


@pytest.fixture(scope="module")
def sound(model: Model) -> bytes:
    """A file of the tiny model."""
    return encode(texture(HEIGHT, WIDTH), quality=40, model=model, fallback=False)


@pytest.fixture
def folder(sound: bytes, tmp_path: Path) -> Path:
    """A folder with a.ldc and a.png, from which it was made."""
    (tmp_path / "a.ldc").write_bytes(sound)
    Image.fromarray(texture(HEIGHT, WIDTH)).save(tmp_path / "a.png")
    return tmp_path


def data_of(page: Path) -> dict[str, Any]:
    """What a page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def pixels_of(address: str) -> NDArray[np.uint8]:
    """The picture of a data URI."""
    kind, data = address.split(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def map_of(data: dict[str, Any]) -> NDArray[np.float64]:
    """Bits per pixel of each square."""
    bits = data["bits"]
    numbers = np.frombuffer(base64.b64decode(bits["values"]), "<u2").reshape(bits["rows"], bits["columns"])
    return numbers / bits["unit"]


def test_a_page_holds_every_choice_exactly(call: Call, folder: Path, sound: bytes, model: Model) -> None:
    code, out, err = call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open")
    assert (code, err) == (0, "") and re.fullmatch(r"a\.ldc → p\.html  \d+ bytes\n", out)
    data = data_of(folder / "p.html")
    asked = [(choice["realism"], choice["steps"]) for choice in data["choices"]]
    assert asked == [(r, s) for s in (1, 4) for r in (0, 0.5, 1)]
    for choice in data["choices"]:
        made = pixels_of(choice["src"])
        computed = decode_array(sound, realism=choice["realism"], steps=choice["steps"], model=model)
        assert np.abs(made.astype(int) - computed).max() <= 1  # the page's by ncnn, these by PyTorch
        error = np.square(made.astype(float) - texture(HEIGHT, WIDTH)).mean()
        assert choice["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
    assert len({choice["src"] for choice in data["choices"]}) > 3
    assert np.array_equal(pixels_of(data["original"]), texture(HEIGHT, WIDTH))
    assert (data["width"], data["height"], data["reduced"]) == (WIDTH, HEIGHT, 1)


def test_the_map_of_a_page_is_the_payload(call: Call, folder: Path, sound: bytes) -> None:
    assert call("view", "a.ldc", "-o", "p.html", "--no-open", "-q") == (0, "", "")
    data = data_of(folder / "p.html")
    assert data["original"] is None and {choice["psnr"] for choice in data["choices"]} == {None}
    values = map_of(data)
    tall, wide = (np.minimum(16, length - np.arange(0, length, 16)) for length in (HEIGHT, WIDTH))
    payload = 8 * sum(len(piece.payload) for piece in container.read(sound).slices)
    assert float((values * np.outer(tall, wide)).sum()) == pytest.approx(payload, rel=0.01)
    assert np.mean(values > data["bits"]["high"]) <= 0.01 and data["bits"]["high"] < 2 * values.max()


def test_a_page_shows_the_header(call: Call, folder: Path, sound: bytes, model: Model) -> None:
    call("view", "a.ldc", "-o", "p.html", "--no-open")
    facts, header = dict(data_of(folder / "p.html")["fields"]), container.read(sound).header
    assert facts["Size"] == "200 × 150 pixels, RGB" and facts["File"] == f"{len(sound):,} bytes"
    assert facts["Rate"] == f"{8 * len(sound) / 30000:.3f} bits per pixel"
    assert f"index {header.quality}" in facts["Quality"] and facts["Parse id"] == model.parse_id.hex()
    assert (facts["Model"], facts["Slices"], facts["Chunks"]) == ("tiny", "1", "none")


def test_a_page_loads_nothing(call: Call, folder: Path) -> None:
    """It holds no address, and its policy allows only the style and the script with the hashes that it names."""
    call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open")
    text = (folder / "p.html").read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|//[a-z]|\bfetch\b|XMLHttp|import\(|@import|url\(", re.sub(r"base64,[^\"]*", "", text)
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and policy[1].startswith("default-src 'none'; img-src data:;")
    for kind, element in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        inner = re.search(element, text, re.DOTALL)
        assert inner is not None
        name = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{name}'" in policy[1]


def test_names_cannot_break_out_of_the_page(call: Call, folder: Path) -> None:
    name = "<script>alert(1)<!--&amp;.ldc"
    (folder / "a.ldc").rename(folder / name)
    assert call("view", name, "-o", "p.html", "--no-open", "-q")[0] == 0
    text = (folder / "p.html").read_text(encoding="utf-8")
    assert "<title>&lt;script&gt;alert(1)&lt;!--&amp;amp;.ldc</title>" in text and text.count("<script") == 2


def alike(shown: Pixels, wanted: Pixels) -> bool:
    """Whether pictures of two engines, or of one on several threads, are the same up to a level."""
    return shown.shape == wanted.shape and int(np.abs(shown.astype(int) - wanted).max()) <= 1


def test_a_region_is_shown_in_full(call: Call, folder: Path, sound: bytes, model: Model) -> None:
    whole = ["view", "a.ldc", "-o", "whole.html", "--no-open", "-q"]
    assert call(*whole)[0] == 0
    code, _, err = call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open", "--region", "37,50,120,81")
    assert (code, err) == (0, "")
    data = data_of(folder / "p.html")
    made = decode_array(sound, model=model, request=Request(region=(37, 50, 120, 81)))
    assert alike(pixels_of(data["choices"][0]["src"]), made)
    assert np.array_equal(pixels_of(data["original"]), texture(HEIGHT, WIDTH)[50:131, 37:157])
    assert (data["bits"]["left"], data["bits"]["top"]) == (37 % 16, 50 % 16)
    assert np.array_equal(map_of(data), map_of(data_of(folder / "whole.html"))[3:9, 2:10])


@pytest.mark.parametrize(("width", "height"), [(2048, 2048), (2049, 2048), (10000, 10000), (1, 1 << 20), (1, 1)])
def test_reduced_pictures_fit(width: int, height: int) -> None:
    factor = reduction(width, height)
    assert -(-width // factor) * -(-height // factor) <= SHOWN_PIXELS + max(width, height) and factor >= 1
    assert -(-max(width, height) // factor) <= WEBP_SIDE
    if factor > 1:
        less = factor - 1
        assert width * height > less**2 * SHOWN_PIXELS or max(width, height) > less * WEBP_SIDE


def test_a_large_picture_is_reduced_and_the_page_says_so(
    call: Call, folder: Path, sound: bytes, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderings, "SHOWN_PIXELS", 7500)
    assert call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open", "-q")[0] == 0
    data = data_of(folder / "p.html")
    assert (data["width"], data["height"], data["reduced"], len(data["choices"])) == (100, 75, 2, 1)
    expected = np.asarray(Image.fromarray(decode_array(sound, model=model)).reduce(2))
    assert alike(pixels_of(data["choices"][0]["src"]), expected)
    assert data["notes"][0].startswith("Reduced to 1/2 of its size") and "--region" in data["notes"][0]
    values = map_of(data)
    tall, wide = (np.minimum(32, length - np.arange(0, length, 32)) for length in (HEIGHT, WIDTH))
    payload = 8 * sum(len(piece.payload) for piece in container.read(sound).slices)
    assert float((values * np.outer(tall, wide)).sum()) == pytest.approx(payload, rel=0.01)


def test_a_file_is_parsed_once_for_all_choices_and_forgotten_for_one(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bool] = []
    kept: list[bool] = []

    def counted(*arguments: Any) -> Parsed:
        parsed.append(True)
        return parse_slice(*arguments)

    def noted(source: Reader, model: Model, keep_all: bool, **options: Any) -> Latent:
        kept.append(keep_all)
        return Latent(source, model, keep_all=keep_all, **options)

    monkeypatch.setattr("ldcodec.decoder.latent.parse_slice", counted)
    monkeypatch.setattr("ldcodec.decoder.restore.Latent", noted)
    assert call("view", "a.ldc", "-o", "p.html", "--no-open", "-q")[0] == 0
    assert (len(parsed), kept) == (1, [True])
    monkeypatch.setattr(renderings, "SHOWN_PIXELS", 7500)
    assert call("view", "a.ldc", "-o", "p.html", "--no-open", "-q", "-f")[0] == 0
    assert (len(parsed), kept) == (2, [True, False])


def test_large_pictures_are_embedded_with_loss_and_the_page_says_so(
    call: Call, folder: Path, sound: bytes, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "EXACT_PIXELS", 1000)
    assert call("view", "a.ldc", "-o", "p.html", "--no-open", "-q")[0] == 0
    data = data_of(folder / "p.html")
    error = np.abs(pixels_of(data["choices"][0]["src"]).astype(int) - decode_array(sound, model=model))
    assert 0 < error.mean() < 5 and any("quality 95" in note for note in data["notes"])


@pytest.mark.parametrize("form", ["grey", "alpha", "grey and alpha", "colour"])
def test_a_lossless_picture_has_one_rendering(call: Call, tmp_path: Path, form: str) -> None:
    pixels = texture(40, 50)
    pixels = pixels[..., 0] if "grey" in form else pixels
    if "alpha" in form:
        alpha = np.tile(np.linspace(0, 255, 50).astype(np.uint8), (40, 1))
        pixels = np.dstack([pixels, alpha])
    (tmp_path / "a.ldc").write_bytes(encode(pixels, lossless=True))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open", "-q") == (0, "", "")
    data = data_of(tmp_path / "p.html")
    assert data["bits"] is None and len(data["choices"]) == 1 and data["choices"][0]["psnr"] is None
    shown = pixels_of(data["choices"][0]["src"])
    assert np.array_equal(shown[..., 1], pixels if form == "grey" else pixels[..., 0 if "grey" in form else 1])
    assert ("alpha" not in form) or np.array_equal(shown[..., 3], pixels[..., -1])
    assert dict(data["fields"])["Model"] == "not needed"


def test_the_page_is_opened_in_the_browser(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def found(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", found)
    assert call("view", "a.ldc", "-o", "p.html", "-q") == (0, "", "")
    assert opened == [(folder / "p.html").as_uri()]
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    code, out, _ = call("view", "a.ldc")
    made = Path(opened[1].removeprefix("file://"))
    assert code == 0 and made.name == "a.html" and made.is_file() and f"a.ldc → {made}" in out
    assert made.parent.stat().st_mode & 0o077 == 0


def test_without_a_browser_the_page_is_still_there(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    code, _, err = call("view", "a.ldc", "-o", "p.html")
    assert code == 1 and err == "ldcodec: error: a.ldc: no browser was found; open p.html yourself\n"
    assert data_of(folder / "p.html")["width"] == WIDTH


WRONG = {
    "missing": (["none.ldc"], 1, "none.ldc: No such file"),
    "no ldc": (["a.png"], 1, "not an .ldc file"),
    "missing original": (["a.ldc", "--original", "b.png"], 1, "b.png: No such file"),
    "no picture": (["a.ldc", "--original", "text.png"], 1, "a.ldc: text.png"),
    "another size": (["a.ldc", "--original", "small.png"], 2, "original has 20x30 pixels, the file has 200x150"),
    "region outside": (["a.ldc", "--region", "150,0,60,10"], 2, "does not lie in a picture"),
    "one stream twice": (["-", "--original", "-"], 2, "only once"),
    "no page": (["a.ldc", "--force", "-o", "none/p.html"], 1, "none"),
    "page there": (["a.ldc", "-o", "a.png"], 1, "exists already; --force"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line(name: str, call: Call, folder: Path) -> None:
    Image.new("RGB", (20, 30)).save(folder / "small.png")
    (folder / "text.png").write_text("text")
    arguments, expected, said = WRONG[name]
    output = [] if "-o" in arguments else ["-o", "p.html"]
    code, out, err = call("view", *arguments, *output, "--no-open")
    assert (code, out) == (expected, "") and err.count("\n") == 1 and said in err, err
    assert not (folder / "p.html").exists()


def test_a_damaged_file_is_refused(call: Call, folder: Path, sound: bytes) -> None:
    (folder / "a.ldc").write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:])
    code, out, err = call("view", "a.ldc", "-o", "p.html", "--no-open")
    assert (code, out) == (1, "") and err.count("\n") == 1 and "damaged" in err


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(call: Call, folder: Path) -> Path:
    """A page with an original."""
    assert call("view", "a.ldc", "--original", "a.png", "-o", "p.html", "--no-open", "-q")[0] == 0
    return folder / "p.html"


def screen(browser: Page) -> NDArray[np.uint8]:
    """A screenshot of the window, (H, W, 3)."""
    browser.settle()
    return np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB"))


def box_of(browser: Page, selector: str) -> tuple[float, float, float, float]:
    """left, top, width, height of an element in the window."""
    found = browser.ask(f"document.querySelector('{selector}').getBoundingClientRect().toJSON()")
    return found["left"], found["top"], found["width"], found["height"]


def crop(browser: Page, ratio: int = 1) -> NDArray[np.uint8]:
    """The picture on the screen at 100 %."""
    left, top, width, height = (round(ratio * length) for length in box_of(browser, "#world"))
    assert (width, height) == (WIDTH, HEIGHT)
    return screen(browser)[top : top + height, left : left + width]


def shown_source(browser: Page) -> str:
    """The address of the visible picture."""
    seen = browser.ask("[...document.querySelectorAll('#shown img')].filter(i => i.offsetWidth).map(i => i.src)")
    assert len(seen) == 1
    return str(seen[0])


@pytest.mark.parametrize("ratio", [1, 2])
def test_at_100_percent_every_pixel_is_one_of_the_screen(browser: Page, page: Path, ratio: int) -> None:
    browser.open(page, ratio=ratio)
    browser.press("1", "1")
    assert browser.ask("document.querySelector('#zoom').value") == "100 %"
    browser.ask("(document.querySelector('#compare').click(), document.querySelector('#tag-right').hidden = true)")
    assert np.array_equal(crop(browser, ratio), pixels_of(data_of(page)["choices"][0]["src"]))
    assert browser.complaints == []


def test_the_border_moves_between_original_and_decoded(browser: Page, page: Path) -> None:
    browser.open(page)
    browser.press("1", "1")
    data = data_of(page)
    original, decoded = pixels_of(data["original"]), pixels_of(data["choices"][0]["src"])
    left, top, _, _ = box_of(browser, "#world")

    def border() -> float:
        x, _, wide, _ = box_of(browser, "#border")
        return x + wide / 2 - left

    assert border() == pytest.approx(WIDTH / 2)
    browser.drag((left + WIDTH / 2, top + 100), (left + 150, top + 20))
    assert border() == pytest.approx(150, abs=1)
    seen = crop(browser)
    assert np.array_equal(seen[:, :120], original[:, :120]) and np.array_equal(seen[:60, 180:], decoded[:60, 180:])
    browser.ask("document.querySelector('#border').focus()")
    for _ in range(5):
        browser.press("ArrowLeft")
    assert border() == pytest.approx(130, abs=1)
    browser.press("End")
    assert np.array_equal(crop(browser)[:, : WIDTH - 30], original[:, : WIDTH - 30])
    browser.click("#compare")
    assert np.array_equal(crop(browser), decoded) and box_of(browser, "#border")[2] == 0
    assert browser.complaints == []


def test_choices_change_the_picture(browser: Page, page: Path) -> None:
    browser.open(page)
    data, seen = data_of(page), []
    for choice in data["choices"]:
        browser.click(f"input[name=realism][value='{choice['realism']:g}']")
        browser.click(f"input[name=steps][value='{choice['steps']}']")
        assert shown_source(browser) == choice["src"]
        assert browser.ask("document.querySelector('#tag-right').textContent") == choice["text"]
        assert browser.ask("document.querySelector('#psnr').textContent") == f"PSNR {choice['psnr']:.2f} dB"
        seen.append(choice["src"])
    browser.ask("document.querySelector('input[name=realism]:checked').focus()")
    before = shown_source(browser)
    browser.press("ArrowLeft")
    assert shown_source(browser) != before and browser.complaints == []


def test_the_map_of_bits_is_toggled(browser: Page, page: Path) -> None:
    browser.open(page)
    browser.press("1", "1")
    browser.click("#compare")
    plain = crop(browser)
    browser.click("#bits")
    over = crop(browser)
    assert np.abs(over.astype(int) - plain).mean() > 10
    browser.ask("(document.querySelector('#strength').value = 100, document.querySelector('#strength').oninput())")
    blocks = crop(browser)[: HEIGHT // 16 * 16, : WIDTH // 16 * 16].reshape(HEIGHT // 16, 16, WIDTH // 16, 16, 3)
    assert (blocks == blocks[:, :1, :, :1]).all(), "each 16×16 pixels have one colour"
    values = map_of(data_of(page))[: HEIGHT // 16, : WIDTH // 16]
    light = blocks[:, 0, :, 0].astype(int).sum(-1)
    assert np.corrcoef(values.ravel(), light.ravel())[0, 1] > 0.9, "the more bits, the lighter"
    browser.press("b", "b")
    assert np.array_equal(crop(browser), plain) and browser.complaints == []


def test_zoom_and_pan(browser: Page, page: Path) -> None:
    browser.open(page)
    zoom = lambda: float(browser.ask("document.querySelector('#zoom').value").split()[0])  # noqa: E731
    fitted = zoom()
    assert fitted >= 100 and fitted % 100 == 0
    browser.click("#exact")
    assert zoom() == 100
    for _ in range(5):
        browser.click("#in")
    assert zoom() == 800
    left, top, width, height = box_of(browser, "#stage")
    spot = left + 0.4 * width, top + 0.6 * height
    x, y, _, _ = box_of(browser, "#world")
    under = (spot[0] - x) / 8, (spot[1] - y) / 8
    for _ in range(2):
        browser.mouse("mouseWheel", *spot, deltaX=0, deltaY=-120)
    browser.settle()
    assert zoom() == 1600
    x, y, _, _ = box_of(browser, "#world")
    assert ((spot[0] - x) / 16, (spot[1] - y) / 16) == pytest.approx(under, abs=0.5), "what is under the pointer stays"
    browser.drag((left + 50, top + 100), (left + 90, top + 130))
    assert box_of(browser, "#world")[:2] == pytest.approx((x + 40, y + 30), abs=1)
    browser.ask("document.querySelector('#stage').focus()")
    browser.press("ArrowRight")
    assert box_of(browser, "#world")[0] == pytest.approx(x - 20, abs=1)
    browser.press("0", "0")
    assert zoom() == fitted and browser.complaints == []


@pytest.mark.parametrize(
    ("width", "height", "dark"), [(1440, 900, False), (1024, 700, True), (390, 844, True), (320, 568, False)]
)
def test_windows_of_every_size(browser: Page, page: Path, width: int, height: int, dark: bool) -> None:
    """The page does not scroll sideways, the stage is large, text contrasts with its background, nothing is loaded."""
    browser.open(page, width, height, dark)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    _, _, wide, tall = box_of(browser, "#stage")
    assert wide > 0.6 * width and tall > 0.35 * height
    ink, paper = (
        np.array(re.findall(r"\d+", browser.ask(f"getComputedStyle(document.body).{name}"))[:3], int)
        for name in ("color", "backgroundColor")
    )
    assert (paper.mean() < 60) == dark and abs(ink.mean() - paper.mean()) > 150
    assert browser.complaints == []
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}


def test_the_page_of_a_lossless_picture_offers_no_settings(browser: Page, call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ldc").write_bytes(encode(texture(40, 50), lossless=True))
    assert call("view", "a.ldc", "-o", "p.html", "--no-open", "-q")[0] == 0
    browser.open(tmp_path / "p.html")
    for hidden in ("#choosing", "#comparing", "#spending", "#border"):
        assert box_of(browser, hidden)[2:] == (0, 0)
    browser.press("b", "b")
    browser.press("o", "o")
    assert browser.complaints == [] and shown_source(browser).startswith("data:image/webp")

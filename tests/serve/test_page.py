"""The page in a real browser."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from solobox import synthetic

from server_process import KEY, Running, running  # isort: skip
from browser import chromium, needs_chromium, new_page  # isort: skip
from colour_model import expected_box, image, write_model  # isort: skip

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_model(tmp_path_factory.mktemp("model") / "model.onnx")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as started:
        yield started


@pytest.fixture
def page(server: Running, browser: Any) -> Iterator[Any]:
    """A page that complains of nothing: no error, no message of the policy, no request to elsewhere."""
    wrong: list[str] = []
    with new_page(browser, wrong) as opened:
        opened.on("request", lambda request: _keep_home(request.url, server.url, wrong))
        opened.goto(server.url)
        until(opened, "document.getElementById('curl').textContent.startsWith('curl')")
        yield opened
    # What the server refuses, the browser reports as well.
    assert [text for text in wrong if "status of 4" not in text] == []


def _keep_home(url: str, home: str, wrong: list[str]) -> None:
    if not url.startswith((home, "blob:", "data:")):
        wrong.append(f"asked {url}")


def until(page: Any, condition: str) -> None:
    """Playwright's own waiting evaluates text in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(condition)


def choose_files(page: Any, *files: tuple[str, bytes]) -> None:
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    )


def prediction(page: Any) -> dict[str, Any]:
    page.wait_for_selector("#answer:not([hidden])")
    answer: dict[str, Any] = json.loads(page.text_content("#json"))
    return answer


def test_a_chosen_image_gets_its_box_drawn(page: Any) -> None:
    choose_files(page, ("red.png", image((200, 100, 50), (400, 300))))
    answer = prediction(page)
    assert answer["box"] == pytest.approx(expected_box((200, 100, 50), (400, 300)), abs=0.01)
    assert "red.png, 400 × 300" in page.text_content("#name")
    assert page.text_content("#time").endswith(" ms")
    assert page.text_content("#presence b") == "78%"
    page.wait_for_timeout(400)  # it arrives
    # On the box's left edge, half way down, there is the box's orange, and outside the image's own colour.
    at = """([x, y]) => {
        const c = document.getElementById('canvas'), s = c.width / 400, pen = c.getContext('2d');
        return Array.from(pen.getImageData(Math.round(x * s), Math.round(y * s), 1, 1).data.slice(0, 3)); }"""
    box = answer["box"]
    assert page.evaluate(at, [box[0], (box[1] + box[3]) / 2]) == [255, 138, 31]
    assert page.evaluate(at, [5, 5]) == [200, 100, 50]
    banded = page.evaluate(at, [answer["margins"]["lower"][0] + 4, (box[1] + box[3]) / 2])
    assert banded not in ([200, 100, 50], [255, 138, 31])


def test_the_answer_is_the_largest_text(page: Any) -> None:
    choose_files(page, ("red.png", image((200, 100, 50), (400, 300))))
    left, top, right, bottom = prediction(page)["box"]
    assert (
        page.text_content("#box")
        == f"{right - left:.0f} × {bottom - top:.0f} pixels at {left:.0f}, {top:.0f}"
    )
    largest = """() => Array.from(document.querySelectorAll('body *'))
        .filter((e) => e.offsetParent && Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.data.trim()))
        .sort((a, b) => parseFloat(getComputedStyle(b).fontSize) - parseFloat(getComputedStyle(a).fontSize))[0].id"""
    assert page.evaluate(largest) == "box"
    assert page.is_hidden("#unfamiliar")
    choose_files(page, ("dark.png", image((20, 100, 50), (400, 300))))
    until(page, "document.getElementById('box').textContent === 'Probably no object'")


def test_an_unfamiliar_image_gets_a_warning(page: Any) -> None:
    choose_files(page, ("odd.png", image((200, 0, 50), (400, 300))))
    assert prediction(page)["familiarity"] == 0
    assert page.is_visible("#unfamiliar")
    assert "Do not rely on the box" in page.text_content("#unfamiliar")
    choose_files(page, ("usual.png", image((200, 100, 50), (400, 300))))
    until(page, "document.getElementById('unfamiliar').hidden")


def test_several_images_are_walked_through_by_keyboard(page: Any) -> None:
    choose_files(page, *((f"{n}.png", image((40 * n, 90, 90), (200, 150))) for n in range(1, 4)))
    until(page, "document.querySelectorAll('#strip button').length === 3")
    until(page, "document.getElementById('name').textContent.startsWith('1.png')")
    page.keyboard.press("ArrowRight")
    until(page, "document.getElementById('name').textContent.startsWith('2.png')")
    page.keyboard.press("ArrowLeft")
    until(page, "document.getElementById('name').textContent.startsWith('1.png')")


def test_the_level_widens_the_band(page: Any) -> None:
    choose_files(page, ("a.png", image()))
    narrow = prediction(page)
    page.select_option("#level", "0.99")
    until(page, "document.getElementById('json').textContent.includes('0.99')")
    wide = prediction(page)
    assert wide["margins"]["lower"][0] < narrow["margins"]["lower"][0]


def test_what_is_no_image_is_told_in_words(page: Any) -> None:
    choose_files(page, ("notes.jpg", b"<html>not an image</html>"))
    page.wait_for_selector("#error:not([hidden])")
    assert "this is text" in page.text_content("#error-message").lower()
    assert "Convert it to JPEG" in page.text_content("#error-hint")
    choose_files(page, ("good.png", image()))
    page.wait_for_selector("#error", state="hidden")
    assert prediction(page)["box"]


def test_paste_and_drop(page: Any) -> None:
    make = """async (kind) => {
        const canvas = new OffscreenCanvas(120, 90), pen = canvas.getContext('2d');
        pen.fillStyle = '#3366aa'; pen.fillRect(0, 0, 120, 90);
        const data = new DataTransfer();
        const type = 'image/png';
        data.items.add(new File([await canvas.convertToBlob({ type })], kind + '.png', { type }));
        const event = kind === 'paste'
            ? new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })
            : new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(make, kind)
        until(page, f"document.getElementById('name').textContent.startsWith('{kind}.png')")
        assert prediction(page)["size"] == [120, 90]


def test_the_json_is_copied(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose_files(page, ("a.png", image()))
    answer = prediction(page)
    page.keyboard.press("j")
    until(page, "document.getElementById('copy').textContent.startsWith('Copied')")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == answer


def test_the_camera_runs_freezes_and_stops(page: Any) -> None:
    page.keyboard.press("c")
    answer = prediction(page)
    assert min(answer["size"]) > 100
    page.click("#freeze")
    until(page, "document.getElementById('camera').textContent.startsWith('Camera')")
    until(page, "document.getElementById('name').textContent.startsWith('camera')")
    assert page.is_hidden("#freeze")


def test_every_control_is_reached_by_tab(page: Any) -> None:
    choose_files(page, ("a.png", image()))
    prediction(page)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"choose", "camera", "level", "copy", "SUMMARY", "curl"} <= seen


def test_a_phone_shows_it_without_scrolling_sideways(server: Running, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 740}, is_mobile=True, has_touch=True)
    opened = context.new_page()
    opened.goto(server.url)
    choose_files(opened, ("wide.png", image(size=(2000, 500))))
    prediction(opened)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 375
    context.close()


def test_a_key_is_asked_for_and_kept_for_the_tab(tmp_path: Path, browser: Any) -> None:
    with running(write_model(tmp_path / "m.onnx"), variables={"SOLOBOX_API_KEY": KEY}) as locked:
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(locked.url)
        opened.wait_for_selector("#keyform:not([hidden])")
        opened.fill("#key", KEY)
        opened.press("#key", "Enter")
        opened.wait_for_selector("#keyform", state="hidden")
        choose_files(opened, ("a.png", image()))
        assert prediction(opened)["box"]
        opened.reload()
        opened.wait_for_selector("#levels:not([hidden])")
        assert opened.is_hidden("#keyform")
        context.close()


def test_a_image_that_the_browser_cannot_show_still_gets_its_box(page: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 80), (90, 30, 30)).save(buffer, "TIFF")
    choose_files(page, ("scan.tif", buffer.getvalue()))
    assert prediction(page)["size"] == [100, 80]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    dataset = synthetic.write(tmp_path_factory.mktemp("scene"), 1, seed=3)
    return Path(dataset.paths[0]).read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_have_contrast(server: Running, browser: Any, scene: bytes, scheme: str) -> None:
    """WCAG's 4.5 to 1, for all text that is shown."""
    context = browser.new_context(color_scheme=scheme)
    opened = context.new_page()
    opened.goto(server.url)
    choose_files(opened, ("scene.jpg", scene))
    prediction(opened)
    least = opened.evaluate(
        """() => {
        const parse = (c) => c.match(/[\\d.]+/g).map(Number);
        const lum = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
        let least = [99, ''];
        for (const each of document.querySelectorAll('body *')) {
            if (!each.offsetParent || each.closest('svg, .gone') ||
                !Array.from(each.childNodes).some((n) => n.nodeType === 3 && n.data.trim())) continue;
            let behind = each, colour;
            do { colour = parse(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
            while (colour[3] === 0 && behind);
            const [a, b] = [lum(parse(getComputedStyle(each).color)), lum(colour)].sort((x, y) => y - x);
            const ratio = (a + .05) / (b + .05);
            if (ratio < least[0]) least = [ratio, each.outerHTML.slice(0, 80)];
        }
        return least; }"""
    )
    context.close()
    assert least[0] >= 4.5, least

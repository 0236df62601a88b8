"""The page of `solobox annotate` in a real browser, against a stand-in of its server."""

from collections.abc import Iterator
from typing import Any

import pytest

from browser import chromium, needs_chromium

from stand_in import Desk, StandIn, stand_in  # isort: skip

pytestmark = needs_chromium

SIZES = [(640, 480), (1280, 720), (480, 640), (3200, 1800), (300, 200), (640, 480)]


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with stand_in() as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


class Visit:
    """One page, and what a person does with it."""

    def __init__(self, page: Any, server: StandIn) -> None:
        self.page, self.server = page, server
        self.keys, self.mouse = page.keyboard, page.mouse

    @property
    def desk(self) -> Desk:
        return self.server.desk

    @property
    def last(self) -> dict[str, Any]:
        return self.desk.received[-1]

    def open(self, index: int = 0) -> None:
        self.page.goto(self.server.url)
        self.shown(index)

    def shown(self, index: int) -> None:
        self.page.wait_for_selector(f'#stage[data-shown="{index}"]')

    def press(self, *keys: str) -> None:
        for key in keys:
            self.keys.press(key)

    def text(self, identity: str) -> str:
        return str(self.page.text_content(f"#{identity}"))

    def until(self, identity: str, words: str) -> None:
        for _ in range(300):
            if words in self.text(identity):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{identity} says {self.text(identity)!r}")

    def rectangle(self) -> list[float]:
        """Where the red rectangle is on the screen, by the colours of the canvas."""
        self.page.wait_for_timeout(60)  # it paints once a frame
        found: list[float] = self.page.evaluate("""() => {
            const canvas = document.getElementById("canvas"), frame = canvas.getBoundingClientRect();
            const { width, height } = canvas, scale = frame.width / width;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let [x1, y1, x2, y2] = [width, height, 0, 0];
            for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
                const at = 4 * (y * width + x);
                if (data[at] < 180 || data[at + 1] > 80 || data[at + 2] > 90) continue;
                x1 = Math.min(x1, x); y1 = Math.min(y1, y); x2 = Math.max(x2, x + 1); y2 = Math.max(y2, y + 1);
            }
            return [frame.x + x1 * scale, frame.y + y1 * scale, frame.x + x2 * scale, frame.y + y2 * scale];
        }""")
        return found

    def drag(self, start: tuple[float, float], end: tuple[float, float], **options: Any) -> None:
        self.mouse.move(*start)
        self.mouse.down(**options)
        self.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.mouse.move(*end)
        self.mouse.up(**options)

    def drag_around(self) -> None:
        x1, y1, x2, y2 = self.rectangle()
        self.drag((x2, y1), (x1, y2))


@pytest.fixture
def visit(server: StandIn, browser: Any) -> Iterator[Visit]:
    with _visit(server, browser, viewport={"width": 1200, "height": 800}) as opened:
        yield opened


@pytest.fixture
def phone(server: StandIn, browser: Any) -> Iterator[Visit]:
    screen = {"width": 390, "height": 844}
    with _visit(server, browser, viewport=screen, has_touch=True, device_scale_factor=2) as opened:
        yield opened


class _visit:  # noqa: N801 - used like a function
    """A visit that ends with a look for errors of the page, of its policy, and of requests to elsewhere."""

    def __init__(self, server: StandIn, browser: Any, **context: Any) -> None:
        server.desk = Desk(SIZES)
        self.server, self.context = server, browser.new_context(**context)
        self.context.set_default_timeout(8000)
        self.wrong: list[str] = []

    def __enter__(self) -> Visit:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._hear)
        page.on("request", self._see)
        return Visit(page, self.server)

    def _hear(self, message: Any) -> None:
        # What the server refuses, and that it is gone, the browser reports as well; and that a test reads the canvas.
        expected = ("Failed to load resource", "Canvas2D: Multiple readback")
        if message.type in {"error", "warning"} and not message.text.startswith(expected):
            self.wrong.append(message.text)

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.wrong.append(f"asked {request.url}")

    def __exit__(self, *failure: object) -> None:
        self.context.close()
        if failure[0] is None:
            assert self.wrong == []


def near(pixels: object) -> Any:
    return pytest.approx(pixels, abs=1.5)


def test_a_box_drawn_with_the_mouse_has_the_pixels_of_the_object(visit: Visit) -> None:
    visit.open()
    visit.drag_around()
    visit.press("Enter")
    visit.until("status", "saved: box, image 00.jpg")
    visit.shown(1)
    answer = visit.last
    assert answer["box"] == near(visit.desk.truth(0))
    assert (answer["source"], answer["suggested"], answer["blind"]) == ("drawn", None, False)
    assert (answer["index"], answer["seen"], answer["kind"], answer["label"]) == (0, 0, "box", "")
    assert answer["person"].startswith("person-")
    assert 0 < answer["seconds"] < 20


def test_zoom_and_pan_keep_what_is_drawn_exact(visit: Visit) -> None:
    visit.open()
    x1, y1, x2, y2 = visit.rectangle()
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    visit.mouse.move(*middle)
    visit.mouse.wheel(0, -160)
    larger = visit.rectangle()
    assert larger[2] - larger[0] > 1.2 * (x2 - x1)
    assert larger[0] < middle[0] < larger[2]
    visit.keys.down("Space")
    visit.drag(middle, (middle[0] + 60, middle[1] - 30))
    visit.keys.up("Space")
    visit.drag((middle[0], middle[1]), (middle[0] - 25, middle[1] + 10), button="middle")
    panned = visit.rectangle()
    assert panned[0] - larger[0] == near(35)
    assert panned[1] - larger[1] == near(-20)
    visit.drag_around()
    visit.press("0")
    visit.page.wait_for_timeout(50)
    visit.press("Enter")
    visit.shown(1)
    assert visit.last["box"] == pytest.approx(visit.desk.truth(0), abs=1)


def test_an_image_sent_smaller_is_labelled_in_its_own_pixels(visit: Visit) -> None:
    visit.desk.sizes = [(3200, 1800), (640, 480)]
    visit.open()
    visit.press("+", "+")
    visit.drag_around()
    visit.press("Enter")
    visit.shown(1)
    # A pixel of the screen is more than one of the image.
    assert visit.last["box"] == pytest.approx(visit.desk.truth(0), abs=4)


def test_edges_corners_and_the_inside_drag(visit: Visit) -> None:
    visit.open()
    x1, y1, x2, y2 = visit.rectangle()
    visit.drag((x1 + 40, y1 + 30), (x2 + 20, y2 - 25))
    visit.drag((x1 + 40, (y1 + y2) / 2), (x1 + 10, (y1 + y2) / 2 + 15))  # the left edge
    visit.drag((x2 + 20, y2 - 25), (x2 + 10, y2 + 20))  # a corner
    visit.drag(((x1 + x2) / 2, (y1 + y2) / 2), ((x1 + x2) / 2 - 10, (y1 + y2) / 2 - 30))  # the inside
    visit.drag(((x1 + x2) / 2, y2 - 10), ((x1 + x2) / 2, y2))  # the bottom edge
    visit.press("Enter")
    visit.shown(1)
    assert visit.last["box"] == near(visit.desk.truth(0))
    assert visit.last["source"] == "drawn"


def test_four_clicks_make_the_box(visit: Visit) -> None:
    visit.open()
    x1, y1, x2, y2 = visit.rectangle()
    visit.press("x")
    visit.mouse.click(x1 + 50, y1 + 3)
    visit.until("points-text", "1 of 4")
    visit.press("Enter")
    visit.until("status", "3 more of the 4 clicks")
    visit.press("Escape")
    visit.until("points-text", "Click the top")
    for point in ((x2, y1 + 20), (x1 + 30, y1), (x1, y2 - 40), (x2 - 50, y2)):
        visit.mouse.click(*point)
    visit.press("Enter")
    visit.shown(1)
    assert visit.last["box"] == near(visit.desk.truth(0))
    assert visit.last["source"] == "drawn"
    assert visit.page.get_attribute("#clicks", "aria-pressed") == "true"  # also for the next image


def test_the_keyboard_alone_draws_a_box(visit: Visit) -> None:
    visit.desk.sizes = [(100, 80), (640, 480)]
    visit.open()
    visit.press("Enter")
    visit.until("status", "Draw a box first")
    visit.press("b", "ArrowRight", "Shift+ArrowDown", "ArrowUp", "Alt+ArrowLeft", "Alt+Shift+ArrowUp")
    visit.press("Control+ArrowUp", "Enter")
    visit.shown(1)
    assert visit.last["box"] == [26, 29, 75, 58]
    assert visit.last["source"] == "drawn"
    assert visit.page.url == visit.server.url


def test_a_box_stays_in_the_image(visit: Visit) -> None:
    visit.desk.sizes = [(100, 80), (640, 480)]
    visit.open()
    visit.press("b", *["Shift+ArrowLeft"] * 5, *["Alt+Shift+ArrowDown"] * 6, "Enter")
    visit.shown(1)
    assert visit.last["box"] == [0, 20, 50, 80]


def test_where_a_box_comes_from_is_recorded(visit: Visit) -> None:
    visit.desk.suggested = True
    visit.open()
    suggested = [visit.desk.suggestion(index)["box"] for index in range(3)]
    visit.until("badge", "suggested box, presence 50%")
    visit.press("Enter")
    visit.shown(1)
    visit.press("ArrowLeft", "Enter")
    visit.shown(2)
    visit.press("Escape")
    visit.drag_around()
    visit.press("Enter")
    visit.shown(3)
    accepted, corrected, drawn = visit.desk.received
    assert [answer["source"] for answer in visit.desk.received] == ["accepted", "corrected", "drawn"]
    assert [answer["suggested"] for answer in visit.desk.received] == suggested
    assert accepted["box"] == suggested[0]
    assert corrected["box"] == pytest.approx(
        [suggested[1][0] - 1, suggested[1][1], suggested[1][2] - 1, suggested[1][3]]
    )
    assert drawn["box"] == near(visit.desk.truth(2))


def test_shift_and_drag_begins_a_new_box_over_a_suggestion(visit: Visit) -> None:
    visit.desk.suggested = True
    visit.open()
    x1, y1, x2, y2 = visit.rectangle()
    visit.keys.down("Shift")
    visit.drag((x1 + 40, y1 + 40), (x2 - 30, y2 - 30))
    visit.keys.up("Shift")
    visit.press("Enter")
    visit.shown(1)
    assert visit.last["source"] == "drawn"
    visit.drag((x1 + 60, y1 + 40), (x1 + 90, y1 + 60))
    visit.press("b", "Enter")  # the suggestion again, as it came
    visit.shown(2)
    assert visit.last["source"] == "accepted"


def test_answers_are_undone_one_by_one(visit: Visit) -> None:
    visit.open()
    visit.press("u")
    visit.until("status", "Nothing to undo")
    visit.press("b", "ArrowLeft", "Enter")
    visit.shown(1)
    visit.press("n")
    visit.shown(2)
    visit.press("u")
    visit.shown(1)
    visit.press("Control+z")
    visit.shown(0)
    assert visit.desk.answers == {}
    # The box is there again, to be mended.
    visit.press("ArrowRight", "Enter")
    visit.shown(1)
    assert visit.last["box"] == [160, 120, 480, 360]
    assert visit.last["seen"] == 2


def test_a_box_begun_is_there_again_after_an_undo(visit: Visit) -> None:
    visit.open()
    visit.press("n")
    visit.shown(1)
    visit.press("b", "ArrowLeft", "u")
    visit.shown(0)
    visit.press("n")
    visit.shown(1)
    visit.press("Enter")
    visit.shown(2)
    assert visit.last["box"] == [319, 180, 959, 540]


def test_a_full_disk_loses_no_review(visit: Visit) -> None:
    visit.desk.suggested, visit.desk.full = True, True
    visit.open()
    visit.press("r")
    visit.page.wait_for_selector(".crop")
    visit.press("Enter")
    visit.page.wait_for_selector("#retry")
    visit.desk.full = False
    visit.page.click("#retry")
    visit.until("review-status", "Saved: 6 accepted.")
    assert visit.page.is_hidden("#error")
    visit.until("review-empty", "Nothing is left to review.")


def test_a_blind_image_says_so(visit: Visit) -> None:
    visit.desk.suggested, visit.desk.blind = True, {0}
    visit.open()
    visit.until("badge", "drawn blind: measures the model")
    visit.until("box-text", "No box yet")
    visit.press("b", "Enter")
    visit.shown(1)
    assert (visit.last["blind"], visit.last["source"], visit.last["suggested"]) == (True, "drawn", None)


def test_not_there_and_skip(visit: Visit) -> None:
    visit.desk.suggested = True
    visit.open()
    visit.press("n")
    visit.shown(1)
    visit.press("s")
    visit.shown(2)
    # The image is answered by a click; Enter then accepts a box and does not click again.
    visit.page.click("#absent")
    visit.shown(3)
    visit.press("Enter")
    visit.shown(4)
    kinds = [answer["kind"] for answer in visit.desk.received]
    assert kinds == ["absent", "skipped", "absent", "box"]
    assert visit.desk.received[0]["box"] is None


def test_an_image_that_cannot_be_read_is_skipped(visit: Visit) -> None:
    visit.desk.unreadable = {0}
    visit.open()
    visit.until("cover-text", "it ends in the middle")
    visit.press("n", "Enter", "s")
    visit.shown(1)
    assert [answer["kind"] for answer in visit.desk.received] == ["skipped"]


def test_all_answered(visit: Visit) -> None:
    visit.desk.sizes = SIZES[:1]
    visit.open()
    visit.press("n")
    visit.until("cover-title", "All images are answered.")
    visit.press("u")
    visit.shown(0)


def test_classes(visit: Visit) -> None:
    visit.desk.classes = ["cat", "dog"]
    visit.open()
    visit.press("b", "2", "Enter")
    visit.shown(1)
    assert visit.last["label"] == "dog"
    visit.press("b", "Enter")
    visit.shown(2)
    assert visit.last["label"] == "dog"  # the last one is kept
    visit.page.fill("#label", "")
    visit.page.type("#label", "snub 1")  # keys are text here
    visit.press("Enter")  # leaves the field
    visit.press("b", "Enter")
    visit.shown(3)
    assert visit.last["label"] == "snub 1"
    assert len(visit.desk.received) == 3


def test_the_only_class_is_chosen_from_the_start(visit: Visit) -> None:
    visit.desk.classes = ["cat"]
    visit.open()
    visit.page.wait_for_selector("#chips button")
    visit.press("b", "Enter")
    visit.shown(1)
    assert visit.last["label"] == "cat"
    visit.page.fill("#label", "")  # stays empty
    visit.press("Enter", "b", "Enter")
    visit.shown(2)
    assert visit.last["label"] == ""


def other_answer(kind: str = "box") -> dict[str, Any]:
    box = [10.0, 10.0, 60.0, 70.0] if kind == "box" else None
    return {"person": "other", "index": 0, "kind": kind, "box": box, "label": "", "source": "drawn"}


def test_a_conflict_shows_the_answer_of_the_other(visit: Visit) -> None:
    visit.open()
    visit.desk.answer(other_answer())
    visit.press("b", "Enter")
    visit.until("conflict-text", "Theirs is shown: a box")
    visit.until("box-text", "50 × 60 pixels at 10, 10")
    visit.press("Enter")  # keeps it
    visit.shown(1)
    assert visit.page.is_hidden("#conflict")
    assert visit.desk.received == []


def test_a_conflict_is_settled_with_the_own_box(visit: Visit) -> None:
    visit.open()
    visit.desk.answer(other_answer("absent"))
    visit.press("b", "Enter")
    visit.until("conflict-text", "Theirs is shown: not there")
    visit.page.click("#use-mine")
    visit.shown(1)
    assert visit.last["box"] == [160, 120, 480, 360]
    assert visit.last["seen"] == 1


def test_a_full_disk_loses_no_box(visit: Visit) -> None:
    visit.open()
    visit.press("b", "ArrowLeft")
    visit.desk.full = True
    visit.press("Enter")
    visit.until("error-message", "The disk is full: nothing was saved. Your box stays here.")
    visit.until("status", "not saved")
    visit.page.click("#retry")
    visit.page.wait_for_timeout(200)
    assert visit.page.is_visible("#error")
    visit.desk.full = False
    visit.page.click("#retry")
    visit.shown(1)
    assert visit.page.is_hidden("#error")
    assert visit.last["box"] == [159, 120, 479, 360]


def test_the_program_goes_and_comes_back(visit: Visit) -> None:
    visit.open()
    visit.press("b")
    visit.server.stop()
    try:
        visit.press("Enter")
        visit.until("gone-hint", "Your last box is not saved.")
        visit.until("gone-message", "The program does not answer – was it ended?")
        visit.until("box-text", "320 × 240 pixels")
        assert "saved: " not in visit.text("status")
    finally:
        visit.server.start()
    visit.shown(1)
    assert visit.page.is_hidden("#gone")
    assert len(visit.desk.received) == 1


def test_a_lost_reply_is_no_conflict_with_oneself(visit: Visit) -> None:
    visit.open()
    visit.press("b")
    visit.page.route("**/api/answer", lambda route: (route.fetch(), route.abort()), times=1)
    visit.press("Enter")
    visit.shown(1)
    assert visit.page.is_hidden("#conflict")
    assert len(visit.desk.received) == 1


def test_the_review_accepts_a_page_without_what_is_left_out(visit: Visit) -> None:
    visit.desk.suggested = True
    visit.open()
    visit.press("r")
    visit.page.wait_for_selector(".crop")
    visit.desk.answer(other_answer())
    visit.page.click(".crop >> nth=2")
    visit.until("accept-page", "Accept these 5")
    visit.press("Enter")
    visit.until("review-status", "Saved: 4 accepted. 1 had an answer by now")
    assert sorted(visit.desk.answers) == [0, 1, 3, 4, 5]
    assert visit.desk.answers[1]["source"] == "accepted"
    item = visit.desk.accepted[0]["items"][1]
    assert item == {"index": 1, "seen": 0, "box": visit.desk.suggestion(1)["box"]}
    assert visit.page.get_attribute(".crop", "aria-pressed") == "true"  # what was left out remains so
    visit.press("Escape")
    visit.shown(2)  # the image on the stage has an answer by now


def test_the_review_opens_an_image_to_correct_it(visit: Visit) -> None:
    visit.desk.suggested, visit.desk.blind = True, {3}
    visit.open()
    visit.press("r")
    visit.page.wait_for_selector(".crop")
    visit.press("ArrowRight", "ArrowRight", "ArrowRight", "e")
    visit.shown(3)
    visit.press("Escape")
    visit.page.wait_for_selector(".crop")
    visit.page.click(".pencil >> nth=3")
    visit.shown(3)
    visit.press("ArrowDown", "Enter")
    visit.page.wait_for_selector("#review-view:not([hidden]) .crop")
    # It was seen with its prediction, so it no longer measures the model.
    assert (visit.last["index"], visit.last["source"], visit.last["blind"]) == (3, "corrected", False)


def test_the_review_has_pages(visit: Visit) -> None:
    visit.desk.sizes, visit.desk.suggested = [(64, 48)] * 30, True
    visit.open()
    visit.page.click("#open-review")
    visit.until("pages", "1 – 24 of 30")
    visit.page.click("#next")
    visit.until("pages", "25 – 30 of 30")
    visit.page.click("#accept-page")
    visit.until("pages", "1 – 24 of 24")
    assert sorted(visit.desk.answers) == list(range(24, 30))


def test_the_panel_and_finishing(visit: Visit) -> None:
    visit.desk.suggested = True
    visit.desk.quality = {
        "count": 7, "iou": 0.81, "low": 0.72, "high": 0.9, "good": 6, "threshold": 0.75, "goal": 0.8, "lower": None,
        "next": 10, "enough": False, "sentence": "6 of 7 boxes were good", "advice": "20 more would bring about 0.03",
        "trend": [[5, 0.61], [9, 0.72]],
    }  # fmt: skip
    visit.open()
    visit.until("model", "Learned from 5 boxes.")
    visit.until("interval", "between 0.72 and 0.90, by 7 blind images")
    visit.until("sentence", "6 of 7 boxes were good.")
    assert visit.page.get_attribute(".trend", "aria-label") == "Mean IoU: 0.61 at 5 labels, 0.72 at 9"
    visit.press("Enter")
    visit.shown(1)
    visit.until("left", "of 6, 5 left")
    visit.page.check("#predicted")
    visit.page.click("#train")
    visit.until("finish-lines", "labels.csv: 12 boxes")
    visit.until("commands", "solobox predict model/model.onnx")
    assert visit.desk.finished == [{"train": True, "predicted": True}]
    visit.page.uncheck("#predicted")
    visit.page.click("#write")
    visit.page.wait_for_timeout(100)
    assert visit.desk.finished[1:] == [{"train": False, "predicted": False}]


def test_the_name_of_a_person_is_kept(visit: Visit) -> None:
    visit.open()
    visit.page.click("#menu summary")
    visit.page.fill("#person", "Ada")
    visit.press("Enter")
    visit.open()
    visit.press("n")
    visit.shown(1)
    assert visit.last["person"] == "Ada"


def test_help_takes_the_keys(visit: Visit) -> None:
    visit.open()
    visit.press("?", "n", "s")
    assert visit.page.is_visible("#help")
    visit.press("Escape")
    assert visit.page.is_hidden("#help")
    assert visit.desk.received == []


def touch(phone: Visit, *steps: list[tuple[float, float]]) -> None:
    """Fingers at these points, step by step, then up."""
    client = phone.page.context.new_cdp_session(phone.page)
    for at, fingers in enumerate([*steps, []]):
        kind = "touchEnd" if not fingers else "touchMove" if at else "touchStart"
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    client.detach()


def test_a_finger_draws_and_two_zoom(phone: Visit) -> None:
    phone.open()
    x1, y1, x2, y2 = phone.rectangle()
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    spread = [[(middle[0] - d, middle[1]), (middle[0] + d, middle[1])] for d in (30, 35, 42, 48)]
    touch(phone, *spread)
    larger = phone.rectangle()
    assert larger[2] - larger[0] == pytest.approx(1.6 * (x2 - x1), abs=3)
    phone.until("box-text", "No box yet")
    x1, y1, x2, y2 = larger
    touch(phone, [(x1, y1)], [(x1 + 20, y1 + 30)], [(x2, y2)])
    # A finger beside the edge grasps it.
    touch(phone, [(x2 + 12, middle[1])], [(x2 + 20, middle[1])], [(x2 + 32, middle[1])])
    touch(phone, [(x2 + 8, middle[1])], [(x2, middle[1])], [(x2 - 12, middle[1])])
    phone.page.tap("#accept")
    phone.shown(1)
    assert phone.last["box"] == near(phone.desk.truth(0))


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_scrolls_sideways(visit: Visit, width: int) -> None:
    visit.desk.suggested, visit.desk.classes = True, [f"class {number}" for number in range(12)]
    visit.page.set_viewport_size({"width": width, "height": 844})
    visit.open()
    wide = "document.documentElement.scrollWidth"
    assert visit.page.evaluate(wide) == width
    assert visit.page.locator("#accept").bounding_box()["y"] < 800
    visit.desk.full = True
    visit.press("Enter")
    visit.page.wait_for_selector("#error")
    visit.page.click("#menu summary")
    assert visit.page.evaluate(wide) == width
    visit.press("Escape", "r")
    visit.page.wait_for_selector(".crop")
    assert visit.page.evaluate(wide) == width


def test_every_control_has_a_name(visit: Visit) -> None:
    visit.desk.suggested, visit.desk.classes = True, ["cat"]
    visit.open()
    nameless = """() => Array.from(document.querySelectorAll("button, input, progress, canvas, summary"))
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.id)"""
    assert visit.page.evaluate(nameless) == []


def test_a_slow_answer_is_not_called_saved(visit: Visit) -> None:
    visit.open()
    held: list[Any] = []

    def hold(route: Any) -> None:  # it reaches the server only when the test lets it go
        held.append(route)

    visit.page.route("**/api/answer", hold, times=1)
    with visit.page.expect_request("**/api/answer"):
        visit.press("b", "Enter")
    visit.press("n", "Enter")  # nothing happens meanwhile
    visit.page.wait_for_timeout(200)
    assert "saved:" not in visit.text("status")
    assert visit.desk.received == []
    held[0].continue_()
    visit.shown(1)
    visit.until("status", "saved: box")
    assert len(visit.desk.received) == 1


def label(box: list[float] | None) -> dict[str, Any]:
    return {"kind": "absent" if box is None else "box", "box": box, "label": "", "source": "given"}


def test_a_suspicious_label_is_kept_replaced_or_drawn_anew(visit: Visit) -> None:
    wrong = [40.0, 50.0, 120.0, 130.0]
    visit.desk.suggested = True
    visit.desk.given = {index: label(wrong) for index in range(3)} | {3: label(None), 4: label(None)}
    visit.open(0)
    assert "The label is orange" in visit.text("why")
    assert "does not overlap" in visit.text("why")
    visit.until("labelled-title", "Labels checked")
    assert visit.page.is_hidden("#model-card")
    visit.press("k")
    visit.shown(1)
    assert (visit.last["source"], visit.last["box"]) == ("given", wrong)
    assert visit.last["suggested"] == visit.desk.suggestion(0)["box"]
    visit.page.click("#take-model")
    visit.shown(2)
    assert (visit.last["source"], visit.last["box"]) == ("accepted", visit.desk.suggestion(1)["box"])
    visit.keys.down("Shift")
    visit.drag_around()
    visit.keys.up("Shift")
    visit.press("Enter")
    visit.shown(3)
    assert visit.last["source"] == "drawn"
    # The other box is drawn over the rectangle that the test looks for.
    assert visit.last["box"] == pytest.approx(visit.desk.truth(2), abs=8)
    assert "says “not there”" in visit.text("why")
    visit.press("k")
    visit.shown(4)
    assert (visit.last["kind"], visit.last["box"]) == ("absent", None)
    visit.press("m")
    visit.shown(5)
    assert (visit.last["kind"], visit.last["source"]) == ("box", "accepted")
    assert visit.page.is_hidden("#suspect")
    visit.press("k")  # there is no label to keep
    visit.page.wait_for_timeout(60)
    assert len(visit.desk.received) == 5

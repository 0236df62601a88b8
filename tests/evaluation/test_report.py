import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_helpers import EVIL, RUN, SECTIONS, Page, make, parse, report

from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.evaluation.report import RunMetadata, write_report
from solobox.images.drawing import PREDICTED, TRUTH
from solobox.predict.prediction import Prediction


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return make(tmp_path_factory.mktemp("images"), 40, names={39: EVIL}, unreadable=(3,))


@pytest.fixture(scope="module")
def path(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, evaluation, title="A <report>", run=RUN)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return parse(path)


def test_every_section_has_a_heading_and_a_link(page: Page) -> None:
    sections = page.of("section")
    assert [s["id"] for s in sections] == SECTIONS
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {s["aria-labelledby"] for s in sections} <= ids
    links = [a["href"] or "" for a in page.of("a")]
    assert [link.removeprefix("#") for link in links] == SECTIONS


def test_ids_are_unique(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(page: Page, path: Path) -> None:
    assert "://" not in path.read_text("utf-8")
    assert not page.of("script") + page.of("link") + page.of("iframe") + page.of("base")
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:image/", "#"))
    assert "@import" not in path.read_text("utf-8")


def test_the_page_adapts_to_a_phone_and_to_dark_mode(page: Page, path: Path) -> None:
    viewport = next(m for m in page.of("meta") if m.get("name") == "viewport")
    assert "width=device-width" in (viewport["content"] or "")
    assert "prefers-color-scheme: dark" in path.read_text("utf-8")
    assert page.of("html")[0]["lang"] == "en"


def test_the_numbers_are_the_metrics(page: Page, evaluation: Evaluation) -> None:
    metrics = evaluation.metrics
    assert page.numbers == {
        "mean_iou": f"{metrics.mean_iou:.3f}",
        "iou90": f"{100 * metrics.iou90:.1f}%",
        "iou75": f"{100 * metrics.iou75:.1f}%",
        "edge_mae_px": f"{metrics.edge_mae_px:.1f}",
    }
    assert f"In {int((evaluation.iou >= 0.9).sum())} of 40 images the predicted box fits" in page.words
    for name, row in [("All", metrics), *metrics.by_label.items()]:
        shares = [f"{100 * share:.1f}%" for share in (row.iou50, row.iou75, row.iou90)]
        cells = [name, str(row.n), f"{row.mean_iou:.3f}", *shares, f"{row.edge_mae_px:.1f}"]
        assert "".join([*cells, f"{row.center_mae_px:.1f}"]) in page.words


def test_there_is_a_space_between_sentences(page: Page) -> None:
    assert not re.search(r"[a-z)][.;:][A-Z]", page.words.replace("image_", ""))


def test_the_best_and_the_worst_images_are_shown_with_both_boxes(page: Page, evaluation: Evaluation) -> None:
    images = page.of("img")
    assert len(images) == 26
    order = [i for i in np.argsort(evaluation.iou, kind="stable") if i != 3]
    names = evaluation.dataset.names
    expected = [names[i] for i in [*order[::-1][:6], *order[:20]]]
    assert [(p["alt"] or "").split(" with the true")[0] for p in images] == expected
    for image in images:
        head, data = (image["src"] or "").split(",", 1)
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            pixels = np.asarray(shown.convert("RGB")).astype(int)
        assert (str(pixels.shape[1]), str(pixels.shape[0])) == (image["width"], image["height"])
        for color in (TRUTH, PREDICTED):
            assert (np.abs(pixels - color).sum(axis=2) < 60).any()


def test_boxes_are_scaled_to_a_thumbnail(tmp_path: Path) -> None:
    image = tmp_path / "large.png"
    Image.new("RGB", (2000, 1000), (110, 120, 130)).save(image)
    dataset = Dataset(images=[image], boxes=[[500, 250, 1500, 750]])
    found = Prediction(str(image), np.array([500.0, 250, 1500, 750]), (2000, 1000))
    page = report(tmp_path, evaluate_predictions(dataset, [found], "test"))
    (tag,) = page.of("img")
    assert (tag["width"], tag["height"]) == ("400", "200")
    data = (tag["src"] or "").split(",", 1)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        pixels = np.asarray(thumbnail.convert("RGB")).astype(int)
    y, x = np.nonzero(np.abs(pixels - PREDICTED).sum(axis=2) < 60)
    np.testing.assert_allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], [100, 50, 300, 150], atol=2)


def test_charts_have_a_label_for_screen_readers(page: Page) -> None:
    labels = [svg.get("aria-label") or "" for svg in page.of("svg")]
    for words in (
        "Histogram of the IoU",
        "IoU against object size",
        "edges",
        "Training curve",
        "Heat map",
    ):
        assert any(words in label for label in labels)


def test_names_and_metadata_are_escaped(page: Page, path: Path) -> None:
    text = path.read_text("utf-8")
    assert "<script" not in text
    assert EVIL in page.text
    assert not page.of("b") + page.of("i")[4:]  # the four swatches of the two legends
    for words in ("A <report>", "runs/<b>one</b>", "broken <i>3</i>", RUN.command):
        assert words in page.text


def test_the_run_can_be_reproduced(page: Page) -> None:
    for words in ("7", "tf_efficientnet_lite0", "boxes.csv", "2.11.0", '{"kl": 1.0}', "12.3 s", "3.3 min"):
        assert words in page.text
    assert "whose weights were saved" in page.words
    assert "marks epoch 2" in page.words


def test_the_counts_of_the_data_add_up(page: Page) -> None:
    for words in (
        "to train, with a box80",
        "to test, with a box10",
        "without a box2",
        "several boxes1",
        "in all103",
    ):
        assert words in page.text.replace("\n", "")


def test_unreadable_images_are_named_with_the_reason(page: Page) -> None:
    assert "image_003.pngbroken <i>3</i>" in page.words
    assert "1 image could not be read and counts as IoU 0." in page.words


def test_tables_have_headers(page: Page) -> None:
    assert len(page.of("table")) == len(page.of("thead")) >= 6
    assert all(th.get("scope") in {"col", "row"} for th in page.of("th"))


def test_the_same_evaluation_gives_the_same_bytes(evaluation: Evaluation, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "again.html"
    write_report(other, evaluation, title="A <report>", run=RUN)
    assert other.read_bytes() == path.read_bytes()


def test_the_file_is_small(path: Path) -> None:
    assert path.stat().st_size < 3_000_000


@pytest.mark.parametrize(("n", "run"), [(1, None), (2, RUN), (5, None)])
def test_few_images_are_all_shown_with_a_warning(tmp_path: Path, n: int, run: RunMetadata | None) -> None:
    page = report(tmp_path, make(tmp_path, n), run)
    assert len(page.of("img")) == n
    assert " few: treat every number" in page.words
    assert "nan" not in page.words
    assert ("No metadata of the training run is available" in page.words) == (run is None)


def test_no_images_make_a_page(tmp_path: Path) -> None:
    page = report(tmp_path, make(tmp_path, 0))
    assert [s["id"] for s in page.of("section")] == SECTIONS[:-1]  # none is unreadable
    assert "#unreadable" not in [a["href"] for a in page.of("a")]
    assert "There is nothing to measure" in page.words
    assert "nan" not in page.words
    assert not page.of("img")


def test_only_unreadable_images_make_a_page(tmp_path: Path) -> None:
    page = report(tmp_path, make(tmp_path, 3, unreadable=(0, 1, 2)), None)
    assert page.numbers["mean_iou"] == "0.000"
    assert page.numbers["edge_mae_px"] == "–"
    assert "3 images could not be read and count as IoU 0." in page.words
    assert "nothing to plot" in page.words


def test_without_labels_there_is_one_row(tmp_path: Path) -> None:
    page = report(tmp_path, make(tmp_path, 4, labels=False))
    assert "cat" not in page.words
    assert "(no label)" not in page.words


def test_a_missing_image_is_mentioned_and_not_fatal(tmp_path: Path) -> None:
    evaluation = make(tmp_path, 3)
    evaluation.dataset.paths[1].unlink()
    page = report(tmp_path, evaluation)
    assert len(page.of("img")) == 2
    assert "could not be read when the report was written" in page.words


def test_a_name_that_is_not_utf_8_is_not_fatal(tmp_path: Path) -> None:
    page = report(tmp_path, make(tmp_path, 2, names={0: "bad_\udcff.jpg", 1: "日本.jpg"}))
    assert "bad_?.jpg" in page.text
    assert "日本.jpg" in page.text


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    evaluation = make(tmp_path, 1)
    (tmp_path / "report.html").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"report\.html: cannot be written"):
        write_report(tmp_path / "report.html", evaluation, title="", run=None)
    assert sorted(tmp_path.iterdir()) == before


def test_the_confidence_interval_is_below_the_metric(page: Page, evaluation: Evaluation) -> None:
    found = evaluation.intervals["mean_iou"]
    assert f"1 is perfect, 0 is no overlap95% CI: {found.lower:.3f} to {found.upper:.3f}" in page.words
    assert (
        f"mean IoU is {found.lower:.3f} to {found.upper:.3f} (bootstrap, 2,000 resamples of 40 images)"
        in page.words
    )
    shares = evaluation.intervals["iou90"]
    assert f"of the images95% CI: {100 * shares.lower:.1f}% to {100 * shares.upper:.1f}%" in page.words


def test_missing_margins_presence_and_familiarity_are_mentioned(page: Page) -> None:
    for words in (
        "The model has no margins",
        "The model has no presence",
        "The model has no familiarity",
    ):
        assert words in page.words
    for words in ("AUROC", "Outer box", "least familiar", "Comparison"):
        assert words not in page.words


@pytest.mark.real
def test_real_images(real_data: Path, tmp_path: Path) -> None:
    dataset = Dataset.read(real_data / "caltech" / "face.csv").select(np.arange(30))
    found = []
    for image, box in zip(dataset.paths, dataset.boxes, strict=True):
        with Image.open(image) as opened:
            found.append(Prediction(str(image), box * 1.02, opened.size))
    page = report(tmp_path, evaluate_predictions(dataset, found, "test"))
    assert len(page.of("img")) == 26
    assert (tmp_path / "report.html").stat().st_size < 3_000_000

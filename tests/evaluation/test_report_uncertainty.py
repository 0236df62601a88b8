import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_helpers import RUN, SECTIONS, make, parse, report, with_uncertainty

from solobox.evaluation.compare import compare
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.evaluation.report import write_report
from solobox.evaluation.report.gallery import OTHER
from solobox.images.drawing import PREDICTED, TRUTH


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return make(tmp_path_factory.mktemp("images"), 40, unreadable=(3,))


def test_margins_presence_and_familiarity_are_reported(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluated = with_uncertainty(evaluation, groups=True)
    page = report(tmp_path, evaluated)
    coverage, presence, familiarity = evaluated.coverage, evaluated.presence, evaluated.familiarity
    assert coverage is not None
    assert presence is not None
    assert familiarity is not None
    assert page.numbers["coverage"] == f"{100 * coverage.share:.1f}%"
    assert page.numbers["auroc"] == f"{presence.auroc:.3f}"
    assert page.numbers["ece"] == f"{presence.ece:.3f}"
    assert (page.numbers["missed"], page.numbers["false_alarms"]) == ("9", "2")
    assert "nominal: 90.0%" in page.words
    assert f"Here the median of {familiarity.n} images is {familiarity.median:.2f}, and" in page.words
    assert "As a whole" not in page.words
    shifted = replace(familiarity, share_unfamiliar=None, p_value=0.0001)
    page = report(tmp_path, replace(evaluated, familiarity=shifted))
    assert (
        "calibrated on too few images for values of 0.01. As a whole, these images are unlike" in page.words
    )
    assert "p < 0.001" in page.words
    alike = replace(familiarity, p_value=0.4321)
    page = report(tmp_path, replace(evaluated, familiarity=alike))
    assert "As a whole, these images are not significantly unlike the training images" in page.words
    assert "p 0.432" in page.words
    assert "20 groups of 40 images" in page.words
    assert "4 images without one were used for the presence metrics only" in page.words
    labels = [svg.get("aria-label") or "" for svg in page.of("svg")]
    for words in (
        "contain the true box",
        "Reliability diagram",
        "with and without the object",
        "familiarity of 39",
    ):
        assert any(words in label for label in labels)
    alts = [image["alt"] or "" for image in page.of("img")]
    assert [alt.split(" with ")[0] for alt in alts if "its familiarity is" in alt] == [
        evaluated.dataset.names[row] for row in (0, 1, 2, 4, 5, 6)
    ]
    assert not re.search(r"[a-z)][.;:][A-Z]", page.words.replace("image_", ""))
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("margin", "says"),
    [
        (0.01, "significantly below the nominal level"),
        (40, "significantly above the nominal level"),
        (11, "not significant"),
    ],
)
def test_coverage_is_compared_with_the_nominal_level(
    evaluation: Evaluation, tmp_path: Path, margin: float, says: str
) -> None:
    page = report(tmp_path, with_uncertainty(evaluation, margin=margin))
    assert says in page.words


def test_there_is_no_verdict_on_the_coverage_of_few_groups(evaluation: Evaluation, tmp_path: Path) -> None:
    page = report(tmp_path, with_uncertainty(evaluation, margin=0.01, groups=True))
    assert "20 groups are too few to tell" in page.words
    assert "significantly below the nominal level" not in page.words


def test_presence_without_negatives_has_only_misses(evaluation: Evaluation, tmp_path: Path) -> None:
    page = report(tmp_path, with_uncertainty(evaluation, negatives=0))
    assert "no images without the object. Of the images with the object, 9 have" in page.words
    assert "AUROC" not in page.words


def test_another_run_on_the_same_images(evaluation: Evaluation, tmp_path: Path) -> None:
    one, other = (
        with_uncertainty(evaluation),
        replace(with_uncertainty(evaluation, shift=3), n_seen_in_training=5),
    )
    found = compare(one, other, "new", "<b>old</b>")
    write_report(tmp_path / "report.html", one, title="A report", run=RUN, comparison=found)
    page = parse(tmp_path / "report.html")
    assert [s["id"] for s in page.of("section")] == ["result", "comparison", *SECTIONS[1:]]
    assert found.mean_iou.significant
    assert f"{found.sentence}." in page.words
    assert "<b>old</b> was trained on 5 of these 40 images" in page.words
    assert "not significant" not in page.words.split("IoU of both runs")[0]
    row = found.by_size[0]
    assert (row.name, row.n) == ("small", 13)
    assert f"small13{row.first:.3f}{row.second:.3f}+{row.paired.difference:.3f}" in page.words
    label = found.by_label[0]
    assert f"cat20{label.first:.3f}{label.second:.3f}" in page.words
    gains, losses = found.extremes()
    assert losses == []
    alts = [image["alt"] or "" for image in page.of("img") if "those of both runs" in (image["alt"] or "")]
    assert [alt.split(" with ")[0] for alt in alts] == [one.dataset.names[row] for row in gains]
    assert "Largest losses" not in page.words
    for svg in ("IoU of this run against", "Histogram of the IoU differences", "Difference of the mean IoU"):
        assert any(svg in (image.get("aria-label") or "") for image in page.of("svg"))
    image = next(i for i in page.of("img") if "those of both runs" in (i["alt"] or ""))
    data = (image["src"] or "").split(",", 1)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        pixels = np.asarray(thumbnail.convert("RGB")).astype(int)
    for color in (TRUTH, PREDICTED, OTHER):
        assert (np.abs(pixels - color).sum(axis=2) < 60).any()


def test_a_difference_that_is_not_significant_is_called_so(evaluation: Evaluation, tmp_path: Path) -> None:
    boxes = np.array([p.box for p in evaluation.predictions])
    noise = np.random.default_rng(0).normal(0, 0.5, boxes.shape)
    moved = [replace(p, box=p.box + noise[row]) for row, p in enumerate(evaluation.predictions)]
    again = [replace(p, box=p.box - noise[row]) for row, p in enumerate(evaluation.predictions)]
    one, other = (evaluate_predictions(evaluation.dataset, found, "test") for found in (moved, again))
    found = compare(one, other, "a", "b")
    assert not found.mean_iou.significant
    write_report(tmp_path / "report.html", one, title="A report", run=None, comparison=found)
    page = parse(tmp_path / "report.html")
    assert "a and b do not differ significantly on these 40 images" in page.words
    assert "contains 0: the difference is not significant" in page.words


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_images_of_two_runs_make_a_page(tmp_path: Path, n: int) -> None:
    one = make(tmp_path, n)
    write_report(tmp_path / "r.html", one, title="", run=None, comparison=compare(one, one, "a", "b"))
    page = parse(tmp_path / "r.html")
    assert ("too few to compare" in page.words) == (n < 2)
    assert "nan" not in page.words

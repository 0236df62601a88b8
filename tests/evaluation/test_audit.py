from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats, iou
from solobox.data.dataset import Dataset
from solobox.evaluation.audit.label_audit import (
    MIN_THRESHOLD,
    Audit,
    AuditFinding,
    ErrorKind,
    audit_labels,
    classify_error,
    disagreement,
    threshold,
)
from solobox.predict.prediction import Prediction

SIZE = (400, 300)
NONE = np.full(4, np.nan)
NOISE = np.random.default_rng(5).normal(0, 1.5, (60, 4))
"""Annotation noise in pixels of correct labels, which every dataset here also contains."""


def predicted(
    box: npt.ArrayLike, std: float = 5.0, *, presence: float = np.nan, familiarity: float = np.nan
) -> Prediction:
    return Prediction(
        "p.jpg",
        np.asarray(box, dtype=np.float64),
        SIZE,
        np.full(4, std),
        presence=presence,
        familiarity=familiarity,
    )


def audited(
    labels: Sequence[npt.ArrayLike], predictions: Sequence[Prediction], second: Prediction | None = None
) -> Audit:
    """Audit these rows together with sixty correct labels."""
    model = np.tile([100.0, 80, 260, 200], (len(NOISE), 1))
    boxes = np.concatenate([model + NOISE, np.array([*labels], dtype=np.float64).reshape(-1, 4)])
    dataset = Dataset([f"{row}.jpg" for row in range(len(boxes))], boxes)
    again = (lambda row: second) if second is not None else None
    return audit_labels(dataset, [*map(predicted, model), *predictions], again)


def one(label: npt.ArrayLike, prediction: Prediction, second: Prediction | None = None) -> AuditFinding:
    found = audited([label], [prediction], second)
    return next(finding for finding in found.findings if finding.row == len(NOISE))


MODEL = (100.0, 80.0, 260.0, 200.0)


@pytest.mark.parametrize(
    ("label", "kind", "why"),
    [
        ((300, 210, 390, 290), ErrorKind.WRONG_PLACE, "does not overlap"),
        ((220, 150, 380, 270), ErrorKind.WRONG_PLACE, "hardly overlaps"),
        ((60, 50, 300, 230), ErrorKind.TOO_BIG, "1.50 times as wide and 1.50 times as high"),
        ((140, 110, 220, 170), ErrorKind.TOO_SMALL, "0.50 times as wide"),
        ((130, 60, 290, 180), ErrorKind.SHIFTED, "30 px to the right and 20 px up"),
        ((70, 100, 230, 220), ErrorKind.SHIFTED, "30 px to the left and 20 px down"),
        ((60, 80, 260, 200), ErrorKind.EDGE, "only the left edge is off: 40 px outside"),
        ((100, 80, 260, 160), ErrorKind.EDGE, "only the bottom edge is off: 40 px inside"),
        (MODEL, ErrorKind.AGREES, "furthest"),
    ],
)
def test_errors_are_classified(label: tuple[float, ...], kind: ErrorKind, why: str) -> None:
    finding = one(label, predicted(MODEL))
    assert finding.kind is kind
    assert why in finding.why
    assert finding.why.endswith(".")
    assert finding.flagged == (kind is not ErrorKind.AGREES)
    assert finding.iou == pytest.approx(float(iou(label, MODEL)))


def test_a_label_around_two_objects_is_merged() -> None:
    first, second, label = (20.0, 80, 120, 200), (220.0, 70, 330, 190), (20.0, 70, 330, 200)
    finding = one(label, predicted(first), predicted(second))
    assert finding.kind is ErrorKind.MERGED
    assert finding.second.tolist() == list(second)
    assert one(label, predicted(first)).kind is ErrorKind.EDGE  # without a second prediction


@pytest.mark.parametrize(
    "second",
    [
        predicted((25, 85, 125, 195)),  # the same object again
        predicted((200, 75, 210, 85)),  # next to nothing
        predicted((220, 20, 250, 60)),  # does not complete the label
        predicted((220, 70, 330, 190), presence=0.01),  # not present
        Prediction("p.jpg", error="gone"),
    ],
)
def test_a_second_prediction_without_a_second_object_changes_nothing(second: Prediction) -> None:
    first, label = (20.0, 80, 120, 200), (20.0, 70, 330, 200)
    finding = one(label, predicted(first), second)
    assert finding.kind is not ErrorKind.MERGED
    assert np.isnan(finding.second).all()


def test_only_labels_much_larger_than_their_prediction_are_predicted_again() -> None:
    rows_predicted: list[int] = []

    def predict(row: int) -> Prediction:
        rows_predicted.append(row)
        return predicted((300, 200, 380, 280))

    model = np.tile(MODEL, (len(NOISE), 1))
    rows = np.concatenate([model + NOISE, [(300, 210, 390, 290), (20, 20, 390, 290)]])
    dataset = Dataset([f"{row}.jpg" for row in range(len(rows))], rows)
    audit_labels(dataset, [predicted(box) for box in [*model, MODEL, MODEL]], predict)
    assert rows_predicted == [len(NOISE) + 1]


def test_presence_tells_empty_and_missing() -> None:
    empty = one(MODEL, predicted(MODEL, presence=0.004))
    assert (empty.kind, empty.flagged) == (ErrorKind.EMPTY, True)
    assert "0.4%" in empty.why
    missing = one(NONE, predicted(MODEL, presence=0.9995))
    assert (missing.kind, missing.flagged) == (ErrorKind.MISSING, True)
    assert "above 99.9%" in missing.why
    assert np.isnan(missing.iou)
    for label, presence in ((MODEL, 0.2), (NONE, 0.8), (NONE, float("nan"))):
        unsure = one(label, predicted(MODEL, presence=presence))
        assert (unsure.kind, unsure.flagged) == (ErrorKind.AGREES, False)


def test_surer_presence_ranks_higher() -> None:
    shares = (0.04, 1e-2, 1e-3, 1e-4)
    found = audited([MODEL] * 4, [predicted(MODEL, presence=share) for share in shares])
    assert [finding.row - len(NOISE) for finding in found.flagged] == [3, 2, 1, 0]


def test_unreadable_images_come_first_with_the_reason() -> None:
    found = audited([MODEL, (300, 210, 390, 290)], [Prediction("p", error="is <broken>"), predicted(MODEL)])
    first, second = found.findings[:2]
    assert (first.kind, first.row, first.score) == (ErrorKind.UNREADABLE, len(NOISE), float("inf"))
    assert "is <broken>" in first.why
    assert second.kind is ErrorKind.WRONG_PLACE
    assert np.isnan(first.predicted).all()


def test_an_unfamiliar_image_is_mentioned() -> None:
    wrong = (300.0, 210, 390, 290)
    assert "unlike most others" in one(wrong, predicted(MODEL, familiarity=0.01)).why
    assert "unlike most others" not in one(wrong, predicted(MODEL, familiarity=0.5)).why


def test_correct_labels_are_not_flagged() -> None:
    found = audited([], [])
    assert not found.flagged
    assert len(found.findings) == len(NOISE)


def test_an_uncertain_prediction_is_weak_evidence() -> None:
    label = (140.0, 80, 300, 200)
    certain, uncertain = predicted(MODEL, 5), predicted(MODEL, 60)
    assert one(label, certain).flagged
    assert not one(label, uncertain).flagged


def test_a_common_factor_of_all_deviations_does_not_matter() -> None:
    """Some heads predict standard deviations ten times their errors; only their ratios count."""
    label = (140.0, 80, 300, 200)
    model = np.tile(MODEL, (len(NOISE), 1))
    dataset = Dataset([f"{row}.jpg" for row in range(61)], np.concatenate([model + NOISE, [label]]))
    right, large = (audit_labels(dataset, [predicted(MODEL, std)] * 61) for std in (5.0, 80.0))
    np.testing.assert_allclose(
        [f.score for f in right.findings], [f.score for f in large.findings], rtol=1e-12
    )
    assert [finding.row for finding in large.flagged] == [60]


def test_errors_of_a_head_without_deviations_are_relative_to_the_box() -> None:
    label = (140.0, 80, 300, 200)
    model = np.tile(MODEL, (len(NOISE), 1))
    dataset = Dataset([f"{row}.jpg" for row in range(61)], np.concatenate([model + NOISE, [label]]))
    found = audit_labels(dataset, [predicted(MODEL, float("nan"))] * 61)
    assert [finding.row for finding in found.flagged] == [60]


def test_wrong_edges_are_found_among_noisy_labels() -> None:
    rng = np.random.default_rng(3)
    model = np.concatenate([rng.uniform(20, 120, (400, 2)), rng.uniform(180, 290, (400, 2))], axis=1)
    labels = model + rng.normal(0, 2, model.shape)
    wrong = rng.permutation(400)[:40]
    labels[wrong, 2] += rng.choice([-45, 45], 40)
    dataset = Dataset([f"{row}.jpg" for row in range(400)], labels)
    found = audit_labels(
        dataset, [predicted(box, std) for box, std in zip(model, rng.uniform(2, 5, 400), strict=True)]
    )
    assert {finding.row for finding in found.findings[:40]} == set(wrong.tolist())
    assert {finding.row for finding in found.flagged} == set(wrong.tolist())
    assert {finding.kind for finding in found.flagged} == {ErrorKind.EDGE}


@pytest.mark.parametrize("std", [0.0, 5.0, float("nan")])
def test_a_predicted_box_without_area_has_a_finite_score(std: float) -> None:
    """A regression head can predict one."""
    model = np.tile(MODEL, (len(NOISE), 1))
    labels = np.concatenate([model + NOISE, [MODEL, MODEL]])
    dataset = Dataset([f"{row}.jpg" for row in range(62)], labels)
    empty = [predicted((180, 140, 180, 140), std), predicted((0, 90, 0, 90), std)]
    found = audit_labels(dataset, [*(predicted(box, std) for box in model), *empty])
    assert {finding.row for finding in found.flagged} == {60, 61}
    assert all(np.isfinite(finding.score) for finding in found.findings)


def test_nothing_to_audit() -> None:
    assert audit_labels(Dataset([], []), []).findings == ()
    assert threshold([]) == MIN_THRESHOLD
    with pytest.raises(ValueError, match="0 predictions"):
        audit_labels(Dataset(["a.jpg"], [MODEL]), [])


def test_no_image_is_opened(tmp_path: Path) -> None:
    dataset = Dataset([tmp_path / "is not there.jpg"], [MODEL])
    assert audit_labels(dataset, [predicted(MODEL)]).findings[0].kind is ErrorKind.AGREES


# Properties -------------------------------------------------------------------------------------------

sides = st.floats(20, 150)
corner = st.floats(0, 200)


@st.composite
def sets(draw: st.DrawFn, least: int = 5) -> tuple[Floats, Floats, Floats]:
    """Labels, predictions and standard deviations of one dataset, pixels."""
    count = draw(st.integers(least, 12))

    def some(strategy: st.SearchStrategy[float], width: int) -> Floats:
        return np.array(draw(st.lists(strategy, min_size=count * width, max_size=count * width))).reshape(
            -1, width
        )

    first, size = some(corner, 2), some(sides, 2)
    model = np.concatenate([first, first + size], axis=1)
    return model + some(st.floats(-9, 9), 4), model, some(st.floats(0.5, 20), 4)


@given(sets(), st.floats(0.01, 100))
def test_scores_do_not_depend_on_the_size_of_images(
    data: tuple[Floats, Floats, Floats], factor: float
) -> None:
    labels, model, std = data
    once, again = (
        disagreement(labels, model, std),
        disagreement(labels * factor, model * factor, std * factor),
    )
    np.testing.assert_allclose(once.score, again.score, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(once.z, again.z, rtol=1e-9, atol=1e-9)


@given(sets(), st.floats(-1, 1), st.floats(-1, 1), st.floats(1, 60), st.floats(1, 60))
def test_the_score_grows_with_the_distance(
    data: tuple[Floats, Floats, Floats], x: float, y: float, distance: float, more: float
) -> None:
    """One label moves away from its prediction along a line; the others, and so the units, stay."""
    labels, model, std = data
    way = np.array([x, y, x, y]) / max(abs(x), abs(y), 1e-3)
    rows = np.concatenate([labels, model[:1] + distance * way, model[:1] + (distance + more) * way])
    score = disagreement(rows, model[[*range(len(labels)), 0, 0]], std[[*range(len(labels)), 0, 0]]).score
    assert score[-1] >= score[-2] * (1 - 1e-12)
    if max(abs(x), abs(y)) > 1e-3:
        assert score[-1] > score[-2]


@given(sets(), st.floats(20, 150), st.floats(20, 150))
def test_no_overlap_scores_above_an_overlap_with_the_same_z(
    data: tuple[Floats, Floats, Floats], width: float, height: float
) -> None:
    """ObjectLab's score of misplaced labels ignores a label without overlap."""
    labels, model, std = data
    box = np.array([300.0, 300, 300 + width, 300 + height])
    # The right edge of both is off by the width; the left one only of the label without overlap.
    wider, beside = box + np.array([0, 0, width, 0]), box + np.array([width, 0, width, 0])
    rows = np.concatenate([labels, [wider], [beside]])
    at = np.concatenate([model, [box], [box]])
    deviation = np.concatenate([std, np.full((2, 4), 3.0)])
    measured = disagreement(rows, at, deviation)
    assert measured.score[-1] > measured.score[-2]


@given(sets())
def test_findings_are_sorted_and_complete(data: tuple[Floats, Floats, Floats]) -> None:
    labels, model, std = data
    dataset = Dataset([f"{row}.jpg" for row in range(len(labels))], labels)
    rows = [Prediction("p", box, (500, 500), deviation) for box, deviation in zip(model, std, strict=True)]
    found = audit_labels(dataset, rows)
    assert sorted(finding.row for finding in found.findings) == list(range(len(labels)))
    score = [finding.score for finding in found.findings]
    assert score == sorted(score, reverse=True)
    assert found.flagged == found.findings[: len(found.flagged)]
    for finding in found.findings:
        assert finding.flagged == (finding.score >= found.threshold) == (finding.kind is not ErrorKind.AGREES)


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=50))
def test_the_threshold_has_a_minimum(scores: list[float]) -> None:
    assert threshold(scores) >= MIN_THRESHOLD


@given(st.lists(st.floats(1.0, 3.0), min_size=20, max_size=60), st.floats(100, 1e6))
def test_wrong_labels_do_not_raise_the_threshold_above_themselves(scores: list[float], far: float) -> None:
    wrong = [far] * (len(scores) // 6)
    assert threshold([*scores, *wrong]) < far


@given(sets())
def test_every_label_has_one_kind_of_box_error(data: tuple[Floats, Floats, Floats]) -> None:
    labels, model, std = data
    measured = disagreement(labels, model, std)
    for label, box, z in zip(labels, model, measured.z, strict=True):
        kind, why = classify_error(label, box, z)
        assert kind in {
            ErrorKind.WRONG_PLACE,
            ErrorKind.TOO_BIG,
            ErrorKind.TOO_SMALL,
            ErrorKind.SHIFTED,
            ErrorKind.EDGE,
        }
        assert why
        assert "nan" not in why

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation.metrics import FamiliaritySummary, evaluate_predictions, ious, measure
from solobox.predict.prediction import Prediction

NAN = float("nan")


def random_boxes(n: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 200, (n, 2))], axis=1)


@st.composite
def boxes(draw: st.DrawFn, n: int) -> Floats:
    numbers = st.floats(0, 1000, allow_subnormal=False)
    sides = st.floats(0.5, 500, allow_subnormal=False)
    rows = draw(st.lists(st.tuples(numbers, numbers, sides, sides), min_size=n, max_size=n))
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows])


def test_iou_agrees_with_torchvision() -> None:
    truth = random_boxes(400, 0)
    predicted = truth + np.random.default_rng(1).normal(0, 15, truth.shape)
    predicted[:, 2:] = np.maximum(predicted[:, 2:], predicted[:, :2])
    oracle = torchvision.ops.box_iou(torch.from_numpy(truth), torch.from_numpy(predicted)).diagonal().numpy()
    np.testing.assert_allclose(ious(truth, predicted), oracle, atol=1e-12)
    metrics = measure(truth, predicted)
    assert metrics.n == 400
    assert metrics.mean_iou == pytest.approx(oracle.mean())
    for share, threshold in ((metrics.iou50, 0.5), (metrics.iou75, 0.75), (metrics.iou90, 0.9)):
        assert share == pytest.approx((oracle >= threshold).mean())
        assert 0 < share < 1


def test_errors_in_pixels_by_hand() -> None:
    truth = [[0, 0, 10, 10], [10, 10, 30, 30]]
    predicted = [[3, 4, 13, 14], [10, 10, 30, 34]]
    metrics = measure(truth, predicted)
    assert metrics.edge_mae_px == pytest.approx((3 + 4 + 3 + 4 + 0 + 0 + 0 + 4) / 8)
    assert metrics.center_mae_px == pytest.approx((5 + 2) / 2)


def test_a_threshold_counts_the_image_that_just_reaches_it() -> None:
    truth = np.array([[0.0, 0, 10, 10]] * 3)
    predicted = np.array([[0, 0, 10, 5], [0, 0, 10, 7.5], [0, 0, 10, 9]])
    metrics = measure(truth, predicted)
    assert (metrics.iou50, metrics.iou75, metrics.iou90) == pytest.approx((1, 2 / 3, 1 / 3))


@pytest.mark.parametrize("unreadable", [[NAN] * 4, [0, 0, NAN, 10], [0, 0, float("inf"), 10]])
def test_an_image_without_a_predicted_box_counts_as_iou_0_and_has_no_distance(
    unreadable: list[float],
) -> None:
    truth, found = np.array([[0.0, 0, 10, 10]] * 2), np.array([[0, 0, 10, 8], unreadable])
    metrics = measure(truth, found)
    assert metrics.n == 2
    assert metrics.mean_iou == pytest.approx(0.4)
    assert metrics.iou50 == 0.5
    assert metrics.edge_mae_px == pytest.approx(0.5)
    assert metrics.center_mae_px == pytest.approx(1)
    np.testing.assert_allclose(ious(truth, found), [0.8, 0])


def test_each_label_is_measured() -> None:
    truth, labels = random_boxes(30, 2), ["cat", "dog", ""] * 10
    predicted = truth + np.random.default_rng(3).normal(0, 5, truth.shape)
    metrics = measure(truth, predicted, labels)
    assert list(metrics.by_label) == ["", "cat", "dog"]
    for i, name in enumerate(["cat", "dog", ""]):
        assert metrics.by_label[name] == measure(truth[i::3], predicted[i::3])
    assert metrics.mean_iou == measure(truth, predicted).mean_iou


@pytest.mark.parametrize("labels", [None, [], ["", "", ""]])
def test_without_labels_there_are_no_metrics_by_label(labels: list[str] | None) -> None:
    truth = random_boxes(0 if labels == [] else 3, 4)
    assert measure(truth, truth, labels).by_label == {}


def test_the_dictionary_is_json_and_has_the_numbers() -> None:
    truth = random_boxes(4, 5)
    metrics = measure(truth, truth + 1, ["a", "a", "b", "b"])
    plain = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert plain["n"] == 4
    assert plain["mean_iou"] == metrics.mean_iou
    assert plain["edge_mae_px"] == pytest.approx(1)
    assert plain["center_mae_px"] == pytest.approx(math.sqrt(2))
    assert plain["by_label"]["b"]["n"] == 2
    assert set(plain) - {"by_label"} == set(plain["by_label"]["a"])


def test_metrics_of_no_images_are_null() -> None:
    plain = measure([], []).to_dict()
    assert plain.pop("n") == 0
    assert plain.pop("by_label") == {}
    assert set(plain.values()) == {None}
    assert math.isnan(measure(np.empty((0, 4)), np.empty((0, 4))).mean_iou)


def test_all_unreadable_is_zero_and_null() -> None:
    plain = measure([[0, 0, 1, 1]], [[NAN] * 4]).to_dict()
    assert (plain["mean_iou"], plain["iou50"], plain["edge_mae_px"]) == (0, 0, None)
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize(
    ("truth", "predicted", "labels", "message"),
    [
        ([[0, 0, 1, 1]], [], None, "1 true boxes but 0"),
        ([[0, 0, 1]], [[0, 0, 1]], None, r"shape \(N, 4\)"),
        ([0, 0, 1, 1], [0, 0, 1, 1], None, r"shape \(N, 4\)"),
        ([[0, 0, 1, NAN]], [[0, 0, 1, 1]], None, "not finite"),
        ([[0, 0, 1, 1]], [[0, 0, 1, 1]], ["a", "b"], "2 labels"),
    ],
)
def test_wrong_input_raises(
    truth: list[list[float]], predicted: list[list[float]], labels: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(truth, predicted, labels)


@given(boxes(5), boxes(5))
def test_shares_fall_with_the_threshold_and_iou_lies_between_0_and_1(truth: Floats, found: Floats) -> None:
    metrics = measure(truth, found)
    assert 0 <= metrics.iou90 <= metrics.iou75 <= metrics.iou50 <= 1
    assert 0 <= metrics.mean_iou <= 1
    # The centre moves by no more than the mean of the edges' moves, in each direction.
    assert metrics.center_mae_px <= 2 * metrics.edge_mae_px + 1e-9


@given(boxes(4), boxes(4), st.permutations(range(4)))
def test_the_order_of_the_images_does_not_matter(truth: Floats, found: Floats, order: list[int]) -> None:
    one, other = measure(truth, found), measure(truth[order], found[order])
    assert astuple(one)[:-1] == pytest.approx(astuple(other)[:-1])


@given(boxes(4), boxes(4), st.floats(-200, 200), st.floats(0.1, 10))
def test_iou_is_invariant_to_shift_and_scale_and_errors_scale(
    truth: Floats, found: Floats, shift: float, scale: float
) -> None:
    original, moved = measure(truth, found), measure(truth * scale + shift, found * scale + shift)
    assert moved.mean_iou == pytest.approx(original.mean_iou, abs=1e-6)
    assert moved.edge_mae_px == pytest.approx(original.edge_mae_px * scale, abs=1e-6)
    assert moved.center_mae_px == pytest.approx(original.center_mae_px * scale, abs=1e-6)


@given(boxes(3))
def test_the_true_boxes_themselves_are_perfect(truth: Floats) -> None:
    metrics = measure(truth, truth)
    assert metrics.mean_iou == pytest.approx(1)
    assert (metrics.iou90, metrics.edge_mae_px, metrics.center_mae_px) == (1, 0, 0)


def test_negatives_are_left_out_and_unreadable_images_are_counted() -> None:
    dataset = Dataset(
        images=["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
        boxes=np.array([[0, 0, 10, 10], [NAN] * 4, [0, 0, 20, 20], [0, 0, 8, 8]]),
        label=["cat", "", "dog", "cat"],
    )
    found = [
        Prediction("a.jpg", np.array([0.0, 0, 10, 5]), (40, 30)),
        Prediction("b.jpg", np.array([0.0, 0, 3, 3]), (40, 30)),
        Prediction("c.jpg", error="the file is empty"),
        Prediction("d.jpg", np.array([0.0, 0, 8, 8]), (40, 30)),
    ]
    evaluation = evaluate_predictions(dataset, found, "test")
    assert evaluation.dataset.names == ("a.jpg", "c.jpg", "d.jpg")
    assert [p.image for p in evaluation.predictions] == ["a.jpg", "c.jpg", "d.jpg"]
    np.testing.assert_allclose(evaluation.iou, [0.5, 0, 1])
    assert (evaluation.n_negatives, evaluation.n_unreadable) == (1, 1)
    assert evaluation.metrics.mean_iou == pytest.approx(0.5)
    assert {name: part.n for name, part in evaluation.metrics.by_label.items()} == {"cat": 2, "dog": 1}
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert (plain["split"], plain["n"], plain["n_negatives"], plain["n_unreadable"]) == ("test", 3, 1, 1)


def test_an_evaluation_of_negatives_alone_is_empty() -> None:
    dataset = Dataset(images=["b.jpg"], boxes=[[NAN] * 4])
    evaluation = evaluate_predictions(dataset, [Prediction("b.jpg")], "all")
    assert (evaluation.metrics.n, evaluation.n_negatives, len(evaluation.dataset)) == (0, 1, 0)
    assert evaluation.iou.shape == (0,)


def predictions_with_uncertainty(n: int, *, groups: bool = False) -> tuple[Dataset, list[Prediction]]:
    """n images with a box and n without, and predictions with margins, presence and familiarity."""
    truth = np.array([[10.0, 10, 30 + row, 40] for row in range(n)] + [[NAN] * 4] * n)
    dataset = Dataset(
        images=[f"{row}.jpg" for row in range(2 * n)],
        boxes=truth,
        group=[f"p{row // 3}" for row in range(2 * n)] if groups else None,
    )
    box = np.array([10.0, 10, 35, 40])
    found = [
        Prediction(
            f"{row}.jpg",
            box,
            (100, 100),
            lower=box - 6,
            upper=box + 6,
            presence=min(max(0.4 + 0.05 * (n - row), 0.0), 1.0),
            familiarity=0.01 * row + 0.005,
        )
        for row in range(2 * n)
    ]
    return dataset, found


def test_an_evaluation_measures_margins_presence_and_familiarity() -> None:
    dataset, found = predictions_with_uncertainty(10)
    evaluation = evaluate_predictions(dataset, found, "test", level=0.8)
    assert evaluation.negatives == tuple(found[10:])
    metrics = evaluation.metrics
    assert set(evaluation.intervals) == {"mean_iou", "iou50", "iou75", "iou90"}
    for name, interval in evaluation.intervals.items():
        assert interval.lower <= getattr(metrics, name) <= interval.upper
        assert interval.lower < interval.upper
    assert evaluation.coverage is not None
    assert (evaluation.coverage.level, evaluation.coverage.n) == (0.8, 10)
    assert evaluation.coverage.share == 1.0  # 30 to 39 lie within 35 - 6 and 35 + 6
    assert evaluation.presence is not None
    assert evaluation.presence.auroc == 1
    assert (evaluation.n_missed, evaluation.n_false_alarms) == (1, 0)  # the last has 0.45
    assert evaluation.familiarity is not None
    assert evaluation.familiarity.n == 10
    assert evaluation.familiarity.share_unfamiliar == pytest.approx(0.1)
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert plain["intervals"]["mean_iou"] == [
        evaluation.intervals["mean_iou"].lower,
        evaluation.intervals["mean_iou"].upper,
    ]
    assert (plain["coverage"]["share"], plain["presence"]["auroc"], plain["familiarity"]["n"]) == (1, 1, 10)
    assert (plain["n_missed"], plain["n_false_alarms"], plain["n_groups"]) == (1, 0, 0)


def test_misses_and_false_alarms_are_counted_at_the_threshold() -> None:
    dataset = Dataset(images=["a.jpg", "b.jpg", "c.jpg", "d.jpg"], boxes=[[0, 0, 9, 9]] * 2 + [[NAN] * 4] * 2)
    found = [Prediction("", presence=value) for value in (0.5, 0.49, 0.5, 0.49)]
    evaluation = evaluate_predictions(dataset, found, "all")
    assert (evaluation.n_missed, evaluation.n_false_alarms) == (1, 1)


def test_groups_are_counted_and_widen_the_interval() -> None:
    (dataset, found), (apart, _) = (
        predictions_with_uncertainty(30, groups=True),
        predictions_with_uncertainty(30),
    )
    together, single = (evaluate_predictions(one, found, "test") for one in (dataset, apart))
    assert (together.n_groups, single.n_groups) == (10, 0)
    width = [e.intervals["mean_iou"].upper - e.intervals["mean_iou"].lower for e in (together, single)]
    assert width[0] > 1.3 * width[1]


def test_what_a_model_does_not_predict_is_null() -> None:
    dataset = Dataset(images=["a.jpg", "b.jpg", "n.jpg"], boxes=[[0, 0, 9, 9]] * 2 + [[NAN] * 4])
    box = np.array([0.0, 0, 9, 8])
    found = [Prediction(name, box, (20, 20)) for name in ("a.jpg", "b.jpg", "n.jpg")]
    plain = json.loads(json.dumps(evaluate_predictions(dataset, found, "test").to_dict(), allow_nan=False))
    for key in ("presence", "coverage", "familiarity", "n_missed", "n_false_alarms"):
        assert plain[key] is None
    alone = evaluate_predictions(dataset.select([0]), found[:1], "test").to_dict()
    assert alone["intervals"] == dict.fromkeys(("mean_iou", "iou50", "iou75", "iou90"))
    # Presence without negatives: no figure, but what was missed is known.
    known = [Prediction("a.jpg", box, (20, 20), presence=0.2)]
    evaluation = evaluate_predictions(dataset.select([0]), known, "test")
    assert (evaluation.presence, evaluation.n_missed, evaluation.n_false_alarms) == (None, 1, None)


def test_the_number_of_predictions_must_match() -> None:
    dataset = Dataset(images=["a.jpg", "b.jpg"], boxes=[[0, 0, 1, 1]] * 2)
    with pytest.raises(ValueError, match="2 images but 1 prediction"):
        evaluate_predictions(dataset, [Prediction("a.jpg")], "test")


def test_images_without_a_familiarity_are_left_out() -> None:
    summary = FamiliaritySummary.from_values([0.01, 0.002, 0.5, np.nan, 0.9, 0.7])
    assert summary is not None
    assert (summary.n, summary.median) == (5, 0.5)
    assert summary.share_unfamiliar == pytest.approx(0.4)
    assert summary.to_dict() == {"n": 5, "median": 0.5, "share_unfamiliar": 0.4, "p_value": None}


def test_without_any_familiarity_there_is_no_summary() -> None:
    assert FamiliaritySummary.from_values([np.nan, np.nan]) is None
    assert FamiliaritySummary.from_values([np.nan, np.nan], n_reference=9) is None


def test_a_share_that_a_model_cannot_reach_is_not_given() -> None:
    """Fifty-six images make no value below 1 / 57: "0.0% are unlike" would say nothing. The whole set still tells."""
    few = FamiliaritySummary.from_values(np.full(39, 0.05), n_reference=56, groups=[""] * 39)
    assert few is not None
    assert (few.share_unfamiliar, few.differs) == (None, True)
    enough = FamiliaritySummary.from_values(np.linspace(0.01, 1, 39), n_reference=99, groups=[""] * 39)
    assert enough is not None
    assert enough.share_unfamiliar == pytest.approx(1 / 39)
    assert not enough.differs
    grouped = FamiliaritySummary.from_values(np.full(39, 0.3), n_reference=99, groups=["a", "b", "c"] * 13)
    assert grouped is not None
    assert not grouped.differs
    assert FamiliaritySummary.from_values([]) is None


def test_a_shift_is_judged_by_the_groups_that_familiarity_comes_from() -> None:
    values = np.linspace(0.01, 0.8, 200)
    images, groups = (
        FamiliaritySummary.from_values(values, n_reference=count, n_distances=400) for count in (400, 8)
    )
    assert images is not None
    assert groups is not None
    assert (images.differs, groups.differs) == (True, False)
    assert images.share_unfamiliar == groups.share_unfamiliar == 1 / 200

import json

import numpy as np
import pytest

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation.compare import compare, signed
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.predict.prediction import Prediction


def evaluation(shift: Floats, *, labels: bool = True, groups: bool = False, first: int = 0) -> Evaluation:
    """One image for each shift (pixels to the right) of the predicted box; objects grow from image to image."""
    n = len(shift)
    sides = np.linspace(20, 80, n)
    truth = np.stack([np.full(n, 5.0), np.full(n, 5.0), 5 + sides, 5 + sides], axis=1)
    names = [f"{first + row:03}.png" for row in range(n)]
    dataset = Dataset(
        images=names,
        boxes=truth,
        label=["cat", "dog"] * (n // 2) + ["cat"] * (n % 2) if labels else None,
        group=[f"p{row // 4}" for row in range(n)] if groups else None,
    )
    found = [
        Prediction(name, box + np.array([move, 0, move, 0]), (100, 100))
        for name, box, move in zip(names, truth, shift, strict=True)
    ]
    return evaluate_predictions(dataset, found, "test")


def test_the_better_run_is_named_with_the_difference() -> None:
    random = np.random.default_rng(0)
    one, other = evaluation(random.uniform(0, 2, 60)), evaluation(random.uniform(2, 5, 60))
    found = compare(one, other, "new", "old")
    assert found.mean_iou.significant
    assert found.mean_iou.difference == pytest.approx(one.metrics.mean_iou - other.metrics.mean_iou)
    assert found.sentence.startswith(f"new is better than old by {found.mean_iou.difference:.3f} mean IoU")
    assert "better in 100.0% of resamples" in found.sentence
    back = compare(other, one, "old", "new")
    assert back.sentence.startswith("old is worse than new by")
    assert "better in 0.0% of resamples" in back.sentence
    assert f"to {signed(back.mean_iou.interval.upper)})" in back.sentence
    for key in ("iou50", "iou75", "iou90"):
        assert found.metrics[key].difference == pytest.approx(
            getattr(one.metrics, key) - getattr(other.metrics, key)
        )


def test_a_small_difference_is_not_significant() -> None:
    random = np.random.default_rng(1)
    found = compare(evaluation(random.uniform(0, 4, 30)), evaluation(random.uniform(0, 4, 30)), "a", "b")
    assert not found.mean_iou.significant
    assert "not differ significantly on these 30 images" in found.sentence


def test_a_run_against_itself() -> None:
    one = evaluation(np.linspace(0, 4, 12))
    found = compare(one, one, "a", "b")
    assert found.sentence == "a and b have the same IoU on all 12 images"
    assert found.extremes() == ([], [])
    assert found.mean_iou.share_better == 0.5


def test_one_image_is_too_few() -> None:
    found = compare(evaluation(np.ones(1)), evaluation(np.zeros(1)), "a", "b")
    assert found.sentence == "1 images are too few to compare a and b"
    assert found.by_size == ()
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_difference_is_located_by_size_and_label() -> None:
    # Better on the smallest third alone, and there by the more on cats.
    shift, worse = np.full(30, 2.0), np.full(30, 2.0)
    worse[:10] += 2
    worse[:10:2] += 2
    found = compare(evaluation(shift), evaluation(worse), "a", "b")
    small, medium, large = found.by_size
    assert (small.name, medium.name, large.name) == ("small", "medium", "large")
    assert (small.n, medium.n, large.n) == (10, 10, 10)
    assert small.paired.significant
    assert (medium.paired.difference, large.paired.difference) == (0, 0)
    assert small.first - small.second == pytest.approx(small.paired.difference)
    cat, dog = found.by_label
    assert (cat.name, cat.n, dog.name, dog.n) == ("cat", 15, "dog", 15)
    assert cat.paired.difference > dog.paired.difference > 0
    assert cat.paired.difference + dog.paired.difference == pytest.approx(2 * found.mean_iou.difference)


def test_whole_groups_are_resampled() -> None:
    shift = np.repeat(np.random.default_rng(2).uniform(0, 4, 15), 4)
    parts = [
        compare(
            evaluation(shift, groups=groups), evaluation(np.full(60, 2.0), groups=groups), "a", "b"
        ).mean_iou
        for groups in (True, False)
    ]
    width = [part.interval.upper - part.interval.lower for part in parts]
    assert width[0] > 1.5 * width[1]


def test_gains_and_losses_are_disjoint_and_sorted() -> None:
    random = np.random.default_rng(3)
    found = compare(evaluation(random.uniform(0, 4, 20)), evaluation(random.uniform(0, 4, 20)), "a", "b")
    gains, losses = found.extremes(4)
    assert len(gains) == len(losses) == 4
    assert found.differences[gains[0]] == found.differences.max() > 0
    assert found.differences[losses[0]] == found.differences.min() < 0
    assert list(found.differences[gains]) == sorted(found.differences[gains], reverse=True)
    few = compare(evaluation(np.array([0.0, 1, 2])), evaluation(np.array([1.0, 1, 1])), "a", "b")
    assert few.extremes() == ([0], [2])


def test_the_dictionary_is_json() -> None:
    random = np.random.default_rng(4)
    one, other = evaluation(random.uniform(0, 4, 20)), evaluation(random.uniform(0, 4, 20))
    found = compare(one, other, "a", "b")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (plain["run"], plain["n"], plain["significant"]) == ("b", 20, found.mean_iou.significant)
    assert plain["metrics"]["mean_iou"] == other.metrics.mean_iou
    assert plain["differences"]["mean_iou"]["difference"] == pytest.approx(
        one.metrics.mean_iou - other.metrics.mean_iou
    )
    lower, upper = plain["differences"]["mean_iou"]["interval"]
    assert lower < plain["differences"]["mean_iou"]["difference"] < upper
    assert set(plain["by_label"]) == {"cat", "dog"}
    assert set(plain["by_size"]) == {"small", "medium", "large"}


def test_evaluations_of_different_images_raise() -> None:
    with pytest.raises(ValueError, match="the same images"):
        compare(evaluation(np.ones(4)), evaluation(np.ones(4), first=1), "a", "b")


def test_a_single_label_is_not_compared() -> None:
    found = compare(evaluation(np.ones(4), labels=False), evaluation(np.zeros(4), labels=False), "a", "b")
    assert found.by_label == ()


def test_signs() -> None:
    assert [signed(value) for value in (0.0124, -0.0124, 0.0001, -0.0001)] == [
        "+0.012",
        "−0.012",
        "0.000",
        "0.000",
    ]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation.metrics import evaluate_predictions
from solobox.evaluation.report import statistics
from solobox.predict.prediction import Prediction


def test_edge_errors_are_positive_outside_and_in_percent_of_the_side() -> None:
    truth = np.array([[100.0, 100, 300, 200]])
    np.testing.assert_allclose(
        statistics.edge_errors(truth, np.array([[90.0, 95, 310, 205]])), [[5, 5, 5, 5]]
    )
    np.testing.assert_allclose(
        statistics.edge_errors(truth, np.array([[110.0, 100, 290, 190]])), [[-5, 0, -5, -10]]
    )


def test_unreadable_images_are_not_matched() -> None:
    dataset = Dataset(images=["a.jpg", "b.jpg", "c.jpg"], boxes=[[0, 0, 10, 20]] * 3)
    found = [
        Prediction("a.jpg", np.array([0.0, 0, 10, 20]), (20, 80)),
        Prediction("b.jpg", error="broken"),
        Prediction("c.jpg", np.array([0.0, 0, 5, 20]), (40, 40)),
    ]
    matched = statistics.matched_boxes(evaluate_predictions(dataset, found, "test"))
    assert matched.index.tolist() == [0, 2]
    np.testing.assert_allclose(matched.iou, [1, 0.5])
    np.testing.assert_allclose(matched.normalized, [[0, 0, 0.5, 0.25], [0, 0, 0.25, 0.5]])
    np.testing.assert_allclose(matched.object_side, np.sqrt([0.125, 0.125]))


def test_heatmap_of_one_box() -> None:
    share = statistics.box_heatmap(np.array([[0.0, 0.5, 0.25, 1.0]]), cells=4)
    expected = np.zeros((4, 4))
    expected[2:, 0] = 1
    np.testing.assert_array_equal(share, expected)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=20))
def test_the_heatmap_is_a_share_and_its_mean_is_the_area(corners: list[tuple[float, ...]]) -> None:
    a = np.array(corners)
    boxes = np.concatenate([np.minimum(a[:, :2], a[:, 2:]), np.maximum(a[:, :2], a[:, 2:])], axis=1)
    share = statistics.box_heatmap(boxes, cells=50)
    assert share.min() >= 0
    assert share.max() <= 1
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean()
    assert share.mean() == pytest.approx(area, abs=0.05)


def test_a_running_median_follows_the_points_in_order_of_size() -> None:
    x = np.random.default_rng(0).permutation(100) / 100
    middle_x, middle_y = statistics.running_median(x, 2 * x)
    np.testing.assert_allclose(middle_y, 2 * middle_x)
    assert (np.diff(middle_x) > 0).all()
    assert middle_x.min() > 0
    assert middle_x.max() < 1


@pytest.mark.parametrize("n", [0, 1, 13])
def test_few_points_have_no_running_median(n: int) -> None:
    assert len(statistics.running_median(np.arange(n, dtype=float), np.ones(n))[0]) == 0


@given(st.lists(st.floats(0, 1), max_size=60).map(np.array))
def test_best_and_worst_are_disjoint(iou: Floats) -> None:
    best, worst = statistics.extremes(iou)
    assert not set(best) & set(worst)
    assert len(best) + len(worst) == min(len(iou), 26)
    assert list(iou[best]) == sorted(iou[best], reverse=True)
    assert list(iou[worst]) == sorted(iou[worst])
    if len(worst):
        assert iou[worst[0]] == iou.min()
    if best and worst:
        assert iou[best].min() >= iou[worst].max()


def test_a_large_evaluation_shows_six_and_twenty() -> None:
    best, worst = statistics.extremes(np.linspace(0, 1, 100))
    assert (best, worst) == ([99, 98, 97, 96, 95, 94], list(range(20)))

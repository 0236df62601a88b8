"""The learning curve, and the law that it is read off."""

import csv
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Module

from small_objects import bright_rectangles
from solobox import synthetic
from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.training import crossval, refined_folds
from solobox.training.curve import Curve, Gain, Law, Point, fit_curve, fit_laws, learning_curve, nested
from solobox.training.feature_cache import FeatureCache
from solobox.training.refining import refine_stage
from solobox.training.stages import Stage, head_stage

QUICK = {"size": 64, "crops": 2, "epochs": 1, "width": 16, "bins": 8, "batch": 32}
SIZES = np.array([25.0, 50.0, 100.0, 160.0])

shares = st.floats(0.0, 1.0)


def error(law: Floats, sizes: Floats, reached: Floats) -> float:
    a, b, c = law
    weights = np.arange(1, len(sizes) + 1) / sum(range(1, len(sizes) + 1))
    return float((weights * (reached - a + b * sizes**-c) ** 2).sum())


@pytest.mark.parametrize(
    "law", [Law(0.93, 0.6, 0.5), Law(1.0, 0.9, 0.3), Law(0.8, 0.0, 1.0), Law(0.95, 4.0, 1.2)]
)
def test_points_on_a_law_give_that_law(law: Law) -> None:
    reached = np.array([[law(size) for size in SIZES]])
    found = Law(*fit_laws(SIZES, reached)[0].tolist())
    for size in (*SIZES, 200, 400):
        assert found(size) == pytest.approx(law(size), abs=0.002)


@given(reached=st.lists(shares, min_size=4, max_size=4), a=shares, b=st.floats(0, 3), c=st.floats(0.1, 2))
def test_no_law_within_the_bounds_is_clearly_nearer(
    reached: list[float], a: float, b: float, c: float
) -> None:
    (law,) = fit_laws(SIZES, np.array([reached]))
    assert law[0] <= 1
    assert law[1] >= 0
    assert 0.1 <= law[2] <= 2.0001
    # The grid of exponents is fine enough that what lies between them is hardly nearer.
    other = error(np.array([a, b, c]), SIZES, np.array(reached))
    assert error(law, SIZES, np.array(reached)) <= other + 1e-3 * np.var(reached) + 1e-12


@given(reached=st.lists(st.lists(shares, min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_law_never_falls_nor_passes_one_and_is_fitted_to_each_row_alone(reached: list[list[float]]) -> None:
    laws = fit_laws(SIZES, np.array(reached))
    for row, found in zip(reached, laws, strict=True):
        np.testing.assert_allclose(fit_laws(SIZES, np.array([row]))[0], found, rtol=1e-6, atol=1e-9)
        values = [Law(*found.tolist())(size) for size in (1e1, 1e2, 1e3, 1e6, 1e12)]
        assert all(lower <= upper + 1e-12 for lower, upper in pairwise(values))
        assert values[-1] <= 1


@given(
    units=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40),
    wanted=st.lists(st.floats(0, 40), max_size=4).map(sorted),
    seed=st.integers(0, 99),
)
def test_each_size_is_a_part_of_the_next_in_whole_units(
    units: list[str], wanted: list[float], seed: int
) -> None:
    rest = np.random.default_rng(seed).random(len(units)) < 0.8
    if not rest.any():
        return
    masks = nested(units, rest, wanted, f"{seed}")
    assert len(masks) == len(wanted) + 1
    assert masks[-1].tolist() == rest.tolist()
    assert masks[0].any()
    names = np.array(units)
    largest = max(int((rest & (names == unit)).sum()) for unit in "abcdefgh")
    for small, large in pairwise(masks):
        assert not (small & ~large).any()
    for mask, count in zip(masks, wanted, strict=False):
        assert set(names[mask]).isdisjoint(names[rest & ~mask])
        assert abs(mask.sum() - min(count, rest.sum())) <= largest
    assert [m.tolist() for m in nested(units, rest, wanted, f"{seed}")] == [m.tolist() for m in masks]


def drawn_curve(gain: float, noise: float, count: int = 200, seed: int = 0) -> Curve:
    """Of images that follow a law but for noise of each, the same at all sizes, and some at each."""
    rng = np.random.default_rng(seed)
    law = Law(0.9, gain, 0.5)
    hard = rng.normal(0, 0.05, count)
    reached = np.stack([law(size) + hard + rng.normal(0, noise, count) for size in SIZES])
    return fit_curve(SIZES, reached, np.arange(count) % 5, [f"n{row}" for row in range(count)])


def test_the_curve_says_what_was_measured_and_what_is_expected() -> None:
    curve = drawn_curve(1.5, 0.001)
    assert [point.kind for point in curve.points] == ["measured"] * 4 + ["expected"] * 2
    assert [point.images for point in curve.points] == [25, 50, 100, 160, 200, 400]
    law = Law(0.9, 1.5, 0.5)
    for point in curve.points:
        assert point.mean_iou == pytest.approx(law(point.images), abs=0.015)
        assert point.lower < point.mean_iou < point.upper
    # What makes an image hard does so at all sizes, and takes little from what is known of the gain.
    assert curve.gain.expected == pytest.approx(law(400) - law(200), abs=0.002)
    assert curve.gain.lower <= curve.gain.expected <= curve.gain.upper
    assert curve.gain.upper - curve.gain.lower < 0.01
    assert curve.points[-1].upper - curve.points[-1].lower > curve.gain.upper - curve.gain.lower


def test_the_band_of_twice_as_many_is_wider_the_less_is_known() -> None:
    widths = [drawn_curve(1.5, noise).gain for noise in (0.01, 0.1)]
    assert widths[0].upper - widths[0].lower < widths[1].upper - widths[1].lower
    assert drawn_curve(1.5, 0.05).points == drawn_curve(1.5, 0.05).points


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    law = Law(0.9, 1.5, 0.5)
    truth = law(400) - law(200)
    gains = [drawn_curve(1.5, 0.05, seed=seed).gain for seed in range(40)]
    assert sum(gain.lower <= truth <= gain.upper for gain in gains) >= 34


def test_groups_widen_the_bands() -> None:
    rng = np.random.default_rng(3)
    film = np.repeat(np.arange(20), 10)
    reached = np.clip(0.8 + np.repeat(rng.normal(0, 0.1, (4, 20)), 10, axis=1), 0, 1)
    alone = fit_curve(SIZES, reached, film % 5, [f"n{row}" for row in range(200)])
    together = fit_curve(SIZES, reached, film % 5, [f"g{name}" for name in film])
    for one, other in zip(alone.points[:4], together.points[:4], strict=True):
        assert one.mean_iou == other.mean_iou
        assert one.upper - one.lower < other.upper - other.lower


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (
            Gain(0.012, 0.006, 0.02),
            "Twice as many labels (400 images) are expected to bring about +0.012 mean IoU",
        ),
        (Gain(0.002, 0.0, 0.004), "Hardly any gain is expected from twice as many labels"),
        (Gain(0.02, 0.0, 0.06), "is uncertain: between 0.000 and 0.060 mean IoU"),
        (Gain(0.03, 0.006, 0.06), "about +0.030 mean IoU (0.006 to 0.060)"),
        (Gain(0.008, 0.004, 0.012), "about +0.008 mean IoU (0.004 to 0.012)"),
    ],
)
def test_the_gain_is_said_in_a_sentence(gain: Gain, says: str) -> None:
    curve = Curve((Point(400, 0.9, 0.8, 1.0, "expected"),), Law(1, 0, 1), gain)
    assert says in curve.sentence()
    assert curve.sentence().endswith(".")


def dataset(count: int, group: str = "") -> Dataset:
    names = [f"{number}.jpg" for number in range(count)]
    return Dataset([Path(name) for name in names], [[1, 1, 5, 5]] * count, group=[group] * count, names=names)


def test_what_cannot_have_a_curve_is_refused_before_any_image_is_opened() -> None:
    recipe = Recipe.from_preset("quick", QUICK)
    with pytest.raises(DataError, match="15 images with a box that can be read are too few"):
        learning_curve(dataset(15), recipe)
    with pytest.raises(DataError, match="1 groups of images with a box are too few for 5 folds"):
        learning_curve(dataset(30, "one film"), recipe)
    with pytest.raises(ConfigError, match="3 repetitions or more, not 2"):
        learning_curve(dataset(30), recipe, repetitions=2)
    tested = replace(dataset(30), split=("test",) * 20 + ("train",) * 10)
    with pytest.raises(DataError, match="10 images with a box"):
        learning_curve(tested, recipe)
    with pytest.raises(DataError, match="groups are too large"):
        fit_curve(
            np.array([30.0, 40.0, 40.0, 50.0]), np.ones((4, 9)), np.arange(9) % 3, [f"{i}" for i in range(9)]
        )


@pytest.mark.usefixtures("without_openvino")
def test_scenes_are_measured_at_four_sizes_without_those_that_do_not_count(tmp_path: Path) -> None:
    drawn = synthetic.write(tmp_path / "drawn", 30, seed=5, size=(96, 72), empty_share=0.2)
    place = int(np.flatnonzero(drawn.has_box)[3])
    drawn.paths[place].write_bytes(drawn.paths[place].read_bytes()[:300])
    tested = int(np.flatnonzero(drawn.has_box)[5])
    drawn = replace(drawn, split=tuple("test" if row == tested else "" for row in range(30)))
    recipe = Recipe.from_preset("quick", QUICK | {"batch": 8})
    curve = learning_curve(drawn, recipe, repetitions=3, skip_bad=True)
    count = int(drawn.has_box.sum()) - 2
    sizes = [point.images for point in curve.points]
    assert sizes[4:] == [count, 2 * count]
    np.testing.assert_allclose(sizes[:4], np.array([1 / 8, 1 / 4, 1 / 2, 2 / 3]) * count, atol=0.75)
    for point in curve.points:
        assert 0 <= point.lower <= point.mean_iou <= point.upper <= 1
    assert curve.points[3].mean_iou > 0.3
    curve.write(tmp_path / "curve.csv")
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert list(rows[0]) == ["images", "mean_iou", "lower", "upper", "kind"]
    for row, point in zip(rows, curve.points, strict=True):
        assert (int(row["images"]), row["kind"]) == (point.images, point.kind)
        assert float(row["mean_iou"]) == pytest.approx(point.mean_iou, abs=1e-6)


@pytest.mark.usefixtures("without_openvino", "few_steps")
def test_small_objects_are_looked_at_twice_by_models_that_saw_no_more_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, boxes = bright_rectangles()
    trained: dict[str, list[list[int]]] = {"first": [], "second": []}

    def remember(which: str, make: Callable[..., Stage]) -> Callable[..., Stage]:
        def stage(
            module: Module, features: FeatureCache, *args: object, rows: Tensor, **kwargs: object
        ) -> Stage:
            trained[which].append(sorted(set(features.images[rows].tolist())))
            return make(module, features, *args, rows=rows, **kwargs)

        return stage

    monkeypatch.setattr(crossval, "head_stage", remember("first", head_stage))
    monkeypatch.setattr(refined_folds, "refine_stage", remember("second", refine_stage))
    dataset = Dataset.from_arrays(images, boxes)
    once, twice = (
        learning_curve(
            dataset, Recipe.from_preset("quick", QUICK | {"refine": refine}), repetitions=3, auto_group=False
        )
        for refine in ("off", 1)
    )
    # First looks go fold by fold, second ones size by size.
    by_size = [trained["first"][-12:][4 * fold + size] for size in range(4) for fold in range(3)]
    assert trained["second"] == by_size
    assert len(trained["second"][0]) < len(trained["second"][-1]) < len(images)
    assert [point.images for point in once.points] == [point.images for point in twice.points]
    assert twice.points[3].mean_iou != once.points[3].mean_iou

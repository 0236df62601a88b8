import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from defusedxml import ElementTree

from solobox.evaluation.bootstrap import paired_difference
from solobox.evaluation.compare import SubsetComparison
from solobox.evaluation.coverage import measure_coverage
from solobox.evaluation.presence_metrics import reliability
from solobox.evaluation.report import charts
from solobox.evaluation.report.statistics import running_median

RNG = np.random.default_rng(0)
HISTORY = [{"epoch": e, "train_loss": 2.0 / e, "val_iou": 1 - 1 / (e + 1)} for e in range(1, 6)]


def draw(n: int) -> dict[str, str]:
    iou, side = RNG.uniform(0, 1, n), RNG.uniform(0.1, 0.9, n)
    return {
        "iou": charts.iou_histogram(iou, "iou"),
        "success": charts.success_curve(iou, "success"),
        "size": charts.iou_by_size(side, iou, running_median(side, iou), "size")[0],
        "edges": charts.edge_boxes(RNG.normal(0, 3, (n, 4)), "edges"),
        "training": charts.training_curve(HISTORY, 4, "training"),
        "objects": charts.object_sizes(side, "objects"),
        "heatmap": charts.heatmap(RNG.uniform(0, 1, (8, 8)), np.array([0.2, 0.2, 0.8, 0.8]), "heatmap"),
        **draw_uncertainty(n),
    }


def draw_uncertainty(n: int) -> dict[str, str]:
    truth = np.tile([10.0, 10, 50, 50], (n, 1))
    coverage = measure_coverage(
        truth, truth, truth - 2, truth + RNG.uniform(-1, 5, (n, 1)), np.full((n, 2), 90)
    )
    assert coverage is not None
    values, present = RNG.uniform(0, 1, n), RNG.uniform(0, 1, n) < 0.5
    compared = SubsetComparison("small", n, 0.8, 0.7, paired_difference(values, RNG.uniform(0, 1, n)))
    return {
        "margins": charts.coverage_bars(coverage, "margins"),
        "reliability": charts.reliability_diagram(reliability(values, present), "reliability"),
        "presences": charts.presence_histogram(values, values / 2, "presences"),
        "familiar": charts.familiarity_histogram(values, "familiar"),
        "scatter": charts.iou_against_iou(values, values**2, "scatter")[0],
        "differences": charts.differences(values - values**2, "differences"),
        "intervals": charts.intervals([compared, compared], "intervals"),
    }


@pytest.mark.parametrize("n", [1, 100])
def test_each_chart_is_one_self_contained_svg_with_a_label(n: int) -> None:
    ids: list[str] = []
    for name, svg in draw(n).items():
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg"
        assert (root.get("role"), root.get("class")) == ("img", "chart")
        assert root.get("aria-label")
        assert "://" not in svg
        assert "<style" not in svg
        own = [i for e in root.iter() if (i := e.get("id"))]
        assert all(i.startswith(f"{name}-") for i in own)
        ids += own
        targets = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
        assert targets <= set(own)
    assert len(ids) == len(set(ids))


def test_colors_are_css_variables() -> None:
    for svg in draw(50).values():
        colors = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r'href="[^"]*"', "", svg)))
        assert colors <= {"#000000", "#ffffff"}  # invisible parts, and text that inherits its color
        assert "var(--" in svg


def test_charts_are_deterministic() -> None:
    iou = RNG.uniform(0, 1, 40)
    assert charts.iou_histogram(iou, "a") == charts.iou_histogram(iou, "a")
    assert charts.edge_boxes(np.ones((3, 4)), "a") == charts.edge_boxes(np.ones((3, 4)), "a")


def test_charts_neither_use_nor_change_the_users_style() -> None:
    iou = RNG.uniform(0, 1, 40)
    plain = charts.iou_histogram(iou, "a")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert charts.iou_histogram(iou, "a") == plain
        assert dict(mpl.rcParams) == before


def test_very_many_points_are_thinned_out() -> None:
    side, iou = np.linspace(0, 1, 10_000), np.full(10_000, 0.9)
    svg, shown = charts.iou_by_size(side, iou, (np.empty(0), np.empty(0)), "size")
    assert 1000 < shown <= 1500
    assert len(svg) < 400_000


def test_the_histogram_counts_every_image_once() -> None:
    iou = np.array([0.0, 0.5, 0.75, 0.9, 0.9, 1.0])
    svg = charts.iou_histogram(iou, "iou")
    # One rectangle for each bar: the tallest, with two images, is the one that starts at 0.9.
    bars = [
        [tuple(map(float, p)) for p in re.findall(r"[ML] ([\d.]+) ([\d.]+)", e.get("d") or "")]
        for e in ElementTree.fromstring(svg).iter()
        if e.tag == "path" and "fill: var(--blue)" in (e.get("style") or "")
    ]
    heights = [max(y for _, y in bar) - min(y for _, y in bar) for bar in bars]
    unit = min(h for h in heights if h)
    assert sum(round(h / unit) for h in heights) == len(iou)
    assert round(heights[18] / unit) == 2


def test_the_scatter_plot_of_two_runs_is_thinned_out() -> None:
    values = np.linspace(0, 1, 10_000)
    svg, shown = charts.iou_against_iou(values, values**2, "scatter")
    assert 1000 < shown <= 1500
    assert len(svg) < 400_000
    assert "<svg" in charts.differences(np.zeros(5), "differences")


def test_an_empty_histogram_is_left_out() -> None:
    svg = charts.presence_histogram(np.array([0.2, 0.9]), np.empty(0), "presences")
    assert "with the object" in svg
    assert "without the object" not in svg.replace("with and without the object", "")


def test_the_reliability_diagram_has_a_dot_for_each_filled_bin() -> None:
    bins = reliability([0.02, 0.5, 0.51, 0.98], [False, True, False, True])
    root = ElementTree.fromstring(charts.reliability_diagram(bins, "r"))
    (dots,) = [
        [use for use in group.iter("use") if "fill: var(--blue)" in (use.get("style") or "")]
        for group in [root]
    ]
    assert len(dots) == 3


@pytest.mark.parametrize(
    "history", [[], [{"seconds": 1.0}], [{"epoch": 1, "val_iou": float("nan")}]], ids=["none", "other", "nan"]
)
def test_a_history_without_curves_draws_nothing(history: list[dict[str, float]]) -> None:
    assert charts.training_curve(history, None, "training") == ""


def test_a_curve_without_losses_has_one_panel() -> None:
    svg = charts.training_curve([{"val_iou": 0.5}, {"val_iou": 0.6}], None, "training")
    assert "validation IoU" in svg
    assert "loss" not in svg


def test_pyplot_is_not_imported() -> None:
    code = "import sys, solobox.evaluation.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

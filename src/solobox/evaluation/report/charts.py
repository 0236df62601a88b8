"""The charts of the report and of the learning curve: arrays in, SVG out.

Every function draws one figure. `name` becomes the prefix of the ids in the SVG, which must be unique in a page.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from solobox.boxes import Floats
from solobox.evaluation.compare import SubsetComparison, signed
from solobox.evaluation.coverage import Coverage
from solobox.evaluation.presence_metrics import ReliabilityBins
from solobox.evaluation.report.svg_figure import BLUE, INK, MUTED, ORANGE, chart, standalone, svg

if TYPE_CHECKING:
    from solobox.training.curve import Curve

_MAX_POINTS = 1500
_BINS = 20
_CURVE_POINTS = 100
_DOTTED = (0, (2, 3))
_HEATMAP_COLOR = (0.18, 0.52, 0.82)  # its opacity is the value


def iou_histogram(iou: Floats, name: str) -> str:
    """A histogram of the IoU, shape (M,); the axis starts below the worst image."""
    step = 0.02 if len(iou) >= 60 else 0.05
    lower = min(0.5, float(np.floor(iou.min() * 10)) / 10)
    edges = np.linspace(lower, 1, round((1 - lower) / step) + 1)
    # 1e-9 is added so that an IoU of 0.9 falls into the bar that starts at 0.9 despite rounding.
    counts, _ = np.histogram(np.minimum(iou + 1e-9, 1), edges)
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        for threshold in (0.5, 0.75, 0.9):
            axes.axvline(threshold, color=MUTED, linewidth=1, linestyle=_DOTTED)
        axes.set(xlabel="IoU", ylabel="images", xlim=(lower - 0.004, 1.0))
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(figure, name, f"Histogram of the IoU of {len(iou)} images")


def success_curve(iou: Floats, name: str) -> str:
    """The share of images at or above each IoU, shape (M,), with the thresholds 0.5, 0.75 and 0.9 marked."""
    thresholds = np.linspace(0, 1, 201)
    with chart(230) as (figure, (axes,)):
        axes.plot(thresholds, _reached(iou, thresholds), color=BLUE, linewidth=2.2)
        marked = np.array([0.5, 0.75, 0.9])
        for x, y in zip(marked, _reached(iou, marked), strict=True):
            axes.plot(x, y, "o", color=ORANGE, markersize=6, markeredgewidth=0)
            axes.annotate(
                f"{100 * y:.0f}%", (x, y), (-7, -7), textcoords="offset points", ha="right", va="top"
            )
        axes.set(xlabel="IoU", ylabel="images at or above it", xlim=(0, 1), ylim=(0, 1.05))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return svg(figure, name, "Share of the images at or above each IoU")


def iou_by_size(side: Floats, iou: Floats, median: tuple[Floats, Floats], name: str) -> tuple[str, int]:
    """A scatter plot of IoU against relative object size, with the running median as a line.

    side: see `object_sides`; it and `iou` have shape (M,). Returns the chart and the number of images drawn, which are
    an even selection if there are very many.
    """
    order = np.argsort(side, kind="stable")
    shown = order[:: -(-len(order) // _MAX_POINTS)]
    with chart(250) as (figure, (axes,)):
        alpha = 0.45 if len(shown) > 60 else 0.85
        axes.plot(side[shown], iou[shown], "o", color=BLUE, markersize=5, markeredgewidth=0, alpha=alpha)
        axes.plot(*median, color=ORANGE, linewidth=2.2, solid_capstyle="round")
        axes.set(xlabel="object size, share of the image side", ylabel="IoU")
        axes.set(ylim=(min(0.5, float(np.floor(iou.min() * 10)) / 10) - 0.02, 1.02))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return svg(figure, name, f"IoU against object size for {len(iou)} images"), len(shown)


def edge_boxes(errors: Floats, name: str) -> str:
    """A box plot for each edge from signed errors in percent, (M, 4): left, top, right, bottom."""
    lower, first, middle, third, upper = np.percentile(errors, [5, 25, 50, 75, 95], axis=0)
    rows = np.arange(4)
    with chart(200) as (figure, (axes,)):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(rows, lower, upper, color=BLUE, linewidth=1.6)
        axes.barh(rows, third - first, left=first, height=0.46, color=BLUE, linewidth=0)
        axes.vlines(middle, rows - 0.32, rows + 0.32, color=ORANGE, linewidth=2.6)
        axes.set(yticks=rows, yticklabels=["left", "top", "right", "bottom"], ylim=(3.6, -0.6))
        limit = max(1.0, float(np.abs([lower, upper]).max()) * 1.08)
        axes.set(xlim=(-limit, limit), xlabel="inside  ←  error in % of the box's side  →  outside")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+g}".replace("-", "−") if v else "0"))
        axes.grid(visible=False, axis="y")
        return svg(figure, name, "Box plots of the signed error of the four edges")


def training_curve(history: Sequence[Mapping[str, float]], best_epoch: int | None, name: str) -> str:
    """Validation IoU and losses over the epochs; the empty string if the history has neither."""
    panels = [
        (title, lines)
        for title, keys in (("validation IoU", ("val_iou",)), ("loss", ("train_loss", "val_loss")))
        if (lines := [(key, *points) for key in keys if len((points := _points(history, key))[0])])
    ]
    if not panels:
        return ""
    with chart(40 + 125 * len(panels), rows=len(panels)) as (figure, axes):
        for panel, (title, lines) in zip(axes, panels, strict=True):
            for (key, x, y), color in zip(lines, (BLUE, ORANGE), strict=False):
                panel.plot(x, y, color=color, linewidth=2, marker="o", markersize=3.5 if len(x) < 40 else 0)
                if len(lines) > 1:
                    panel.text(x[-1], y[-1], f" {key.removesuffix('_loss')}", color=color, va="center")
            if best_epoch is not None:
                panel.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=_DOTTED)
            panel.set_title(title)
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        axes[-1].set_xlabel("epoch")
        return svg(figure, name, "Training curve: " + " and ".join(title for title, _ in panels))


def object_sizes(side: Floats, name: str) -> str:
    """A histogram of the relative object sizes, shape (M,); see `object_sides`."""
    counts, edges = np.histogram(np.clip(side, 0, 1), np.linspace(0, 1, 21))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.set(xlabel="object size, share of the image side", ylabel="images", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the sizes of {len(side)} objects")


def heatmap(share: Floats, median_box: Floats, name: str) -> str:
    """A heat map of the object positions, shape (rows, columns), and the median box (normalized) on top of it."""
    rows, columns = share.shape
    image = np.zeros((rows, columns, 4))
    image[..., :3] = _HEATMAP_COLOR
    image[..., 3] = share / max(share.max(), 1e-9)
    x1, y1, x2, y2 = median_box
    with chart(230) as (figure, (axes,)):
        axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
        axes.plot(
            [x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=ORANGE, linewidth=2, linestyle=(0, (4, 2))
        )
        axes.set(xlim=(0, 1), ylim=(1, 0), xlabel="image width", ylabel="image height")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        return svg(figure, name, "Heat map of the object positions")


def coverage_bars(coverage: Coverage, name: str) -> str:
    """The share of images that are covered: of all, and of each third by object size."""
    rows = [("all", coverage.share), *((third.name, third.share) for third in coverage.by_size)]
    shares, positions = np.array([share for _, share in rows]), np.arange(len(rows))
    with chart(60 + 34 * len(rows)) as (figure, (axes,)):
        axes.barh(positions, shares, height=0.56, color=BLUE, linewidth=0)
        axes.axvline(coverage.level, color=ORANGE, linewidth=2, linestyle=_DOTTED)
        labels = [f"{label}  {100 * share:.0f}%" for label, share in rows]
        axes.set(yticks=positions, yticklabels=labels, ylim=(len(rows) - 0.5, -0.5))
        axes.set(xlim=(0, 1), xlabel="images whose margins contain the true box")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="y")
        return svg(figure, name, "Share of images whose margins contain the true box, by object size")


def reliability_diagram(bins: ReliabilityBins, name: str) -> str:
    """A reliability diagram, and below it the number of images in each bin."""
    filled = bins.counts > 0
    width = np.diff(bins.edges)
    with chart(330, rows=2, ratios=(3, 1)) as (figure, (axes, below)):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=_DOTTED)
        axes.plot(
            bins.probability[filled], bins.share[filled], "o", color=BLUE, markersize=6, markeredgewidth=0
        )
        axes.set(ylim=(-0.03, 1.03), ylabel="share with the object")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.bar(bins.edges[:-1], bins.counts, width=width * 0.86, align="edge", color=MUTED, linewidth=0)
        below.set(xlim=(-0.02, 1.02), xlabel="presence probability", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.grid(visible=False, axis="x")
        return svg(
            figure, name, "Reliability diagram of the presence probability, with the images in each bin"
        )


def presence_histogram(positives: Floats, negatives: Floats, name: str) -> str:
    """Histograms of the presence probability: (P,) of images with the object, (Q,) of images without it.

    A histogram without images is left out.
    """
    panels = [
        (title, values, color)
        for title, values, color in (
            ("with the object", positives, BLUE),
            ("without the object", negatives, ORANGE),
        )
        if len(values)
    ]
    with chart(60 + 120 * len(panels), rows=len(panels)) as (figure, axes):
        for panel, (title, values, color) in zip(axes, panels, strict=True):
            counts, edges = np.histogram(values, np.linspace(0, 1, _BINS + 1))
            panel.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=color, linewidth=0)
            panel.axvline(0.5, color=MUTED, linewidth=1, linestyle=_DOTTED)
            panel.set_title(title)
            panel.set(xlim=(0, 1), ylabel="images")
            panel.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.grid(visible=False, axis="x")
        axes[-1].set_xlabel("presence probability")
        return svg(figure, name, "Histograms of the presence probability, with and without the object")


def familiarity_histogram(values: Floats, name: str) -> str:
    """A histogram of the familiarity, (N,), and as a line the distribution of images like the training images."""
    counts, edges = np.histogram(values, np.linspace(0, 1, _BINS + 1))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.axhline(len(values) / _BINS, color=ORANGE, linewidth=2, linestyle=_DOTTED)
        axes.set(xlim=(0, 1), xlabel="familiarity", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the familiarity of {len(values)} images")


def iou_against_iou(first: Floats, second: Floats, name: str) -> tuple[str, int]:
    """A scatter plot of the IoU of two runs, both (N,).

    Returns the chart and the number of images drawn, which are an even selection if there are very many.
    """
    order = np.argsort(first - second, kind="stable")
    shown = order[:: -(-len(order) // _MAX_POINTS)]
    lower = min(0.5, float(np.floor(min(first.min(), second.min()) * 10)) / 10) - 0.02
    with chart(360) as (figure, (axes,)):
        alpha = 0.45 if len(shown) > 60 else 0.85
        axes.plot([lower, 1], [lower, 1], color=MUTED, linewidth=1, linestyle=_DOTTED)
        axes.plot(second[shown], first[shown], "o", color=BLUE, markersize=5, markeredgewidth=0, alpha=alpha)
        axes.set(
            xlim=(lower, 1.02), ylim=(lower, 1.02), xlabel="IoU of the other run", ylabel="IoU of this run"
        )
        return svg(figure, name, f"IoU of this run against the other's on {len(first)} images"), len(shown)


def differences(values: Floats, name: str) -> str:
    """A histogram of the IoU differences, this run minus the other, (N,)."""
    limit = max(0.01, float(np.abs(values).max()))
    counts, edges = np.histogram(values, np.linspace(-limit, limit, _BINS + 2))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1.4, linestyle=_DOTTED)
        axes.axvline(float(values.mean()), color=ORANGE, linewidth=2)
        axes.set(xlabel="other run better  ←  IoU difference  →  this run better", ylabel="images")
        axes.set(xlim=(-limit, limit))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: signed(v, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the IoU differences on {len(values)} images")


def intervals(subsets: Sequence[SubsetComparison], name: str) -> str:
    """The difference of the mean IoU on each subset of the images, with its confidence interval.

    The names of the subsets must be ASCII, which the font of the chart has.
    """
    positions = np.arange(len(subsets))
    middle = np.array([one.paired.difference for one in subsets])
    lower, upper = (
        np.array([getattr(one.paired.interval, end) for one in subsets]) for end in ("lower", "upper")
    )
    limit = 1.08 * max(0.01, float(np.nanmax(np.abs([middle, lower, upper]))))
    with chart(66 + 32 * len(subsets)) as (figure, (axes,)):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(positions, lower, upper, color=BLUE, linewidth=2.4)
        axes.plot(middle, positions, "o", color=ORANGE, markersize=7, markeredgewidth=0)
        axes.set(yticks=positions, yticklabels=[one.name for one in subsets], ylim=(len(subsets) - 0.5, -0.5))
        axes.set(xlim=(-limit, limit), xlabel="other run better  ←  mean IoU  →  this run better")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: signed(v, 3)))
        axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        return svg(figure, name, "Difference of the mean IoU by object size, with confidence intervals")


def learning_curve_chart(curve: "Curve") -> str:
    """A learning curve as an SVG file: the measured points and the extrapolation, each with its band; log x axis."""
    measured, expected = (
        [point for point in curve.points if point.kind == kind] for kind in ("measured", "expected")
    )
    sizes = [point.images for point in curve.points]
    with chart(300) as (figure, (axes,)):
        fitted = np.geomspace(sizes[0], measured[-1].images, _CURVE_POINTS)
        extrapolated = np.geomspace(measured[-1].images, sizes[-1], _CURVE_POINTS)
        axes.plot(fitted, [curve.law(size) for size in fitted], color=BLUE, linewidth=1.6, alpha=0.6)
        axes.plot(
            extrapolated,
            [curve.law(size) for size in extrapolated],
            color=ORANGE,
            linewidth=1.6,
            linestyle=(0, (4, 3)),
        )
        for points, color in ((measured, BLUE), (expected, ORANGE)):
            x = [point.images for point in points]
            axes.vlines(x, [p.lower for p in points], [p.upper for p in points], color=color, linewidth=1.6)
            axes.plot(
                x, [p.mean_iou for p in points], "o", color=color, markersize=6, markeredgewidth=1.4,
                markerfacecolor=color if points is measured else "none",
            )  # fmt: skip
        for point, word, color in ((measured[-2], "measured", BLUE), (expected[-1], "expected", ORANGE)):
            axes.annotate(
                word, (point.images, point.lower), (0, -6), textcoords="offset points", color=color, ha="center",
                va="top",
            )  # fmt: skip
        axes.axvline(expected[0].images, color=MUTED, linewidth=1, linestyle=_DOTTED)
        axes.set_xscale("log")
        axes.set(xlabel="labelled images", ylabel="mean IoU", xlim=(sizes[0] / 1.3, sizes[-1] * 1.3))
        axes.xaxis.set_major_locator(FixedLocator([size for size in sizes if size != measured[-1].images]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return standalone(svg(figure, "curve", f"Learning curve. {curve.sentence()}"))


def _reached(iou: Floats, thresholds: Floats) -> Floats:
    return np.asarray((iou[:, None] >= thresholds).mean(axis=0), dtype=np.float64)


def _points(history: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    rows = [(row.get("epoch", i), row[key]) for i, row in enumerate(history, 1) if key in row]
    rows = [(x, y) for x, y in rows if np.isfinite(y)]
    return [x for x, _ in rows], [y for _, y in rows]

"""The charts of how far boxes can be trusted, and of two runs side by side: arrays in, inline SVG out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from solobox.boxes import Floats
from solobox.evaluation.compare import Part, signed
from solobox.evaluation.coverage import Coverage
from solobox.evaluation.presence import Reliability
from solobox.evaluation.report.canvas import BLUE, INK, MUTED, ORANGE, chart, svg

_MOST_POINTS = 1500
_BINS = 20
_DOTTED = (0, (2, 3))


def coverage_bars(coverage: Coverage, name: str) -> str:
    """Draw the share of images that are covered: of all, and of each third by the size of the object."""
    rows = [("all", coverage.share), *((third.name, third.share) for third in coverage.thirds)]
    shares, places = np.array([share for _, share in rows]), np.arange(len(rows))
    with chart(60 + 34 * len(rows)) as (figure, (axes,)):
        axes.barh(places, shares, height=0.56, color=BLUE, linewidth=0)
        axes.axvline(coverage.level, color=ORANGE, linewidth=2, linestyle=_DOTTED)
        words = [f"{word}  {100 * share:.0f}%" for word, share in rows]
        axes.set(yticks=places, yticklabels=words, ylim=(len(rows) - 0.5, -0.5))
        axes.set(xlim=(0, 1), xlabel="images whose margins hold the true box")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="y")
        return svg(figure, name, "Share of images whose margins hold the true box, by size of the object")


def reliability_diagram(bins: Reliability, name: str) -> str:
    """Draw how often the object is there at each probability, and beneath it how many images each bin has."""
    filled = bins.counts > 0
    width = np.diff(bins.edges)
    with chart(330, rows=2, ratios=(3, 1)) as (figure, (axes, below)):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=_DOTTED)
        axes.plot(
            bins.probability[filled], bins.share[filled], "o", color=BLUE, markersize=6, markeredgewidth=0
        )
        axes.set(ylim=(-0.03, 1.03), ylabel="object is there")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.bar(bins.edges[:-1], bins.counts, width=width * 0.86, align="edge", color=MUTED, linewidth=0)
        below.set(xlim=(-0.02, 1.02), xlabel="probability of presence", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.grid(visible=False, axis="x")
        return svg(
            figure, name, "Reliability diagram of the probability of presence, with the images in each bin"
        )


def presence_histogram(positives: Floats, negatives: Floats, name: str) -> str:
    """Draw how the probability of presence is std: (P,) of images with the object, (Q,) of those without.

    A panel is left out where there are no such images.
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
        axes[-1].set_xlabel("probability of presence")
        return svg(figure, name, "Histograms of the probability of presence, with and without the object")


def familiarity_histogram(values: Floats, name: str) -> str:
    """Draw how familiar the images are, (N,), and as a line how images like the training ones would be spread."""
    counts, edges = np.histogram(values, np.linspace(0, 1, _BINS + 1))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.axhline(len(values) / _BINS, color=ORANGE, linewidth=2, linestyle=_DOTTED)
        axes.set(xlim=(0, 1), xlabel="familiarity", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the familiarity of {len(values)} images")


def iou_against_iou(first: Floats, second: Floats, name: str) -> tuple[str, int]:
    """Draw each image's IoU by the one run over that by the other, both (N,).

    Returns the chart and how many images are drawn: of very many an even selection.
    """
    order = np.argsort(first - second, kind="stable")
    shown = order[:: -(-len(order) // _MOST_POINTS)]
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
    """Draw how the differences of IoU, this run's less the other's, (N,), are spread around zero."""
    reach = max(0.01, float(np.abs(values).max()))
    counts, edges = np.histogram(values, np.linspace(-reach, reach, _BINS + 2))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1.4, linestyle=_DOTTED)
        axes.axvline(float(values.mean()), color=ORANGE, linewidth=2)
        axes.set(xlabel="other run better  ←  difference of IoU  →  this run better", ylabel="images")
        axes.set(xlim=(-reach, reach))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: signed(v, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the differences of IoU on {len(values)} images")


def intervals(parts: Sequence[Part], name: str) -> str:
    """Draw the difference of the mean IoU on each part of the images, with its interval where it is known.

    The names of the parts must be plain words: they are drawn in the chart's own letters.
    """
    places = np.arange(len(parts))
    middle = np.array([part.paired.difference for part in parts])
    lower, upper = (
        np.array([getattr(part.paired.interval, end) for part in parts]) for end in ("lower", "upper")
    )
    reach = 1.08 * max(0.01, float(np.nanmax(np.abs([middle, lower, upper]))))
    with chart(66 + 32 * len(parts)) as (figure, (axes,)):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(places, lower, upper, color=BLUE, linewidth=2.4)
        axes.plot(middle, places, "o", color=ORANGE, markersize=7, markeredgewidth=0)
        axes.set(yticks=places, yticklabels=[part.name for part in parts], ylim=(len(parts) - 0.5, -0.5))
        axes.set(xlim=(-reach, reach), xlabel="other run better  ←  mean IoU  →  this run better")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: signed(v, 3)))
        axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        return svg(
            figure, name, "Difference of the mean IoU, by size of the object, with confidence intervals"
        )

"""The chart of a learning curve, as an SVG file of its own."""

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from solobox.evaluation.report.canvas import BLUE, MUTED, ORANGE, chart, standalone, svg
from solobox.training.curve import Curve

_STEPS = 100


def curve_chart(curve: Curve) -> str:
    """Draw measured points with their bands, and dashed the law with what it expects; sizes on a logarithmic axis."""
    measured, expected = (
        [point for point in curve.points if point.kind == kind] for kind in ("measured", "expected")
    )
    sizes = [point.images for point in curve.points]
    with chart(300) as (figure, (axes,)):
        known = np.geomspace(sizes[0], measured[-1].images, _STEPS)
        ahead = np.geomspace(measured[-1].images, sizes[-1], _STEPS)
        axes.plot(known, [curve.law(size) for size in known], color=BLUE, linewidth=1.6, alpha=0.6)
        axes.plot(
            ahead, [curve.law(size) for size in ahead], color=ORANGE, linewidth=1.6, linestyle=(0, (4, 3))
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
        axes.axvline(expected[0].images, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.set_xscale("log")
        axes.set(xlabel="labelled images", ylabel="mean IoU", xlim=(sizes[0] / 1.3, sizes[-1] * 1.3))
        axes.xaxis.set_major_locator(FixedLocator([size for size in sizes if size != measured[-1].images]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return standalone(svg(figure, "curve", f"Learning curve. {curve.sentence()}"))

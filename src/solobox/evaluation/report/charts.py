"""The charts of the report: arrays in, inline SVG out, with the colours and letters of the page around it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from solobox.boxes import Floats
from solobox.evaluation.report.canvas import BLUE, MUTED, ORANGE, chart, svg

_MOST_POINTS = 1500
_MAP_COLOR = (0.18, 0.52, 0.82)  # of the map of positions, whose strength is its opacity


def iou_histogram(iou: Floats, name: str) -> str:
    """Draw how many images reach which IoU, shape (M,); the scale starts below the worst image."""
    step = 0.02 if len(iou) >= 60 else 0.05
    lower = min(0.5, float(np.floor(iou.min() * 10)) / 10)
    edges = np.linspace(lower, 1, round((1 - lower) / step) + 1)
    # A hair is added so that an IoU of 0.9 falls into the bar that starts at 0.9, whatever its last bit is.
    counts, _ = np.histogram(np.minimum(iou + 1e-9, 1), edges)
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        for threshold in (0.5, 0.75, 0.9):
            axes.axvline(threshold, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.set(xlabel="IoU", ylabel="images", xlim=(lower - 0.004, 1.0))
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(figure, name, f"Histogram of the IoU of {len(iou)} images")


def success_curve(iou: Floats, name: str) -> str:
    """Draw the share of images at or above each IoU, shape (M,), with the three usual thresholds marked."""
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
    """Draw the IoU of each image over the side of its object, and the running median as a line.

    side: as fractions of the side of the image; it and `iou` of shape (M,). Returns the chart and how many
    images are drawn: of very many an even selection.
    """
    order = np.argsort(side, kind="stable")
    shown = order[:: -(-len(order) // _MOST_POINTS)]
    with chart(250) as (figure, (axes,)):
        alpha = 0.45 if len(shown) > 60 else 0.85
        axes.plot(side[shown], iou[shown], "o", color=BLUE, markersize=5, markeredgewidth=0, alpha=alpha)
        axes.plot(*median, color=ORANGE, linewidth=2.2, solid_capstyle="round")
        axes.set(xlabel="side of the object, share of the image's", ylabel="IoU")
        axes.set(ylim=(min(0.5, float(np.floor(iou.min() * 10)) / 10) - 0.02, 1.02))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return svg(figure, name, f"IoU against object size for {len(iou)} images"), len(shown)


def edge_boxes(errors: Floats, name: str) -> str:
    """Draw a box plot for each edge from signed errors in percent, (M, 4): left, top, right, bottom."""
    lower, first, middle, third, upper = np.percentile(errors, [5, 25, 50, 75, 95], axis=0)
    rows = np.arange(4)
    with chart(200) as (figure, (axes,)):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(rows, lower, upper, color=BLUE, linewidth=1.6)
        axes.barh(rows, third - first, left=first, height=0.46, color=BLUE, linewidth=0)
        axes.vlines(middle, rows - 0.32, rows + 0.32, color=ORANGE, linewidth=2.6)
        axes.set(yticks=rows, yticklabels=["left", "top", "right", "bottom"], ylim=(3.6, -0.6))
        reach = max(1.0, float(np.abs([lower, upper]).max()) * 1.08)
        axes.set(xlim=(-reach, reach), xlabel="inside  ←  error in % of the box's side  →  outside")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+g}".replace("-", "−") if v else "0"))
        axes.grid(visible=False, axis="y")
        return svg(figure, name, "Box plots of the signed error of the four edges")


def training_curve(history: Sequence[Mapping[str, float]], best_epoch: int | None, name: str) -> str:
    """Draw validation IoU and losses over the epochs; the empty string when there is nothing to draw."""
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
                panel.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
            panel.set_title(title)
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        axes[-1].set_xlabel("epoch")
        return svg(figure, name, "Training curve: " + " and ".join(title for title, _ in panels))


def object_sizes(side: Floats, name: str) -> str:
    """Draw a histogram of the objects' sides as fractions of the images', shape (M,)."""
    counts, edges = np.histogram(np.clip(side, 0, 1), np.linspace(0, 1, 21))
    with chart(230) as (figure, (axes,)):
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.86, align="edge", color=BLUE, linewidth=0)
        axes.set(xlabel="side of the object, share of the image's", ylabel="images", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        return svg(figure, name, f"Histogram of the sizes of {len(side)} objects")


def coverage_map(share: Floats, fixed: Floats, name: str) -> str:
    """Draw where the objects lie, shape (rows, columns), and the fixed box (fractions) on top of it."""
    rows, columns = share.shape
    image = np.zeros((rows, columns, 4))
    image[..., :3] = _MAP_COLOR
    image[..., 3] = share / max(share.max(), 1e-9)
    x1, y1, x2, y2 = fixed
    with chart(230) as (figure, (axes,)):
        axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
        axes.plot(
            [x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=ORANGE, linewidth=2, linestyle=(0, (4, 2))
        )
        axes.set(xlim=(0, 1), ylim=(1, 0), xlabel="image's width", ylabel="image's height")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        return svg(figure, name, "Map of where in the images the objects lie")


def _reached(iou: Floats, thresholds: Floats) -> Floats:
    return np.asarray((iou[:, None] >= thresholds).mean(axis=0), dtype=np.float64)


def _points(history: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    rows = [(row.get("epoch", i), row[key]) for i, row in enumerate(history, 1) if key in row]
    rows = [(x, y) for x, y in rows if np.isfinite(y)]
    return [x for x, _ in rows], [y for _, y in rows]

"""One object on a plainer background, by GrabCut, which needs no training."""

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate

_SIDE = 256  # longer side in pixels: a box needs no more, and the time grows with the area
_FRAME = 0.08  # share of each side that counts as background at the start
_ITERATIONS = 3
_MIN_AREA = 0.1  # components smaller than this share of the largest one are specks


def grabcut(pixels: npt.NDArray[np.uint8]) -> list[Candidate]:
    """Find what differs in colour from the border of the image: one candidate, or none where all or nothing does.

    pixels: shape (h, w, 3), uint8, RGB. The border, 8 % of each side, counts as background: an object that reaches
    into it is cut off there. Several objects get one box around them. The score, 0 to 1, is the Bhattacharyya
    distance between the colour histograms inside and outside.
    """
    import cv2

    height, width = pixels.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = np.asarray(
        cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR),
        dtype=np.uint8,
    )
    left, top = max(1, round(_FRAME * size[0])), max(1, round(_FRAME * size[1]))
    inner = size[0] - 2 * left, size[1] - 2 * top
    if min(inner) < 3 or bool(
        (small == small[0, 0]).all()
    ):  # too small, or one colour, which has no clusters
        return []
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.setRNGSeed(0)  # the first clusters are random
    cv2.grabCut(
        small,
        mask,
        (left, top, *inner),
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        _ITERATIONS,
        cv2.GC_INIT_WITH_RECT,
    )
    foreground = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    foreground = np.asarray(
        cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8
    )
    count, _, table, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    if count < 2:
        return []
    components = np.asarray(table)[1:]  # the first is the background
    components = components[
        components[:, cv2.CC_STAT_AREA] >= _MIN_AREA * components[:, cv2.CC_STAT_AREA].max()
    ]
    top_left = components[:, :2].min(axis=0)
    bottom_right = (components[:, :2] + components[:, 2:4]).max(axis=0)
    if (top_left <= (left, top)).all() and (bottom_right >= (left + inner[0], top + inner[1])).all():
        return []
    x1, y1, x2, y2 = (
        np.concatenate([top_left, bottom_right]) / np.tile(size, 2) * (width, height, width, height)
    ).tolist()
    return [Candidate((x1, y1, x2, y2), _histogram_distance(small, foreground))]


def _histogram_distance(image: npt.NDArray[np.uint8], foreground: npt.NDArray[np.uint8]) -> float:
    import cv2

    inside, outside = (
        cv2.calcHist([image], [0, 1, 2], mask, [8, 8, 8], [0, 256, 0, 256, 0, 256])
        for mask in (foreground, 1 - foreground)
    )
    return float(cv2.compareHist(inside, outside, cv2.HISTCMP_BHATTACHARYYA))

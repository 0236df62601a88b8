"""One object before a calmer background, by GrabCut; nothing here was trained."""

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate
from solobox.autolabel.registry import register

_SIDE = 256  # longer side in pixels: a box needs no more, and the time goes by the area
_FRAME = 0.08  # share of each side that is background to begin with
_ROUNDS = 3
_PART = 0.1  # a part of the object is at least this large beside the largest part; smaller ones are specks


@register("grabcut")
def grabcut(pixels: npt.NDArray[np.uint8]) -> list[Candidate]:
    """Find what differs in colour from the image's frame: one candidate, or none where all does or nothing.

    pixels: shape (h, w, 3), uint8, RGB. The frame, 8 % of each side, is taken for background, so an object that
    reaches into it is cut there. Several objects come out as one box around them. The score, 0 to 1, is how far
    the colours inside and outside are apart (Bhattacharyya's distance of their histograms).
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
    ):  # no room, or one colour, of which there are no clusters
        return []
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.setRNGSeed(0)  # the first clusters are drawn at random
    cv2.grabCut(
        small, mask, (left, top, *inner), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_RECT
    )
    object_ = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    object_ = np.asarray(cv2.morphologyEx(object_, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    count, _, table, _ = cv2.connectedComponentsWithStats(object_, connectivity=8)
    if count < 2:
        return []
    parts = np.asarray(table)[1:]  # the first is the background
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= _PART * parts[:, cv2.CC_STAT_AREA].max()]
    corner = parts[:, :2].min(axis=0)
    opposite = (parts[:, :2] + parts[:, 2:4]).max(axis=0)
    if (corner <= (left, top)).all() and (opposite >= (left + inner[0], top + inner[1])).all():
        return []
    x1, y1, x2, y2 = (
        np.concatenate([corner, opposite]) / np.tile(size, 2) * (width, height, width, height)
    ).tolist()
    return [Candidate((x1, y1, x2, y2), _apart(small, object_))]


def _apart(image: npt.NDArray[np.uint8], object_: npt.NDArray[np.uint8]) -> float:
    import cv2

    inside, outside = (
        cv2.calcHist([image], [0, 1, 2], mask, [8, 8, 8], [0, 256, 0, 256, 0, 256])
        for mask in (object_, 1 - object_)
    )
    return float(cv2.compareHist(inside, outside, cv2.HISTCMP_BHATTACHARYYA))

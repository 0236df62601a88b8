"""Boxes of a clip made steadier over time: a Kalman filter that trusts a box as far as its margins are narrow.

For each axis the state is the two edges and their velocities. Between images velocities are constant but for white
noise in the acceleration (Bar-Shalom, Li & Kirubarajan, 2001, "Estimation with Applications to Tracking and
Navigation", 6.2), which an edge shares with the opposite one, since objects move more than they grow: a common part
for the middle, and a smaller one for the size. A constant velocity is followed without lag. What a box may be wrong
by is read off its margins (Kalman, 1960, needs no more of a measurement than its variance), so a blurred image
moves the box less than a clear one.

It looks back only, so it works on a camera as on a file. `step` is pure; `smoothed` runs it along a clip.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from solobox.boxes import Floats, clip, iou
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import in_order
from solobox.predict.video.frames import Frame
from solobox.uncertainty.conformal import DEFAULT_LEVEL, FLOOR

_UNKNOWN = 0.02
"""Standard deviation of an edge, in sides of the box, of a model that says nothing of it."""

_FIRST_SPEED = 1.0
"""Standard deviation of what is not known yet of a velocity, in sides a second."""

# Quantiles of the chi-squared distribution with 4 degrees of freedom, which a sound model's surprises have.
_SURPRISING = 9.49  # at 0.95
_OUTLYING = 23.5  # at 0.9999

_FAR = 0.5
"""IoU with the box that was expected below which a surprising one is another thing, and no mere turn of this one."""

_HOLD = 0.5
"""Seconds without a box after which nothing is expected any more."""

_USUAL_STEP = 1 / 30


@dataclass(frozen=True, slots=True)
class Motion:
    """How lively objects are: white noise in the acceleration, in sides of the box per second to the power 1.5.

    After a second, a velocity has changed by about this many sides a second. A side is the root of the box's area.

    middle: of the box's middle. size: of its width and height.
    """

    middle: float = 3.0
    size: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What is known of the object after an image. Plain data.

    time: seconds, of that image. seen: seconds, of the last image whose box was believed.
    mean: shape (2, 4), for x and for y: the low edge, the high edge (pixels), and their velocities (pixels a second).
    covariance: shape (2, 4, 4), of the above.
    doubted: whether the last box was not believed.
    """

    time: float
    seen: float
    mean: Floats
    covariance: Floats
    doubted: bool = False

    @property
    def box(self) -> Floats:
        """The box, shape (4,), ``x1, y1, x2, y2`` in pixels; it may reach out of the image."""
        return np.asarray(self.mean[:, :2].T.ravel(), dtype=np.float64)

    @property
    def side(self) -> float:
        """The root of the box's area in pixels, at least 1."""
        width, height = np.maximum(self.mean[:, 1] - self.mean[:, 0], 1)
        return float(np.sqrt(width * height))


def noise(prediction: Prediction, level: float = DEFAULT_LEVEL, *, outer: bool = False) -> Floats:
    """Standard deviation in pixels of each edge of a predicted box, shape (4,), positive.

    From the margins, which hold all four edges with probability `level` (`outer`: outwards alone), as if edges erred
    independently and normally; without margins the head's own spread; without that, a fixed share of the box.
    """
    box = prediction.box
    sides = np.tile(box[2:] - box[:2], 2)
    each = level**0.25
    reach = np.maximum(
        prediction.upper - box, box - prediction.lower
    )  # the image's border may have cut one of them
    sigma = reach / NormalDist().inv_cdf(each if outer else (1 + each) / 2)
    for otherwise in (prediction.std, _UNKNOWN * sides):
        sigma = np.where(np.isnan(sigma), otherwise, sigma)
    return np.asarray(np.maximum(sigma, np.maximum(FLOOR * sides, 1e-3)), dtype=np.float64)


def begun(time: float, box: Floats, sigma: Floats) -> Track:
    """A track of which one box is known, (4,) pixels, with the standard deviation of its edges, (4,)."""
    mean = np.zeros((2, 4))
    mean[:, :2] = box.reshape(2, 2).T
    track = Track(time, time, mean, np.zeros((2, 4, 4)))
    variance = np.zeros((2, 4))
    variance[:, :2] = (sigma**2).reshape(2, 2).T
    variance[:, 2:] = (_FIRST_SPEED * track.side) ** 2
    return replace(track, covariance=np.stack([np.diag(row) for row in variance]))


def moved(track: Track, time: float, motion: Motion) -> Track:
    """The track at a later time, when nothing more has been seen."""
    step = time - track.time
    common, apart = (motion.middle * track.side) ** 2, (motion.size * track.side) ** 2 / 4
    shared = np.array([[common + apart, common - apart], [common - apart, common + apart]])
    growth = np.kron(np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]]), shared)
    forward = np.kron(np.array([[1.0, step], [0.0, 1.0]]), np.eye(2))
    return replace(
        track,
        time=time,
        mean=track.mean @ forward.T,
        covariance=forward @ track.covariance @ forward.T + growth,
    )


def seen(track: Track, box: Floats, sigma: Floats) -> Track:
    """The track after a box at its time, (4,) pixels, whose edges have the standard deviation `sigma`, (4,).

    A box that is both surprising and far off is not believed when it is the first one (`Track.doubted`), and begins a
    track of its own when it is the second in a row: the scene was cut, or the object leapt. One that is surprising
    but near is a turn: what was known then counts less, by as much.
    """
    surprise = box.reshape(2, 2).T - track.mean[:, :2]
    error = np.stack([np.diag(row) for row in (sigma**2).reshape(2, 2).T])

    def distance(covariance: Floats) -> float:
        """Squared Mahalanobis distance of both axes."""
        solved = np.linalg.solve(covariance[:, :2, :2] + error, surprise[..., None])[..., 0]
        return float((surprise * solved).sum())

    found = distance(track.covariance)
    if found > _OUTLYING and iou(track.box, box) < _FAR:
        return begun(track.time, box, sigma) if track.doubted else replace(track, doubted=True)
    covariance = track.covariance * max(1.0, found / _SURPRISING)
    gain = covariance[:, :, :2] @ np.linalg.inv(covariance[:, :2, :2] + error)
    mean = track.mean + (gain @ surprise[..., None])[..., 0]
    # Joseph's form stays symmetric and positive whatever is lost in rounding.
    keep = np.eye(4) - np.concatenate([gain, np.zeros((2, 4, 2))], axis=2)
    covariance = keep @ covariance @ keep.transpose(0, 2, 1) + gain @ error @ gain.transpose(0, 2, 1)
    return Track(track.time, track.time, mean, covariance)


def step(
    track: Track | None,
    time: float,
    prediction: Prediction,
    motion: Motion | None = None,
    *,
    level: float = DEFAULT_LEVEL,
    outer: bool = False,
    min_presence: float = 0.0,
) -> tuple[Track | None, Prediction]:
    """One image further: what is known after it, and its prediction with the steadier box.

    track: after the image before, None for the first. time: seconds; one that is not later than the track's, or NaN,
    counts as a thirtieth of a second later. level, outer: of the prediction's margins, see `noise`.
    min_presence: a box with a presence below this is not believed.

    The margins stay where they are, and reach at least to the steadier box: so they go on holding what they promise,
    which is about each image by itself. A prediction without a box comes back as it is. One whose box is not believed
    gets the box that was expected; where nothing was expected it comes back as it is.
    """
    if track is not None:
        later = time if time > track.time else track.time + _USUAL_STEP
        track = moved(track, later, motion or Motion())
        time = later
        if time - track.seen > _HOLD:
            track = None
    elif np.isnan(time):
        time = 0.0
    if np.isnan(prediction.box).any():
        return track, prediction
    if not prediction.presence < min_presence:  # NaN: the model knows no presence
        sigma = noise(prediction, level, outer=outer)
        track = seen(track, prediction.box, sigma) if track else begun(time, prediction.box, sigma)
    return track, _with_box(prediction, track.box) if track else prediction


def smoothed(
    rows: Iterable[tuple[Frame, Prediction]],
    motion: Motion | None = None,
    *,
    level: float = DEFAULT_LEVEL,
    outer: bool = False,
    min_presence: float = 0.0,
) -> Iterator[tuple[Frame, Prediction]]:
    """`step` along a clip, by the times of its images; in constant memory."""
    track: Track | None = None
    for frame, prediction in rows:
        track, better = step(
            track, frame.time, prediction, motion, level=level, outer=outer, min_presence=min_presence
        )
        yield frame, better


def _with_box(prediction: Prediction, box: Floats) -> Prediction:
    width, height = prediction.size
    inside = clip(in_order(box), width, height)
    if not (inside[:2] < inside[2:]).all():  # what was expected has left the image
        return prediction
    lower, upper = np.minimum(prediction.lower, inside), np.maximum(prediction.upper, inside)
    return replace(prediction, box=inside, lower=lower, upper=upper)

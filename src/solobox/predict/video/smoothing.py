"""Make the boxes of a clip steadier over time: a Kalman filter that trusts boxes with narrow margins more.

For each axis the state is the two edges and their velocities. Between images velocities are constant but for white
noise in the acceleration (Bar-Shalom, Li & Kirubarajan, 2001, "Estimation with Applications to Tracking and
Navigation", 6.2), which an edge shares with the opposite one, since objects move more than they grow: a common part
for the middle, and a smaller one for the size. A constant velocity is followed without lag. The variance
of a measurement comes from the margins of its box, so a blurred image moves the box less than a sharp one.

It looks back only, so it works on a camera as on a file. `step` is pure; `smooth_rows` runs it over a clip.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from solobox.boxes import Floats, clip, iou
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import in_order
from solobox.predict.video.frames import Frame
from solobox.uncertainty.conformal import DEFAULT_LEVEL, MIN_SCALE

_UNKNOWN = 0.02
"""Standard deviation of an edge, in sides of the box, for a model that predicts none."""

_FIRST_SPEED = 1.0
"""Standard deviation of an unknown velocity, in sides a second."""

# Quantiles of the chi-squared distribution with 4 degrees of freedom, which squared innovations have.
_SURPRISING = 9.49  # at 0.95
_OUTLYING = 23.5  # at 0.9999

_FAR = 0.5
"""IoU with the predicted box below which a surprising one is another object, and no turn of this one."""

_HOLD = 0.5
"""Seconds without a box after which a track ends."""

_USUAL_STEP = 1 / 30


@dataclass(frozen=True, slots=True)
class Motion:
    """How fast objects change their motion: white noise in the acceleration, in box sides per second to the power 1.5.

    After a second, a velocity has changed by about this many sides a second. A side is the root of the box's area.

    middle: of the box's middle. size: of its width and height.
    """

    middle: float = 3.0
    size: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The state of the filter after an image.

    time: of that image, in seconds. seen: of the last image whose box was accepted, in seconds.
    mean: shape (2, 4), for x and for y: the lower edge, the upper edge (pixels), and their velocities (pixels/s).
    covariance: shape (2, 4, 4), of the above.
    doubted: whether the last box was rejected.
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


def measurement_std(prediction: Prediction, level: float = DEFAULT_LEVEL, *, outer: bool = False) -> Floats:
    """Standard deviation in pixels of each edge of a predicted box, shape (4,), positive.

    From the margins, which hold all four edges with probability `level` (`outer`: one-sided), assuming independent
    normal errors; without margins the head's `std`; without that, a fixed share of the box.
    """
    box = prediction.box
    sides = np.tile(box[2:] - box[:2], 2)
    each = level**0.25
    reach = np.maximum(
        prediction.upper - box, box - prediction.lower
    )  # the border of the image may have clipped one of them
    sigma = reach / NormalDist().inv_cdf(each if outer else (1 + each) / 2)
    for fallback in (prediction.std, _UNKNOWN * sides):
        sigma = np.where(np.isnan(sigma), fallback, sigma)
    return np.asarray(np.maximum(sigma, np.maximum(MIN_SCALE * sides, 1e-3)), dtype=np.float64)


def start_track(time: float, box: Floats, sigma: Floats) -> Track:
    """A track that begins with one box, (4,) pixels, whose edges have the standard deviation `sigma`, (4,)."""
    mean = np.zeros((2, 4))
    mean[:, :2] = box.reshape(2, 2).T
    track = Track(time, time, mean, np.zeros((2, 4, 4)))
    variance = np.zeros((2, 4))
    variance[:, :2] = (sigma**2).reshape(2, 2).T
    variance[:, 2:] = (_FIRST_SPEED * track.side) ** 2
    return replace(track, covariance=np.stack([np.diag(row) for row in variance]))


def predict_track(track: Track, time: float, motion: Motion) -> Track:
    """The filter's prediction step: the track at a later time."""
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


def update_track(track: Track, box: Floats, sigma: Floats) -> Track:
    """The filter's update step by a box, (4,) pixels, whose edges have the standard deviation `sigma`, (4,).

    A box that is both surprising and far off is rejected when it is the first (`Track.doubted`), and begins a new track
    when it is the second in a row: the scene was cut, or the object jumped. A surprising box close by is a turn: the
    covariance then grows by as much.
    """
    surprise = box.reshape(2, 2).T - track.mean[:, :2]
    error = np.stack([np.diag(row) for row in (sigma**2).reshape(2, 2).T])

    def distance(covariance: Floats) -> float:
        """Squared Mahalanobis distance of both axes."""
        solved = np.linalg.solve(covariance[:, :2, :2] + error, surprise[..., None])[..., 0]
        return float((surprise * solved).sum())

    innovation = distance(track.covariance)
    if innovation > _OUTLYING and iou(track.box, box) < _FAR:
        return start_track(track.time, box, sigma) if track.doubted else replace(track, doubted=True)
    covariance = track.covariance * max(1.0, innovation / _SURPRISING)
    gain = covariance[:, :, :2] @ np.linalg.inv(covariance[:, :2, :2] + error)
    mean = track.mean + (gain @ surprise[..., None])[..., 0]
    # Joseph's form stays symmetric and positive definite in spite of rounding.
    rest = np.eye(4) - np.concatenate([gain, np.zeros((2, 4, 2))], axis=2)
    covariance = rest @ covariance @ rest.transpose(0, 2, 1) + gain @ error @ gain.transpose(0, 2, 1)
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
    """One image further: the track after it, and its prediction with the smoothed box.

    track: after the image before, None for the first. time: seconds; one that is not later than the track's, or NaN,
    counts as a thirtieth of a second later. level, outer: of the prediction's margins, see `measurement_std`.
    min_presence: a box with a presence below this is rejected.

    The margins stay, widened where the smoothed box lies outside: their coverage, which is about each image by itself,
    does not fall. A prediction without a box comes back as it is. One whose box is rejected gets the predicted box of
    the track; without a track it comes back as it is.
    """
    if track is not None:
        later = time if time > track.time else track.time + _USUAL_STEP
        track = predict_track(track, later, motion or Motion())
        time = later
        if time - track.seen > _HOLD:
            track = None
    elif np.isnan(time):
        time = 0.0
    if np.isnan(prediction.box).any():
        return track, prediction
    if not prediction.presence < min_presence:  # NaN: the model never learned presence
        sigma = measurement_std(prediction, level, outer=outer)
        track = (
            update_track(track, prediction.box, sigma) if track else start_track(time, prediction.box, sigma)
        )
    return track, _with_box(prediction, track.box) if track else prediction


def smooth_rows(
    rows: Iterable[tuple[Frame, Prediction]],
    motion: Motion | None = None,
    *,
    level: float = DEFAULT_LEVEL,
    outer: bool = False,
    min_presence: float = 0.0,
) -> Iterator[tuple[Frame, Prediction]]:
    """`step` over the frames of a clip, by their times; in constant memory."""
    track: Track | None = None
    for frame, prediction in rows:
        track, better = step(
            track, frame.time, prediction, motion, level=level, outer=outer, min_presence=min_presence
        )
        yield frame, better


def _with_box(prediction: Prediction, box: Floats) -> Prediction:
    width, height = prediction.size
    inside = clip(in_order(box), width, height)
    if not (inside[:2] < inside[2:]).all():  # the predicted box has left the image
        return prediction
    lower, upper = np.minimum(prediction.lower, inside), np.maximum(prediction.upper, inside)
    return replace(prediction, box=inside, lower=lower, upper=upper)

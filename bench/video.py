"""Smoothing of a clip: less jitter, at what lag? `python bench/video.py [--model RUN_OR_ONNX] [--frames 180]`.

For each of 3 seeds a drawn thing moves and grows along a smooth path (480x360, 30 frames a second, noise of a camera, a
lamp that flickers) and its exact box is known. The clip is written as H.264, read back, and predicted by `--model`, or
by default by the known boxes with errors like those that a model trained on 700 drawn scenes at 224 px made on such
clips: standard deviation 1.2% of the box's side, of which 0.7 is left from frame to frame, margins of 5%; both half as
large in easy stretches and twice in hard ones. `--astray 0.02` puts that share of the boxes somewhere else.

Jitter is the standard deviation of the second difference, from frame to frame, of predicted minus true edges (pixels);
lag is the shift of the truth, in frames, that the predicted boxes fit best (`--rate 10` for a slow camera). Beside the
filter: the same with edges that know nothing of each other, with all images trusted alike, and the one-euro filter
(Casiez, Roussel & Vogel, 2012) on each edge. Coverage is the share of images whose margins hold the true box.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.boxes import Floats, clip, iou
from solobox.images.drawing import draw_boxes, predicted
from solobox.images.reading import ImageInput
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import NetworkInput, Pixels, PredictOptions, Predictor, RawOutput
from solobox.predict.video.clip_writer import write_clip
from solobox.predict.video.frames import open_clip
from solobox.predict.video.rows import Row, predict_frames
from solobox.predict.video.smoothing import Motion, smooth_rows
from solobox.synthetic.scene import Composition

SIZE = (480, 360)


def path(seed: int, frames: int, rate: float) -> tuple[Floats, Floats, Floats]:
    """Middle (x, y) and size relative to the usual one, each (frames,): sums of two sines of 2 to 6 seconds."""
    rng = np.random.default_rng([seed, 1])
    t = np.arange(frames) / rate

    def wave() -> Floats:
        periods, phases = rng.uniform(2, 6, 2), rng.uniform(0, 2 * np.pi, 2)
        return np.asarray(np.sin(2 * np.pi * t[:, None] / periods + phases).mean(axis=1), dtype=np.float64)

    return SIZE[0] * (0.5 + 0.3 * wave()), SIZE[1] * (0.5 + 0.25 * wave()), np.exp(0.3 * wave())


def moving(seed: int, frames: int, rate: float) -> Iterator[tuple[np.ndarray, Floats]]:
    """Pixels (h, w, 3) and the box of each image; the box is exact between pixels, and cut to the image."""
    scene = Composition(seed, SIZE)
    back = scene.paint(body=False, shadow=False).astype(np.float32)
    planes = scene.sprite.planes
    height, width = planes.shape[1:]
    solid = planes[3] > 0.5
    across, down = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    corners = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1]) - np.tile(
        [width / 2, height / 2], 2
    )
    rng = np.random.default_rng([seed, 2])
    for number, (x, y, size) in enumerate(zip(*path(seed, frames, rate), strict=True)):
        zoom = size * 0.45 * min(SIZE) / max(width, height)
        onto = (1 / zoom, 0, width / 2 - x / zoom, 0, 1 / zoom, height / 2 - y / zoom)
        layer = np.stack([
            np.asarray(Image.fromarray(plane).transform(SIZE, Image.Transform.AFFINE, onto, Image.Resampling.BILINEAR))
            for plane in planes
        ], axis=-1)  # fmt: skip
        shown = back * (1 - layer[..., 3:]) + layer[..., :3]
        shown = shown * (1 + 0.02 * np.sin(0.7 * number)) + rng.normal(0, 5, shown.shape)
        box = clip(np.tile([x, y], 2) + zoom * corners, *SIZE)
        yield np.clip(shown, 0, 255).astype(np.uint8), box


class Erring(Predictor):
    """The true boxes with errors, in place of a model."""

    calibration = None
    batch_size = 1
    has_presence = has_familiarity = False

    def __init__(self, truth: Floats, seed: int, astray: float) -> None:
        rng = np.random.default_rng([seed, 3])
        side = np.sqrt(np.prod(truth[:, 2:] - truth[:, :2], axis=1))[:, None]
        hard = 2 ** np.sin(np.arange(len(truth)) / 15 + rng.uniform(0, 2 * np.pi))[:, None]
        error = rng.normal(0, 1, truth.shape)
        for before, now in pairwise(error):
            now[:] = 0.7 * before + np.sqrt(1 - 0.7**2) * now
        self.boxes = clip(truth + 0.012 * side * hard * error, *SIZE)
        self.reach = np.tile(0.05 * side * hard, 4)
        for place in np.flatnonzero(rng.random(len(truth)) < astray).tolist():
            x, y = rng.uniform(0, 0.6, 2) * SIZE
            self.boxes[place] = x, y, x + 60, y + 60

    def preprocess(self, image: ImageInput) -> NetworkInput:
        """It has no network."""
        raise NotImplementedError

    def infer(self, pixels: Pixels) -> RawOutput:
        """It has no network."""
        raise NotImplementedError

    def stream(
        self,
        images: Iterable[ImageInput],
        options: PredictOptions | None = None,  # noqa: ARG002 (its margins are its own)
    ) -> Iterator[Prediction]:
        """One after the other."""
        for _, box, reach in zip(images, self.boxes, self.reach, strict=True):
            yield Prediction("", box, SIZE, lower=clip(box - reach, *SIZE), upper=clip(box + reach, *SIZE))


def one_euro(boxes: Floats, rate: float) -> Floats:
    """The filter of Casiez, Roussel & Vogel on each edge (n, 4): the cutoff, in hertz, grows with the speed."""

    def share(cutoff: Floats) -> Floats:
        return np.asarray(1 / (1 + rate / (2 * np.pi * cutoff)))

    out = boxes.copy()
    speed = np.zeros(4)
    for number in range(1, len(boxes)):
        speed = speed + share(np.ones(4)) * ((boxes[number] - out[number - 1]) * rate - speed)
        rest = share(1 + 0.05 * np.abs(speed))  # least cutoff 1 Hz, 0.05 more a pixel a second
        out[number] = rest * boxes[number] + (1 - rest) * out[number - 1]
    return out


def jitter(boxes: Floats, truth: Floats) -> float:
    return float(np.diff(boxes - truth, 2, axis=0).std())


def lag(boxes: Floats, truth: Floats) -> float:
    """In hundredths of a frame: the shift of the truth with the least absolute distance, which outliers do not move."""
    at = np.arange(len(truth))
    shifts = np.arange(-200, 401) / 100
    inner = slice(5, -5)

    def distance(shift: float) -> float:
        moved = np.stack([np.interp(at - shift, at, edge) for edge in truth.T], axis=1)
        return float(np.abs(boxes - moved)[inner].mean())

    return float(shifts[np.argmin([distance(shift) for shift in shifts])])


def covered(rows: list[Row], truth: Floats) -> float:
    lower, upper = (np.stack([getattr(found, end) for _, found in rows]) for end in ("lower", "upper"))
    return float(((lower <= truth + 1e-9) & (truth <= upper + 1e-9)).all(axis=1).mean())


def alike(rows: list[Row]) -> list[Row]:
    """Every image with the margins of the median one."""
    std = np.median([found.upper - found.lower for _, found in rows], axis=0) / 2
    return [(frame, replace(found, lower=found.box - std, upper=found.box + std)) for frame, found in rows]


def boxes_of(rows: Iterable[Row]) -> Floats:
    return np.stack([found.box for _, found in rows])


def load(model: Path) -> Predictor:
    if model.is_dir():
        from solobox import Localizer

        return Localizer.load(model)
    from solobox.predict.onnx_model import OnnxModel

    return OnnxModel.load(model)


def measured(
    seed: int, frames: int, rate: int, model: Predictor | None, astray: float
) -> tuple[dict[str, list[float]], list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        file, drawn = Path(folder) / "clip.mp4", Path(folder) / "drawn.mp4"
        truth = []
        with write_clip(file, Fraction(rate), Fraction(1, 512 * rate)) as writer:
            for number, (pixels, box) in enumerate(moving(seed, frames, rate)):
                writer.add(pixels, number / rate)
                truth.append(box)
        known = np.stack(truth)
        began = time.perf_counter()
        with open_clip(str(file)) as read:
            count = sum(frame.pixels is not None for frame in read.frames())
        decoding = count / (time.perf_counter() - began)
        began = time.perf_counter()
        with open_clip(str(file)) as read:
            rows = list(predict_frames(model or Erring(known, seed, astray), "clip", read.frames()))
        predicting = count / (time.perf_counter() - began)
        began = time.perf_counter()
        steady = list(smooth_rows(rows))
        smoothing = count / (time.perf_counter() - began)
        began = time.perf_counter()
        with write_clip(drawn, Fraction(rate), Fraction(1, 512 * rate)) as writer:
            for frame, found in steady:
                assert frame.pixels is not None
                outline = predicted(found.box, lower=found.lower, upper=found.upper)
                writer.add(np.asarray(draw_boxes(frame.pixels, [outline])), frame.time)
        drawing = count / (time.perf_counter() - began)
    raw = boxes_of(rows)
    rivals: dict[str, Callable[[], Floats]] = {
        "as predicted": lambda: raw,
        "smoothed": lambda: boxes_of(steady),
        "- edges apart": lambda: boxes_of(smooth_rows(rows, Motion(3.0, 6.0))),
        "- trusted alike": lambda: boxes_of(smooth_rows(alike(rows))),
        "one-euro": lambda: one_euro(raw, rate),
    }
    table = {}
    for name, make in rivals.items():
        boxes = make()
        overlap = iou(boxes, known)
        table[name] = [jitter(boxes, known), lag(boxes, known), float(overlap.mean()), float(overlap.min())]
    table["as predicted"].append(covered(rows, known))
    table["smoothed"].append(covered(steady, known))
    return table, [decoding, predicting, smoothing, drawing]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--astray", type=float, default=0.0)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 7])
    given = parser.parse_args()
    model = load(given.model) if given.model else None
    print(
        f"boxes by {given.model or 'the known ones with errors'}, {given.frames} frames, seeds {given.seeds}"
    )
    results = [measured(seed, given.frames, given.rate, model, given.astray) for seed in given.seeds]
    print(
        "| boxes | jitter px | lag, frames | mean IoU | least IoU | coverage |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in results[0][0]:
        figures = np.array([table[name] for table, _ in results])
        cells = [
            f"{a:.3f} ± {b:.3f}"
            for a, b in zip(figures.mean(axis=0), figures.std(axis=0, ddof=1), strict=True)
        ]
        print(f"| {' | '.join([name, *cells, *[''] * (5 - len(cells))])} |")
    rates = np.mean([rates for _, rates in results], axis=0)
    names = "decoding", "decoding and predicting", "smoothing", "drawing and encoding"
    print("; ".join(f"{name} {rate:.0f} frames/s" for name, rate in zip(names, rates, strict=True)))


if __name__ == "__main__":
    main()

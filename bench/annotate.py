"""A simulated person and `solobox annotate`: `python bench/annotate.py [--sets plates face] [--seeds 5] [--labels 50]`.

With `--latency 5 20 50 100 500` instead: seconds of a training with so many labels, of which the last three are new,
and prepared as the page does it while the person draws; by the clock and of the processors.

The person draws the true box with a jitter of 2% of its sides, accepts a suggested box from an IoU of 0.85 on, corrects
one from 0.5 on, and draws anew below. Seconds for each: drawing by extreme clicks 7.0 (Papadopoulos et al., 2017,
"Extreme clicking for efficient object annotation"), looking at a suggestion 1.6 (Papadopoulos et al., 2016, "We don't
need no bounding-boxes"), and correcting it half of drawing, which is assumed, after looking.

After each answer the model is waited for, so that a run repeats. For each set and seed: mean IoU on the test images by
the number of labels; how many labels and seconds it took to reach an IoU; the share of images whose suggestion was
shown, and of these accepted; the seconds beside those of drawing the same images, and, with a review of all others,
beside those of drawing all; seconds of each training; CPU seconds; and whether the interval by the blind
images held the mean IoU on the test images.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets import kangaroo, plates, some
from selftraining import of_class
from small import scenes
from solobox import Dataset
from solobox.annotation.events import Answer, Box
from solobox.annotation.learner import Learner
from solobox.annotation.session import Session, Task, open_session
from solobox.boxes import iou
from solobox.cli.console import quieten
from solobox.images.reading import ImageInput

DRAW, LOOK, CORRECT = 7.0, 1.6, 3.5
GOALS = (0.75, 0.85, 0.90)
AT = (8, 20, 50, 100)
MAX_TEST = 100
SETS: dict[str, Callable[[Path], tuple[Dataset, Dataset]]] = {
    "plates": lambda _: plates(),
    "face": lambda _: of_class("face")(),
    "airplane": lambda _: of_class("airplane")(),
    "kangaroo": lambda _: kangaroo(),
    "scenes": scenes,
}


class TimedLearner(Learner):
    """Keeps the seconds of each training, by the clock and of the processors."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def learn(self, labels: Mapping[str, tuple[ImageInput, Sequence[float]]]) -> int:
        """Learn, by both clocks."""
        started, cpu = time.perf_counter(), time.process_time()
        count = super().learn(labels)
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu)
        return count


def person(task: Task, true: Box, rng: np.random.Generator) -> tuple[Answer, float]:
    """What the person answers, and the seconds it takes."""
    sides = np.tile([true[2] - true[0], true[3] - true[1]], 2)
    drawn = np.array(true) + rng.normal(0, 0.02, 4) * sides
    corners = np.clip(drawn, 0, [*task.size, *task.size]).round(2).tolist()
    box = (corners[0], corners[1], corners[2], corners[3])
    if task.suggestion is None:
        return Answer(kind="box", box=box, blind=task.blind, seconds=DRAW), DRAW
    shown = task.suggestion.box.round(2).tolist()
    suggested = (shown[0], shown[1], shown[2], shown[3])
    quality = float(iou(np.array(suggested), np.array(true)))
    if quality >= 0.85:
        return Answer(kind="box", box=suggested, source="accepted", suggested=suggested, seconds=LOOK), LOOK
    seconds = LOOK + (CORRECT if quality >= 0.5 else DRAW)
    source = "corrected" if quality >= 0.5 else "drawn"
    return Answer(kind="box", box=box, source=source, suggested=suggested, seconds=seconds), seconds  # type: ignore[arg-type]


def simulate(training: Dataset, test: Dataset, labels: int, seed: int) -> dict[str, float]:
    """One person on one folder, until so many images are labelled."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        true: dict[str, Box] = {}
        order = rng.permutation(len(training))
        for number, row in enumerate(order.tolist()):  # other names are another order
            source = training.images[row]
            assert isinstance(source, Path)
            name = f"{seed}-{number:05}{source.suffix}"
            shutil.copy(source, photos / name)
            x1, y1, x2, y2 = training.boxes[row].tolist()
            true[name] = (x1, y1, x2, y2)
        learners: list[TimedLearner] = []

        def make() -> Learner:
            learners.append(TimedLearner())
            return learners[0]

        session = open_session(photos, Path(folder) / "labels.csv", make_learner=make)
        session.start()
        cpu = time.process_time()
        found = _session(session, learners, true, test, labels, rng)
        found["cpu"] = time.process_time() - cpu - found.pop("cpu_of_tests")
        session.close()
        return found


def _session(
    session: Session,
    learners: list[TimedLearner],
    true: dict[str, Box],
    test: Dataset,
    labels: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    seconds, shown, accepted, cpu, after = 0.0, 0, 0, 0.0, None
    found: dict[str, float] = {}
    for count in range(1, labels + 1):
        task = session.next("person", after)
        if task is None:
            break
        answer, spent = person(task, true[task.name], rng)
        session.answer(task.index, answer, person="person", seen=task.seen)
        after, seconds = task.index, seconds + spent
        shown += task.suggestion is not None
        accepted += answer.source == "accepted"
        before = session.background.version
        session.background.wait_until_idle()
        if session.background.version > before or count in AT:
            started_cpu = time.process_time()
            quality = _mean_iou(learners[0], test) if session.background.labels else 0.0
            cpu += time.process_time() - started_cpu
            if count in AT:
                found[f"iou {count}"] = quality
            for goal in GOALS:
                if quality >= goal:
                    found.setdefault(f"labels to {goal}", count)
                    found.setdefault(f"seconds to {goal}", seconds)
    found |= {"seconds": seconds, "share of drawing": seconds / (DRAW * labels), "cpu_of_tests": cpu}
    found["accepted"] = accepted / max(shown, 1)
    found["shown"] = shown / labels
    found["learn p50"], found["learn p95"] = np.quantile(learners[0].seconds, [0.5, 0.95])
    found["learn cpu p50"], found["learn cpu p95"] = np.quantile(learners[0].cpu_seconds, [0.5, 0.95])
    found["share for all"] = (seconds + _review(session, learners[0], true)) / (DRAW * len(true))
    said = session.quality.quality()
    if said is not None:
        found["held"] = float(said.last.low <= _mean_iou(learners[0], test) <= said.last.high)
    return found


def _review(session: Session, learner: Learner, true: dict[str, Box]) -> float:
    """Seconds for looking at the predicted boxes of all other images, and mending those that are wrong."""
    rest = [name for name in true if name not in session.answers]
    sample = rest[:: max(1, len(rest) // MAX_TEST)]
    spent = 0.0
    for name in sample:
        box = learner.predict(session.folder.folder / name).box
        quality = float(iou(box, np.array(true[name])))
        spent += LOOK + (0 if quality >= 0.85 else CORRECT if quality >= 0.5 else DRAW)
    return spent / max(len(sample), 1) * len(rest)


def _mean_iou(learner: Learner, test: Dataset) -> float:
    boxes = np.stack([learner.predict(image).box for image in test.images])
    return float(iou(boxes, test.boxes).mean())


def latency(name: str, training: Dataset, test: Dataset, counts: Sequence[int], repeats: int) -> None:
    """Print the seconds of trainings with so many labels, which are true boxes, and mean IoU on the test images."""
    learner = TimedLearner()
    learner.compile()
    for count in counts:
        if count > len(training):
            print(f"{name}: there are no {count} labels", flush=True)
            continue
        learner.seconds, learner.cpu_seconds = [], []
        found = []
        for seed in range(repeats):
            few = some(training, count, seed)
            rows = zip(few.names, few.images, few.boxes.tolist(), strict=True)
            labels = {f"{seed} {label}": (image, box) for label, image, box in rows}
            learner.prepare(dict(list(labels.items())[: max(count - 3, 1)]), of=count)
            learner.prepare(labels, of=count)
            learner.learn(labels)
            found.append(_mean_iou(learner, test))
        clock, cpu = (np.quantile(each, [0.5, 0.95]) for each in (learner.seconds, learner.cpu_seconds))
        looks = 1 + (learner.localizer.refiner is not None)
        print(
            f"{name}: {count:4} labels, {looks} look(s): seconds p50 {clock[0]:.2f}, p95 {clock[1]:.2f}; "
            f"of processors p50 {cpu[0]:.2f}, p95 {cpu[1]:.2f}; IoU {np.mean(found):.4f} +- {np.std(found):.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--latency", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            training, test = SETS[name](Path(folder))
            test = some(test, MAX_TEST, 0) if len(test) > MAX_TEST else test
            if arguments.latency:
                latency(name, training, test, arguments.latency, arguments.seeds)
                continue
            rows = [simulate(training, test, arguments.labels, seed) for seed in range(arguments.seeds)]
        print(f"{name}: {arguments.labels} of {len(training)} images, {arguments.seeds} seeds")
        for key in dict.fromkeys(key for row in rows for key in row):
            values = [row[key] for row in rows if key in row]
            missed = f"  (not reached: {len(rows) - len(values)})" if len(values) < len(rows) else ""
            print(f"  {key:18} {np.mean(values):8.3f} +- {np.std(values):.3f}{missed}", flush=True)


if __name__ == "__main__":
    main()

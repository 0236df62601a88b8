"""A resumable job: exactly one row for each of many images, however often the program is killed.

A `Plan` holds the settings and divides the images into shards. A `Job` stores the output of each finished shard, its
part, atomically: in a file (`OutputFile`) or in a folder of any store (`solobox.ray`). `run` predicts the missing
shards with an engine: `in_threads` in this process, `solobox.ray.engine.on_ray` on a cluster.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

import numpy as np

from solobox.errors import DataError
from solobox.predict.inputs import NOT_UTF8
from solobox.predict.plan import Plan
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, Predictor
from solobox.predict.stores import Unread, fetch, is_url
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.text import is_utf8, printable

_DOWNLOADS = 16
"""Images that are downloaded at the same time: they wait for the network, not for a processor."""
_OUTAGE = 10
"""If this many images, and more than half of a shard, cannot be downloaded, the shard fails: it is an outage."""
_FRUITLESS_PASSES = 2
"""The job stops after this many passes in a row without a new part. A pass tries each shard several times."""


# What is done ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """The counts of a finished shard.

    rows: all its images. errors: images that could not be read. absent: images without the object.
    """

    rows: int
    errors: int = 0
    absent: int = 0

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> "Part":
        """Counts of a shard's predictions."""
        errors = sum(bool(each.error) for each in predictions)
        absent = sum(not each.error and bool(np.isnan(each.box).any()) for each in predictions)
        return cls(len(predictions), errors, absent)


class Job(ABC):
    """A plan, and the finished parts of its output."""

    plan: Plan

    @abstractmethod
    def names(self, shard: int) -> Sequence[str]:
        """The images of a shard: paths and URLs."""

    @abstractmethod
    def check(self, parts: dict[int, Part]) -> dict[int, str]:
        """Add the finished parts that are not in `parts` yet, by shard. Returns the faults of damaged ones."""

    @abstractmethod
    def put(self, shard: int, predictions: Sequence[Prediction]) -> Part:
        """Store the rows of a shard: all, or none if it fails. Raises DataError if it cannot be written."""

    @abstractmethod
    def finish(self, summary: "JobSummary") -> None:
        """Complete the output, once all parts are stored."""

    def part_name(self, shard: int) -> str:
        """The name of a shard in messages."""
        return f"shard {shard}"


@dataclass(frozen=True, slots=True)
class JobSummary:
    """The counts of an output.

    rows, errors, absent: as in `Part`, of all parts. failures: why a part is missing, by its name; empty when the job
    is complete.
    """

    rows: int
    errors: int
    absent: int
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A shard to predict. again: its part exists and is damaged, and must be replaced."""

    shard: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a task: the part, or the reason for the failure."""

    shard: int
    part: Part | None
    failure: str = ""


Engine: TypeAlias = Callable[[Job, Sequence[Task]], Iterator[Outcome]]
"""Predicts shards, in any order and on any machine. `run` tries again those that it does not report."""


def run(job: Job, engine: Engine, progress: Progress | None = None) -> JobSummary:
    """Predict the missing shards of a job, check that each image has exactly one row, and finish the output.

    A shard with an intact part is not predicted again; damaged parts are replaced. Failed and lost shards are tried
    again until `_FRUITLESS_PASSES` passes bring no new part. If parts are still missing, the output stays unfinished,
    and `JobSummary.failures` has the reasons.

    progress: advances by the rows of each part. Raises DataError where the output cannot be read or written, and
    whatever the engine raises.
    """
    plan, progress = job.plan, progress or NullProgress()
    parts: dict[int, Part] = {}
    failures: dict[int, str] = {}
    damaged = job.check(parts)
    errors = sum(part.errors for part in parts.values())
    progress.start("predicting", plan.rows)
    progress.advance(sum(part.rows for part in parts.values()), _note(errors))
    fruitless = 0
    while len(parts) < plan.shards and fruitless < _FRUITLESS_PASSES:
        before = len(parts)
        tasks = [Task(shard, shard in damaged) for shard in range(plan.shards) if shard not in parts]
        failures = dict.fromkeys((task.shard for task in tasks), "its worker was lost repeatedly")
        for outcome in engine(job, tasks):
            if outcome.part is None:
                failures[outcome.shard] = outcome.failure
            elif failures.pop(outcome.shard, None) is not None:  # an engine may report one twice
                errors += outcome.part.errors
                progress.advance(outcome.part.rows, _note(errors))
        reported = {task.shard for task in tasks} - failures.keys()
        damaged = job.check(parts)
        failures |= damaged
        for shard in reported - parts.keys() - damaged.keys():
            failures[shard] = (
                "it was written, but is not visible from this machine. All machines must see the same output "
                "folder: use one in an object store or a shared file system"
            )
        errors = sum(part.errors for part in parts.values())
        fruitless = 0 if len(parts) > before else fruitless + 1
    summary = JobSummary(
        sum(part.rows for part in parts.values()),
        errors,
        sum(part.absent for part in parts.values()),
        {job.part_name(shard): failures[shard] for shard in sorted(failures) if shard not in parts},
    )
    if not summary.failures:
        if summary.rows != plan.rows:  # each part was checked by itself
            raise RuntimeError(f"{summary.rows} rows for {plan.rows} images")
        job.finish(summary)
    return summary


def _note(errors: int) -> str:
    return f"{errors:,} with errors" if errors else ""


# Engines --------------------------------------------------------------------------------------------

RowHook: TypeAlias = Callable[[Iterator[Prediction], int], Iterator[Prediction]]
"""Passes predictions on, in order, and may process each. The number is the index of the first row."""


def in_threads(predictor: Predictor, hook: RowHook | None = None) -> Engine:
    """An engine in this process: shard after shard, in the threads of the predictor.

    hook: processes each prediction before it is stored, for example to draw it or to move a progress bar.
    """

    def engine(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        # One stream over all shards keeps the predictor's threads busy. With URLs each shard has a separate one,
        # because an outage is detected per shard.
        is_remote = any(is_url(name) for task in tasks for name in job.names(task.shard))
        for group in [[task] for task in tasks] if is_remote else [tasks]:
            yield from _run_tasks(job, group, predictor, hook)

    return engine


def _run_tasks(
    job: Job, tasks: Sequence[Task], predictor: Predictor, hook: RowHook | None
) -> Iterator[Outcome]:
    plan = job.plan
    unreachable: dict[str, str] = {}
    names = (name for task in tasks for name in job.names(task.shard))
    predictions = predict_names(predictor, names, plan.options, unreachable)
    if hook is not None and tasks:
        predictions = hook(predictions, tasks[0].shard * plan.shard_size)
    for task in tasks:
        rows = list(islice(predictions, plan.rows_of(task.shard)))
        check_reachable(rows, unreachable)
        yield Outcome(task.shard, job.put(task.shard, rows))


def predict_names(
    predictor: Predictor, names: Iterable[str], options: PredictOptions, unreachable: dict[str, str]
) -> Iterator[Prediction]:
    """Predict images by their paths and URLs, in order and in constant memory; a few are downloaded ahead.

    unreachable: images that could not be downloaded are added to it, with the reason.
    """
    # Images without a prediction so far, in order: the name, and the name in the model's errors; or the final row of an
    # image that could not be downloaded.
    waiting: deque[tuple[str, str] | Prediction] = deque()

    def images() -> Iterator[str | bytes]:
        for name, image in _fetched(names):
            if isinstance(image, Unread):
                waiting.append(Prediction(name, error=image.error))
                if image.unreachable:
                    unreachable[name] = image.error
            else:
                waiting.append(
                    (name, image if isinstance(image, str) else f"the image of {len(image)} bytes")
                )
                yield image

    for prediction in predictor.stream(images(), options):
        while isinstance(first := waiting.popleft(), Prediction):
            yield first
        name, called = first
        error = prediction.error
        if called != name and error.startswith(called):
            error = name + error.removeprefix(called)
        yield replace(prediction, image=name, error=error)
    for rest in waiting:
        if not isinstance(rest, Prediction):
            raise RuntimeError(f"the model returned no prediction for {rest[0]}")
        yield rest


def _fetched(names: Iterable[str]) -> Iterator[tuple[str, str | bytes | Unread]]:
    """Each name with its image. Threads start with the first URL."""
    walk = iter(names)
    for name in walk:
        if not is_utf8(name):
            yield printable(name), Unread(f"{printable(name)}: {NOT_UTF8}")
            continue
        if not is_url(name):
            yield name, name
            continue
        rest = (each for some in ([name], walk) for each in some)
        yield from threaded_map(lambda each: (each, fetch(each)), rest, workers=_DOWNLOADS)


def check_reachable(rows: Sequence[Prediction], unreachable: Mapping[str, str]) -> None:
    """Raise DataError ``out-of-reach`` if most images of a shard could not be downloaded."""
    lost = [each.image for each in rows if each.image in unreachable]
    if len(lost) >= _OUTAGE and 2 * len(lost) > len(rows):
        raise DataError(
            f"{len(lost)} of {len(rows)} images cannot be downloaded. Run again later. The first: "
            f"{unreachable[lost[0]]}",
            code="out-of-reach",
        )

"""One folder of images, the answers for them, and the model that learns from these."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solobox.annotation.background import MAX_REVIEWED, Background
from solobox.annotation.events import Answer, Box, Event
from solobox.annotation.image_folder import ImageFolder
from solobox.annotation.kept_model import KeptModel
from solobox.annotation.log import EventLog
from solobox.annotation.quality import QualityRecord
from solobox.annotation.queue import Queue
from solobox.annotation.suggestion import is_worth_showing
from solobox.annotation.suspects import Suspect, Suspects
from solobox.data.dataset import Dataset
from solobox.data.formats.writing import relative_to
from solobox.data.sample import PREDICTED
from solobox.errors import DataError, ImageError
from solobox.predict.prediction import Prediction

if TYPE_CHECKING:
    from solobox.annotation.learner import Learner

_OUTSIDE = 1.0
"""Pixels that a box may reach beyond its image, and is then cut."""

_EVENTS, _MODEL = "events.jsonl", "model.pt"
_FILE = "file"
"""Who gave the labels that were there before."""


@dataclass(frozen=True, slots=True)
class Task:
    """One image to answer.

    seen: the version of its answer, to be sent back with a new one. blind: chosen at random and shown without a
    suggestion. error: why it cannot be shown. suspect: why its label is looked at again, and given: that label; None
    where there is nothing to look at again.
    """

    index: int
    name: str
    size: tuple[int, int]
    seen: int
    blind: bool = False
    suggestion: Prediction | None = None
    answer: Answer | None = None
    error: str = ""
    suspect: Suspect | None = None
    given: Answer | None = None


class Session:
    """The state of annotating, for any number of pages; any thread may call.

    folder: the images. log: the events, open. out: the CSV of labels, which is written again after each answer.
    quality: the record of measurements. classes: to choose from. make_learner: see `Background`.
    suspects: labels to look at again: then images are shown with the label that they have, none is blind, nothing is
        learned, and what is written is the corrected dataset. `folder` has its images in its order.

    background: the thread that learns.
    """

    def __init__(
        self,
        folder: ImageFolder,
        log: EventLog,
        out: Path,
        quality: QualityRecord,
        make_learner: "Callable[[], Learner | None] | None" = None,
        *,
        classes: Sequence[str] = (),
        suspects: Suspects | None = None,
    ) -> None:
        self.folder, self.out, self.quality, self.suspects = folder, out, quality, suspects
        self._log, self._classes = log, tuple(classes)
        self._lock, self._writing = threading.RLock(), threading.Lock()
        self._written = -1
        self._gone: int | None = None
        self._queue = Queue(folder, log.answers, self._lock, has_blind=suspects is None)
        self._predicted = {} if suspects else _predicted_in(out, folder)
        self.background = Background(
            folder, quality, KeptModel(kept_folder(out) / _MODEL), self._lock, lambda: self.answers,
            self._write_if_changed, make_learner,
        )  # fmt: skip

    def start(self) -> None:
        """Begin to learn, in a thread of its own."""
        self.background.start()

    def close(self) -> None:
        """Stop learning, and write the labels. Learning that has begun is waited for."""
        self.background.close()
        self.write_labels()
        self._log.close()

    # What the page asks ---------------------------------------------------------------------------------

    @property
    def answers(self) -> dict[str, Answer]:
        """A copy of all answers by image."""
        with self._lock:
            return dict(self._log.answers.current)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes to choose from: those that were named at the start, and those that were used."""
        with self._lock:
            counts = self._log.answers.counts.items()
            used = [name for (what, name), count in counts if what == "label" and name and count]
        return tuple(dict.fromkeys((*self._classes, *used)))

    @property
    def only_class(self) -> str:
        """The class of the model's boxes, which it does not predict: the only one there is, else nothing."""
        classes = self.classes
        return classes[0] if len(classes) == 1 else ""

    def next(self, person: str, after: int | None = None) -> Task | None:
        """The next image for a person, None where all are answered; see `Queue.next`."""
        found = self._queue.next(person, after)
        return self._task(found[0], blind=found[1]) if found else None

    def task(self, index: int, person: str) -> Task:
        """An image that the person wants to see, answered or not. Raises DataError, ``no-such-image``."""
        if not 0 <= index < len(self.folder):
            raise DataError(f"there is no image {index}", code="no-such-image")
        self._queue.put(person, index)
        return self._task(index, blind=False)

    def answer(self, index: int, answer: Answer, *, person: str, seen: int) -> int:
        """Save an answer; it is on the disk when this returns. Gives the image's new version.

        Raises DataError: ``no-such-image``, ``box-outside``, ``label-conflict`` where someone answered since, and where
        it cannot be written: then nothing has changed.
        """
        if not 0 <= index < len(self.folder):
            raise DataError(f"there is no image {index}", code="no-such-image")
        name = self.folder.names[index]
        answer = self._within(index, answer)
        with self._lock:
            if self._queue.is_revealed(index):  # in the review, since it was given as blind
                answer = replace(answer, blind=False)
            event = self._log.answers.answered(name, answer, person=person, seen=seen, time=_now())
            self._append(event)
            return event.number

    def undo(self, person: str) -> int:
        """Undo the person's last answer, and give its image. Raises DataError as `Answers.undo`, and as `answer`."""
        with self._lock:
            event = self._log.answers.undo(person=person, time=_now())
            self._append(event)
            return self.folder.index.get(event.image, -1)

    def review(self, offset: int, count: int) -> tuple[int, int, list[Task]]:
        """Predicted images that nobody answered, the least sure first.

        Gives how many of them will be predicted, how many are, and `count` of these from `offset` on. The first call
        starts to predict them. None of these will measure the model: the person has seen what it says of them.
        """
        self.background.wake(reviewing=True)
        total, ready = self._predicted_rest()
        ready.sort(key=lambda pair: (-pair[1].relative_std, pair[0]))
        page = ready[offset : offset + count]
        with self._lock:
            for index, _ in page:
                self._queue.reveal(index)
            tasks = [
                Task(index, self.folder.names[index], found.size, self._version(index), suggestion=found)
                for index, found in page
            ]
        return total, len(ready), tasks

    def progress_of_review(self) -> tuple[int, int]:
        """How many images can be reviewed, and how many of them are predicted."""
        total, ready = self._predicted_rest()
        return total if self.background.labels else 0, len(ready)

    def _predicted_rest(self) -> tuple[int, list[tuple[int, Prediction]]]:
        """How many images without an answer have a box or will get one, and those that have."""
        with self._lock:
            answered = self._log.answers.current
            rest = [
                (index, found) for index, (_, found) in self.background.predictions.items()
                if self.folder.names[index] not in answered
            ]  # fmt: skip
            unanswered = self._unanswered()
        ready = [(index, found) for index, found in rest if _is_box(found)]
        return max(min(unanswered, MAX_REVIEWED) - (len(rest) - len(ready)), len(ready)), ready

    def counts(self) -> dict[str, int | float]:
        """Answers by kind and by source, how many images have none, and the seconds that they took together."""
        with self._lock:
            counted, seconds = self._log.answers.counts, max(round(self._log.answers.seconds, 1), 0.0)
            kinds = {kind: counted["kind", kind] for kind in ("box", "absent", "skipped")}
            sources = {name: counted["source", name] for name in ("drawn", "corrected", "accepted", "given")}
            return {**kinds, **sources, "left": self._unanswered(), "seconds": seconds}

    def _unanswered(self) -> int:
        """How many images that are asked about have no answer."""
        answers, folder = self._log.answers, self.folder
        if self.suspects is not None:
            return sum(folder.names[index] not in answers.current for index in folder.order)
        if (
            self._gone is None
        ):  # images that were answered in an earlier session, and are no longer in the folder
            self._gone = sum(name not in folder.index for name in answers.current)
        return len(folder) - (len(answers.current) - self._gone)

    # Labels ---------------------------------------------------------------------------------------------

    def add_predicted(self, predicted: Sequence[tuple[int, Prediction]]) -> None:
        """Write the labels with these boxes of a model, and no earlier ones, for images without an answer.

        Raises DataError.
        """
        self._predicted = {
            self.folder.names[index]: _box(found.box) for index, found in predicted if _is_box(found)
        }
        self.write_labels()

    def dataset(self) -> Dataset:
        """All images with a box, or without the object, by name; and those of `add_predicted`.

        Where labels are looked at again: the whole dataset, corrected as far as they were.
        """
        answers = self.answers
        if self.suspects is not None:
            index = self.folder.index
            return self.suspects.corrected(
                {index[name]: answer for name, answer in answers.items() if name in index}
            )
        label = self.only_class
        rows: dict[str, tuple[Sequence[float], str, str]] = {
            name: (box, label, PREDICTED) for name, box in self._predicted.items() if name not in answers
        }
        for name, answer in answers.items():
            if answer.kind != "skipped" and name in self.folder.index:
                rows[name] = answer.box or (np.nan,) * 4, answer.label, answer.source
        chosen = sorted(rows)
        paths = [self.folder.folder / name for name in chosen]
        name_of = relative_to(self.out.parent)
        boxes = np.array([rows[name][0] for name in chosen], dtype=np.float64).reshape(-1, 4)
        return Dataset(
            paths, boxes, label=[rows[name][1] for name in chosen], source=[rows[name][2] for name in chosen],
            names=map(name_of, paths),
        )  # fmt: skip

    def add(self, dataset: Dataset) -> tuple[int, int]:
        """Add labels that exist, for images without an answer.

        Gives how many were added, and how many are of images that are not in the folder. Raises DataError.
        """
        added = elsewhere = 0
        for sample in dataset:
            index = self.folder.index_of(sample.image) if isinstance(sample.image, Path) else None
            if index is None:
                elsewhere += 1
                continue
            if self._version(index):
                continue  # answered, or undone: that is newer
            box = None if sample.box is None else _box(sample.box)
            answer = Answer(
                kind="absent" if box is None else "box", box=box, label=sample.label, source="given"
            )
            self.answer(index, answer, person=_FILE, seen=0)
            added += 1
        return added, elsewhere

    def write_labels(self) -> None:
        """Write the labels, if there is one or there was. Raises DataError."""
        with self._writing:
            count = len(self._log.answers)  # before the snapshot: what comes now is written next time
            dataset = self.dataset()
            if len(dataset) or self.out.exists():
                dataset.write(self.out)
            self._written = count

    # Inside ---------------------------------------------------------------------------------------------

    def _append(self, event: Event) -> None:
        self._log.append(event)
        if event.image not in self.folder.index:
            self._gone = None
        self.background.wake()

    def _write_if_changed(self) -> bool:
        """Whether that was needed."""
        if self._written == len(self._log.answers):
            return False
        self.write_labels()
        return True

    def _version(self, index: int) -> int:
        return self._log.answers.version(self.folder.names[index])

    def _within(self, index: int, answer: Answer) -> Answer:
        """The answer with its box cut to the image."""
        if answer.box is None:
            return answer
        width, height = self.folder.size(index)
        limits = (width, height, width, height)
        off = max(max(-value, value - limit) for value, limit in zip(answer.box, limits, strict=True))
        cut = _box(min(max(value, 0.0), limit) for value, limit in zip(answer.box, limits, strict=True))
        if off > _OUTSIDE or cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise DataError(
                f"{self.folder.names[index]}: the box {answer.box} is not in the image of {width} x {height} pixels",
                code="box-outside",
            )
        # An accepted box stays equal to what was suggested.
        suggested = cut if answer.source == "accepted" else answer.suggested
        return replace(answer, box=cut, suggested=suggested)

    def _task(self, index: int, *, blind: bool) -> Task:
        name = self.folder.names[index]
        with self._lock:
            answer, seen = self._log.answers.of(name), self._version(index)
        try:
            size = self.folder.size(index)
        except ImageError as error:
            return Task(index, name, (0, 0), seen, blind, answer=answer, error=str(error))
        if self.suspects is not None:
            suspect, given = self.suspects.by_row.get(index), self.suspects.given(index)
            found = Prediction(name, suspect.predicted, size) if suspect else None
            suggestion = found if found and _is_box(found) else None
            return Task(index, name, size, seen, False, suggestion, answer, suspect=suspect, given=given)
        suggestion = None if blind or answer else self._suggestion(index)
        return Task(index, name, size, seen, blind, suggestion, answer)

    def _suggestion(self, index: int) -> Prediction | None:
        found = self.background.predict(index)
        return found if found is not None and _is_box(found) and is_worth_showing(found) else None


def open_session(
    folder: str | Path,
    out: str | Path,
    *,
    good_iou: float = 0.75,
    goal: float = 0.8,
    classes: Sequence[str] = (),
    make_learner: "Callable[[], Learner | None] | None" = None,
    suspects: Suspects | None = None,
) -> Session:
    """The session of a folder, where it was left. It does not learn before `Session.start`.

    out: the CSV of labels; what was done is kept beside it in a folder ``NAME.annotate``.
    good_iou, goal: see `QualityRecord`. classes, make_learner, suspects: see `Session`; with `suspects`, the folder is
        that of their images.

    Raises DataError: ``no-images``, ``log-damaged``, ``labels-exist`` for a file of labels that was not made by
    annotating this folder; ConfigError ``log-in-use``.
    """
    out = Path(out)
    kept = kept_folder(out)
    if suspects is None:
        images = ImageFolder(folder)
    else:
        images = ImageFolder(folder, names=suspects.names(), order=list(suspects.by_row))
        make_learner = lambda: None  # noqa: E731  (the suggestions are those of the audit)
    check_labels(out)
    quality = QualityRecord(kept / "quality.json", threshold=good_iou, goal=goal)
    log = EventLog(kept / _EVENTS)
    try:
        return Session(images, log, out, quality, make_learner, classes=classes, suspects=suspects)
    except BaseException:
        log.close()
        raise


def kept_folder(out: Path) -> Path:
    """Where what was done is kept beside the labels."""
    return out.with_name(f"{out.name}.annotate")


def check_labels(out: Path) -> None:
    """Raise DataError, ``labels-exist``, for a file that was not made by annotating, which could go on with it."""
    if out.exists() and not (kept_folder(out) / _EVENTS).exists():
        raise DataError(
            f"{out} is there already, and would be replaced: give another name. `solobox annotate --from {out}` "
            "begins with its labels",
            code="labels-exist",
        )


def _predicted_in(out: Path, folder: ImageFolder) -> dict[str, Box]:
    """The boxes that an earlier session took from a model, which are nowhere else."""
    if not out.exists():
        return {}
    try:
        labels = Dataset.read(out, check="off")
    except DataError as error:
        if error.code == "nothing-left":  # every answer was undone, or is that the image is skipped
            return {}
        raise
    found = {}
    for sample in labels:
        if sample.source == PREDICTED and sample.box is not None and isinstance(sample.image, Path):
            index = folder.index_of(sample.image)
            if index is not None:
                found[folder.names[index]] = _box(sample.box)
    return found


def _box(corners: Iterable[float]) -> Box:
    """To a hundredth of a pixel, as pages send boxes."""
    x1, y1, x2, y2 = (round(float(value), 2) for value in corners)
    return x1, y1, x2, y2


def _is_box(found: Prediction) -> bool:
    """Whether there is a box that has an area also when it is rounded."""
    if not found.has_box:
        return False
    x1, y1, x2, y2 = _box(found.box)
    return x1 < x2 and y1 < y2


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""What goes on behind the page, in a thread of its own: learning, measuring, and predicting the rest for the review."""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from solobox.annotation.events import Answer, Box
from solobox.annotation.image_folder import ImageFolder
from solobox.annotation.kept_model import KeptModel
from solobox.annotation.quality import QualityRecord
from solobox.boxes import iou
from solobox.errors import ConfigError, ImageError
from solobox.predict.prediction import Prediction

if TYPE_CHECKING:
    from solobox.annotation.examples import Labels
    from solobox.annotation.learner import CrossFit, Learner

MAX_REVIEWED = 2000
"""Images that are predicted for the review at once; further ones follow as these are answered."""

_MIN_BOXES = 5
"""Fewer boxes are not learned from."""

_AT_ONCE = 8
"""Images, at most, that other work waits for."""

_PAUSE = 0.5
"""Seconds after a failure."""


class Background:
    """A thread that does what is most urgent: write the labels, learn, predict for the review, prepare, measure.

    folder: the images. quality: the record of measurements. kept: the model, for the next session.
    lock: of the answers; the thread waits on it.
    answers: gives the present ones by image. write: writes the labels if they changed; whether that was needed.
    make_learner: called once, in the thread. Where it fails, or gives None, nothing is learned.

    labels: how many boxes the present model learned from, 0 without one. version: of the model, 0 without one.
    is_learning: whether one is trained now. error: what failed last. predictions: by image, with the version of the
    model that made each.
    """

    def __init__(
        self,
        folder: ImageFolder,
        quality: QualityRecord,
        kept: KeptModel,
        lock: threading.RLock,
        answers: Callable[[], Mapping[str, Answer]],
        write: Callable[[], bool],
        make_learner: "Callable[[], Learner | None] | None" = None,
    ) -> None:
        self.labels = self.version = 0
        self.is_learning = False
        self.error = ""
        self.predictions: dict[int, tuple[int, Prediction]] = {}
        self._folder, self._quality, self._kept = folder, quality, kept
        self._answers, self._write = answers, write
        self._make_learner = make_learner or _new_learner
        self._learner: Learner | None = None
        self._work = threading.Condition(lock)
        self._has_news = True
        self._closed = self._is_idle = self._reviewing = False
        self._lasting = ""  # what failed, until there is a new model
        self._learned: dict[str, Box] = {}
        self._prepared: dict[str, Box] = {}
        self._given_up = 0
        self._measuring: tuple[int, Generator[None, None, CrossFit]] | None = None
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what has begun is waited for."""
        with self._work:
            self._closed = True
            self._work.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self, *, reviewing: bool = False) -> None:
        """Look at the answers again. reviewing: somebody wants to see predictions of the rest."""
        with self._work:
            self._has_news = True
            self._reviewing = self._reviewing or reviewing
            self._work.notify_all()

    def wait_until_idle(self) -> None:
        """Wait until nothing is left to do."""
        with self._work:
            self._work.wait_for(lambda: not self._thread.is_alive() or (self._is_idle and not self._has_news))

    def predict(self, index: int) -> Prediction | None:
        """What the present model says of an image; None without a model, or for an image that cannot be read."""
        if self._learner is None or not self.labels:
            return None
        try:
            found = self._learner.predict(self._folder.path(index))
        except ImageError:
            return None
        return None if found.error else found

    def _run(self) -> None:
        try:
            self._learner = self._make_learner()
            if self._learner is not None:
                self._learner.compile()
                self._restore(self._learner)
        except ModuleNotFoundError as error:
            self._learner = None
            self._lasting = (
                f"there are no suggestions: {error.name} is missing; install Solobox with its [train] extra"
            )
        except Exception as error:  # noqa: BLE001  (whatever it is: the page goes on without suggestions)
            self._learner, self._lasting = None, f"there are no suggestions: {error}"
        self.error = self._lasting
        while not self._closed:
            try:
                if self._step():
                    self.error = self._lasting
                else:
                    self._wait()
            except Exception as error:  # noqa: BLE001  (the page shows it, and people go on drawing)
                self.error = str(error)
                time.sleep(_PAUSE)
            finally:
                self.is_learning = False

    def _restore(self, learner: "Learner") -> None:
        """Go on with the model of an earlier session, if there is one."""
        try:
            self._learned = self._kept.restore(learner, self._boxes())
        except ConfigError as error:
            self._lasting = (
                f"the model of the last session is not used: {error}; a new one learns from the labels"
            )
        if self._learned:
            self.labels, self.version = len(self._learned), 1

    def _wait(self) -> None:
        """Until there is news."""
        with self._work:
            while not (self._closed or self._has_news):
                self._is_idle = True
                self._work.notify_all()
                self._work.wait()
            self._is_idle = self._has_news = False

    def _step(self) -> bool:
        """Do what is most urgent; whether there was anything."""
        if self._write():
            return True
        learner = self._learner
        if learner is None:
            return False
        boxes = self._boxes()
        if self._should_learn(boxes):
            self._learn(boxes, learner)
        elif self._reviewing and self.labels and (rest := self._unpredicted()):
            self._predict(rest, learner)
        elif new := [name for name, box in boxes.items() if self._prepared.get(name) != box]:
            self._prepare(new[:_AT_ONCE], boxes, learner)
        elif self._measuring is not None:
            self._measure(*self._measuring, learner)
        elif self._given_up != self.version and self._quality.is_due(len(blind := self._blind())):
            self._measuring = self.labels, learner.cross_fit(blind)
        else:
            return False
        return True

    def _boxes(self) -> dict[str, Box]:
        return {
            name: answer.box for name, answer in self._answers().items()
            if answer.box is not None and name in self._folder.index
        }  # fmt: skip

    def _should_learn(self, boxes: Mapping[str, Box]) -> bool:
        """Whether enough is new: a few labels, the more the larger their number."""
        if len(boxes) < _MIN_BOXES:
            return False
        changed = sum(self._learned.get(name) != box for name, box in boxes.items())
        changed += sum(name not in boxes for name in self._learned)
        return changed >= (max(3, len(boxes) // 10) if self._learned else 1)

    def _learn(self, boxes: dict[str, Box], learner: "Learner") -> None:
        self.is_learning = True
        self._learned = self._prepared = boxes
        self.labels = learner.learn(self._labels(boxes))
        self.version += 1
        self._lasting = ""
        self._kept.save(learner, boxes)

    def _labels(self, boxes: Mapping[str, Box]) -> "Labels":
        return {name: (self._folder.folder / name, box) for name, box in boxes.items()}

    def _prepare(self, new: Sequence[str], boxes: Mapping[str, Box], learner: "Learner") -> None:
        """What can be computed of these images before they are learned from."""
        prepared = {
            name: box for name, box in boxes.items() if name in new or self._prepared.get(name) == box
        }
        self._prepared = prepared
        learner.prepare(self._labels(prepared), of=len(boxes))

    def _blind(self) -> list[str]:
        """Of the images that were learned from, those that were drawn blind, in the order of their answers."""
        return [
            name for name, answer in self._answers().items()
            if answer.blind and answer.box is not None and name in self._learned
        ]  # fmt: skip

    def _measure(self, labels: int, crossfit: "Generator[None, None, CrossFit]", learner: "Learner") -> None:
        """One model more of a measurement."""
        try:
            next(crossfit)
        except StopIteration as end:
            self._measuring = None
            measured: CrossFit = end.value
            self._quality.add(labels, np.asarray(iou(measured.predicted, measured.true)))
            learner.calibrate(measured)
            self._kept.save(learner, self._learned)
        except BaseException:
            self._measuring = None
            self._given_up = self.version  # until there is another model
            raise

    def _unpredicted(self) -> list[int]:
        """Some of the images that nobody answered and the present model did not predict."""
        answered, found, left = self._answers(), [], MAX_REVIEWED
        for index in self._folder.order:
            if self._folder.names[index] in answered:
                continue
            if self.predictions.get(index, (0, None))[0] != self.version:
                found.append(index)
            left -= 1
            if len(found) == _AT_ONCE or not left:
                break
        return found

    def _predict(self, indices: list[int], learner: "Learner") -> None:
        for index in indices:
            try:
                found = learner.predict(self._folder.path(index))
            except ImageError as error:
                found = Prediction(self._folder.names[index], error=str(error))
            with self._work:
                self.predictions[index] = self.version, found


def _new_learner() -> "Learner":
    from solobox.annotation.learner import Learner  # loads torch

    return Learner()

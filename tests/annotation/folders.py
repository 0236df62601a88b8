"""Small folders of drawn images, and sessions on them."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from stand_in_learner import StandInLearner

from solobox.annotation.events import Answer, Box
from solobox.annotation.learner import CrossFit, Learner
from solobox.annotation.session import Session, open_session

SIZE = (64, 48)
TRUE: Box = (10.0, 8.0, 40.0, 30.0)


def folder_of(path: Path, count: int) -> Path:
    """Images ``00.jpg`` and so on, every third in a subfolder."""
    for number in range(count):
        place = path / ("below" if number % 3 == 2 else "") / f"{number:02}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        # Blocks of colours: no two images are alike.
        blocks = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(blocks).resize(SIZE, Image.Resampling.NEAREST)
        image.paste((250, 160, 30), (10, 8, 40, 30))
        image.save(place)
    return path


def opened(folder: Path, out: Path, learner: StandInLearner | None = None) -> Session:
    """A session whose learner, if there is one, learns."""
    session = open_session(folder, out, make_learner=lambda: learner or refuse())
    if learner is not None:
        session.start()
    return session


def refuse() -> StandInLearner:
    raise RuntimeError("no learner here")


def learner_of(folder: Path, std: float = 1.0) -> StandInLearner:
    """One that knows the box in all images of a folder."""
    return StandInLearner({path.name: TRUE for path in folder.rglob("*.jpg")}, std)


def draw(session: Session, person: str = "ann", box: Box = TRUE, **options: object) -> int:
    """Answer the next image as it is shown; gives its index."""
    task = session.next(person)
    assert task is not None
    answer = Answer(kind="box", box=box, blind=task.blind, seconds=2.0, **options)  # type: ignore[arg-type]
    session.answer(task.index, answer, person=person, seen=task.seen)
    return task.index


def wait_until(happens: Callable[[], bool]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def measured_by(learner: Learner, names: list[str]) -> CrossFit:
    """The whole measurement by these images."""
    crossfit = learner.cross_fit(names)
    while True:
        try:
            next(crossfit)
        except StopIteration as end:
            measured: CrossFit = end.value
            return measured

"""The JSON of the page's requests and responses."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from solobox.annotation.events import Answer, Box, Kind, Source
from solobox.annotation.quality import Quality, QualityRecord
from solobox.annotation.session import Task
from solobox.boxes import Floats
from solobox.predict.prediction import Prediction

_DECIMALS = 2
Person = Annotated[str, Field(min_length=1, max_length=80)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NextRequest(_Request):
    """Ask for the next image. after: the one on the page."""

    person: Person
    after: int | None = None


class AnswerRequest(_Request):
    """An answer, see `Answer`; seen: the version that the page saw."""

    person: Person
    index: int
    seen: int
    kind: Kind
    box: Box | None = None
    label: str = Field("", max_length=200)
    source: Source = "drawn"
    suggested: Box | None = None
    blind: bool = False
    seconds: float = Field(0.0, ge=0)

    def answer(self) -> Answer:
        """As an `Answer`. Raises ValueError where its parts do not fit together."""
        return Answer(
            kind=self.kind, box=self.box, label=self.label.strip(), source=self.source, suggested=self.suggested,
            blind=self.blind, seconds=self.seconds,
        )  # fmt: skip


class AnswerBody(BaseModel):
    """The answer is on the disk."""

    version: int
    saved: bool = True


class PersonRequest(_Request):
    """Who asks."""

    person: Person


class IndexBody(BaseModel):
    """An image, -1 for one that is no longer in the folder."""

    index: int


class AcceptedBox(_Request):
    """A predicted box that is accepted in the review."""

    index: int
    seen: int
    box: Box


class AcceptRequest(_Request):
    """A page of the review, accepted at a glance, in so many seconds."""

    person: Person
    items: Annotated[list[AcceptedBox], Field(max_length=500)]
    seconds: float = Field(0.0, ge=0)


class AcceptBody(BaseModel):
    """How many boxes were saved, and the images that someone answered meanwhile."""

    accepted: int
    conflicts: list[int]


class FinishRequest(_Request):
    """See `Finish.start`."""

    train: bool = False
    predicted: bool = False


class AnswerOf(BaseModel):
    """An answer that exists."""

    kind: Kind
    box: Box | None
    label: str
    source: Source

    @classmethod
    def of(cls, answer: Answer | None) -> "AnswerOf | None":
        """From an `Answer`."""
        if answer is None:
            return None
        return cls(kind=answer.kind, box=answer.box, label=answer.label, source=answer.source)


class SuggestionBody(BaseModel):
    """A predicted box with its margins, pixels."""

    box: list[float]
    lower: list[float] | None
    upper: list[float] | None
    presence: float | None

    @classmethod
    def of(cls, found: Prediction | None) -> "SuggestionBody | None":
        """From a prediction; None for one without a box."""
        box = None if found is None else _rounded(found.box)
        if found is None or box is None:
            return None
        presence = None if math.isnan(found.presence) else round(found.presence, 3)
        return cls(box=box, lower=_rounded(found.lower), upper=_rounded(found.upper), presence=presence)


class TaskBody(BaseModel):
    """One image to answer, see `Task`; `index` is null where there is none."""

    index: int | None
    name: str = ""
    width: int = 0
    height: int = 0
    seen: int = 0
    blind: bool = False
    suggestion: SuggestionBody | None = None
    answer: AnswerOf | None = None
    error: str = ""
    given: AnswerOf | None = None
    why: str = ""

    @classmethod
    def of(cls, task: Task | None) -> "TaskBody":
        """From a `Task`."""
        if task is None:
            return cls(index=None)
        return cls(
            index=task.index,
            name=task.name,
            width=task.size[0],
            height=task.size[1],
            seen=task.seen,
            blind=task.blind,
            suggestion=SuggestionBody.of(task.suggestion),
            answer=AnswerOf.of(task.answer),
            error=task.error,
            given=AnswerOf.of(task.given),
            why="" if task.suspect is None else task.suspect.why,
        )


class PredictedBody(BaseModel):
    """One image of the review, see `Task`, with its predicted box and the box's margins, pixels."""

    index: int
    name: str
    width: int
    height: int
    seen: int
    box: list[float]
    lower: list[float] | None
    upper: list[float] | None
    presence: float | None

    @classmethod
    def of(cls, task: Task) -> "PredictedBody":
        """From a task with a suggestion."""
        found = SuggestionBody.of(task.suggestion)
        if found is None:
            raise ValueError(f"nothing is predicted for {task.name}")
        width, height = task.size
        return cls(
            index=task.index, name=task.name, width=width, height=height, seen=task.seen, **found.model_dump()
        )


class ReviewBody(BaseModel):
    """Predicted images, the least sure first. total: how many there will be. ready: how many there are."""

    total: int
    ready: int
    items: list[PredictedBody]


class QualityBody(BaseModel):
    """See `Measurement` and `Look`."""

    count: int
    iou: float
    low: float
    high: float
    good: int
    threshold: float
    goal: float
    lower: float | None
    next: int | None
    enough: bool
    sentence: str
    advice: str
    trend: list[tuple[int, float]]

    @classmethod
    def of(cls, record: QualityRecord) -> "QualityBody | None":
        """What a record says; None before the first measurement."""
        quality: Quality | None = record.quality()
        if quality is None:
            return None
        last, look = quality.last, quality.look
        return cls(
            count=last.count,
            iou=round(last.iou, 3),
            low=round(last.low, 3),
            high=round(last.high, 3),
            good=last.good,
            threshold=record.threshold,
            goal=record.goal,
            lower=round(look.lower, 3) if look else None,
            next=look.next if look else None,
            enough=look is not None and look.is_enough,
            sentence=quality.sentence,
            advice=quality.advice,
            trend=[(labels, round(iou, 3)) for labels, iou in record.trend],
        )


class ModelBody(BaseModel):
    """labels: boxes that the present model learned from, 0 without one."""

    labels: int
    training: bool
    error: str


class ProgressBody(BaseModel):
    """total: images that will be predicted for the review."""

    total: int
    ready: int


class FinishBody(BaseModel):
    """See `Finish`."""

    state: Literal["idle", "running", "done", "failed"]
    lines: list[str]
    commands: list[str]


class StateBody(BaseModel):
    """Everything that the panel shows. audit: whether labels are looked at again; then `total` is how many."""

    folder: str
    labels: str
    total: int
    classes: Sequence[str]
    counts: dict[str, int | float]
    model: ModelBody
    quality: QualityBody | None
    review: ProgressBody
    finish: FinishBody
    audit: bool


def _rounded(box: Floats) -> list[float] | None:
    return [round(float(value), _DECIMALS) for value in box] if np.isfinite(box).all() else None

"""What people did, one event for each action: the answers for the images are a replay of these.

Nothing is changed afterwards; undoing is an event too. So a restart, or a second page, sees what the first one saw.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from solobox.config.options import STRICT
from solobox.errors import DataError

Box: TypeAlias = tuple[float, float, float, float]
Kind: TypeAlias = Literal["box", "absent", "skipped"]
Source: TypeAlias = Literal["drawn", "corrected", "accepted", "given"]
Text: TypeAlias = Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Answer:
    """What a person says of one image.

    kind: a box, no object, or nothing yet. box: ``x1, y1, x2, y2`` in pixels of the upright image, in order; with the
        kind ``box`` alone. label: its class, or nothing.
    suggested: the box that the page showed, if any. source: drawn anew, or the suggestion corrected, or accepted as it
        was; or given by labels that were there before.
    blind: whether the image was chosen at random and shown without a suggestion: such answers alone measure.
    seconds: from when the image was shown to the answer.
    """

    kind: Kind
    box: Box | None = None
    label: Text = ""
    source: Source = "drawn"
    suggested: Box | None = None
    blind: bool = False
    seconds: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.box is None) == (self.kind == "box"):
            raise ValueError("an answer has a box if, and only if, it is of the kind `box`")
        for box in (self.box, self.suggested):
            if box is not None and not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"corners are x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {box}")
        if self.source in ("corrected", "accepted") and self.suggested is None:
            raise ValueError(f"nothing was suggested that could have been {self.source}")
        if self.source == "accepted" and self.box != self.suggested:
            raise ValueError("an accepted box is the suggested one")
        if self.blind and self.suggested is not None:
            raise ValueError("an image that is shown blind has no suggestion")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Event:
    """One action: an answer, or that an earlier one is undone.

    number: 1 for the first of a log, then one more each. time: in ISO 8601, with its zone. person: who, as the page
    says. image: its name. undone: the number of the event that is undone; then there is no `answer`.
    """

    number: Annotated[int, Field(ge=1)]
    time: Text
    person: Text
    image: Text
    answer: Answer | None = None
    undone: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.answer is None) == (self.undone is None):
            raise ValueError("an event has either an answer or the number of an event that is undone")
        return self


class Answers:
    """The state after some events: the answer for each image, and what can be undone.

    counts: of the present answers by kind, of those with a box also by source, and of their labels: for each
        ``("kind", "box")``, ``("source", "drawn")``, ``("label", "cat")``, in the order of their first use.
    seconds: that they took together.

    Both are kept from event to event: a page asks all the time, and there may be 100,000 answers.
    """

    def __init__(self) -> None:
        self._count = 0
        self._answered: dict[str, list[Event]] = {}  # of each image, without what was undone
        self._changed: dict[str, int] = {}
        self._by_person: dict[str, list[Event]] = {}  # without what was undone
        self._current: dict[str, Answer] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.seconds = 0.0

    def __len__(self) -> int:
        """Events so far."""
        return self._count

    @property
    def current(self) -> Mapping[str, Answer]:
        """The answers by image, in the order in which the images first had one that stands. It changes with events."""
        return self._current

    def of(self, image: str) -> Answer | None:
        """The answer for an image, None where there is none."""
        return self._current.get(image)

    def version(self, image: str) -> int:
        """The number of the event that last changed an image, 0 before any."""
        return self._changed.get(image, 0)

    def answered(self, image: str, answer: Answer, *, person: str, seen: int, time: str) -> Event:
        """The next event: an answer. It is not applied yet.

        seen: the version of the image that the person saw. Raises DataError, ``label-conflict``, for an older one.
        """
        if seen != self.version(image):
            raise DataError(
                f"{image}: someone else has answered it since you saw it; look at their answer, then give yours",
                code="label-conflict",
            )
        return Event(number=self._count + 1, time=time, person=person, image=image, answer=answer)

    def undo(self, *, person: str, time: str) -> Event:
        """The next event: the person's last answer is undone. It is not applied yet.

        Raises DataError: ``nothing-to-undo``; ``label-conflict`` where someone else has answered that image since.
        """
        own = self._by_person.get(person)
        if not own:
            raise DataError("there is nothing to undo", code="nothing-to-undo")
        last = own[-1]
        if self._answered[last.image][-1].number != last.number:
            raise DataError(
                f"{last.image}: someone else has answered it since; look at their answer, then give yours",
                code="label-conflict",
            )
        return Event(number=self._count + 1, time=time, person=person, image=last.image, undone=last.number)

    def check(self, event: Event) -> None:
        """Raise DataError, ``log-damaged``, for an event that cannot come next."""
        if event.number != self._count + 1:
            raise _damaged(f"event {event.number} follows event {self._count}")
        if event.undone is not None:
            of_image, of_person = self._answered.get(event.image), self._by_person.get(event.person)
            stands = of_image and of_person and of_image[-1].number == of_person[-1].number == event.undone
            if not stands:
                raise _damaged(f"event {event.number} undoes event {event.undone}, which does not stand")

    def apply(self, event: Event) -> None:
        """Go on by one event. Raises as `check`; then nothing changes."""
        self.check(event)
        self._count_answer(self._current.get(event.image), -1)
        if event.undone is None:
            self._answered.setdefault(event.image, []).append(event)
            self._by_person.setdefault(event.person, []).append(event)
        else:
            self._answered[event.image].pop()
            self._by_person[event.person].pop()
            if not self._answered[event.image]:
                del self._answered[event.image], self._current[event.image]
        if event.image in self._answered:
            answer = self._answered[event.image][-1].answer
            assert answer is not None  # noqa: S101  (what undoes is not kept)
            self._current[event.image] = answer
            self._count_answer(answer, 1)
        self._changed[event.image] = event.number
        self._count = event.number

    def _count_answer(self, answer: Answer | None, change: int) -> None:
        if answer is None:
            return
        keys: list[tuple[str, str]] = [("kind", answer.kind)]
        if answer.kind == "box":
            keys += [("source", answer.source), ("label", answer.label)]
        for key in keys:
            self.counts[key] += change
        self.seconds += change * answer.seconds


def _damaged(what: str) -> DataError:
    return DataError(
        f"this is no log of answers that Solobox wrote: {what}. Restore it from a backup",
        code="log-damaged",
    )

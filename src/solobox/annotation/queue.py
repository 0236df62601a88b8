"""Which image a person sees next."""

import threading
import time
from dataclasses import dataclass

from solobox.annotation.events import Answers
from solobox.annotation.image_folder import ImageFolder

BLIND_EVERY = 3
"""Every so many images one is chosen at random and shown without a suggestion."""

_AHEAD = 8
"""Images, at most, that are compared with the one before, to find one that is not like it."""

_RESERVED = 600.0
"""Seconds for which an image on one page is not shown on another."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Images without an answer, in their order, the first few: those to be shown blind, and the others.

    is_blind_due: whether it is the turn of a blind one. taken: what other people had on their pages.
    """

    others: list[int]
    blind: list[int]
    is_blind_due: bool
    taken: set[int]


class Queue:
    """The images of a folder that have no answer yet, in its order, for any number of people; any thread may call.

    answers: those so far, which change while `lock` is held. has_blind: whether every third image is shown without a
        suggestion, and one that is like the image before comes later.
    """

    def __init__(
        self, folder: ImageFolder, answers: Answers, lock: threading.RLock, *, has_blind: bool
    ) -> None:
        self._folder, self._answers, self._lock, self._has_blind = folder, answers, lock, has_blind
        self._delayed = False  # a blind image waits, since it is like the one before
        self._on_pages: dict[str, tuple[int, float]] = {}
        self._seen: set[int] = set()

    def next(self, person: str, after: int | None = None) -> tuple[int, bool] | None:
        """The next image for a person and whether it is shown blind, None where all are answered.

        after: the image on the page now, which is not given again. One that is much like it comes later, if any other
        comes among the next few. What other people have on their pages comes last: a page may be closed, and if not,
        the second answer is refused as a conflict.

        Blind images stay a random sample: the order is that of a hash, every third image of it is to be shown blind,
        and these come strictly in this order. Where the next one of them is like the image before, it only waits for a
        turn. So neither what the images show nor what the model says of them decides which are blind.
        """
        while True:
            with self._lock:
                line = self._waiting(person, after)
            found = self._chosen(line, after)  # it may open a few images
            with self._lock:
                if found is None:
                    self._on_pages.pop(person, None)
                    return None
                index, blind = found
                if (
                    index in self._taken(person) - line.taken
                    or self._folder.names[index] in self._answers.current
                ):
                    continue  # by someone else, meanwhile
                self._delayed = line.is_blind_due and not blind and bool(line.blind)
                self.put(person, index)
            return found

    def put(self, person: str, index: int) -> None:
        """The person has this image on the page."""
        with self._lock:
            self._on_pages[person] = index, time.monotonic()

    def reveal(self, index: int) -> None:
        """A person has seen what the model says of this image, which cannot measure it any more."""
        with self._lock:
            self._seen.add(index)

    def is_revealed(self, index: int) -> bool:
        """Whether `reveal` was called for this image."""
        return index in self._seen

    def _taken(self, person: str) -> set[int]:
        """What other people have on their pages."""
        now = time.monotonic()
        return {
            index for other, (index, since) in self._on_pages.items()
            if other != person and now - since < _RESERVED
        }  # fmt: skip

    def _waiting(self, person: str, after: int | None) -> _Waiting:
        taken = self._taken(person)
        line = self._free(after, taken, taken)
        return line if line.others or line.blind else self._free(after, taken, set())

    def _free(self, after: int | None, taken: set[int], left_out: set[int]) -> _Waiting:
        answers = self._answers
        others: list[int] = []
        blind: list[int] = []
        for place, index in enumerate(self._folder.order):
            if len(others) == _AHEAD and blind:
                break
            if index in left_out or index == after or self._folder.names[index] in answers.current:
                continue
            is_blind = self._has_blind and place % BLIND_EVERY == BLIND_EVERY - 1
            line = blind if is_blind and index not in self._seen else others
            if len(line) < _AHEAD:
                line.append(index)
        done = len(answers.current) - answers.counts["kind", "skipped"]
        is_due = (done + len(taken)) % BLIND_EVERY == BLIND_EVERY - 1 or self._delayed
        return _Waiting(others, blind, self._has_blind and is_due, taken)

    def _chosen(self, line: _Waiting, after: int | None) -> tuple[int, bool] | None:
        """The image to show, and whether blind."""

        def is_new(index: int) -> bool:
            return not self._has_blind or after is None or not self._folder.are_similar(index, after)

        blind = line.blind[:1] if line.is_blind_due else []
        for index in blind:
            if is_new(index):
                return index, True
        for index in line.others:
            if is_new(index):
                return index, False
        if blind:
            return blind[0], True  # all are alike
        rest = [*line.others, *line.blind]
        return (rest[0], False) if rest else None

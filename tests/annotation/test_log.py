"""Answers, undoing, two people, kills and a full disk: the log and its replay against a plain model of them."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from error_codes import has_code
from solobox.annotation.events import Answer, Event
from solobox.annotation.log import EventLog
from solobox.errors import DataError, SoloboxError

NOON = "2026-01-01T12:00:00+00:00"
BOX = (1.0, 2.0, 30.5, 40.0)
IMAGES = ("a.jpg", "ä/b.jpg", 'c "1".jpg')
ANSWERS = (
    Answer(kind="box", box=BOX, seconds=3.5),
    Answer(kind="box", box=BOX, source="accepted", suggested=BOX),
    Answer(kind="box", box=(0.0, 0.0, 9.0, 9.0), source="corrected", suggested=BOX, label="hat\n"),
    Answer(kind="absent", blind=True),
    Answer(kind="skipped"),
)


class Machine(RuleBasedStateMachine):
    """Two people answer and undo; the process is killed, also while it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "labels.events.jsonl"
        self.log = EventLog(self.path)
        self.standing: list[tuple[str, str, Answer]] = []  # person, image, answer
        self.versions: dict[str, int] = {}
        self.count = 0

    def changed(self, image: str) -> None:
        self.count += 1
        self.versions[image] = self.count

    @rule(
        person=st.sampled_from("AB"), image=st.sampled_from(IMAGES), answer=st.sampled_from(ANSWERS),
        behind=st.integers(0, 2),
    )  # fmt: skip
    def answer(self, person: str, image: str, answer: Answer, behind: int) -> None:
        seen = self.versions.get(image, 0) - behind
        if behind:
            with pytest.raises(DataError, check=has_code("label-conflict")):
                self.log.answers.answered(image, answer, person=person, seen=seen, time=NOON)
            return
        self.log.append(self.log.answers.answered(image, answer, person=person, seen=seen, time=NOON))
        self.standing.append((person, image, answer))
        self.changed(image)

    @rule(person=st.sampled_from("AB"))
    def undo(self, person: str) -> None:
        own = [index for index, entry in enumerate(self.standing) if entry[0] == person]
        image = self.standing[own[-1]][1] if own else ""
        last = [index for index, entry in enumerate(self.standing) if entry[1] == image]
        if not own or last[-1] != own[-1]:
            code = "label-conflict" if own else "nothing-to-undo"
            with pytest.raises(DataError, check=has_code(code)):
                self.log.answers.undo(person=person, time=NOON)
            return
        self.log.append(self.log.answers.undo(person=person, time=NOON))
        del self.standing[own[-1]]
        self.changed(image)

    @rule(share=st.floats(0, 0.99))
    def kill(self, share: float) -> None:
        self.log.close()
        line = b'{"number":1,"time":"","person":"A","image":"a.jpg","answer":{"kind":"absent"}}'
        with self.path.open("ab") as file:
            file.write(line[: round(share * len(line))])
        self.log = EventLog(self.path)

    @invariant()
    def the_answers_are_those_of_the_model(self) -> None:
        answers = self.log.answers
        expected = {image: answer for _, image, answer in self.standing}
        assert dict(answers.current) == expected
        last = expected.values()
        for kind in ("box", "absent", "skipped"):
            assert answers.counts["kind", kind] == sum(answer.kind == kind for answer in last)
        assert answers.seconds == pytest.approx(sum(answer.seconds for answer in last))
        assert {image: answers.of(image) for image in IMAGES if answers.of(image)} == expected
        assert {image: answers.version(image) for image in IMAGES} == {
            image: self.versions.get(image, 0) for image in IMAGES
        }
        assert len(answers) == self.count == len(self.path.read_bytes().splitlines())

    def teardown(self) -> None:
        self.log.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)


def event(number: int, answer: Answer = ANSWERS[0]) -> Event:
    return Event(number=number, time=NOON, person="A", image="a.jpg", answer=answer)


def test_a_second_process_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    with EventLog(tmp_path / "new" / "log"), pytest.raises(SoloboxError, check=has_code("log-in-use")):
        EventLog(tmp_path / "new" / "log")
    EventLog(tmp_path / "new" / "log").close()


def test_a_full_disk_loses_only_the_answer_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(event(1))
        before = log.path.read_bytes()

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DataError, match="No space left"):
                log.append(event(2))
        assert log.path.read_bytes() == before
        assert len(log.answers) == 1
        log.append(event(2, ANSWERS[3]))
    with EventLog(tmp_path / "log") as log:
        assert log.answers.of("a.jpg") == ANSWERS[3]


def test_half_a_line_that_could_not_be_cut_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with EventLog(tmp_path / "log") as log:
        log.append(event(1))
        with monkeypatch.context() as patch:

            def disk_is_gone(_: int) -> None:
                patch.setattr(EventLog, "_cut", fails)
                fails()

            patch.setattr(os, "fsync", disk_is_gone)
            with pytest.raises(DataError, match="Input/output"):
                log.append(event(2))
        log.append(event(2, ANSWERS[3]))
    with EventLog(tmp_path / "log") as log:
        assert log.answers.of("a.jpg") == ANSWERS[3]


@pytest.mark.parametrize(
    "line",
    [
        b"x", b"{}", b"[1]", b'{"number":3,"time":"","person":"A","image":"a.jpg","answer":{"kind":"absent"}}',
        b'{"number":2,"time":"","person":"A","image":"b.jpg","undone":1}', b"\xff\xfe",
        b'{"number":2,"time":"","person":"B","image":"a.jpg","undone":1}',
        b'{"number":2,"time":"","person":"A","image":"a.jpg","answer":{"kind":"box","box":[0,0,NaN,1]}}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_event_is_an_error_with_its_place_and_changes_nothing(
    line: bytes, tmp_path: Path
) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(event(1))
    content = log.path.read_bytes() + line + b"\n"
    log.path.write_bytes(content)
    for _ in range(2):  # the lock is free again, too
        with pytest.raises(DataError, match="line 2", check=has_code("log-damaged")):
            EventLog(log.path)
        assert log.path.read_bytes() == content


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for content in (b"image,x1,y1,x2,y2", b"\x00", b"{}"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="line 1", check=has_code("log-damaged")):
            EventLog(path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "box"}, {"kind": "absent", "box": BOX}, {"kind": "box", "box": (5.0, 0.0, 5.0, 1.0)},
        {"kind": "box", "box": BOX, "source": "accepted"},
        {"kind": "box", "box": BOX, "source": "accepted", "suggested": (0.0, 0.0, 1.0, 1.0)},
        {"kind": "absent", "suggested": BOX, "blind": True}, {"kind": "other"}, {"kind": "skipped", "seconds": -1.0},
    ],
)  # fmt: skip
def test_an_answer_does_not_contradict_itself(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Answer(**wrong)  # type: ignore[arg-type]


def test_a_line_is_short_and_plain_json(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(event(1, ANSWERS[3]))
    assert json.loads(log.path.read_text()) == {
        "number": 1, "time": NOON, "person": "A", "image": "a.jpg", "answer": {"kind": "absent", "blind": True},
    }  # fmt: skip

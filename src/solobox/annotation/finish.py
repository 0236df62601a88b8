"""From labels to a model: the commands that a person would give, one after the other, each in a process of its own."""

import shlex
import subprocess
import sys
import threading
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from solobox.annotation.session import Session
from solobox.errors import SoloboxError
from solobox.predict.prediction import Prediction

if TYPE_CHECKING:
    from solobox.model.localizer import Localizer

State: TypeAlias = Literal["idle", "running", "done", "failed"]

_MAX_LINES = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written beside the labels.

    run: folder of the trained model. report, exported: files. Each is new.
    """

    labels: Path
    run: Path
    report: Path
    exported: Path

    @classmethod
    def beside(cls, labels: Path) -> "Plan":
        """Names that are free, made from that of the labels."""
        number = 1
        while True:
            stem = labels.with_name(f"{labels.stem}-model{'' if number == 1 else f'-{number}'}")
            plan = cls(labels, stem, stem.with_name(f"{stem.name}.html"), stem.with_name(f"{stem.name}.onnx"))
            if not any(path.exists() for path in (plan.run, plan.report, plan.exported)):
                return plan
            number += 1

    def commands(self) -> list[list[str]]:
        """Arguments of `solobox`: train, evaluate on the labels that were held out, export."""
        labels, run = str(self.labels), str(self.run)
        return [
            ["train", labels, "-o", run],
            ["evaluate", run, labels, "--report", str(self.report)],
            ["export", run, "-o", str(self.exported)],
        ]


@dataclass(slots=True)
class Finish:
    """One end of annotating: the labels, and perhaps the final model; in a thread of its own.

    lines: what there is to say, the last ones. commands: those that were given, and the one to predict with.
    """

    session: Session
    state: State = "idle"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    commands: list[str] = field(default_factory=list)
    _process: "subprocess.Popen[str] | None" = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def start(self, *, train: bool, predicted: bool) -> bool:
        """Begin, unless it runs already; whether it began.

        train: train the final model. predicted: add its boxes of all other images to the labels, as ``predicted``.
        """
        with self._lock:  # two pages may ask at once
            if self.state == "running" or self._closed:
                return False
            self.state = "running"
        self.lines.clear()
        self.commands = []
        self._thread = threading.Thread(
            target=self._work, kwargs={"train": train, "predicted": predicted}, daemon=True
        )
        self._thread.start()
        return True

    def run(self, *, train: bool, predicted: bool) -> bool:
        """The same in this thread, also after `close`; whether it succeeded."""
        self.state, self._closed = "running", False
        return self._work(train=train, predicted=predicted)

    def _work(self, *, train: bool, predicted: bool) -> bool:
        is_done = False
        try:
            is_done = self._run(train=train, predicted=predicted)
        except (SoloboxError, OSError) as error:
            self.lines.append(str(error))
        except Exception:  # noqa: BLE001  (whatever it is: the page shows it, and this can be begun again)
            self.lines.extend(traceback.format_exc().splitlines())
        self.state = "done" if is_done else "failed"
        return is_done

    def close(self) -> None:
        """End what still runs, and begin nothing more."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
        if self._thread is not None:
            self._thread.join()

    def _run(self, *, train: bool, predicted: bool) -> bool:
        session = self.session
        session.add_predicted(())  # a model does not learn from what an earlier one said
        self.lines.append(f"{session.out}: {len(session.dataset())} labelled images")
        model = None
        if train:
            plan = Plan.beside(session.out)
            for arguments in plan.commands():
                if not self._call(arguments):
                    return False
            folder = str(session.folder.folder)
            self.commands.append(
                shlex.join(["solobox", "predict", str(plan.exported), folder, "-o", "predicted.csv"])
            )
            self.lines.append(f"{plan.report}: the report; open it in a browser")
            if predicted:
                from solobox.model.localizer import Localizer  # loads torch

                model = Localizer.load(plan.run)
        if predicted and session.suspects is None:
            boxes = self._predict(model)
            session.add_predicted(boxes)
            self.lines.append(f"{session.out}: {len(boxes)} predicted boxes more")
        return True

    def _call(self, arguments: list[str]) -> bool:
        """Run a command, and keep what it says; whether it succeeded."""
        self.commands.append(shlex.join(["solobox", *arguments]))
        self.lines.append(f"$ {self.commands[-1]}")
        with self._lock:
            if self._closed:
                return False
            self._process = subprocess.Popen(  # noqa: S603  (this very program)
                [sys.executable, "-m", "solobox", *arguments],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                errors="replace",
            )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101  (a pipe was asked for)
        with self._process.stdout as lines:
            for line in lines:
                if line.strip():
                    self.lines.append(line.rstrip())
        return self._process.wait() == 0

    def _predict(self, model: "Localizer | None") -> list[tuple[int, Prediction]]:
        """Boxes of all images without an answer."""
        session = self.session
        answers = session.answers
        rest = [index for index, name in enumerate(session.folder.names) if name not in answers]
        if model is None:
            predicted = ((index, session.background.predict(index)) for index in rest)
            return [(index, found) for index, found in predicted if found is not None]
        stream = model.stream(str(session.folder.folder / session.folder.names[index]) for index in rest)
        return [(index, found) for index, found in zip(rest, stream, strict=True) if not found.error]

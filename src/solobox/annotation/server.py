"""The page of one folder, served to this machine."""

import secrets
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Self

from solobox.annotation.app import build_app
from solobox.annotation.finish import Finish
from solobox.annotation.session import open_session
from solobox.annotation.suspects import Suspects
from solobox.data.dataset import Dataset
from solobox.serve.server import Server, listen
from solobox.serve.settings import ServerSettings
from solobox.serve.state import ServerState

HOST = "127.0.0.1"
_SETTINGS = ServerSettings(bound=(HOST,), max_bytes=1_000_000, drain=5.0, drain_delay=0.0)


class AnnotationServer:
    """A page in the browser on which boxes are drawn, with a model that learns from them.

    In a notebook it shows a link to its page. Close it in the end, or use it in a ``with`` block.

    folder: the images. out: the CSV of labels; what was done is kept beside it in a folder ``NAME.annotate``.
    good_iou: IoU from which on a predicted box is good. goal: enough is labelled once at least this share of boxes is
        good, with 95% certainty. classes: to choose from. port: 0 for any free one.
    suspects: labels to look at again, see `Session`.

    session: answers and model. finish: the end, see `Finish`. address: of the page, a secret.

    Raises as `open_session`; ConfigError ``out-of-range`` for `port`, ``address-in-use``.
    """

    def __init__(
        self,
        folder: str | Path,
        out: str | Path = "labels.csv",
        *,
        good_iou: float = 0.75,
        goal: float = 0.8,
        classes: Sequence[str] = (),
        port: int = 0,
        suspects: Suspects | None = None,
    ) -> None:
        self._listener = listen(HOST, port, public=False)
        try:
            self.session = open_session(
                folder, out, good_iou=good_iou, goal=goal, classes=classes, suspects=suspects
            )
        except BaseException:
            self._listener.close()
            raise
        self._listener.listen()  # who opens the page before the server accepts waits
        self.finish = Finish(self.session)
        state, token = ServerState(), secrets.token_urlsafe(16)
        self.address = f"http://{HOST}:{self._listener.getsockname()[1]}/{token}/"
        self._server = Server(build_app(self.session, self.finish, _SETTINGS, state, token), _SETTINGS, state)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve the page until a signal to stop."""
        self.session.start()
        self._server.run(sockets=[self._listener])

    def start(self) -> None:
        """Serve the page in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and write the labels."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._listener.close()
        self.finish.close()
        self.session.close()

    @property
    def dataset(self) -> Dataset:
        """The labels so far."""
        return self.session.dataset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        """A link to the page."""
        address = escape(self.address)
        return f'<a href="{address}" target="_blank" rel="noreferrer">{address}</a>'

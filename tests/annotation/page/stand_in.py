"""A server for tests of the page: what the page asks for, in memory, and with faults at will."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image, ImageDraw

import solobox.annotation

PAGE = Path(solobox.annotation.__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}

Body = dict[str, Any]


class RefusedError(Exception):
    def __init__(self, status: int, code: str, **more: object) -> None:
        super().__init__(code)
        self.status, self.body = status, {"code": code, "message": code, "hint": "A hint.", **more}


@dataclass
class Desk:
    """All that the server knows. Tests look into it and change it."""

    sizes: list[tuple[int, int]]
    suggested: bool = False
    blind: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)
    classes: list[str] = field(default_factory=list)
    given: dict[int, Body] = field(default_factory=dict)
    """Labels to look at again, by image."""
    quality: Body | None = None
    finish: Body = field(default_factory=lambda: {"state": "idle", "lines": [], "commands": []})
    full: bool = False
    """The disk is."""
    answers: dict[int, Body] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)
    history: list[tuple[str, int]] = field(default_factory=list)
    received: list[Body] = field(default_factory=list)
    accepted: list[Body] = field(default_factory=list)
    finished: list[Body] = field(default_factory=list)

    def truth(self, index: int) -> list[float]:
        """The box of the red rectangle in the image."""
        width, height = self.sizes[index]
        return [width * 0.3, height * 0.25, width * (0.55 + 0.02 * (index % 5)), height * 0.7]

    def suggestion(self, index: int) -> Body:
        x1, y1, x2, y2 = self.truth(index)
        box = [x1 - 6.25, y1 + 4.5, x2 + 3, y2 - 2]
        lower, upper = [edge - 12 for edge in box], [edge + 12 for edge in box]
        return {"box": box, "lower": lower, "upper": upper, "presence": 0.5 + 0.49 * index / len(self.sizes)}

    def task(self, index: int) -> Body:
        blind = index in self.blind
        width, height = self.sizes[index]
        return {
            "index": index,
            "name": f"folder/image {index:02}.jpg",
            "width": width,
            "height": height,
            "seen": self.versions.get(index, 0),
            "blind": blind,
            "suggestion": self.suggestion(index) if self.suggested and not blind else None,
            "answer": self.answers.get(index),
            "error": "it ends in the middle" if index in self.unreadable else "",
            "given": self.given.get(index),
            "why": "the label does not overlap the predicted box." if index in self.given else "",
        }

    def left(self) -> list[int]:
        return [index for index in range(len(self.sizes)) if index not in self.answers]

    def answer(self, body: Body) -> None:
        """Another person's answer, or one that was received."""
        index = body["index"]
        self.answers[index] = {name: body[name] for name in ("kind", "box", "label", "source")}
        self.versions[index] = self.versions.get(index, 0) + 1
        self.history.append((body["person"], index))

    def state(self) -> Body:
        kinds = [answer["kind"] for answer in self.answers.values()]
        sources = [answer["source"] for answer in self.answers.values() if answer["kind"] == "box"]
        return {
            "folder": "photos",
            "labels": "labels.csv",
            "total": len(self.sizes),
            "classes": self.classes,
            "counts": {
                "box": kinds.count("box"),
                "absent": kinds.count("absent"),
                "skipped": kinds.count("skipped"),
                "left": len(self.left()),
                **{source: sources.count(source) for source in ("drawn", "corrected", "accepted")},
                "seconds": 4.5 * len(kinds),
            },
            "model": {"labels": 5 if self.suggested else 0, "training": kinds.count("box") > 2, "error": ""},
            "quality": self.quality,
            "review": {"total": len(self.left()), "ready": len(self.left())},
            "finish": self.finish,
            "audit": bool(self.given),
        }


@cache
def jpeg(desk: int, index: int, longest: int, size: tuple[int, int], box: tuple[float, ...]) -> bytes:
    """A red rectangle on grey, with a border to see where the image ends."""
    scale = min(1.0, longest / max(size))
    image = Image.new("RGB", (round(size[0] * scale), round(size[1] * scale)), (96, 110 + index % 40, 120))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, image.width - 1, image.height - 1), outline=(20, 60, 160), width=2)
    x1, y1, x2, y2 = (edge * scale for edge in box)
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=(220, 30, 40))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95, subsampling=0)
    return data.getvalue()


def build(desk: Callable[[], Desk]) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(RefusedError)
    async def _refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    _files(app, desk)
    _work(app, desk)
    _review(app, desk)
    return app


def _files(app: FastAPI, desk: Callable[[], Desk]) -> None:
    @app.get("/secret/")
    def index_page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": POLICY})

    @app.get("/secret/page/{name}")
    def page(name: str) -> FileResponse:
        return FileResponse(PAGE / name, media_type=TYPES[Path(name).suffix])

    @app.get("/secret/images/{index}")
    def image(index: int) -> Response:
        return _jpeg(desk(), index, 1600)

    @app.get("/secret/images/{index}/thumbnail")
    def thumbnail(index: int) -> Response:
        return _jpeg(desk(), index, 320)


def _work(app: FastAPI, desk: Callable[[], Desk]) -> None:
    @app.get("/secret/api/state")
    def state() -> Body:
        return desk().state()

    @app.post("/secret/api/next")
    def next_task(body: Body) -> Body:
        left = [index for index in desk().left() if index != body["after"]] or desk().left()
        return desk().task(left[0]) if left else {"index": None}

    @app.get("/secret/api/image/{index}")
    def one_task(index: int, person: str) -> Body:
        return desk().task(index)

    @app.post("/secret/api/answer")
    def answer(body: Body) -> Body:
        now = desk()
        if now.full:
            raise RefusedError(507, "disk-full")
        if body["seen"] != now.versions.get(body["index"], 0):
            raise RefusedError(409, "label-conflict", task=now.task(body["index"]))
        now.received.append(body)
        now.answer(body)
        return {"version": now.versions[body["index"]], "saved": True}

    @app.post("/secret/api/undo")
    def undo(body: Body) -> Body:
        now = desk()
        own = [at for at, (person, _) in enumerate(now.history) if person == body["person"]]
        if not own:
            raise RefusedError(409, "nothing-to-undo")
        _, index = now.history.pop(own[-1])
        del now.answers[index]
        now.versions[index] += 1
        return {"index": index}


def _review(app: FastAPI, desk: Callable[[], Desk]) -> None:
    @app.get("/secret/api/review")
    def review(offset: int, count: int) -> Body:
        now, left = desk(), desk().left()
        names = ("index", "name", "width", "height", "seen")
        items = [
            {name: task[name] for name in names} | now.suggestion(task["index"])
            for task in map(now.task, left[offset : offset + count])
        ]
        return {"total": len(left), "ready": len(left), "items": items}

    @app.post("/secret/api/accept")
    def accept(body: Body) -> Body:
        now, conflicts = desk(), []
        if now.full:
            raise RefusedError(507, "disk-full")
        for item in body["items"]:
            if item["seen"] != now.versions.get(item["index"], 0):
                conflicts.append(item["index"])
                continue
            kind = {"kind": "box", "label": "", "source": "accepted", "person": body["person"]}
            now.answer({**kind, "index": item["index"], "box": item["box"]})
        now.accepted.append(body)
        return {"accepted": len(body["items"]) - len(conflicts), "conflicts": conflicts}

    @app.post("/secret/api/finish")
    def finish(body: Body) -> Body:
        desk().finished.append(body)
        commands = ["solobox predict model/model.onnx photos -o boxes.csv"] if body["train"] else []
        desk().finish = {"state": "done", "lines": ["labels.csv: 12 boxes"], "commands": commands}
        return {}


def _jpeg(desk: Desk, index: int, longest: int) -> Response:
    data = jpeg(id(desk), index, longest, desk.sizes[index], tuple(desk.truth(index)))
    return Response(data, media_type="image/jpeg")


class StandIn:
    """The server, which can go and come back at the same address."""

    def __init__(self) -> None:
        self.desk = Desk([])
        self.app = build(lambda: self.desk)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret/"

    def start(self) -> None:
        config = uvicorn.Config(
            self.app, "127.0.0.1", self.port, log_level="critical", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.01)
            assert self.thread.is_alive()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    server.start()
    try:
        yield server
    finally:
        server.stop()

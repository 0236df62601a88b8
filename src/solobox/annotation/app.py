"""The page and its requests, below a secret path, for this machine alone."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp

from solobox.annotation.events import Answer
from solobox.annotation.finish import Finish
from solobox.annotation.schemas import (
    AcceptBody,
    AcceptRequest,
    AnswerBody,
    AnswerRequest,
    FinishBody,
    FinishRequest,
    IndexBody,
    ModelBody,
    NextRequest,
    PersonRequest,
    PredictedBody,
    ProgressBody,
    QualityBody,
    ReviewBody,
    StateBody,
    TaskBody,
)
from solobox.annotation.session import Session
from solobox.errors import DataError, ImageError
from solobox.serve.app import add_error_handlers
from solobox.serve.errors import HTTPError
from solobox.serve.middleware import GuardMiddleware
from solobox.serve.prometheus import ServerMetrics
from solobox.serve.settings import ServerSettings
from solobox.serve.state import ServerState

SIDE: Final = 1600
"""Longest side of an image on the page, in pixels; boxes are those of the original."""

_THUMBNAIL = 320

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
_STATUS = {"label-conflict": 409, "nothing-to-undo": 409, "no-such-image": 404, "box-outside": 422}
_HINTS = {
    "label-conflict": "Look at the present answer, then give yours.",
    "nothing-to-undo": "Answer an image first.",
    "no-such-image": "Ask for the next image.",
    "box-outside": "Draw it within the image.",
}
_LOST = "Use the address that was printed."
_DISK = (507, "disk-full", "Make room on the disk, then try again: the box is still on the page.")


def build_app(
    session: Session, finish: Finish, settings: ServerSettings, state: ServerState, token: str
) -> ASGIApp:
    """The whole application. token: the first part of every path; without it there is nothing to find."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    secret = token.encode()

    def check(token: Annotated[str, Path()]) -> None:
        if not hmac.compare_digest(token.encode(), secret):
            raise HTTPError(404, "not-found", "there is nothing at this address", _LOST)

    router = APIRouter(prefix="/{token}", dependencies=[Depends(check)])
    _add_page(router)
    _add_images(router, session)
    _add_answers(router, session)
    _add_review(router, session)
    _add_panel(router, session, finish)
    app.include_router(router)
    add_error_handlers(app, lost=_LOST)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _response(
            HTTPError(422, "invalid-request", f"{where}: {first['msg']}", "Load the page again.")
        )

    app.add_middleware(GuardMiddleware, settings=settings, metrics=ServerMetrics(), state=state)
    return app


def _add_page(router: APIRouter) -> None:
    folder = files("solobox.annotation") / "page"
    pages = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}

    def page(name: str) -> Response:
        suffix = name[name.rfind(".") :] if "." in name else ""
        if name not in pages or suffix not in _TYPES:
            raise HTTPError(404, "not-found", "there is nothing at this address", "Load the page again.")
        return Response(pages[name], media_type=f"{_TYPES[suffix]}; charset=utf-8", headers=_PAGE_HEADERS)

    @router.get("/")
    def index() -> Response:
        return page("index.html")

    @router.get("/page/{name}")
    def part(name: str) -> Response:
        return page(name)


# The routes are plain functions, which FastAPI runs in threads: each may read a file, or wait for the model.


def _add_panel(router: APIRouter, session: Session, finish: Finish) -> None:
    @router.get("/api/state")
    def state() -> StateBody:
        total, ready = session.progress_of_review()
        behind, asked = session.background, len(session.folder.order)
        return StateBody(
            folder=str(session.folder.folder), labels=str(session.out), total=asked,
            classes=session.classes, counts=session.counts(),
            model=ModelBody(labels=behind.labels, training=behind.is_learning, error=behind.error),
            quality=QualityBody.of(session.quality), review=ProgressBody(total=total, ready=ready),
            finish=FinishBody(state=finish.state, lines=list(finish.lines), commands=list(finish.commands)),
            audit=session.suspects is not None,
        )  # fmt: skip

    @router.post("/api/finish")
    def end(request: FinishRequest) -> FinishBody:
        if not finish.start(train=request.train, predicted=request.predicted):
            raise HTTPError(409, "finish-running", "this runs already", "Wait for its end.")
        return FinishBody(state=finish.state, lines=list(finish.lines), commands=list(finish.commands))


def _add_answers(router: APIRouter, session: Session) -> None:
    @router.post("/api/next")
    def next_image(request: NextRequest) -> TaskBody:
        return TaskBody.of(session.next(request.person, request.after))

    @router.get("/api/image/{index}")
    def image(index: int, person: Annotated[str, Query(min_length=1, max_length=80)]) -> TaskBody:
        with _explained():
            return TaskBody.of(session.task(index, person))

    @router.post("/api/answer", response_model=AnswerBody)
    def answer(request: AnswerRequest) -> AnswerBody | Response:
        try:
            if request.source == "given" and session.suspects is None:
                raise ValueError("no label was given")
            given = request.answer()
        except ValueError as error:
            text = str(error).splitlines()[-1]
            raise HTTPError(
                422, "invalid-request", f"the answer is none: {text}", "Load the page again."
            ) from error
        try:
            with _explained():
                version = session.answer(request.index, given, person=request.person, seen=request.seen)
        except HTTPError as error:
            if error.code != "label-conflict":
                raise
            task = TaskBody.of(session.task(request.index, request.person))
            return JSONResponse({**error.to_dict(), "task": task.model_dump()}, error.status)
        return AnswerBody(version=version)

    @router.post("/api/undo")
    def undo(request: PersonRequest) -> IndexBody:
        with _explained():
            return IndexBody(index=session.undo(request.person))


def _add_review(router: APIRouter, session: Session) -> None:
    @router.get("/api/review")
    def review(
        offset: Annotated[int, Query(ge=0)] = 0, count: Annotated[int, Query(ge=1, le=200)] = 24
    ) -> ReviewBody:
        total, ready, tasks = session.review(offset, count)
        return ReviewBody(total=total, ready=ready, items=[PredictedBody.of(task) for task in tasks])

    @router.post("/api/accept")
    def accept(request: AcceptRequest) -> AcceptBody:
        conflicts: list[int] = []
        label = session.only_class
        seconds = request.seconds / max(len(request.items), 1)
        for item in request.items:
            given = Answer(
                kind="box", box=item.box, label=label, source="accepted", suggested=item.box, seconds=seconds
            )
            try:
                with _explained():
                    session.answer(item.index, given, person=request.person, seen=item.seen)
            except HTTPError as error:
                if error.code != "label-conflict":
                    raise
                conflicts.append(item.index)
        return AcceptBody(accepted=len(request.items) - len(conflicts), conflicts=conflicts)


def _add_images(router: APIRouter, session: Session) -> None:
    @router.get("/images/{index}")
    def image(index: int) -> Response:
        return _jpeg(session, index, SIDE)

    @router.get("/images/{index}/thumbnail")
    def thumbnail(index: int) -> Response:
        return _jpeg(session, index, _THUMBNAIL)


def _jpeg(session: Session, index: int, side: int) -> Response:
    if not 0 <= index < len(session.folder):
        raise HTTPError(404, "no-such-image", f"there is no image {index}", "Load the page again.")
    try:
        encoded = session.folder.jpeg(index, side)
    except ImageError as error:
        raise HTTPError(422, error.code, str(error), "Skip this image.") from error
    # An image of another content may come to this address in a later session, whose token is another.
    return Response(encoded, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the session into those of HTTP."""
    try:
        yield
    except DataError as error:
        if error.code in _STATUS:
            raise HTTPError(_STATUS[error.code], error.code, str(error), _HINTS[error.code]) from error
        status, code, hint = _DISK
        raise HTTPError(status, code, str(error), hint) from error
    except ImageError as error:
        raise HTTPError(422, error.code, str(error), "Skip this image.") from error


def _response(error: HTTPError) -> Response:
    body, headers = error.response("")
    return Response(body, error.status, headers)

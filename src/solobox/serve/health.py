"""Routes about the server: the page, health, metrics, what the model predicts."""

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from solobox.page import page_files, page_html
from solobox.serve.errors import FORBIDDEN, NOT_READY, UNAUTHORIZED
from solobox.serve.state import ServerContext

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


class HealthBody(BaseModel):
    """The state of the server."""

    status: str


class ModelBody(BaseModel):
    """What the model predicts, and what the server accepts."""

    name: str
    side: int = Field(description="Side in pixels of the square that the model resizes images to")
    presence: bool
    familiarity: bool
    margins: list[float] = Field(description="Levels that margins are calibrated for")
    outer: list[float] = Field(description="Levels that outer boxes are calibrated for")
    max_cut: list[float] = Field(
        description="Shares of the object that an outer box may be asked to cut off at most"
    )
    max_bytes: int
    max_pixels: int
    max_images: int


def health_routes(context: ServerContext) -> APIRouter:
    """The routes for one model."""
    router = APIRouter()
    model, settings = context.model, context.settings

    @router.get(
        "/v1/model", summary="What the model predicts, and what the server accepts", responses=UNAUTHORIZED
    )
    async def model_info() -> ModelBody:
        return ModelBody(
            name=context.name,
            side=model.side,
            presence=model.has_presence,
            familiarity=model.has_familiarity,
            margins=sorted(model.calibration.two_sided) if model.calibration else [],
            outer=sorted(model.calibration.outer) if model.calibration else [],
            max_cut=sorted(model.calibration.cut) if model.calibration else [],
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_images=settings.max_images,
        )

    _add_page(router)

    @router.get("/health/live", summary="Whether the process runs", responses=FORBIDDEN)
    async def live() -> HealthBody:
        return HealthBody(status="live")

    @router.get("/health/ready", summary="Whether the server accepts new requests", responses=NOT_READY)
    async def ready() -> HealthBody:
        context.check_ready()
        return HealthBody(status="ready")

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **UNAUTHORIZED},
    )
    async def metrics() -> Response:
        return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _add_page(router: APIRouter) -> None:
    def add(path: str, content: bytes, media_type: str) -> None:
        @router.get(path, include_in_schema=False)
        async def part() -> Response:
            return Response(content, media_type=f"{media_type}; charset=utf-8", headers=_PAGE_HEADERS)

    add("/", page_html("server").encode(), "text/html")
    for name, content in page_files("server").items():
        add(f"/page/{name}", content, "text/css" if name.endswith(".css") else "text/javascript")

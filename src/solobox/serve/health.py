"""Routes about the server itself: the page, health, metrics, what the model can tell."""

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from solobox.serve.documented_errors import NOT_READY, only
from solobox.serve.page import PAGE, POLICY
from solobox.serve.service import Service


class Health(BaseModel):
    """How the server is."""

    status: str


class Model(BaseModel):
    """What the model can tell, and what the server accepts."""

    name: str
    side: int = Field(description="Pixels of the square that images are squashed to for the model")
    presence: bool
    familiarity: bool
    margins: list[float] = Field(description="Levels that it has margins for")
    outer: list[float] = Field(description="Levels that it has outer boxes for")
    max_bytes: int
    max_pixels: int
    max_images: int


def house_routes(service: Service) -> APIRouter:
    """All of them, for one model."""
    router = APIRouter()
    model, settings = service.model, service.settings

    @router.get(
        "/v1/model", summary="What the model can tell, and what the server accepts", responses=only(401)
    )
    async def about() -> Model:
        return Model(
            name=service.name,
            side=model.side,
            presence=model.has_presence,
            familiarity=model.has_familiarity,
            margins=sorted(model.calibration.two_sided) if model.calibration else [],
            outer=sorted(model.calibration.outer) if model.calibration else [],
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_images=settings.max_images,
        )

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(PAGE, media_type="text/html; charset=utf-8", headers=POLICY)

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Health:
        return Health(status="live")

    @router.get(
        "/health/ready",
        summary="Whether new requests should come here",
        responses=NOT_READY,
    )
    async def ready() -> Health:
        service.check_ready()
        return Health(status="ready")

    @router.get(
        "/metrics",
        summary="For Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **only(401)},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router

"""The ML-backend protocol of Label Studio: tasks with images in, rectangles in percent of the image out."""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from solobox.predict.plan import model_fingerprint
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.serve.errors import HTTPError
from solobox.serve.label_studio_images import LabelStudioImages
from solobox.serve.limits import with_deadline
from solobox.serve.state import ServerContext
from solobox.utils.json_utils import parse_json

_LOG = logging.getLogger("solobox.serve")

MAX_TASKS = 1000
_CONCURRENCY = 4
"""Tasks whose images are fetched and predicted at the same time."""

_DEADLINE = 90.0
"""Seconds for all tasks of a request; Label Studio waits for 100."""

_MIN_PRESENCE = 0.5


@dataclass(frozen=True, slots=True)
class RectangleControl:
    """Where a labeling configuration wants boxes.

    name, to_name: of the control and its image. key: of the image in a task's data. kind: the control's tag in lower
    case. labels: those of the control.
    """

    name: str
    to_name: str
    key: str
    kind: str
    labels: tuple[str, ...]

    @classmethod
    def find(cls, config: object) -> "RectangleControl":
        """The first RectangleLabels or Rectangle of a labeling configuration that is for an Image.

        config: XML. Raises HTTPError (422): ``config-invalid``, ``no-rectangle``.
        """
        try:
            root = fromstring(config if isinstance(config, str) else "")
        except (ParseError, DefusedXmlException, ValueError) as error:
            raise HTTPError(
                422, "config-invalid", f"the labeling configuration is no XML ({str(error)[:200]})",
                "Save it again in the project's settings: Labeling Interface.",
            ) from None  # fmt: skip
        images = {each.get("name"): each.get("value", "") for each in root.iter("Image")}
        for kind in ("RectangleLabels", "Rectangle"):
            for control in root.iter(kind):
                name, to_name = control.get("name", ""), control.get("toName", "")
                value = images.get(to_name, "")
                if name and value.startswith("$") and len(value) > 1:
                    labels = tuple(str(each.get("value", "")) for each in control.iter("Label"))
                    return cls(name, to_name, value[1:], kind.lower(), labels)
        raise HTTPError(
            422, "no-rectangle", "the labeling configuration has no RectangleLabels or Rectangle for an Image",
            'Add <Image name="image" value="$image"/> and <RectangleLabels name="box" toName="image"><Label '
            'value="object"/></RectangleLabels> in the project\'s settings: Labeling Interface.',
        )  # fmt: skip

    def label(self, classes: object) -> str | None:
        """The label of the model's boxes, None for a control without labels.

        classes: of the model's training data. Raises HTTPError (422) ``label-unclear``: the model predicts no class.
        """
        if self.kind == "rectangle":
            return None
        if len(self.labels) == 1:
            return self.labels[0]
        names = classes if isinstance(classes, list) and len(classes) == 1 else []
        for label in self.labels:
            if names and label.casefold() == str(names[0]).casefold():
                return label
        raise HTTPError(
            422, "label-unclear",
            f"{self.name} has {len(self.labels)} labels, none of them the model's class; it predicts a box alone",
            "Give the control one label, or one with the name of the class that the model was trained on.",
        )  # fmt: skip


def label_studio_routes(context: ServerContext, images: LabelStudioImages) -> APIRouter:
    """The routes for one model. images: where the images of tasks come from."""
    router = APIRouter(include_in_schema=False)
    backend = _Backend(context, images)

    @router.get("/health")
    async def health() -> Response:
        context.check_ready()
        return JSONResponse({"status": "UP", "model_class": "Solobox", "model_version": backend.version})

    @router.get("/versions")
    async def versions() -> Response:
        return JSONResponse({"versions": [backend.version]})

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        return await logged(backend.set_up(request))

    @router.post("/webhook")
    async def webhook(request: Request) -> Response:
        await backend.read(request)  # the model does not learn here
        return JSONResponse({"status": "ok"})

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        return await logged(backend.predict(request))

    return router


class _Backend:
    """The work of the routes. version: name of the model and the beginning of its file's hash."""

    def __init__(self, context: ServerContext, images: LabelStudioImages) -> None:
        model = context.model
        self._context, self._images, self._model = context, images, model
        self._classes = model.metadata.get("classes")
        self._options = PredictOptions(min_presence=_MIN_PRESENCE if model.has_presence else None)
        self._turns = asyncio.Semaphore(_CONCURRENCY)
        self.version = f"{context.name}-{model_fingerprint(model.path)[:8]}"

    async def read(self, request: Request) -> Mapping[str, Any]:
        """The body's JSON object. Raises HTTPError as `Upload.read`, and 422."""
        with self._context.uploads.upload(request) as upload:
            content = await upload.read()
            try:
                body = parse_json(content.decode(), max_bytes=self._context.settings.max_json)
            except ValueError as error:
                raise _invalid(f"the body is no JSON that is accepted: {str(error)[:200]}") from None
        if not isinstance(body, dict):
            raise _invalid("the body is no JSON object")
        return body

    async def set_up(self, request: Request) -> Response:
        """Check a project's labeling configuration.

        Hostname and token in the body are not used: whoever sends it could have the server fetch from anywhere.
        """
        body = await self.read(request)
        RectangleControl.find(body.get("schema")).label(self._classes)
        return JSONResponse({"model_version": self.version})

    async def predict(self, request: Request) -> Response:
        """Predict tasks: a list with one entry for each, in their order."""
        self._context.batcher.refuse_if_full()
        body = await self.read(request)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not 1 <= len(tasks) <= MAX_TASKS:
            raise _invalid(f"tasks is not a list of 1 to {MAX_TASKS} tasks")
        control = RectangleControl.find(body.get("label_config"))
        label = control.label(self._classes)

        async def one(task: object) -> dict[str, Any] | list[Any]:
            try:
                prediction = await self._predict_task(task, control.key)
            except HTTPError as error:
                if len(tasks) == 1 or error.status in (429, 503):
                    raise
                # Label Studio stores nothing for a task with an empty list.
                _LOG.warning("Label Studio's task %s: %s. %s", _id_of(task), error.message, error.hint)
                return []
            return _answer(prediction, control, label, self.version, self._model.level(self._options))

        async def each_task() -> list[Any]:
            async with asyncio.TaskGroup() as group:  # the first error ends the others
                waiting = [group.create_task(one(task)) for task in tasks]
            return [each.result() for each in waiting]

        try:
            results = await with_deadline(each_task(), request, _DEADLINE)
        except ExceptionGroup as errors:
            if isinstance(error := errors.exceptions[0], HTTPError):
                raise error from None
            raise
        return JSONResponse({"results": results})

    async def _predict_task(self, task: object, key: str) -> Prediction:
        data = task.get("data") if isinstance(task, dict) else None
        address = data.get(key) if isinstance(data, dict) else None
        if not isinstance(address, str):
            raise _invalid(f"the task's data have no {key[:80]!r} with the address of an image")
        batcher, counts = self._context.batcher, self._context.metrics.images
        async with self._turns:
            with batcher.slots(1):
                try:
                    image = await batcher.preprocess(await self._images.fetch(address))
                    output = await batcher.infer(image.pixels)
                except HTTPError as error:
                    counts.labels(error.code).inc()
                    raise
        counts.labels("ok").inc()
        (prediction,) = self._model.postprocess(output, [image.size], [""], self._options)
        return prediction


async def logged(work: Awaitable[Response]) -> Response:
    """Label Studio shows no more of an error than its status: the rest goes to the log."""
    try:
        return await work
    except HTTPError as error:
        _LOG.warning("for Label Studio: %s: %s. %s", error.code, error.message, error.hint)
        raise


def _answer(
    prediction: Prediction, control: RectangleControl, label: str | None, version: str, level: float | None
) -> dict[str, Any]:
    """A prediction in Label Studio's form; without the object, a result without regions."""
    presence = None if math.isnan(prediction.presence) else round(float(prediction.presence), 6)
    answer: dict[str, Any] = {"result": [], "model_version": version}
    if presence is not None:
        answer["score"] = presence
    if not prediction.has_box:
        return answer
    width, height = prediction.size
    x1, y1, x2, y2 = (float(value) for value in prediction.box)
    region: dict[str, Any] = {
        "id": "solobox", "from_name": control.name, "to_name": control.to_name, "type": control.kind,
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {
            "x": 100 * x1 / width, "y": 100 * y1 / height, "width": 100 * (x2 - x1) / width,
            "height": 100 * (y2 - y1) / height, "rotation": 0,
            **({control.kind: [label]} if label is not None else {}),
        },
    }  # fmt: skip
    if presence is not None:
        region["score"] = presence
    if level is not None and not math.isnan(float(prediction.lower[0])):
        edges = [
            f"{name} {lower:.0f} to {upper:.0f}"
            for name, lower, upper in zip(
                ("x1", "y1", "x2", "y2"), prediction.lower, prediction.upper, strict=True
            )
        ]
        region["meta"] = {"text": [f"margins at {level:g} in pixels: {', '.join(edges)}"]}
    return answer | {"result": [region]}


def _id_of(task: object) -> str:
    return json.dumps(task.get("id"))[:40] if isinstance(task, dict) else "?"


def _invalid(message: str) -> HTTPError:
    return HTTPError(422, "invalid-tasks", message, "Send what Label Studio sends to an ML backend.")

"""The OpenAPI description is true: schemathesis sends what it allows and what it does not."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from solobox.predict.onnx_model import OnnxModel

from server_in_thread import Hosted, hosted  # isort: skip
from server_process import KEY  # isort: skip
from colour_model import image, write_model  # isort: skip

PATHS = (
    "/v1/predict", "/v1/model", "/health/live", "/health/ready", "/metrics", "/v2", "/v2/health/live",
    "/v2/health/ready", "/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer",
)  # fmt: skip

_IMAGES = st.sampled_from(
    [image(), image((0, 255, 0), (1, 1)), image(size=(200, 3), kind="JPEG"), image()[:60], b""]
)
for _kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff"):
    schemathesis.openapi.media_type(f"image/{_kind}", _IMAGES)


@pytest.fixture(scope="module", params=[None, KEY], ids=["open", "key"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    model = OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)
    with hosted(model, api_key=request.param) as started:
        yield started


def headers(server: Hosted) -> dict[str, str]:
    key = server.context.settings.api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        *((path, GenerationMode.POSITIVE) for path in PATHS),
        # The others take nothing that could be wrong.
        *((path, GenerationMode.NEGATIVE) for path in ("/v1/predict", "/v2/models/{name}/infer")),
    ],
)
def test_it_is_true(server: Hosted, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers(server))
    assert sorted(schema) == sorted(PATHS)
    for operation in schema[path].values():

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case[Any]) -> None:
            if "{name}" in path and mode is GenerationMode.POSITIVE:
                case.path_parameters["name"] = "model"
            # No schema says which bytes are an image, and an image of a form that cannot be read has its error
            # in the list.
            untold: list[Any] = [positive_data_acceptance]
            if case.media_type == "multipart/form-data":
                untold.append(negative_data_rejection)
            case.call_and_validate(headers=headers(server), excluded_checks=untold)

        check()

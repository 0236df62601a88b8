"""The ML backend of Label Studio: its protocol, and that it fetches from Label Studio alone."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stand_in_label_studio import LEGACY, REFRESH, StandInLabelStudio, studio_running

from error_codes import has_code
from solobox.errors import ConfigError
from solobox.predict.onnx_model import OnnxModel
from solobox.serve.errors import HTTPError
from solobox.serve.label_studio import RectangleControl
from solobox.serve.label_studio_images import LabelStudioImages
from solobox.serve.settings import ServerSettings

from server_in_thread import Hosted, hosted  # isort: skip
from server_process import KEY  # isort: skip
from colour_model import expected_box, image, write_model  # isort: skip

COLOUR, SIZE = (200, 100, 50), (80, 60)
CONFIG = """<View><Image name="img" value="$photo"/>
<RectangleLabels name="box" toName="img"><Label value="plate"/></RectangleLabels></View>"""
UPLOAD, LOCAL = "/data/upload/1/a.png", "/data/local-files/?d=photos/a%20b.png"


@pytest.fixture
def studio() -> Iterator[StandInLabelStudio]:
    with studio_running() as studio:
        studio.media = dict.fromkeys((UPLOAD, LOCAL), image(COLOUR, SIZE))
        yield studio


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture
def server(studio: StandInLabelStudio, model: OnnxModel) -> Iterator[Hosted]:
    images = LabelStudioImages(studio.url, LEGACY, ServerSettings())
    with hosted(model, label_studio=images, api_key=KEY) as started:
        yield started


@pytest.fixture
def client(server: Hosted) -> Iterator[httpx.Client]:
    with server.client() as opened:
        opened.auth = ("solobox", KEY)  # Label Studio sends a key in this way alone
        yield opened


def predict(client: httpx.Client, *addresses: str, config: str = CONFIG) -> httpx.Response:
    tasks = [{"id": number, "data": {"photo": each}} for number, each in enumerate(addresses)]
    return client.post(
        "/predict", json={"tasks": tasks, "label_config": config, "project": "1.2", "params": {}}
    )


def test_health_and_setup(client: httpx.Client, server: Hosted, studio: StandInLabelStudio) -> None:
    assert httpx.get(f"{server.url}/health", trust_env=False).json()["status"] == "UP"  # without the key
    asked = {"project": "1.2", "schema": CONFIG, "hostname": "http://elsewhere", "access_token": "x"}
    version = client.post("/setup", json=asked).json()["model_version"]
    assert version.startswith("model-")
    assert client.get("/versions").json() == {"versions": [version]}
    assert client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 200
    assert not studio.requests


def test_tasks_of_all_kinds(client: httpx.Client, studio: StandInLabelStudio, model: OnnxModel) -> None:
    inline = f"data:image/png;base64,{base64.b64encode(image(COLOUR, SIZE)).decode()}"
    answer = predict(client, UPLOAD, LOCAL, inline, f"{studio.url}{UPLOAD}")
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == 4
    expected = model.predict(image(COLOUR, SIZE))
    for result in results:
        (region,) = result["result"]
        assert (region["from_name"], region["to_name"], region["type"]) == ("box", "img", "rectanglelabels")
        assert (region["original_width"], region["original_height"]) == SIZE
        value = region["value"]
        assert value["rectanglelabels"] == ["plate"]
        box = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
        pixels = [share * side / 100 for share, side in zip(box, SIZE * 2, strict=True)]
        assert pixels == pytest.approx(expected.box, abs=1e-3)
        assert pixels == pytest.approx(expected_box(COLOUR, SIZE), abs=2e-3)
        assert result["score"] == region["score"] == pytest.approx(expected.presence, abs=1e-5)
        assert region["meta"]["text"][0].startswith("margins at 0.9 in pixels: x1 ")
        assert result["model_version"].startswith("model-")


def test_without_the_object_there_is_no_region(client: httpx.Client, studio: StandInLabelStudio) -> None:
    studio.media[UPLOAD] = image((20, 100, 50))  # the colour model's presence is the red
    (result,) = predict(client, UPLOAD).json()["results"]
    assert result["result"] == []
    assert result["score"] < 0.5


def test_a_task_that_fails_among_others_has_no_prediction(
    client: httpx.Client, studio: StandInLabelStudio
) -> None:
    studio.media["/data/upload/1/text.txt"] = b"no image"
    answer = predict(client, "/data/upload/1/gone.png", UPLOAD, "/data/upload/1/text.txt", "/etc/passwd")
    first, second, third, fourth = answer.json()["results"]
    assert (first, third, fourth) == ([], [], [])
    assert second["result"]


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd", "file:///etc/passwd", "//evil.example/data/x.png", "http://169.254.169.254/data/x",
        "http://user@evil.example/data/x.png", "/api/projects", "/data/../api/projects", "/data/%2e%2e/api/x",
        "/data/%252e%252e/api/x", "/data/upload\\..\\x", "ftp://127.0.0.1/data/x", "photos/a.png", "", "http://[::1",
        "http://127.0.0.1:1/data/x.png", "s3://bucket/a.png",
    ],
)  # fmt: skip
def test_nothing_else_is_fetched(client: httpx.Client, studio: StandInLabelStudio, address: str) -> None:
    answer = predict(client, address)
    assert answer.status_code == 422
    assert answer.json()["code"] == "image-elsewhere"
    assert not studio.requests


def test_the_token_is_sent_to_no_other_host(client: httpx.Client, studio: StandInLabelStudio) -> None:
    with studio_running() as other:
        studio.moved[UPLOAD] = f"{other.url}/data/upload/1/a.png"
        answer = predict(client, UPLOAD)
        assert (answer.status_code, answer.json()["code"]) == (422, "image-elsewhere")
        assert predict(client, f"{other.url}{UPLOAD}").json()["code"] == "image-elsewhere"
        assert not other.requests


def test_line_breaks_make_no_second_request() -> None:
    images = LabelStudioImages("http://127.0.0.1:8080/ls", None, ServerSettings())
    for address in ("/data/a\r\nHost: x", "/data/a%0d%0aHost: x", "/data/a?d=b\r\nX: y"):
        assert not set(images.path_of(address)) & set("\r\n ")
    assert images.path_of("/data/upload/1/ä b.png") == "/ls/data/upload/1/%C3%A4%20b.png"
    assert images.path_of("/ls/data/upload/1/a.png") == "/ls/data/upload/1/a.png"
    assert (
        images.path_of("http://127.0.0.1:8080/data/local-files/?d=a%20b") == "/ls/data/local-files/?d=a%20b"
    )


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"media": {UPLOAD: b"x" * 2000}}, 413, "image-too-large"), ({"cut": True}, 502, "label-studio-unreachable"),
        ({"media": {}}, 502, "label-studio-failed"), ({"media": {UPLOAD: b"text"}}, 415, "image-unsupported-format"),
    ],
)  # fmt: skip
def test_what_label_studio_may_do_wrong(
    studio: StandInLabelStudio, model: OnnxModel, change: dict[str, Any], status: int, code: str
) -> None:
    vars(studio).update(change)
    images = LabelStudioImages(studio.url, LEGACY, ServerSettings(max_bytes=1000))
    with hosted(model, label_studio=images) as started, started.client() as client:
        answer = predict(client, UPLOAD)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


class TestTokens:
    def test_a_personal_token_is_exchanged_once(self, studio: StandInLabelStudio) -> None:
        images = LabelStudioImages(studio.url, REFRESH, ServerSettings())
        for _ in range(2):
            assert images._get(UPLOAD) == image(COLOUR, SIZE)
        assert [path for path, _ in studio.requests] == ["/api/token/refresh", UPLOAD, UPLOAD]

    @pytest.mark.parametrize("token", [None, "wrong", "a.wrong.one"])
    def test_a_wrong_token_is_told(self, studio: StandInLabelStudio, token: str | None) -> None:
        images = LabelStudioImages(studio.url, token, ServerSettings())
        with pytest.raises(HTTPError, check=has_code("label-studio-refuses")) as caught:
            images._get(UPLOAD)
        assert caught.value.status == 502
        assert token is None or token not in caught.value.message

    def test_without_label_studio(self) -> None:
        images = LabelStudioImages("http://127.0.0.1:9", LEGACY, ServerSettings())
        with pytest.raises(HTTPError, check=has_code("label-studio-unreachable")):
            images._get(UPLOAD)

    @pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://u:p@x", "http://x?y"])
    def test_addresses_that_are_none(self, url: str) -> None:
        with pytest.raises(ConfigError, check=has_code("address-invalid")):
            LabelStudioImages(url, None, ServerSettings())


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "code"),
        [
            ("", "config-invalid"), (None, "config-invalid"), ("<View>", "config-invalid"),
            ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "config-invalid"), ("<View/>", "no-rectangle"),
            ('<View><Text name="t" value="$t"/><RectangleLabels name="b" toName="t"/></View>', "no-rectangle"),
            ('<View><Image name="i" value="$i"/><PolygonLabels name="b" toName="i"/></View>', "no-rectangle"),
        ],
    )  # fmt: skip
    def test_what_has_no_place_for_a_box(self, client: httpx.Client, config: str | None, code: str) -> None:
        for path, body in (
            ("/setup", {"schema": config}),
            ("/predict", {"tasks": [{"data": {}}], "label_config": config}),
        ):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, code)

    def test_the_label(self) -> None:
        control = RectangleControl.find(CONFIG.replace("<Label ", '<Label value="car"/><Label '))
        assert control == RectangleControl("box", "img", "photo", "rectanglelabels", ("car", "plate"))
        assert control.label(["Plate"]) == "plate"
        for classes in (None, [], ["dog"], ["car", "plate"]):
            with pytest.raises(HTTPError, check=has_code("label-unclear")):
                control.label(classes)
        plain = '<View><Image name="img" value="$photo"/><Rectangle name="box" toName="img"/></View>'
        assert RectangleControl.find(plain).label(None) is None

    def test_a_control_without_labels(self, client: httpx.Client) -> None:
        plain = '<View><Image name="img" value="$photo"/><Rectangle name="box" toName="img"/></View>'
        (result,) = predict(client, UPLOAD, config=plain).json()["results"]
        assert result["result"][0]["type"] == "rectangle"
        assert set(result["result"][0]["value"]) == {"x", "y", "width", "height", "rotation"}


@pytest.mark.parametrize("tasks", [None, [], "x", [{}] * 1001])
def test_tasks_that_are_none(client: httpx.Client, tasks: object) -> None:
    answer = client.post("/predict", json={"tasks": tasks, "label_config": CONFIG})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-tasks")


def test_without_the_option_or_the_key_there_is_no_backend(server: Hosted, model: OnnxModel) -> None:
    with server.client() as client:
        assert client.post("/predict", json={}).status_code == 401
        assert client.post("/predict", json={}, auth=("solobox", "wrong")).status_code == 401
        assert client.post("/predict", json={}, headers={"Authorization": "Basic !"}).status_code == 401
    with hosted(model) as started, started.client() as client:
        assert client.post("/predict", json={}).status_code == 404


def test_the_command_refuses_an_address_before_it_listens(tmp_path: Path) -> None:
    from command_process import solobox_here

    done = solobox_here("serve", write_model(tmp_path / "model.onnx"), "--label-studio", "localhost:8080")
    assert done.returncode == 2
    assert "error[address-invalid]" in done.stderr

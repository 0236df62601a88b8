"""The Open Inference Protocol v2, in JSON and with binary tensors."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from solobox.predict.onnx_model import OnnxModel
from solobox.serve.tensors import HEADER

from server_in_thread import Hosted, hosted  # isort: skip
from colour_model import write_model  # isort: skip

INFER = "/v2/models/model/infer"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture(scope="module")
def server(model: OnnxModel) -> Iterator[Hosted]:
    with hosted(model, max_pixels=100_000) as started:
        yield started


@pytest.fixture
def client(server: Hosted) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def pixels(count: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    colours = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (count, 20, 30, 3)))


def tensor(images: np.ndarray[Any, Any], **other: Any) -> dict[str, Any]:
    return {"name": "pixels", "shape": list(images.shape), "datatype": "UINT8", **other}


def arrays(answer: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {out["name"]: np.array(out["data"], np.float32).reshape(out["shape"]) for out in answer["outputs"]}


def test_metadata(client: httpx.Client) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/model/ready").json() == {"ready": True}
    about = client.get("/v2/models/model").json()
    assert about["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    shapes = {out["name"]: out["shape"] for out in about["outputs"]}
    assert shapes == {
        "boxes": [-1, 4], "std": [-1, 4], "lower": [-1, 5, 4], "upper": [-1, 5, 4], "outer": [-1, 5, 4],
        "presence": [-1], "familiarity": [-1],
    }  # fmt: skip
    for path in ("/v2/models/other", "/v2/models/other/ready"):
        response = client.get(path)
        assert response.status_code == 404
        assert response.json()["error"] == response.json()["message"] == "there is no model of this name"


@pytest.mark.parametrize("flat", [True, False])
def test_json(client: httpx.Client, model: OnnxModel, flat: bool) -> None:
    images = pixels()
    data = images.ravel().tolist() if flat else images.tolist()
    answer = client.post(INFER, json={"id": "7", "inputs": [tensor(images, data=data)]}).json()
    assert (answer["id"], answer["model_name"]) == ("7", "model")
    actual = arrays(answer)
    for row, expected in enumerate(model.predict(list(images), margins=0.9)):
        assert actual["boxes"][row] == pytest.approx(expected.box, abs=1e-3)
        assert actual["lower"][row, 2] == pytest.approx(expected.lower, abs=1e-3)
        assert actual["upper"][row, 2] == pytest.approx(expected.upper, abs=1e-3)
        assert actual["std"][row] == pytest.approx(expected.std, abs=1e-3)
        assert actual["presence"][row] == pytest.approx(expected.presence, abs=1e-5)
    outer = model.predict(images[1], outer=0.99)
    assert actual["outer"][1, 4] == pytest.approx(outer.outer, abs=1e-3)


def binary(images: np.ndarray[Any, Any], **more: Any) -> tuple[bytes, dict[str, str]]:
    """As tritonclient sends it."""
    head = json.dumps(
        {"inputs": [tensor(images, parameters={"binary_data_size": images.nbytes})], **more}
    ).encode()
    return head + images.tobytes(), {HEADER: str(len(head))}


def test_bytes_both_ways(client: httpx.Client) -> None:
    images = pixels(3)
    plain = arrays(client.post(INFER, json={"inputs": [tensor(images, data=images.tolist())]}).json())
    body, headers = binary(images, parameters={"binary_data_output": True})
    response = client.post(INFER, content=body, headers=headers)
    length = int(response.headers[HEADER])
    binary_data = response.content[length:]
    for out in json.loads(response.content[:length])["outputs"]:
        size = out["parameters"]["binary_data_size"]
        actual = np.frombuffer(binary_data[:size], "<f4").reshape(out["shape"])
        binary_data = binary_data[size:]
        assert actual == pytest.approx(plain[out["name"]], abs=1e-4)
    assert binary_data == b""
    # One output as bytes, one as JSON, in the order that was asked for.
    outputs = [{"name": "presence"}, {"name": "boxes", "parameters": {"binary_data": True}}]
    body, headers = binary(images, outputs=outputs)
    response = client.post(INFER, content=body, headers=headers)
    length = int(response.headers[HEADER])
    presence, boxes = json.loads(response.content[:length])["outputs"]
    assert presence["data"] == pytest.approx(plain["presence"].tolist(), abs=1e-5)
    assert boxes["parameters"]["binary_data_size"] == len(response.content) - length == 3 * 4 * 4


GOOD = tensor(pixels(1), data=pixels(1).ravel().tolist())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"inputs": []}', b'{"inputs": [1]}',
        {"inputs": [GOOD, GOOD]}, {"inputs": [{**GOOD, "name": "x"}]}, {"inputs": [{**GOOD, "datatype": "FP32"}]},
        {"inputs": [{**GOOD, "shape": [1, 20, 30]}]}, {"inputs": [{**GOOD, "shape": [1, 20, 30, 4]}]},
        {"inputs": [{**GOOD, "shape": [0, 20, 30, 3]}]}, {"inputs": [{**GOOD, "shape": [1, 20, 31, 3]}]},
        {"inputs": [{**GOOD, "shape": [True, 20, 30, 3]}]}, {"inputs": [{**GOOD, "data": [1, [2]]}]},
        {"inputs": [{**GOOD, "data": [300] * 1800}]}, {"inputs": [{**GOOD, "data": [-1] * 1800}]},
        {"inputs": [{**GOOD, "data": [0.5] * 1800}]}, {"inputs": [{**GOOD, "data": "x"}]},
        {"inputs": [{**GOOD, "data": [10**30] * 1800}]}, {"inputs": [{**GOOD, "data": None}]},
        {"inputs": [GOOD], "id": 5}, {"inputs": [GOOD], "outputs": [{"name": "x"}]},
        {"inputs": [GOOD], "id": "x" * 1001}, {"inputs": [GOOD], "outputs": [{"name": "boxes"}, {"name": "boxes"}]},
        {"inputs": [GOOD], "outputs": [{"name": ["boxes"]}]}, {"inputs": [GOOD], "outputs": [{}]},
        {"inputs": [GOOD], "outputs": "boxes"}, {"inputs": [GOOD], "parameters": 3},
        {"inputs": [GOOD], "parameters": {"binary_data_output": 1}},
    ],
)  # fmt: skip
def test_wrong_tensors(client: httpx.Client, content: Any) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    response = client.post(INFER, content=body)
    assert response.status_code == 400, response.text
    error = response.json()
    assert error["code"] == "invalid-tensor"
    assert error["error"] == error["message"]
    assert error["hint"]


@pytest.mark.parametrize("length", ["x", "-1", "99999999", "1" * 40, "²"])
def test_wrong_lengths_of_the_json(client: httpx.Client, length: str) -> None:
    body, _ = binary(pixels())
    response = client.post(INFER, content=body, headers=[(HEADER.encode(), length.encode("latin-1"))])
    assert response.json()["code"] == "invalid-tensor"


def test_too_few_or_unexpected_bytes(client: httpx.Client) -> None:
    body, headers = binary(pixels())
    assert client.post(INFER, content=body[:-1], headers=headers).json()["code"] == "invalid-tensor"
    head = json.dumps({"inputs": [GOOD]}).encode()
    response = client.post(INFER, content=head + b"abc", headers={HEADER: str(len(head))})
    assert "bytes follow" in response.json()["message"]


def test_too_much(client: httpx.Client) -> None:
    for shape in ([17, 1, 1, 3], [1, 1000, 1000, 3], [1, 2**62, 2**62, 3]):
        response = client.post(INFER, json={"inputs": [{**GOOD, "shape": shape}]})
        assert response.status_code == 413, response.text

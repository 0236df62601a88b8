"""The server says when the images no longer look like the training images."""

import logging
from pathlib import Path

import pytest

from solobox.errors import ConfigError
from solobox.predict.onnx_model import OnnxModel

from server_in_thread import Hosted, hosted  # isort: skip
from colour_model import image, write_model  # isort: skip

PNG = {"Content-Type": "image/png"}
FAMILIAR, STRANGE = (
    image((200, 150, 50)),
    image((200, 0, 50)),
)  # familiarity is the green of this model's images


def send(server: Hosted, content: bytes, times: int) -> None:
    with server.client() as client:
        for _ in range(times):
            assert client.post("/v1/predict", content=content, headers=PNG).status_code == 200


def metrics(server: Hosted) -> dict[str, float]:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def test_drift_is_a_metric_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = OnnxModel.load(write_model(tmp_path / "model.onnx", n_reference=400), threads=1)
    with caplog.at_level(logging.WARNING, logger="solobox.serve"), hosted(model) as server:
        assert metrics(server)["solobox_drift"] == 0
        send(server, FAMILIAR, 10)
        assert metrics(server)["solobox_drift"] == 0
        assert not caplog.records
        send(server, STRANGE, 20)
        values = metrics(server)
        assert values["solobox_drift"] == 1
        assert values["solobox_drift_evidence"] > 3
        assert values["solobox_familiarity_count"] == 30
        assert values['solobox_familiarity_bucket{le="0.01"}'] == 20
        assert values['solobox_presence_bucket{le="0.7"}'] == 0
        (record,) = caplog.records
        assert record.getMessage().startswith("drift: about the last ")
        send(server, FAMILIAR, 20)
        assert metrics(server)["solobox_drift"] == 0  # the images are familiar again
        with server.client() as client:
            assert client.get("/health/ready").json() == {
                "status": "ready"
            }  # drift makes nobody go elsewhere


def test_files_of_earlier_versions_and_models_without_familiarity_have_no_drift(tmp_path: Path) -> None:
    for figures in (True, False):
        model = OnnxModel.load(
            write_model(tmp_path / "model.onnx", figures=figures, n_reference=None if figures else 400),
            threads=1,
        )
        assert model.n_reference is None
        with hosted(model) as server:
            send(server, STRANGE, 3)
            names = {name.partition("{")[0] for name in metrics(server)}
        assert "solobox_drift" not in names
        assert ("solobox_familiarity_count" in names) is figures


@pytest.mark.parametrize("n_reference", ["many", 0, -1, 1.5, True, 10**9])
def test_a_damaged_count_is_refused(tmp_path: Path, n_reference: object) -> None:
    with pytest.raises(ConfigError) as error:
        OnnxModel.load(write_model(tmp_path / "model.onnx", n_reference=n_reference))
    assert error.value.code == "model-damaged"

"""``solobox predict --engine ray`` with an exported model, on a Ray that is started for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet

from error_codes import has_code
from solobox import Architecture, ConfigError, DataError, Localizer, synthetic
from solobox.cli.predict import predict
from solobox.export import export
from solobox.predict.onnx_model import OnnxModel

pytest.importorskip("ray")


def predict_on_ray(model: str, inputs: list[str], output: str | None, **options: Any) -> int:
    return predict(model, inputs, output=output, engine="ray", **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export(Localizer(Architecture(backbone="test_efficientnet", size=64, width=16)).eval(), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    synthetic.write(tmp_path / "in", 6, seed=3, size=(96, 72))
    return sorted(str(path) for path in (tmp_path / "in").rglob("*.jpg"))


def test_mistakes_are_errors_before_anything_is_started(
    tmp_path: Path, model: Path, images: list[str]
) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "other.onnx").write_bytes(b"something else")
    cases: list[tuple[str, list[str], str | None, dict[str, Any], str]] = [
        (str(model), images, None, {}, "output-missing"),
        (str(tmp_path), images, out, {}, "not-a-model"),
        (str(tmp_path / "lost.onnx"), images, out, {}, "file-unreadable"),
        (str(tmp_path / "other.onnx"), images, out, {}, "model-damaged"),
        (str(model), images, out, {"margins": 0.9}, "no-margins"),
        (str(model), images, out, {"min_presence": 0.5}, "no-presence"),
        (str(model), images, out, {"min_presence": 5}, "out-of-range"),
        (str(model), images, out, {"resume": True}, "options-conflict"),
        (str(model), images, out, {"runtime": "openvino"}, "options-conflict"),
        (str(model), [str(tmp_path / "*.png")], out, {}, "no-images"),
    ]
    for file, inputs, output, options, code in cases:
        with pytest.raises((ConfigError, DataError)) as error:
            predict_on_ray(file, inputs, output, **options)
        assert error.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_cannot_be_reached_is_an_error(
    tmp_path: Path, model: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "no-such-scheme://nowhere")
    with pytest.raises(ConfigError, check=has_code("ray-unreachable")):
        predict_on_ray(str(model), images, str(tmp_path / "out"))


@pytest.mark.filterwarnings("ignore")  # Ray's own use of sockets and files, which nobody here can mend
def test_the_rows_are_those_of_the_model_and_nothing_of_ray_is_on_the_screen(
    tmp_path: Path,
    model: Path,
    images: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Ray starts a dozen Python processes: where libraries lie without bytecode, each would compile them all.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "bytecode"))
    monkeypatch.chdir(tmp_path)  # relative paths are those of the one who asks, not of a worker
    Path(images[2]).write_bytes(b"damaged")
    heic = Path(images[-1]).with_name("z.heic")
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    heic.with_name("._z.jpg").touch()
    images.append(str(heic))
    capfd.readouterr()
    assert predict_on_ray(str(model), ["in"], "out") == 1
    said = "".join(capfd.readouterr())
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["image"] for row in rows] == images
    for row, expected in zip(rows, OnnxModel.load(model).predict(images), strict=True):
        box = [row[edge] for edge in ("x1", "y1", "x2", "y2")]
        assert box == ([None] * 4 if expected.error else pytest.approx(expected.box, abs=0.02))
        assert (row["error"] or "") == expected.error
    assert "2 of 7 images could not be read" in said
    assert "left out of the folders: 1 hidden" in said
    for line in said.splitlines():
        assert not line.strip() or any(
            ours in line for ours in ("loading ", "images", "predicting", "boxes: ", "left out")
        ), said

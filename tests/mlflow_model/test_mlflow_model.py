"""The MLflow model, with a stand-in for MLflow, which is not in the lock: bench/mlflow_model.py has it."""

import base64
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import solobox
import solobox.mlflow
from error_codes import has_code
from solobox import synthetic

pandas = pytest.importorskip("pandas")  # Ray brings it


class Logged:
    """What `mlflow.pyfunc` was called with, and the model that its code set."""

    calls: list[tuple[str, dict[str, Any]]]
    model: Any = None

    def __init__(self) -> None:
        self.calls = []


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    logged = Logged()

    def keep(name: str) -> Any:
        def call(**options: Any) -> str:
            assert Path(options["artifacts"]["onnx"]).is_file()
            logged.calls.append((name, options))
            return name

        return call

    modules = {
        name: ModuleType(name) for name in ("mlflow", "mlflow.models", "mlflow.types", "mlflow.types.schema")
    }
    mlflow: Any = modules["mlflow"]
    mlflow.pyfunc = SimpleNamespace(PythonModel=object, log_model=keep("log"), save_model=keep("save"))
    mlflow.models = models = modules["mlflow.models"]
    models.set_model = lambda model: setattr(logged, "model", model)  # type: ignore[attr-defined]
    models.ModelSignature = lambda inputs, outputs: (inputs, outputs)  # type: ignore[attr-defined]
    schema: Any = modules["mlflow.types.schema"]
    schema.AnyType, schema.Schema = (lambda: "any"), list
    schema.ColSpec = lambda kind, name, required=True: (kind, name, required)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    find = solobox.mlflow.importlib.util.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True if name == "mlflow" else find(name))
    version = solobox.mlflow.version  # type: ignore[attr-defined]
    monkeypatch.setattr(
        solobox.mlflow, "version", lambda name: "3.17.2" if name == "mlflow" else version(name)
    )
    return logged


def test_what_is_logged(logged: Logged, exported_file: Path, tmp_path: Path) -> None:
    assert solobox.mlflow.log_model(exported_file, registered_model_name="plates") == "log"
    solobox.mlflow.save_model(exported_file, tmp_path / "saved")
    (first, options), (second, saved) = logged.calls
    assert (first, second) == ("log", "save")
    assert (options["name"], options["registered_model_name"]) == ("model", "plates")
    assert saved["path"] == str(tmp_path / "saved")
    inputs, outputs = options["signature"]
    assert inputs == [("any", "image", True)]
    assert [name for _, name, _ in outputs][:6] == ["width", "height", "x1", "y1", "x2", "y2"]
    assert {"x1_lower", "presence", "familiarity", "error"} <= {name for _, name, _ in outputs}
    assert options["pip_requirements"][0] == f"solobox=={solobox.__version__}"


def test_the_model_predicts_what_solobox_does(logged: Logged, exported_file: Path, tmp_path: Path) -> None:
    pixels = synthetic.draw(3, (60, 40)).pixels
    photo = tmp_path / "a.png"
    Image.fromarray(pixels).save(photo)
    inline = f"data:image/png;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    images = [
        str(photo),
        photo.read_bytes(),
        inline,
        pixels,
        pixels.tolist(),
        "/gone.png",
        "data:image/png;base64,!",
    ]
    runpy.run_path(str(solobox.mlflow.CODE))
    logged.model.load_context(SimpleNamespace(artifacts={"onnx": str(exported_file)}))
    rows = logged.model.predict(None, pandas.DataFrame({"image": images}))
    expected = solobox.OnnxModel.load(exported_file).predict(pixels)
    for row in range(5):
        np.testing.assert_allclose(
            rows.loc[row, ["x1", "y1", "x2", "y2"]].astype(float), expected.box, atol=0.006
        )
        assert rows.loc[row, "x1_lower"] == pytest.approx(expected.lower[0], abs=0.006)
        assert rows.loc[row, "presence"] == pytest.approx(expected.presence, abs=1e-4)
        assert (rows.loc[row, "width"], rows.loc[row, "height"]) == (60, 40)
    for row in (5, 6):
        assert rows.loc[row, ["x1", "presence"]].isna().all()
        assert rows.loc[row, "error"]
    example = solobox.mlflow._example()
    assert not logged.model.predict(None, pandas.DataFrame({"image": [example]})).loc[0, "error"]


def test_without_mlflow(exported_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(solobox.ConfigError, check=has_code("missing-package")):
        solobox.mlflow.log_model(exported_file)

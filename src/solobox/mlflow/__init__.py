"""An exported model as an MLflow model (pyfunc): logged or saved with its signature, loaded where MLflow loads models.

It needs the package mlflow; nothing else of Solobox imports it.
"""

import base64
import importlib.util
import io
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from solobox.errors import ConfigError
from solobox.predict.onnx_model import OnnxModel
from solobox.predict.predictor import PredictOptions
from solobox.predict.writers import Columns

ARTIFACT = "onnx"
"""The exported file's name among the model's artifacts."""

CODE = Path(__file__).with_name("model_code.py")
"""What MLflow runs to load the model: models from code, so that nothing is pickled."""

_EXAMPLE_PIXELS = (24, 32, 3)


def log_model(model: str | Path, name: str = "model", **options: Any) -> Any:
    """Log an exported model, an ``.onnx`` file, to MLflow's active run (or a new one).

    name: of the model. options: others of ``mlflow.pyfunc.log_model``, such as ``registered_model_name``.
    Returns MLflow's ``ModelInfo``. The loaded model's `predict` takes a DataFrame with the column ``image``: paths,
    bytes of image files, ``data:`` URIs, or arrays (h, w, 3) uint8 RGB; see docs/howto/mlflow.md.

    Raises ConfigError: ``missing-package``, and those of `OnnxModel.load`.
    """
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        arguments = _arguments(Path(model), Path(scratch))
        import mlflow

        return mlflow.pyfunc.log_model(name=name, **(arguments | options))


def save_model(model: str | Path, path: str | Path, **options: Any) -> None:
    """Write an exported model as an MLflow model into the new folder `path`; else as `log_model`."""
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        arguments = _arguments(Path(model), Path(scratch))
        import mlflow

        mlflow.pyfunc.save_model(path=str(path), **(arguments | options))


def columns_of(model: OnnxModel) -> Columns:
    """The columns that the model can fill."""
    return Columns(
        "both" if model.level(PredictOptions()) is not None else "none",
        presence=model.has_presence,
        familiarity=model.has_familiarity,
    )


def _arguments(path: Path, scratch: Path) -> dict[str, Any]:
    """What `save_model` and `log_model` of MLflow need. scratch: for the copy that the model's folder is made from."""
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("this needs the package mlflow: pip install mlflow", code="missing-package")
    model = OnnxModel.load(path)  # only what works is logged
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    file = scratch / "model.onnx"
    file.write_bytes(path.read_bytes())
    columns = columns_of(model)
    # An image that cannot be read has an error alone.
    outputs = [ColSpec("long", "width", required=False), ColSpec("long", "height", required=False)]
    outputs += [ColSpec("double", name, required=False) for name in columns.numbers]
    outputs.append(ColSpec("string", "error", required=False))
    example = pd.DataFrame({"image": [_example()]})
    return {
        "python_model": str(CODE),
        "artifacts": {ARTIFACT: str(file)},
        "signature": ModelSignature(Schema([ColSpec(AnyType(), "image")]), Schema(outputs)),
        "input_example": example,
        "pip_requirements": [f"solobox=={version('solobox')}", f"mlflow=={version('mlflow')}", "pandas"],
        "metadata": {"solobox": model.metadata},
    }


def _example() -> str:
    """A small image as a ``data:`` URI, which JSON can hold."""
    buffer = io.BytesIO()
    Image.fromarray(np.full(_EXAMPLE_PIXELS, 127, np.uint8)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""MLflow copies this file into a model and runs it to load the model (models from code)."""

import base64
import binascii
import contextlib
from collections.abc import Iterable
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from solobox.images.reading import ImageInput
from solobox.mlflow import ARTIFACT, columns_of
from solobox.predict.onnx_model import OnnxModel


class SoloboxModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """One row for each image: see docs/howto/mlflow.md."""

    def load_context(self, context: Any) -> None:
        """Load the exported file."""
        self._model = OnnxModel.load(context.artifacts[ARTIFACT])

    # MLflow takes type hints here for the signature, and warns of those that are none.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Rows with the box in pixels of the upright image, its margins, presence, familiarity and the error."""
        columns = columns_of(self._model)
        rows = [columns.record(each) for each in self._model.stream(_images(model_input["image"]))]
        table = pd.DataFrame(rows, columns=["width", "height", *columns.numbers, "error"])
        table[columns.numbers] = table[columns.numbers].astype(float)
        for name in ("width", "height"):
            table[name] = table[name].astype("Int64")
        return table


def _images(images: Iterable[Any]) -> Iterable[ImageInput]:
    for image in images:
        if isinstance(image, str) and image.startswith("data:"):
            yield _inline(image)
        elif isinstance(image, list):  # JSON has no arrays
            yield np.asarray(image, dtype=np.uint8)
        else:
            yield image


def _inline(address: str) -> bytes:
    """The bytes of a ``data:`` URI; of a damaged one, bytes that are no image, so that its row gets the error."""
    head, _, content = address.partition(",")
    with contextlib.suppress(binascii.Error, ValueError):
        if head.endswith(";base64"):
            return base64.b64decode(content, validate=True)
    return address.encode()


mlflow.models.set_model(SoloboxModel())

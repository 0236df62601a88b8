from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from solobox.data.dataset import Dataset
from solobox.evaluation.audit.hidden_object import second_prediction
from solobox.predict.prediction import Prediction
from solobox.training.augment import GREY

if TYPE_CHECKING:
    from solobox.training.crossval import OutOfFold


@dataclass
class RecordingModel:
    """Out-of-fold predictions whose model records its inputs."""

    predictions: tuple[Prediction, ...]
    inputs: list[tuple[int, Any]] = field(default_factory=list)

    def predict_pixels(self, row: int, pixels: Any) -> Prediction:
        self.inputs.append((row, pixels))
        return Prediction("again", np.array([1.0, 2, 3, 4]))


def test_only_the_first_box_is_painted_gray(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 100, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    model = RecordingModel((Prediction("a", np.array([10.5, -3.0, 30.2, 70.0]), (60, 40)),))
    dataset = Dataset([tmp_path / "a.png"], [[1, 1, 50, 30]])
    found = second_prediction(dataset, cast("OutOfFold", model))(0)
    assert found.image == "again"
    ((row, pixels),) = model.inputs
    assert row == 0
    assert (pixels[:, 10:31] == GREY).all()
    np.testing.assert_array_equal(pixels[:, :10], colours[:, :10])
    np.testing.assert_array_equal(pixels[:, 31:], colours[:, 31:])
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_missing_image_gives_a_prediction_with_an_error(tmp_path: Path) -> None:
    model = RecordingModel((Prediction("a", np.array([10.0, 3, 30, 20]), (60, 40)),))
    dataset = Dataset([tmp_path / "gone.png"], [[1, 1, 50, 30]])
    assert "gone.png" in second_prediction(dataset, cast("OutOfFold", model))(0).error
    assert not model.inputs

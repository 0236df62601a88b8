import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from PIL import Image

import solobox
from solobox.errors import ConfigError, ImageError
from solobox.images.drawing import PREDICTED
from solobox.images.reading import ImageInput, decode
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import NetworkInput, Pixels, Predictor, RawOutput, resize_to_square

BOX = np.array([10.0, 6.0, 30.0, 24.0])


class Middle(Predictor):
    """Always predicts the middle of the image."""

    calibration = None
    batch_size = 2
    has_presence = has_familiarity = False

    def preprocess(self, image: ImageInput) -> NetworkInput:
        return resize_to_square(image, 8)

    def infer(self, pixels: Pixels) -> RawOutput:
        n = len(pixels)
        nan = np.full(n, np.nan)
        return RawOutput(np.tile([0.25, 0.2, 0.75, 0.8], (n, 1)), np.full((n, 4), np.nan), nan, nan)


def pixels(width: int = 40, height: int = 30) -> Pixels:
    return np.full((height, width, 3), 90, np.uint8)


def has_color(image: Image.Image) -> bool:
    return bool((np.asarray(image) == PREDICTED).all(axis=-1).any())


class TestPlot:
    def test_the_file_is_opened_again(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        Image.fromarray(pixels()).save(path)
        drawn = Middle().predict(path).plot()
        assert drawn.size == (40, 30)
        assert has_color(drawn)

    @pytest.mark.parametrize("kind", ["array", "PIL", "bytes"])
    def test_an_image_in_memory_is_kept(self, kind: str) -> None:
        image: Any = pixels()
        if kind != "array":
            image = Image.fromarray(image)
        if kind == "bytes":
            with io.BytesIO() as stream:
                image.save(stream, "PNG")
                image = stream.getvalue()
        prediction = Middle().predict(image)
        assert prediction.source is image
        assert has_color(prediction.plot())

    def test_a_stream_keeps_no_images(self) -> None:
        (prediction,) = Middle().stream([pixels()])
        assert prediction.source is None
        with pytest.raises(ConfigError, check=lambda error: error.code == "no-image"):
            prediction.plot()
        assert has_color(prediction.plot(pixels()))

    def test_the_band_of_the_margins_is_tinted(self) -> None:
        plain = Prediction("a", BOX, (40, 30))
        banded = Prediction("a", BOX, (40, 30), lower=BOX - 3, upper=BOX + 3)
        before, after = (np.asarray(each.plot(pixels())).astype(int) for each in (plain, banded))
        assert (before[4, 20] == 90).all()
        assert (after[4, 20] != 90).any()

    def test_it_is_reduced_with_its_box(self) -> None:
        drawn = np.asarray(Prediction("a", BOX * 100, (4000, 3000)).plot(pixels(4000, 3000), max_side=400))
        assert drawn.shape == (300, 400, 3)
        rows, columns = np.nonzero((drawn == PREDICTED).all(axis=-1))
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == (100, 60, 299, 239)

    def test_an_image_of_another_size_is_refused(self) -> None:
        prediction = Prediction("a", BOX, (40, 30))
        for plot in (prediction.plot, lambda image: solobox.draw(image, prediction)):
            with pytest.raises(ImageError, check=lambda error: error.code == "image-changed"):
                plot(pixels(80, 60))

    def test_without_a_box_it_says_so(self) -> None:
        drawn = Prediction("a", size=(200, 150)).plot(pixels(200, 150))
        assert has_color(drawn)

    def test_a_broken_file_raises_its_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"no image")
        prediction = Middle().predict(tmp_path / "a.png")
        assert prediction.error
        with pytest.raises(ImageError):
            prediction.plot()
        assert prediction._repr_png_() is None


def test_a_box_that_is_not_finite_is_an_error_and_not_an_absent_object() -> None:
    nan = np.full(3, np.nan)
    boxes = np.array([[0.1, 0.1, 0.9, 0.9], [0.1, np.nan, 0.9, 0.9], [0.1, 0.1, np.inf, 0.9]])
    output = RawOutput(boxes, np.full((3, 4), np.nan), nan, nan)
    rows = Middle().postprocess(output, [(40, 30)] * 3, ["a", "b", "c"])
    assert [bool(row.error) for row in rows] == [False, True, True]
    assert [row.has_box for row in rows] == [True, False, False]


class TestNotebook:
    def test_it_shows_itself_small(self) -> None:
        png = Middle().predict(pixels(1600, 900))._repr_png_()
        assert png is not None
        assert max(decode(png).size) == 640

    def test_where_there_is_no_image_its_text_is_shown(self) -> None:
        assert Prediction("frame 3", BOX)._repr_png_() is None


class TestSupervision:
    def test_one_detection(self) -> None:
        found = Prediction("a.jpg", BOX, (40, 30), presence=0.75).to_supervision()
        assert isinstance(found, supervision.Detections)
        np.testing.assert_array_equal(found.xyxy, [BOX])
        np.testing.assert_array_equal(found.confidence, [0.75])
        np.testing.assert_array_equal(found.class_id, [0])
        np.testing.assert_array_equal(found.data["image"], ["a.jpg"])

    def test_no_presence_is_no_confidence(self) -> None:
        assert Prediction("a.jpg", BOX).to_supervision().confidence is None

    def test_no_box_is_no_detection(self) -> None:
        assert len(Prediction("a.jpg").to_supervision()) == 0

    def test_it_is_merged_and_drawn(self) -> None:
        found = [Prediction(name, BOX, (40, 30)).to_supervision() for name in ("a.jpg", "b.jpg")]
        merged = supervision.Detections.merge(found)
        assert list(merged.data["image"]) == ["a.jpg", "b.jpg"]
        drawn = supervision.BoxAnnotator(thickness=1).annotate(pixels(), merged)
        changed = np.nonzero((drawn != pixels()).any(axis=2))
        assert (changed[1].min(), changed[0].min(), changed[1].max(), changed[0].max()) == (10, 6, 30, 24)


def test_without_supervision_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["supervision"] = None
from solobox import Prediction
try:
    Prediction("a").to_supervision()
except Exception as error:
    print(error.code, "pip install supervision" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["missing-package", "True"]


def test_how_unsure_a_box_is_does_not_depend_on_its_size() -> None:
    def unsure(box: np.ndarray, std: float) -> float:
        return Prediction("a.jpg", box, (400, 300), std=np.full(4, std)).relative_std

    assert unsure(np.array([0.0, 0.0, 40.0, 10.0]), 2.0) == pytest.approx(0.1)
    assert unsure(np.array([0.0, 0.0, 80.0, 20.0]), 4.0) == pytest.approx(0.1)
    assert unsure(np.array([5.0, 0.0, 5.0, 20.0]), 4.0) == np.inf
    assert np.isnan(unsure(BOX, np.nan))
    assert np.isnan(Prediction("a.jpg").relative_std)

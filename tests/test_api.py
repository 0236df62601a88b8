"""The public API as a program uses it: `import solobox` alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import solobox
from solobox import synthetic
from solobox.images.drawing import PREDICTED, TRUTH

BOX = (10, 6, 30, 24)


def colors(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.asarray(image).reshape(-1, 3).tolist()} & {PREDICTED, TRUTH}


@pytest.fixture(scope="module")
def localizer() -> solobox.Localizer:
    """With random weights."""
    return solobox.Localizer(solobox.Architecture(size=64, width=16, bins=8), pretrained="bundled").eval()


class TestPredict:
    def test_one_in_one_out_a_list_in_a_list_out(self, localizer: solobox.Localizer) -> None:
        pixels = synthetic.draw(3, (60, 40)).pixels
        one = localizer.predict(pixels)
        assert isinstance(one, solobox.Prediction)
        assert one.size == (60, 40)
        several = localizer.predict([pixels, Image.fromarray(pixels)])
        assert [each.size for each in several] == [(60, 40)] * 2
        np.testing.assert_allclose(several[1].box, one.box, atol=1e-3)

    @pytest.mark.parametrize("wrong", [3, None, {"image": 1}])
    def test_a_wrong_type_says_what_is_accepted(self, localizer: solobox.Localizer, wrong: object) -> None:
        with pytest.raises(TypeError, match="a PIL image"):
            localizer.predict(wrong)  # type: ignore[call-overload]


class TestLoad:
    def test_a_folder_and_a_file(self, tmp_path: Path) -> None:
        localizer = solobox.Localizer(
            solobox.Architecture(size=64, width=16, backbone="test_efficientnet")
        ).eval()
        localizer.save(tmp_path / "run")
        assert isinstance(solobox.load(tmp_path / "run"), solobox.Localizer)
        localizer.export(tmp_path / "m.onnx")
        assert isinstance(solobox.load(str(tmp_path / "m.onnx")), solobox.OnnxModel)

    def test_anything_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(solobox.ConfigError, check=lambda error: error.code == "not-found"):
            solobox.load(tmp_path / "gone")
        (tmp_path / "m.pt").write_bytes(b"")
        with pytest.raises(solobox.ConfigError, check=lambda error: error.code == "unknown-model"):
            solobox.load(tmp_path / "m.pt")


class TestDraw:
    image = np.full((30, 40, 3), 90, np.uint8)

    def test_a_prediction_a_box_and_the_truth(self) -> None:
        assert colors(solobox.draw(self.image)) == set()
        assert colors(solobox.draw(self.image, BOX)) == {PREDICTED}
        prediction = solobox.Prediction("a", np.array(BOX), (40, 30))
        assert colors(solobox.draw(self.image, prediction, true_box=[20, 3, 38, 20])) == {PREDICTED, TRUTH}
        assert colors(solobox.draw(self.image, [BOX, BOX])) == {PREDICTED}

    def test_another_shape_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(n, 4\)"):
            solobox.draw(self.image, [1, 2, 3])


class TestCheck:
    def test_a_file_and_a_dataset(self, tmp_path: Path) -> None:
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
        (tmp_path / "labels.csv").write_text("image,x1,y1,x2,y2\na.png,1,2,30,20\ngone.png,1,2,30,20\n")
        diagnosis = solobox.check(tmp_path / "labels.csv")
        assert [each.code for each in diagnosis.errors] == ["missing-file"]
        assert "gone.png" in str(diagnosis)
        dataset = solobox.Dataset.read(tmp_path / "labels.csv", skip_bad=True)
        assert solobox.check(dataset).errors == ()

    def table(self, folder: Path) -> Path:
        """Boxes as x, y, width, height whose names say nothing, and images in another folder."""
        (folder / "photos").mkdir()
        Image.new("L", (40, 30)).save(folder / "photos" / "a.png")
        (folder / "labels").mkdir()
        path = folder / "labels" / "boxes.csv"
        path.write_text('photo,face\na.png,"[30, 20, 10, 6]"\n')
        return path

    def test_images_and_layout(self, tmp_path: Path) -> None:
        path = self.table(tmp_path)
        assert "missing-file" in {each.code for each in solobox.check(path).errors}
        images = tmp_path / "photos"
        assert [each.code for each in solobox.check(path, images=str(images)).errors] == ["corners-swapped"]
        diagnosis = solobox.check(path, "headers", images=images, layout="xywh")
        assert [each.code for each in diagnosis.errors] == []
        assert [each.box for each in diagnosis.annotations.records] == [(30, 20, 40, 26)]
        with pytest.raises(solobox.ConfigError, check=lambda error: error.code == "unknown-layout"):
            solobox.check(path, layout="corners")

    @pytest.mark.parametrize("options", [{"images": "."}, {"layout": "xywh"}])
    def test_a_dataset_has_both(self, tmp_path: Path, options: dict[str, str]) -> None:
        path = self.table(tmp_path)
        data = solobox.Dataset.read(path, tmp_path / "photos", layout="xywh")
        assert solobox.check(data).n_images == 1
        with pytest.raises(ValueError, match=r"Dataset\.read"):
            solobox.check(data, "headers", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_openvino", "few_steps")
class TestJudging:
    """The two that train for themselves, on data as small as they take."""

    recipe = solobox.Recipe(architecture=solobox.Architecture(size=64, width=16, bins=8), crops=1, epochs=2)

    @pytest.fixture(scope="class")
    def dataset(self) -> solobox.Dataset:
        drawn = [synthetic.draw(seed, (64, 48)) for seed in range(40)]
        return solobox.Dataset.from_arrays([each.pixels for each in drawn], [each.box for each in drawn])

    def test_audit(self, dataset: solobox.Dataset) -> None:
        found = solobox.audit(dataset, self.recipe, folds=2)
        assert sorted(each.row for each in found.findings) == list(range(40))

    def test_learning_curve(self, dataset: solobox.Dataset) -> None:
        curve = solobox.learning_curve(dataset, self.recipe, repetitions=3)
        assert {point.kind for point in curve.points} == {"measured", "expected"}

    def test_images_in_memory_are_trained_on_and_evaluated(
        self, dataset: solobox.Dataset, tmp_path: Path
    ) -> None:
        model = solobox.train(dataset, tmp_path / "run", self.recipe)
        evaluation = solobox.evaluate(model, dataset)
        assert 0 < evaluation.metrics.n < len(dataset)
        assert 0 <= evaluation.metrics.mean_iou <= 1

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported_models import localizer_of, usual_localizer

from solobox import synthetic
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.export import exporter
from solobox.export.exporter import export
from solobox.export.graph import ExportGraph
from solobox.export.onnx_file import weights_license
from solobox.export.parity import compare
from solobox.images.reading import read
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import METADATA, OnnxModel, OnnxRuntime
from solobox.predict.predictor import PredictOptions


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return usual_localizer()


@pytest.fixture
def file(exported_file: Path) -> Path:
    return exported_file


@pytest.fixture
def traced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes seconds; tests of other things use its result."""
    monkeypatch.setattr(exporter, "to_onnx", lambda graph, metadata: onnx.load(file))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("labelled"), 24, seed=3, empty_share=0.2)


def code_of_refusal(localizer: Localizer, path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        export(localizer, path, **options)
    return error.value.code


def test_images_of_any_size_and_number_give_what_pytorch_gives(localizer: Localizer, file: Path) -> None:
    graph, engine = ExportGraph(localizer).eval(), OnnxRuntime(file, 1)
    assert engine.outputs == graph.outputs
    assert engine.outputs == ("boxes", "std", "lower", "upper", "outer", "presence", "familiarity")
    rng = np.random.default_rng(0)
    for count, height, width in (
        (1, 64, 64),
        (3, 50, 99),
        (2, 300, 200),
        (1, 1, 1),
        (1, 2, 700),
        (5, 129, 65),
    ):
        coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 4, 5))).float()
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        pixels = smooth.permute(0, 2, 3, 1).byte().contiguous().numpy()
        with torch.inference_mode():
            expected = graph(torch.from_numpy(pixels))
        actual = engine.run(pixels, graph.outputs)
        for name, tensor in zip(graph.outputs, expected[:-1], strict=True):
            assert actual[name].shape == tensor.shape
            assert actual[name].dtype == np.float32
            np.testing.assert_allclose(
                actual[name], tensor.numpy(), atol=0.2, err_msg=f"{name} {height}x{width}"
            )
        assert (actual["boxes"] >= 0).all()
        assert (actual["boxes"] <= [width, height, width, height]).all()
        assert (actual["lower"] <= actual["boxes"][:, None]).all()
        assert (actual["upper"] >= actual["boxes"][:, None]).all()


def test_the_exported_file_predicts_what_the_run_predicts(
    localizer: Localizer, file: Path, labelled: Dataset
) -> None:
    model = OnnxModel.load(file)
    for options in (PredictOptions(), PredictOptions(margins=0.9), PredictOptions(outer=0.8)):
        for a, b in zip(
            localizer.stream(labelled.images, options),
            model.stream(labelled.images, options),
            strict=True,
        ):
            assert (a.image, a.size, a.error) == (b.image, b.size, b.error)
            for name in ("box", "std", "lower", "upper"):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=0.01)
            assert a.presence == pytest.approx(b.presence, abs=1e-4)
            assert a.familiarity == pytest.approx(b.familiarity, abs=1e-3)


def test_the_graphs_margins_are_those_of_the_calibration(
    localizer: Localizer, file: Path, labelled: Dataset
) -> None:
    pixels = read(labelled.paths[0]).pixels
    graph = ExportGraph(localizer)
    assert graph.levels == (0.5, 0.8, 0.9, 0.95)  # 60 images are too few for 0.99
    actual = OnnxRuntime(file, 1).run(pixels[np.newaxis], graph.outputs)
    for index, level in enumerate(graph.levels):
        both = OnnxModel.load(file).predict(pixels, margins=level)
        np.testing.assert_allclose(actual["lower"][0, index], both.lower, atol=0.3)
        np.testing.assert_allclose(actual["upper"][0, index], both.upper, atol=0.3)
        one = OnnxModel.load(file).predict(pixels, outer=level)
        np.testing.assert_allclose(actual["outer"][0, index], one.outer, atol=0.3)


@pytest.mark.parametrize(
    ("changes", "knows"),
    [
        (
            {
                "vectorizer": "gap", "head": "regression", "box": "center_size", "backbone": "test_resnet",
                "extra": (32,),
            },
            True,
        ),
        ({"vectorizer": "flatten", "head": "distribution", "backbone": "test_efficientnet"}, False),
        ({"backbone": "test_efficientnet", "refinements": 2, "detail": 3}, True),
    ],
)  # fmt: skip
def test_other_architectures_too(changes: dict[str, Any], knows: bool, tmp_path: Path) -> None:
    localizer = localizer_of(knows=knows, **changes)
    result = export(localizer, tmp_path / "m.onnx")
    assert ("std" in result.outputs) == (changes.get("head") != "regression")
    assert (
        ("presence" in result.outputs)
        == ("lower" in result.outputs)
        == ("familiarity" in result.outputs)
        == knows
    )
    model = OnnxModel.load(tmp_path / "m.onnx")
    assert (model.has_presence, model.has_familiarity) == (knows, knows)
    pixels = synthetic.draw(1, (90, 70)).pixels
    mine, theirs = localizer.predict(pixels), model.predict(pixels)
    np.testing.assert_allclose(mine.box, theirs.box, atol=0.01)
    np.testing.assert_allclose(mine.lower, theirs.lower, atol=0.02)


def test_the_metadata_has_no_path_of_this_machine(file: Path) -> None:
    model = onnx.load(file)
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA])
    assert about["side"] == 64
    assert about["levels"] == [0.5, 0.8, 0.9, 0.95]
    metadata = OnnxModel.load(file).metadata
    assert set(metadata) >= {"backbone", "weights_license", "exported_by"}
    content = file.read_bytes()
    for folder in (Path(exporter.__file__).parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in content
    assert b".py" not in content


@pytest.mark.parametrize(
    ("pretrained", "text"),
    [
        ("bundled", "Apache-2.0"),
        ("none", "your own"),
        ("weights.pth", "weights.pth"),
        ("hub", "timm tf_efficientnet_lite0"),
    ],
)
def test_the_licence_of_the_weights(pretrained: str, text: str) -> None:
    other = localizer_of(knows=False, backbone="tf_efficientnet_lite0")
    other.metadata = {"recipe": {"pretrained": pretrained}}
    assert text in weights_license(other)
    other.metadata = {}
    assert "unknown" in weights_license(other)


def test_a_graph_that_predicts_something_else_is_not_written(
    localizer: Localizer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_graph: ExportGraph, _metadata: Any) -> onnx.ModelProto:
        model = onnx.load(file)
        for tensor in model.graph.initializer:
            if tensor.name.startswith("localizer.head"):
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 3, tensor.name)
                )
        return model

    monkeypatch.setattr(exporter, "to_onnx", wrong)
    (tmp_path / "m.onnx").write_text("what was there")
    assert code_of_refusal(localizer, tmp_path / "m.onnx") == "export-differs"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "what was there"


def test_an_export_without_its_training_images_is_compared_on_others(
    localizer: Localizer, file: Path, labelled: Dataset, tmp_path: Path
) -> None:
    synthetic = compare(localizer, file, [])
    assert (synthetic.real, synthetic.failures()) == (0, [])
    there = [*labelled.images[:3], tmp_path / "gone.jpg"]
    both = compare(localizer, file, there)
    assert (both.real, both.count, both.failures()) == (3, synthetic.count + 3, [])


@pytest.mark.usefixtures("traced")
def test_images_that_the_run_recorded_are_compared_and_those_of_check_before_them(
    localizer: Localizer, labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localizer, "metadata", {"sample_images": [str(path) for path in labelled.images[:5]]})
    assert export(localizer, tmp_path / "m.onnx").parity.real == 5
    assert export(localizer, tmp_path / "m.onnx", check=labelled).parity.real == len(labelled)
    gone = Dataset([tmp_path / "gone.jpg"], [[1, 2, 3, 4]])
    assert code_of_refusal(localizer, tmp_path / "m.onnx", check=gone) == "images-unreadable"


@pytest.mark.usefixtures("traced")
def test_int8_is_calibrated_measured_and_refused(
    localizer: Localizer, labelled: Dataset, tmp_path: Path
) -> None:
    assert code_of_refusal(localizer, tmp_path / "m.onnx", int8=True) == "int8-needs-images"
    too_much = {"int8": True, "check": labelled, "max_loss": -1}
    assert code_of_refusal(localizer, tmp_path / "m.onnx", **too_much) == "int8-accuracy"
    assert not list(tmp_path.iterdir())
    result = export(localizer, tmp_path / "m.onnx", int8=True, check=labelled, max_loss=1)
    plain = export(localizer, tmp_path / "plain.onnx", check=labelled)
    assert result.bytes < 0.5 * plain.bytes
    assert result.accuracy is not None
    assert result.accuracy.count == int(labelled.has_box[1::2].sum())
    integers, floats = OnnxModel.load(tmp_path / "m.onnx"), OnnxModel.load(tmp_path / "plain.onnx")
    assert integers.metadata == floats.metadata
    pixels = synthetic.draw(1, (90, 70)).pixels
    a, b = integers.predict(pixels), floats.predict(pixels)
    assert not np.array_equal(a.box, b.box)
    np.testing.assert_allclose(a.box, b.box, atol=25)


@pytest.mark.usefixtures("traced")
def test_float16_halves_the_file_and_hardly_moves_the_box(
    localizer: Localizer, labelled: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "m.onnx"
    assert code_of_refusal(localizer, file, float16=True) == "float16-needs-images"
    assert code_of_refusal(localizer, file, float16=True, int8=True, check=labelled) == "options-conflict"
    assert code_of_refusal(localizer, file, float16=True, check=labelled, max_loss=-1) == "float16-accuracy"
    assert not list(tmp_path.iterdir())
    result = export(localizer, file, float16=True, check=labelled)
    plain = export(localizer, tmp_path / "plain.onnx", check=labelled)
    assert result.bytes < 0.55 * plain.bytes
    assert result.accuracy is not None
    assert result.accuracy.count == int(labelled.has_box.sum())
    halves, floats = OnnxModel.load(file), OnnxModel.load(tmp_path / "plain.onnx")
    pixels = synthetic.draw(1, (90, 70)).pixels
    a, b = halves.predict(pixels), floats.predict(pixels)
    assert not np.array_equal(a.box, b.box)
    np.testing.assert_allclose(a.box, b.box, atol=0.5)


@pytest.mark.usefixtures("traced")
def test_for_triton_a_folder_that_fits_its_schema(localizer: Localizer, tmp_path: Path) -> None:
    from google.protobuf import text_format

    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.submodule_search_locations is not None
    schema = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", schema)
    assert spec is not None
    assert spec.loader is not None
    messages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(messages)

    result = export(localizer, tmp_path / "models" / "face", target="triton")
    text = (tmp_path / "models" / "face" / "config.pbtxt").read_text()
    config = text_format.Parse(text, messages.ModelConfig())
    assert config.name == "face"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert [each.name for each in config.output] == list(result.outputs)
    assert list(config.input[0].dims) == [-1, -1, 3]
    assert config.input[0].data_type == messages.TYPE_UINT8
    assert {each.data_type for each in config.output} == {messages.TYPE_FP32}
    by_name = {each.name: each for each in config.output}
    assert list(by_name["lower"].dims) == [4, 4]
    assert list(by_name["presence"].dims) == [1]
    assert by_name["presence"].HasField("reshape")
    OnnxModel.load(tmp_path / "models" / "face" / "1" / "model.onnx")
    assert code_of_refusal(localizer, tmp_path / "models" / "face", target="triton") == "path-invalid"


@pytest.mark.parametrize(
    ("name", "target"), [("model", "onnx"), ("folder.onnx", "onnx"), ("model.onnx", "triton")]
)
def test_invalid_paths(localizer: Localizer, tmp_path: Path, name: str, target: Any) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert code_of_refusal(localizer, tmp_path / name, target=target) == "path-invalid"


@pytest.mark.usefixtures("traced")
def test_a_path_that_cannot_be_written(localizer: Localizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        export(localizer, tmp_path / "file" / "m.onnx")


def test_a_model_of_native_size_is_not_exported(tmp_path: Path) -> None:
    native = localizer_of(knows=False, size="native", vectorizer="gap", head="regression")
    assert code_of_refusal(native, tmp_path / "m.onnx") == "size-native"

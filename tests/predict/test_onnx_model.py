import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from solobox import synthetic
from solobox.errors import ConfigError
from solobox.predict.onnx_model import METADATA, OnnxModel
from solobox.predict.predictor import PredictOptions


@pytest.fixture
def file(exported_file: Path) -> Path:
    return exported_file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    dataset = synthetic.write(folder, 30, seed=4)
    images = [str(image) for image in dataset.images]
    Path(images[7]).write_bytes(Path(images[7]).read_bytes()[:500])
    return [*images, str(folder / "missing.jpg")]


def test_a_stream_gives_one_row_each_in_order_whatever_the_threads(file: Path, images: list[str]) -> None:
    model = OnnxModel.load(file)
    streamed = list(model.stream(images, PredictOptions(margins=0.9)))
    assert [one.image for one in streamed] == images
    assert [bool(one.error) for one in streamed] == [n in (7, 30) for n in range(31)]
    for one in streamed:
        alone = model.predict(one.image, margins=0.9)
        np.testing.assert_allclose(one.box, alone.box, atol=1e-3)
        np.testing.assert_allclose(one.lower, alone.lower, atol=1e-2)
        assert one.error == alone.error
    assert list(model.stream([])) == []


def test_what_an_image_may_be(file: Path, tmp_path: Path) -> None:
    model = OnnxModel.load(file, threads=1)
    path = tmp_path / "a.png"  # a JPEG would be decoded at reduced size
    pixels = synthetic.draw(3, (150, 110)).pixels
    Image.fromarray(pixels).save(path)
    by_path, by_bytes, by_pixels, wrong = model.predict([path, path.read_bytes(), pixels, np.zeros((3, 3))])
    np.testing.assert_allclose(by_path.box, by_bytes.box, atol=1e-4)
    np.testing.assert_allclose(by_path.box, by_pixels.box, atol=1e-4)
    assert "(h, w, 3) uint8" in wrong.error


def test_a_stream_may_be_left_early_and_reads_little_ahead(file: Path, images: list[str]) -> None:
    taken = []

    def endless() -> Iterator[str]:
        for number in range(10_000):
            taken.append(number)
            yield images[0]

    stream = OnnxModel.load(file).stream(endless())
    for _ in range(3):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) < 200


def test_openvino_gives_the_same_boxes(file: Path, images: list[str]) -> None:
    pytest.importorskip("openvino")
    plain, other = OnnxModel.load(file), OnnxModel.load(file, runtime="openvino")
    assert other.runtime.startswith("openvino")
    for a, b in zip(plain.predict(images[:6]), other.predict(images[:6]), strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=0.05)
        assert a.presence == pytest.approx(b.presence, abs=1e-3)


def foreign(path: Path, **about: object) -> Path:
    given = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 2, 2, 3])
    made = helper.make_tensor_value_info("out", TensorProto.UINT8, [1, 2, 2, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["out"])], "g", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if about:
        helper.set_model_props(model, {METADATA: json.dumps(about)})
    onnx.save(model, path)
    return path


def test_files_that_are_no_model_of_ours(file: Path, tmp_path: Path) -> None:
    cases = {
        "missing.onnx": "model-missing",
        "half.onnx": "model-damaged",
        "text.onnx": "model-damaged",
        "empty.onnx": "model-damaged",
        "foreign.onnx": "model-foreign",
        "newer.onnx": "model-outdated",
        "hollow.onnx": "model-damaged",
    }
    (tmp_path / "half.onnx").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    foreign(tmp_path / "foreign.onnx")
    foreign(tmp_path / "newer.onnx", format=99)
    foreign(tmp_path / "hollow.onnx", format=1)
    for name, code in cases.items():
        with pytest.raises(ConfigError) as error:
            OnnxModel.load(tmp_path / name)
        assert error.value.code == code
        assert name in str(error.value)
    with pytest.raises(ConfigError) as error:
        OnnxModel.load(tmp_path)
    assert error.value.code == "model-missing"


def test_a_level_that_it_has_no_margins_for(file: Path, images: list[str]) -> None:
    with pytest.raises(ConfigError, match="need 99 held-out images"):
        OnnxModel.load(file).predict(images[0], margins=0.99)


def test_no_torch_is_needed(file: Path, images: list[str]) -> None:
    code = f"""
import sys
for name in ("torch", "torchvision", "timm", "lightning_fabric", "openvino", "matplotlib", "jinja2", "safetensors",
             "onnx", "onnxscript", "scipy", "av", "ray", "pyarrow", "cv2"):
    sys.modules[name] = None
from solobox import OnnxModel
print(OnnxModel.load({str(file)!r}).predict({images[0]!r}).size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    with Image.open(images[0]) as image:
        assert done.stdout.strip() == str(image.size), done.stderr

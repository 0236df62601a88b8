"""Mutations that the comparison before an export must refuse: each is a mistake that others have made."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from exported_models import usual_localizer
from onnx import helper, numpy_helper
from PIL import Image

from solobox.errors import ConfigError
from solobox.export import parity as parity_module
from solobox.export.graph import SQUARES
from solobox.export.parity import compare, require_parity
from solobox.images.reading import DecodedImage, decode, to_square
from solobox.model.localizer import Localizer
from solobox.predict.predictor import NetworkInput

Pixels = npt.NDArray[np.uint8]
Mutation = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return usual_localizer()


@pytest.fixture
def file(exported_file: Path) -> Path:
    return exported_file


@pytest.fixture(scope="module", autouse=True)
def few_images(localizer: Localizer, exported_file: Path) -> Iterator[None]:
    """Fewer synthetic images than before an export, and none large. The fixtures named here were made with all."""
    sizes = ((64, 48), (97, 211), (224, 224), (333, 500), (1500, 90))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity_module, "SYNTHETIC_SIZES", sizes)
        yield


def test_the_graph_as_it_is_passes(localizer: Localizer, file: Path) -> None:
    assert compare(localizer, file, []).failures() == []


def constant(model: onnx.ModelProto, values: Any) -> str:
    name = f"mutation_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return name


def insert(model: onnx.ModelProto, tensor: str, operator: str, values: Any, **attributes: Any) -> None:
    """Between a tensor and all that reads it; for an output of the model, before it."""
    nodes = model.graph.node
    other = constant(model, values)
    at = next(index for index, node in enumerate(nodes) if tensor in node.output)
    if any(tensor == output.name for output in model.graph.output):
        names = list(nodes[at].output)
        nodes[at].output[names.index(tensor)] = f"{tensor}_before"
        new = helper.make_node(operator, [f"{tensor}_before", other], [tensor], **attributes)
    else:
        for node in nodes:
            for index, name in enumerate(node.input):
                if name == tensor:
                    node.input[index] = f"{tensor}_after"
        new = helper.make_node(operator, [tensor, other], [f"{tensor}_after"], **attributes)
    nodes.insert(at + 1, new)


def resize_of(model: onnx.ModelProto) -> Any:
    # The head has others, which come later.
    return next(node for node in model.graph.node if node.op_type == "Resize")


def resized_with(**changes: Any) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        node = resize_of(model)
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(k, v) for k, v in (kept | changes).items())

    return mutate


def rounded_by(operator: str) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        (node,) = [node for node in model.graph.node if node.op_type == "Round"]
        node.op_type = operator

    return mutate


def scaled(initializer: str, factor: float) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        (tensor,) = [each for each in model.graph.initializer if each.name == initializer]
        values = numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), initializer))

    return mutate


def other_channel_order(after: Callable[[onnx.ModelProto], str]) -> Mutation:
    return lambda model: insert(model, after(model), "Gather", np.array([2, 1, 0]), axis=1)


def added(tensor: str, value: float) -> Mutation:
    return lambda model: insert(model, tensor, "Add", np.float32(value))


def multiplied(tensor: str, value: float) -> Mutation:
    return lambda model: insert(model, tensor, "Mul", np.float32(value))


GRAPHS: dict[str, tuple[Mutation, str]] = {
    "BGR before the resize": (other_channel_order(lambda model: resize_of(model).output[0]), "resize"),
    "BGR after the resize": (other_channel_order(lambda _: SQUARES), "network"),
    "resize: nearest": (
        resized_with(
            mode="nearest", nearest_mode="floor", antialias=0, exclude_outside=0,
            coordinate_transformation_mode="asymmetric",
        ),
        "resize",
    ),
    "resize: no antialiasing": (resized_with(antialias=0, exclude_outside=0), "resize"),
    "resize: corners aligned": (resized_with(coordinate_transformation_mode="align_corners"), "resize"),
    "resize: half a pixel off": (resized_with(coordinate_transformation_mode="asymmetric"), "resize"),
    "resize: bicubic": (resized_with(mode="cubic"), "resize"),
    "grey values cut off": (rounded_by("Floor"), "resize"),
    "grey values not rounded": (rounded_by("Identity"), "resize"),
    "normalisation: mean one grey level off": (added(SQUARES, 1), "network"),
    "normalisation: deviation 1% off": (multiplied(SQUARES, 1.01), "network"),
    "normalisation: 0..1 instead of 0..255": (multiplied(SQUARES, 1 / 255), "network"),
    "boxes half a pixel off": (added("boxes", 0.5), "network"),
    "std": (multiplied("std", 1.01), "network"),
    "lower margins": (added("lower", 0.5), "network"),
    "upper margins": (added("upper", 0.5), "network"),
    "outer margins": (added("outer", 0.5), "network"),
    "presence": (multiplied("presence", 0.99), "network"),
    "familiarity": (scaled("familiarity.mean", 1.1), "network"),
    "not a number": (multiplied("upper", np.nan), "network"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_mutated_graph_is_refused(name: str, localizer: Localizer, file: Path, tmp_path: Path) -> None:
    mutate, check = GRAPHS[name]
    model = onnx.load(file)
    mutate(model)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "mutated.onnx")
    parity = compare(localizer, tmp_path / "mutated.onnx", [])
    assert check in parity.failures(), str(parity)
    with pytest.raises(ConfigError) as error:
        require_parity(parity)
    assert error.value.code == "export-differs"


def without_exif(source: Any, **_: Any) -> DecodedImage:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return DecodedImage(np.array(image.convert("RGB")), image.size)


def rotated_pixels_alone(source: Any, **_: Any) -> DecodedImage:
    """The size is that of the upright image, and its pixels lie on their side."""
    image = without_exif(source)
    return DecodedImage(image.pixels, image.size[::-1])


def nearest(pixels: Pixels, side: int) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST))


def bgr(pixels: Pixels, side: int) -> Pixels:
    return to_square(np.ascontiguousarray(pixels[:, :, ::-1]), side)


def shifted(pixels: Pixels, side: int) -> Pixels:
    moved = Image.fromarray(pixels).resize(
        (side, side), Image.Resampling.BILINEAR, box=(0.5, 0.5, pixels.shape[1], pixels.shape[0])
    )
    return np.array(moved)


def resized_by(resize: Any) -> Any:
    """`resize_to_square` with another resize."""

    def mutated(image: Any, side: int, **_: Any) -> NetworkInput:
        decoded = decode(image)
        return NetworkInput(resize(decoded.pixels, side), decoded.size)

    return mutated


@pytest.mark.parametrize(
    ("target", "replacement", "check"),
    [
        ("solobox.images.reading.read", without_exif, "files"),
        ("solobox.images.reading.read", rotated_pixels_alone, "files"),
        ("solobox.predict.onnx_model.resize_to_square", resized_by(nearest), "files"),
        ("solobox.predict.onnx_model.resize_to_square", resized_by(bgr), "files"),
        ("solobox.predict.onnx_model.resize_to_square", resized_by(shifted), "files"),
        ("solobox.model.localizer.resize_to_square", resized_by(bgr), "network"),
        ("solobox.model.localizer.resize_to_square", resized_by(shifted), "resize"),
        # both runtimes wrong in the same way
        ("solobox.predict.predictor.to_square", nearest, "resize"),
        ("solobox.predict.predictor.to_square", bgr, "resize"),
        ("solobox.predict.predictor.to_square", shifted, "resize"),
    ],
)
def test_mutated_preprocessing_is_refused(
    target: str,
    replacement: Any,
    check: str,
    localizer: Localizer,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target, replacement)
    parity = compare(localizer, file, [])
    assert check in parity.failures(), str(parity)

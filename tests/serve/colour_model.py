"""A model file in the form of our exports, made by hand: its boxes follow from the mean colour of the image."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from solobox.uncertainty.conformal import Calibration

SIDE = 32

_START = np.array([0.1, 0.2, 0.5, 0.6], np.float32)
_BY_COLOUR = np.array([[0.2, 0, 0.3, 0], [0, 0.2, 0, 0.3], [0, 0, 0.1, 0.05]], np.float32)


def calibration() -> Calibration:
    rng = np.random.default_rng(0)
    truth = np.tile([0.2, 0.2, 0.7, 0.7], (200, 1))
    return Calibration.fit(truth, truth + rng.normal(0, 0.02, truth.shape), np.full_like(truth, 0.02))


def write_model(
    path: Path,
    *,
    calibrated: bool = True,
    figures: bool = True,
    metadata: Any = None,
    n_reference: Any = None,
) -> Path:
    """figures: spread, presence and familiarity, beside the boxes. n_reference: of familiarity, None as before it."""
    constants = {
        "axes": np.array([1, 2]), "of_255": np.float32(255), "start": _START, "by_colour": _BY_COLOUR,
        "side": np.float32(SIDE), "sure": np.full((1, 4), 0.02 * SIDE, np.float32),
        "first": np.array([0]), "second": np.array([1]), "third": np.array([2]), "last": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "of_255"], ["colour"]),
        helper.make_node("MatMul", ["colour", "by_colour"], ["moved"]),
        helper.make_node("Add", ["moved", "start"], ["fractions"]),
        helper.make_node("Mul", ["fractions", "side"], ["boxes"]),
    ]
    outputs = [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4])]
    if figures:
        nodes += [
            helper.make_node("Mul", ["boxes", "of_255"], ["anything"]),
            helper.make_node("Sub", ["anything", "anything"], ["nothing"]),
            helper.make_node("Add", ["nothing", "sure"], ["std"]),
        ]
        outputs.append(helper.make_tensor_value_info("std", TensorProto.FLOAT, ["N", 4]))
        for name, at in (("presence", "first"), ("familiarity", "second")):
            nodes += [
                helper.make_node("Gather", ["colour", at], [f"{name}_column"], axis=1),
                helper.make_node("Squeeze", [f"{name}_column", "last"], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]))
    shape: list[str | int | None] = ["N", "H", "W", 3]
    graph = helper.make_graph(
        nodes,
        "by_colour",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    about: dict[str, Any] = {
        "format": 1,
        "side": SIDE,
        "levels": [],
        "margins": calibration().to_dict() if calibrated else None,
        "metadata": metadata or {},
        "n_reference": n_reference,
    }
    helper.set_model_props(model, {"solobox": json.dumps(about)})
    onnx.save(model, path)
    return path


def expected_box(colour: tuple[int, int, int], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The box of an image of one colour, in pixels."""
    fractions = _START + np.array(colour) / 255 @ _BY_COLOUR
    return np.asarray(fractions * np.array([*size, *size]), dtype=np.float64)


def image(
    colour: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (80, 60), kind: str = "PNG"
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()

"""The same graph with its convolutions in 8-bit integers, calibrated on the user's own images."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from solobox.export.onnx_file import quiet
from solobox.predict.onnx_runtimes import PIXELS

Pixels = npt.NDArray[np.uint8]


def quantized(model: onnx.ModelProto, squares: Sequence[Pixels]) -> onnx.ModelProto:
    """Static quantisation: convolutions in int8 (weights for each channel, activations for each tensor).

    squares: images (side, side, 3) uint8, from which the ranges of the activations are taken: a hundred do. What
    comes after the convolutions, and so the box itself, stays float32.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        """Hands the images out one at a time."""

        def __init__(self) -> None:
            self._left: Iterator[Pixels] = iter(squares)

        def get_next(self) -> dict[str, Pixels] | None:
            """The next image, None after the last."""
            square = next(self._left, None)
            return None if square is None else {PIXELS: square[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder, quiet(""):
        given, prepared, written = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        onnx.save(model, given)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(written),
            Images(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            # Without VNNI, pairs of products of 8 bits overflow the 16 that they are added in: 7 bits do not.
            weight_type=QuantType.QInt8,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(written)

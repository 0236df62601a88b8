"""How NVIDIA's Triton Inference Server is told of an exported model."""

from collections.abc import Sequence

import onnx

from solobox.predict.onnx_runtimes import PIXELS

PLATFORM = "onnxruntime_onnx"

_TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.UINT8: "TYPE_UINT8"}

_MOST_TOGETHER = 32


def config(model: onnx.ModelProto, name: str) -> str:
    """The text of ``config.pbtxt``: Triton's `ModelConfig` message, with dynamic batching.

    Requests for images of one size are answered together. Triton counts the first dimension itself, so that no
    shape here has it.
    """
    graph = model.graph
    inputs = [_tensor(graph.input[0], PIXELS)]
    outputs = [_tensor(given, given.name) for given in graph.output]
    return "\n".join(
        [
            f'name: "{name}"',
            f'platform: "{PLATFORM}"',
            f"max_batch_size: {_MOST_TOGETHER}",
            *_several("input", inputs),
            *_several("output", outputs),
            "dynamic_batching { max_queue_delay_microseconds: 1000 }",
            "",
        ]
    )


def _tensor(given: onnx.ValueInfoProto, name: str) -> str:
    kind = given.type.tensor_type
    sizes = [str(d.dim_value) if d.HasField("dim_value") else "-1" for d in kind.shape.dim][1:]
    if not sizes:  # one number an image: Triton has no empty shapes
        return f'name: "{name}" data_type: {_TYPES[kind.elem_type]} dims: [ 1 ] reshape {{ shape: [ ] }}'
    return f'name: "{name}" data_type: {_TYPES[kind.elem_type]} dims: [ {", ".join(sizes)} ]'


def _several(what: str, tensors: Sequence[str]) -> list[str]:
    return [f"{what} {{ {tensor} }}" for tensor in tensors]

"""Checks of an ONNX file that anybody may have made, before ONNX Runtime reads it and before it is trusted.

`check_structure` reads the file's own description. `LimitedSession` runs the graph once, unoptimized, with limits of
memory and time: a node of a few bytes can ask for gigabytes, or for hours.

An ONNX file is a protocol buffer, see https://protobuf.dev/programming-guides/encoding/ and onnx.proto for the numbers
of the fields; the package `onnx`, which would read it, is no part of the base install.
"""

import functools
import math
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from solobox.errors import ConfigError

MAX_NODES = 50_000
"""Nodes, tensors and other entries of a graph, at most; a ResNet-152 has about 500."""

MAX_MEMORY = 2 << 30
"""Bytes that the weights and one image may take."""

MAX_SECONDS = 60.0
"""That one image may take, to the end of a node; it takes a few hundredths of one."""

_BOUNDS = {"std": (0.0, np.inf), "presence": (0.0, 1.0), "familiarity": (0.0, 1.0)}

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPHS = {6, 11}
_ATTRIBUTE_SPARSE = {22, 23}
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14

Value = int | memoryview


def check_structure(content: bytes, name: object) -> None:
    """Check that a file has all its data in itself and no more parts than a model of ours.

    Refused are: data in other files, which may be any file of this machine; functions and graphs in nodes, by which a
    small file stands for an endless one; sparse tensors, and tensors larger than the file.

    name: of the file. Raises ConfigError ``model-damaged``.
    """
    try:
        parts = 0
        for number, value in _fields(memoryview(content)):
            if number == _MODEL_FUNCTIONS:
                raise ValueError("it has functions, which no exported model has")
            if number == _MODEL_GRAPH:
                for inner, part in _fields(_bytes(value)):
                    parts += 1
                    _check_part(inner, part, len(content))
                    if parts > MAX_NODES:
                        raise ValueError(f"its graph has more than {MAX_NODES:,} parts")
    except (ValueError, IndexError) as error:
        raise _damaged(name, str(error)) from None


def _check_part(number: int, part: Value, size: int) -> None:
    if number == _GRAPH_SPARSE:
        raise ValueError("it has sparse tensors")
    if number == _GRAPH_INITIALIZER:
        _check_tensor(_bytes(part), size)
    if number != _GRAPH_NODE:
        return
    for field, value in _fields(_bytes(part)):
        if field != _NODE_ATTRIBUTE:
            continue
        for attribute, inner in _fields(_bytes(value)):
            if attribute in _ATTRIBUTE_GRAPHS:
                raise ValueError("a node has a graph in it")
            if attribute in _ATTRIBUTE_SPARSE:
                raise ValueError("it has sparse tensors")
            if attribute in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(_bytes(inner), size)


def _check_tensor(tensor: memoryview, size: int) -> None:
    dims: list[int] = []
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise ValueError("a tensor's data are in another file")
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    if len(dims) > 32 or math.prod(dims) > 2 * size:  # of the smallest type, a byte holds two
        raise ValueError("a tensor is larger than the file")


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message in order: number, and the whole number or the bytes. Raises ValueError, IndexError."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is not an ONNX file")
        if length > end - at:
            raise ValueError("it is cut off, or not an ONNX file")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("it is not an ONNX file")


def _packed(numbers: memoryview) -> list[int]:
    values: list[int] = []
    at = 0
    while at < len(numbers) and len(values) <= 32:
        value, at = _varint(numbers, at)
        values.append(value)
    return values


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is not an ONNX file")
    return value


class LimitedSession:
    """An ONNX Runtime session for a file that is not trusted yet.

    It is not optimized, because an optimizer computes what is constant without any limit.

    content: of the file, as `check_structure` accepts it. name: of the file.

    Raises ConfigError ``model-damaged``.
    """

    def __init__(self, content: bytes, name: object) -> None:
        import onnxruntime

        self._name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            _limit_memory()
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # what a damaged file makes it raise is not a documented set
            raise ConfigError(
                f"{name} cannot be loaded as a model: {first_line(error)}", code="model-damaged"
            ) from error
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(each.name for each in self._session.get_outputs())

    def check_first_image(self, pixels: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Run the graph on one small image within `MAX_MEMORY` and `MAX_SECONDS`.

        pixels: name of the input. shapes: of the outputs for one image, without the first axis.

        Raises ConfigError ``model-damaged`` where it cannot be run, or an output has another shape, is not finite, or
        is out of bounds: probabilities are from 0 to 1, standard deviations not negative.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        image = np.full((1, 24, 40, 3), 127, np.uint8)
        timer = threading.Timer(MAX_SECONDS, lambda: setattr(options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            arrays = self._session.run(list(shapes), {pixels: image}, options)
        except Exception as error:  # as above
            raise _damaged(self._name, first_line(error)) from error
        finally:
            timer.cancel()
        outputs = dict(zip(shapes, arrays, strict=True))
        check_outputs(outputs, shapes, 1, self._name)
        for output, array in outputs.items():
            # Boxes are clipped to the image later.
            lower, upper = _BOUNDS.get(output, (-np.inf, np.inf))
            if not (np.isfinite(array).all() and (array >= lower).all() and (array <= upper).all()):
                raise _damaged(self._name, f"its output {output} is not finite, or out of bounds")


def check_outputs(
    arrays: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], images: int, name: object
) -> None:
    """Raise ConfigError ``model-damaged`` where an output is not float32 of its shape for so many images."""
    for output, shape in shapes.items():
        array = arrays[output]
        if array.dtype != np.float32 or array.shape != (images, *shape):
            raise _damaged(
                name,
                f"its output {output} is {array.dtype} of the shape {array.shape}, not float32 {(images, *shape)}",
            )


@functools.cache
def _limit_memory() -> None:
    """Register the allocator with a limit, once for the process; only sessions that ask for it use it."""
    import onnxruntime

    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = 1
    limit = onnxruntime.OrtArenaCfg({"max_mem": MAX_MEMORY, "arena_extend_strategy": as_requested})
    onnxruntime.create_and_register_allocator(info, limit)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut; or the error's name."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _damaged(name: object, why: str) -> ConfigError:
    return ConfigError(
        f"{name} is damaged, or no exported model: {why}. Export it again", code="model-damaged"
    )

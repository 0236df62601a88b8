"""What runs an exported graph: ONNX Runtime, or OpenVINO where it is installed."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox.errors import ConfigError
from solobox.uncertainty.conformal import Calibration
from solobox.utils.concurrency import openvino_core, processors

RuntimeName: TypeAlias = Literal["onnxruntime", "openvino"]

Outputs: TypeAlias = dict[str, npt.NDArray[np.float32]]

PIXELS = "pixels"
"""The graph's one input: (N, H, W, 3) uint8, upright RGB."""

METADATA = "solobox"
"""Key of the file's metadata, a JSON object."""

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Levels of the margins that a graph computes, where its calibration allows; see `levels_of`."""


def levels_of(calibration: Calibration | None) -> tuple[float, ...]:
    """The levels whose margins a graph with this calibration computes, in the order of its outputs."""
    return tuple(level for level in LEVELS if calibration is not None and level in calibration.two_sided)


class Session(Protocol):
    """A loaded graph. Any thread may call it."""

    @property
    def name(self) -> str:
        """Name and version of the runtime, and the processor."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        ...

    @property
    def metadata(self) -> str | None:
        """The JSON under `METADATA`, None for a file that something else wrote."""
        ...

    def run(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> Outputs:
        """Some outputs for (N, H, W, 3) uint8 pixels."""
        ...


class OnnxRuntime:
    """ONNX Runtime's session on the CPU.

    model: a file or its content. threads: in a layer, 0 for as many as this process may use.
    """

    def __init__(self, model: Path | bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # By default it starts a thread for each core of the machine, even where the process may use only one.
        options.intra_op_num_threads = threads or processors()
        options.log_severity_level = (
            3  # its warnings are about graphs, which no user of this program can act on
        )
        # Threads that wait for the next image must not burn the processors that decode it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else model.read_bytes(),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # what a damaged file makes it raise is not a documented set
            name = "the content" if isinstance(model, bytes) else model
            raise ConfigError(
                f"{name} is no model that can be loaded: {_first_line(error)}", code="model-damaged"
            ) from error
        inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = tuple(each.name for each in self._session.get_outputs())
        # A graph with another input is none of ours, whatever its metadata.
        self.metadata: str | None = (
            self._session.get_modelmeta().custom_metadata_map.get(METADATA) if inputs == [PIXELS] else None
        )
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"

    def run(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> Outputs:
        """See `Session`."""
        arrays = self._session.run(list(names), {PIXELS: pixels})
        return dict(zip(names, arrays, strict=True))


class OpenVino:
    """OpenVINO's compiled model on the CPU. side: it takes squares of this side only.

    threads: in a layer, 0 for as many as this process may use.
    """

    def __init__(self, model: Path, threads: int, side: int) -> None:
        core = openvino_core()
        # Float32: bf16, which it chooses where the hardware has it, moves boxes by more than an export may differ.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or processors(),
        }
        try:
            graph = core.read_model(model)
            # The resize in the graph is then the identity, and fixed shapes are faster.
            graph.reshape({PIXELS: [-1, side, side, 3]})
            self._compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise ConfigError(
                f"OpenVINO cannot load {model}: {_first_line(error)}", code="model-damaged"
            ) from error
        # A tensor may have several names, in no order.
        self.outputs = tuple(name for output in self._compiled.outputs for name in sorted(output.get_names()))
        self.metadata: str | None = None  # OpenVINO does not read it
        self.name = f"openvino {version('openvino')} cpu"

    def run(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> Outputs:
        """See `Session`."""
        request = self._compiled.create_infer_request()
        request.infer({PIXELS: pixels})
        return {name: np.array(request.get_tensor(name).data) for name in names}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__

"""Predict with an exported localizer, one ``.onnx`` file, by ONNX Runtime or OpenVINO. No torch."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox.config.architecture import MAX_SIDE
from solobox.config.choices import RuntimeName
from solobox.config.run_metadata import check_metadata
from solobox.errors import ConfigError, reason
from solobox.images.reading import ImageInput
from solobox.predict.onnx_check import LimitedSession, check_outputs, check_structure, first_line
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import (
    NetworkInput,
    Pixels,
    PredictOptions,
    Predictor,
    RawOutput,
    batched,
    in_order,
    resize_to_square,
)
from solobox.uncertainty.conformal import Calibration
from solobox.utils.concurrency import openvino_core, processors, threaded_map
from solobox.utils.json_utils import MAX_BYTES, parse_json
from solobox.utils.signals import signals_held

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


FORMAT = 1
"""Version of the exported files that this program writes and reads."""

_MAX_FILE_BYTES = 2 << 30
_MAX_REFERENCE = 1_000_000

_SHAPES: Mapping[str, tuple[int, ...]] = {"boxes": (4,), "std": (4,), "presence": (), "familiarity": ()}
"""The outputs that predictions are made from, for one image."""

_BATCH_SIZE = 4
"""Images that a thread predicts together: they fit a processor's cache."""


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
                f"{name} cannot be loaded as a model: {first_line(error)}", code="model-damaged"
            ) from error
        self.outputs = tuple(each.name for each in self._session.get_outputs())
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
            with signals_held():
                graph = core.read_model(model)
                # The resize in the graph is then the identity, and fixed shapes are faster.
                graph.reshape({PIXELS: [-1, side, side, 3]})
                self._compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise ConfigError(
                f"OpenVINO cannot load {model}: {first_line(error)}", code="model-damaged"
            ) from error
        # A tensor may have several names, in no order.
        self.outputs = tuple(name for output in self._compiled.outputs for name in sorted(output.get_names()))
        self.name = f"openvino {version('openvino')} cpu"

    def run(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> Outputs:
        """See `Session`."""
        request = self._compiled.create_infer_request()
        request.infer({PIXELS: pixels})
        return {name: np.array(request.get_tensor(name).data) for name in names}


class OnnxModel(Predictor):
    """Exactly one box for each image, by an exported localizer.

    path: of the file. metadata: of its training: versions, metrics, classes, the licence of its weights.
    side: of the square that images are resized to, in pixels. calibration: what its margins are made from, or None.
    """

    def __init__(
        self,
        path: Path,
        session: Session,
        header: Mapping[str, object],
        *,
        threads: int,
        runtime: RuntimeName,
    ) -> None:
        self.path = path
        self._session, self._threads, self._runtime = session, threads, runtime
        self._single: Session | None = session if 1 in (threads, processors()) else None
        self._single_lock = threading.Lock()
        self.side, self.metadata, self.calibration, self._n_reference = _checked(path, header)
        self._shapes = {name: shape for name, shape in _SHAPES.items() if name in session.outputs}

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 0, runtime: RuntimeName = "onnxruntime") -> "OnnxModel":
        """Read what `solobox export` wrote.

        threads: for each image, 0 for as many as there are processors. With 1, `stream` uses a single thread too: for
            processes that share a machine.

        The file may come from anybody: it is checked before memory is taken for it, and one image is predicted.

        Raises ConfigError: ``model-missing``, ``model-damaged``, ``model-foreign`` for a file that something else
        wrote, ``model-outdated`` for one of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(
                f"there is no file {path}: give one that `solobox export` wrote", code="model-missing"
            )
        content = _read(path)
        check_structure(content, path)
        limited = LimitedSession(content, path)
        # A graph with another input was written by another program, whatever its metadata.
        header = _header(path, limited.metadata.get(METADATA) if limited.inputs == (PIXELS,) else None)
        side, *_ = _checked(path, header)
        if "boxes" not in limited.outputs:
            raise _damaged(path, "it has no output boxes")
        shapes = {name: shape for name, shape in _SHAPES.items() if name in limited.outputs}
        limited.check_first_image(PIXELS, shapes)
        del limited, content
        session: Session = (
            OpenVino(path, threads, side) if runtime == "openvino" else OnnxRuntime(path, threads)
        )
        return cls(path, session, header, threads=threads, runtime=runtime)

    @property
    def runtime(self) -> str:
        """Name and version of what runs the graph."""
        return self._session.name

    @property
    def has_presence(self) -> bool:
        """Whether predictions have a presence probability."""
        return "presence" in self._shapes

    @property
    def has_familiarity(self) -> bool:
        """Whether predictions have a familiarity."""
        return "familiarity" in self._shapes

    @property
    def n_reference(self) -> int | None:
        """See `Predictor`."""
        return self._n_reference if self.has_familiarity else None

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """See `Predictor`."""
        return _BATCH_SIZE

    def preprocess(self, image: ImageInput) -> NetworkInput:
        """See `Predictor`."""
        return resize_to_square(image, self.side)

    def infer(self, pixels: Pixels) -> RawOutput:
        """See `Predictor`. All processors work on one batch; any thread may call."""
        return self._run(self._session, pixels)

    def _run(self, session: Session, pixels: Pixels) -> RawOutput:
        try:
            outputs = session.run(pixels, tuple(self._shapes))
        except Exception as error:  # what the runtimes raise is not a documented set
            raise _damaged(self.path, first_line(error)) from error
        check_outputs(outputs, self._shapes, len(pixels), self.path)
        unknown = np.full(len(pixels), np.nan)
        boxes = outputs["boxes"].astype(np.float64) / self.side
        return RawOutput(
            in_order(boxes),
            outputs["std"].astype(np.float64) / self.side
            if "std" in outputs
            else np.full_like(boxes, np.nan),
            outputs["presence"].astype(np.float64) if self.has_presence else unknown,
            outputs["familiarity"].astype(np.float64) if self.has_familiarity else unknown,
        )

    def _batches(
        self, images: Iterator[ImageInput], options: PredictOptions
    ) -> Iterator[Sequence[Prediction]]:
        """Images are decoded ahead, in threads."""
        first = list(islice(images, _BATCH_SIZE + 1))
        if len(first) <= _BATCH_SIZE:  # too few to keep every processor busy with a batch
            if first:
                yield self.predict_batch(first, options)
            return
        session = self._single_threaded()
        yield from threaded_map(
            lambda batch: self.predict_batch(batch, options, infer=lambda pixels: self._run(session, pixels)),
            batched(chain(first, images), _BATCH_SIZE),
            workers=1 if self._threads == 1 else 0,
        )

    def _single_threaded(self) -> Session:
        """Another copy of the graph, for threads that each decode and predict separate images.

        Threads that share a layer wait for each other in every layer.
        """
        with self._single_lock:
            if self._single is None:
                is_openvino = self._runtime == "openvino"
                self._single = OpenVino(self.path, 1, self.side) if is_openvino else OnnxRuntime(self.path, 1)
            return self._single


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _damaged(path, "it is larger than a protocol buffer can be")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {reason(error)}", code="model-damaged") from error


def _checked(
    path: Path, header: Mapping[str, object]
) -> tuple[int, dict[str, Any], Calibration | None, int | None]:
    """Side, metadata, calibration and `n_reference` of a header. Raises ConfigError ``model-damaged``."""
    side, margins, metadata = header.get("side"), header.get("margins"), header.get("metadata")
    if type(side) is not int or not 1 <= side <= MAX_SIDE:
        raise _damaged(path, f"its side is not a number of pixels up to {MAX_SIDE}")
    if not isinstance(metadata, dict) or not isinstance(margins, dict | None):
        raise _damaged(path, "its metadata are incomplete")
    n_reference = header.get("n_reference")
    if n_reference is not None and (type(n_reference) is not int or not 1 <= n_reference <= _MAX_REFERENCE):
        raise _damaged(path, "its n_reference is not a number of images")
    check_metadata(metadata, path)
    calibration = None if margins is None else Calibration.from_dict(margins)
    return side, metadata, calibration, n_reference


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is damaged: {why}. Export it again", code="model-damaged")


def _header(path: Path, metadata: str | None) -> Mapping[str, object]:
    if metadata is None:
        raise ConfigError(
            f"{path} was not written by `solobox export`: its input or its metadata differ",
            code="model-foreign",
        )
    try:
        header = parse_json(metadata, max_bytes=MAX_BYTES)
    except ValueError as error:
        raise _damaged(path, f"its metadata are not JSON: {error}") from error
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        raise _damaged(path, "its metadata have no format")
    if header["format"] != FORMAT:
        raise ConfigError(
            f"{path} was exported by another version (this one reads format {FORMAT}): export it again",
            code="model-outdated",
        )
    return header

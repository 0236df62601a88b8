"""Predict with an exported localizer, one ``.onnx`` file. No torch."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from solobox.errors import ConfigError
from solobox.images.decode import ImageInput
from solobox.predict.onnx_runtimes import OnnxRuntime, OpenVino, RuntimeName, Session
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
from solobox.utils.concurrency import processors, threaded_map

FORMAT = 1
"""Version of the exported files that this program writes and reads."""

_BATCH_SIZE = 4
"""Images that a thread decodes and runs through the graph together: they fit a processor's cache."""


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
        side, margins, metadata = header.get("side"), header.get("margins"), header.get("metadata")
        if not isinstance(side, int) or not isinstance(metadata, dict) or "boxes" not in session.outputs:
            raise ConfigError(
                f"{path} is damaged: its metadata are incomplete. Export it again", code="model-damaged"
            )
        self.side, self.metadata = side, metadata
        self.calibration = Calibration.from_dict(margins) if isinstance(margins, dict) else None
        self._outputs = tuple(
            name for name in ("boxes", "std", "presence", "familiarity") if name in session.outputs
        )

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 0, runtime: RuntimeName = "onnxruntime") -> "OnnxModel":
        """Read what `solobox export` wrote.

        threads: for each image, 0 for as many as there are processors. With 1, `stream` uses a single thread too: for
            processes that share a machine.

        Raises ConfigError: ``model-missing``, ``model-damaged``, ``model-foreign`` for a file that something else
        wrote, ``model-outdated`` for one of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(
                f"there is no file {path}: give one that `solobox export` wrote", code="model-missing"
            )
        session: Session = OnnxRuntime(path, threads)
        header = _header(path, session.metadata)
        side = header.get("side")
        if runtime == "openvino" and isinstance(side, int):
            session = OpenVino(path, threads, side)
        return cls(path, session, header, threads=threads, runtime=runtime)

    @property
    def runtime(self) -> str:
        """Name and version of what runs the graph."""
        return self._session.name

    @property
    def has_presence(self) -> bool:
        """Whether it learned to tell images without the object."""
        return "presence" in self._outputs

    @property
    def has_familiarity(self) -> bool:
        """Whether it can tell how like its training images an image is."""
        return "familiarity" in self._outputs

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
        outputs = session.run(pixels, self._outputs)
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
        """Another copy of the graph, for threads that each decode and predict their own images.

        Threads that share a layer wait for each other in every layer.
        """
        with self._single_lock:
            if self._single is None:
                is_openvino = self._runtime == "openvino"
                self._single = OpenVino(self.path, 1, self.side) if is_openvino else OnnxRuntime(self.path, 1)
            return self._single


def _header(path: Path, metadata: str | None) -> Mapping[str, object]:
    if metadata is None:
        raise ConfigError(
            f"{path} was not written by `solobox export`: its input or its metadata are others",
            code="model-foreign",
        )
    try:
        header = json.loads(metadata)
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged: its metadata are no JSON ({error}). Export it again", code="model-damaged"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is no export of this version (format {FORMAT}): export it again", code="model-outdated"
        )
    return header

"""An exported localizer, one ``.onnx`` file, in use: images in, one box each out. No torch."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from solobox.errors import ConfigError
from solobox.images.decode import ImageInput
from solobox.predict.onnx_runtimes import Engine, OnnxRuntime, OpenVino, RuntimeName
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
"""Of the exported files that this version writes and reads."""

_BATCH_SIZE = 4
"""Images that a thread decodes and runs through the graph at once: few enough for a processor's own cache."""


class OnnxModel(Predictor):
    """Exactly one box for each image, by an exported localizer.

    path: of the file. facts: what it says of itself: versions, metrics, classes, the licence of its weights.
    side: pixels of the square that it looks at. calibration: what its margins are made of, or None.
    """

    def __init__(
        self, path: Path, engine: Engine, about: Mapping[str, object], *, threads: int, runtime: RuntimeName
    ) -> None:
        self.path = path
        self._engine, self._threads, self._runtime = engine, threads, runtime
        self._single: Engine | None = engine if 1 in (threads, processors()) else None
        self._making = threading.Lock()
        side, margins, facts = about.get("side"), about.get("margins"), about.get("facts")
        if not isinstance(side, int) or not isinstance(facts, dict) or "boxes" not in engine.outputs:
            raise ConfigError(f"{path} is damaged: what it says of itself is incomplete. Export it again")
        self.side, self.facts = side, facts
        self.calibration = Calibration.from_dict(margins) if isinstance(margins, dict) else None
        self._wanted = tuple(
            name for name in ("boxes", "std", "presence", "familiarity") if name in engine.outputs
        )

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 0, runtime: RuntimeName = "onnxruntime") -> "OnnxModel":
        """Read what `solobox export` wrote.

        threads: that work on an image, 0 for as many as there are processors. With 1, `stream` keeps to one as well:
            for processes that share a machine.

        Raises ConfigError for a file that is missing, damaged or of other origin.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f"there is no file {path}: give one that `solobox export` wrote")
        engine: Engine = OnnxRuntime(path, threads)
        about = _about(path, engine.metadata)
        if runtime == "openvino" and isinstance(about.get("side"), int):
            engine = _openvino(path, threads, about)
        return cls(path, engine, about, threads=threads, runtime=runtime)

    @property
    def runtime(self) -> str:
        """What it runs by, in words."""
        return self._engine.name

    @property
    def has_presence(self) -> bool:
        """Whether it learned to tell images without the object."""
        return "presence" in self._wanted

    @property
    def has_familiarity(self) -> bool:
        """Whether it knows what its training images look like."""
        return "familiarity" in self._wanted

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """See `Predictor`."""
        return _BATCH_SIZE

    def preprocess(self, image: ImageInput) -> NetworkInput:
        """See `Predictor`."""
        return resize_to_square(image, self.side)

    def infer(self, pixels: Pixels) -> RawOutput:
        """See `Predictor`. All processors work on it together; any thread may call."""
        return self._run(self._engine, pixels)

    def _run(self, engine: Engine, pixels: Pixels) -> RawOutput:
        outputs = engine.run(pixels, self._wanted)
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
        if len(first) <= _BATCH_SIZE:  # too few to keep every processor busy with images of its own
            if first:
                yield self.predict_batch(first, options)
            return
        engine = self._of_one_thread()
        yield from threaded_map(
            lambda batch: self.predict_batch(batch, options, infer=lambda pixels: self._run(engine, pixels)),
            batched(chain(first, images), _BATCH_SIZE),
            workers=1 if self._threads == 1 else 0,
        )

    def _of_one_thread(self) -> Engine:
        """Another copy of the graph, for threads that each decode and look at images of their own.

        A layer that several threads share makes them wait for one another, in every layer.
        """
        with self._making:
            if self._single is None:
                about: Mapping[str, object] = {"side": self.side}
                self._single = (
                    _openvino(self.path, 1, about)
                    if self._runtime == "openvino"
                    else OnnxRuntime(self.path, 1)
                )
            return self._single


def _about(path: Path, metadata: str | None) -> Mapping[str, object]:
    if metadata is None:
        raise ConfigError(f"{path} was not written by `solobox export`: its input or its metadata are others")
    try:
        about = json.loads(metadata)
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged: its metadata are no JSON ({error}). Export it again"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ConfigError(f"{path} is no export of this version (format {FORMAT}): export it again")
    return about


def _openvino(path: Path, threads: int, about: Mapping[str, object]) -> Engine:
    side = about["side"]
    assert isinstance(side, int)  # noqa: S101  (callers have looked)
    return OpenVino(path, threads, side, metadata=None)

"""Watches whether the images that a server is sent still look like the training images."""

import logging

from prometheus_client import Gauge, Histogram

from solobox.predict.onnx_model import OnnxModel
from solobox.predict.predictor import RawOutput
from solobox.serve.prometheus import ServerMetrics
from solobox.uncertainty.drift import DriftDetector

_LOG = logging.getLogger("solobox.serve")
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class DriftMonitor:
    """The metrics of familiarity and presence, and a line in the log when drift begins. For one event loop.

    A metric that the model cannot give is not there.
    """

    def __init__(self, model: OnnxModel, metrics: ServerMetrics) -> None:
        registry = metrics.registry
        self._histograms: list[tuple[str, Histogram]] = []
        for name, is_there, what in (
            (
                "familiarity",
                model.has_familiarity,
                "Familiarity of the images: near 0 unlike the training images",
            ),
            ("presence", model.has_presence, "Probability that the object is in the image"),
        ):
            if is_there:
                histogram = Histogram(f"solobox_{name}", what, buckets=_SHARES, registry=registry)
                self._histograms.append((name, histogram))
        self._detector: DriftDetector | None = None
        if model.n_reference is not None:
            self._detector = DriftDetector(model.n_reference)
            self._drift = Gauge(
                "solobox_drift",
                "1 while the images look unlike the training images, else 0",
                registry=registry,
            )
            self._evidence = Gauge(
                "solobox_drift_evidence",
                "Evidence that the images look unlike the training images, a power of ten; 3 is an alarm",
                registry=registry,
            )

    def observe(self, output: RawOutput) -> None:
        """Take in what the model gave for the next images."""
        for name, histogram in self._histograms:
            for value in getattr(output, name).tolist():
                histogram.observe(value)
        if self._detector is None:
            return
        for value in output.familiarity.tolist():
            if self._detector.add(value) and (span := self._detector.span) is not None:
                _LOG.warning(
                    "drift: about the last %d images are unlike the training images; look at their boxes, label some "
                    "of them and train again (solobox_drift in /metrics is 1 while it lasts)",
                    self._detector.count - span.first + 1,
                )
        self._drift.set(self._detector.is_drifting)
        self._evidence.set(self._detector.evidence)

"""What is counted, for Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The counters of one server, in a registry of their own: several may live in a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self.requests = Counter(
            "solobox_requests", "Requests answered", ("route", "method", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "solobox_request_seconds",
            "From the head of a request to its whole answer",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.images = Counter(
            "solobox_images", "Images, by what came of them: ok or the error's code", ("result",),
            registry=self._registry,
        )  # fmt: skip
        self.refused = Counter(
            "solobox_refused", "Images that the full queue refused", registry=self._registry
        )
        self.queue = Gauge("solobox_queue", "Images that wait or are worked on", registry=self._registry)
        self.batch = Histogram(
            "solobox_batch_images",
            "Images that went through the model together",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.model = Histogram(
            "solobox_model_seconds", "The model's time for a batch", buckets=_SECONDS, registry=self._registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

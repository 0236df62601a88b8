"""Metrics for Prometheus."""

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


class ServerMetrics:
    """The metrics of one server, in a separate `registry`: a process may have several servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "solobox_requests", "Requests", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "solobox_request_seconds",
            "Seconds from the head of a request to the end of its response",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "solobox_images", "Images by result: ok or the error's code", ("result",),
            registry=self.registry,
        )  # fmt: skip
        self.refused = Counter(
            "solobox_refused", "Images refused because the queue was full", registry=self.registry
        )
        self.queue = Gauge("solobox_queue", "Images that wait or are in work", registry=self.registry)
        self.batch = Histogram(
            "solobox_batch_images",
            "Images that went through the model together",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.model = Histogram(
            "solobox_model_seconds",
            "Seconds of the model for a batch",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

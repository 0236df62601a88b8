"""What the routes share."""

import re
from dataclasses import dataclass

from solobox.serve.batching import Engine, Model
from solobox.serve.errors import Problem
from solobox.serve.metrics import Metrics
from solobox.serve.middleware import State
from solobox.serve.settings import Settings
from solobox.serve.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Service:
    """One model and all that serves it. name: of the model, in addresses and answers."""

    name: str
    model: Model
    settings: Settings
    metrics: Metrics
    engine: Engine
    uploads: Uploads
    state: State

    @classmethod
    def of(cls, model: Model, name: str, settings: Settings, *, runners: int = 1) -> "Service":
        """A new one. Letters that an address cannot have become dashes in the name. runners: see `Engine`."""
        metrics = Metrics()
        return cls(
            re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model",
            model,
            settings,
            metrics,
            Engine(model, settings, metrics, runners),
            Uploads(settings),
            State(),
        )

    def check_ready(self) -> None:
        """Raises Problem (503) where new requests should go elsewhere."""
        if self.state.draining:
            raise Problem(503, "stopping", "the server is stopping", "Send requests elsewhere.")
        if not self.engine.well:
            raise Problem(503, "model_failed", "the model cannot be run", "Start the server anew.")

"""What the routes and the middleware of one server share."""

import re
from dataclasses import dataclass, field

from solobox.predict.onnx_model import OnnxModel
from solobox.serve.batching import Batcher
from solobox.serve.errors import HTTPError, server_stopping
from solobox.serve.limits import UploadBudget
from solobox.serve.prometheus import ServerMetrics
from solobox.serve.settings import ServerSettings


@dataclass(slots=True)
class ServerState:
    """draining: the server will stop soon. received, answered: number of requests."""

    draining: bool = False
    received: int = 0
    answered: int = 0


@dataclass(frozen=True, slots=True)
class ServerContext:
    """One model and all that serves it. name: of the model, in addresses and answers."""

    name: str
    model: OnnxModel
    settings: ServerSettings
    metrics: ServerMetrics
    batcher: Batcher
    uploads: UploadBudget
    state: ServerState = field(default_factory=ServerState)

    @classmethod
    def create(
        cls, model: OnnxModel, name: str, settings: ServerSettings, *, workers: int = 1
    ) -> "ServerContext":
        """A context for one server.

        name: characters that an address cannot have become dashes. workers: see `Batcher`.
        """
        metrics = ServerMetrics()
        return cls(
            re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model",
            model,
            settings,
            metrics,
            Batcher(model, settings, metrics, workers),
            UploadBudget(settings),
        )

    def check_ready(self) -> None:
        """Raise HTTPError (503) where new requests should go elsewhere."""
        if self.state.draining:
            raise server_stopping()
        if not self.batcher.healthy:
            raise HTTPError(503, "model-failed", "the model cannot be run", "Restart the server.")

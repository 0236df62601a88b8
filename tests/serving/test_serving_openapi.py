"""What the OpenAPI description says is so."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from solobox.inference.model import Model
from solobox.serving.app import build
from solobox.serving.service import Service
from solobox.serving.settings import Settings

from serving_model import picture, write_model  # isort: skip

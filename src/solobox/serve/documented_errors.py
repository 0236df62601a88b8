"""The errors that routes can answer with, for the OpenAPI description."""

from typing import Any, TypeAlias

from solobox.serve.schemas import Fault, V2Fault

Faults: TypeAlias = dict[int | str, dict[str, Any]]

FAULTS: Faults = {
    400: {"model": Fault, "description": "No valid HTTP"},
    401: {"model": Fault, "description": "The API key is missing or wrong"},
    403: {"model": Fault, "description": "Sent by another site's page"},
    408: {"model": Fault, "description": "The body came too slowly"},
    413: {"model": Fault, "description": "Too many bytes, pixels or images"},
    415: {"model": Fault, "description": "No image of a format that is read"},
    422: {"model": Fault, "description": "A wrong parameter, or an image that is empty or damaged"},
    429: {"model": Fault, "description": "Too many images are waiting; Retry-After says when to come back"},
    503: {"model": Fault, "description": "The model could not be run, or the server is stopping"},
    504: {"model": Fault, "description": "No answer before the deadline"},
}
"""Of the routes that take images."""

NOT_READY: Faults = {503: {"model": Fault, "description": "It is stopping, or the model cannot be run"}}


def only(*numbers: int) -> Faults:
    """Some of them."""
    return {number: FAULTS[number] for number in numbers}


V2_FAULTS: Faults = {number: {**fault, "model": V2Fault} for number, fault in FAULTS.items() if number != 422}
V2_FAULTS[400] = {"model": V2Fault, "description": "A tensor that is not what the model takes"}
V2_FAULTS[404] = {"model": V2Fault, "description": "No model of this name"}
V2_FAULTS[415] = {"model": V2Fault, "description": "The body is compressed"}

V2_READ: Faults = {number: V2_FAULTS[number] for number in (401, 404)}
"""Of the routes about a model."""

V2_NOT_READY: Faults = {503: {**NOT_READY[503], "model": V2Fault}}

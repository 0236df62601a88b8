"""What the option classes share: strict types and ranges by pydantic, and errors that are for people."""

import difflib
from collections.abc import Iterable
from typing import Any, Self

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from solobox.errors import ConfigError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""No conversions (``"3"`` and ``True`` are no integers), no unknown names, no NaN; an integer does as a float."""

_OTHER_NAMES = {
    "learning_rate": "lr", "batch_size": "batch", "imgsz": "size", "image_size": "size", "num_epochs": "epochs",
    "model": "backbone", "arch": "backbone", "criterion": "loss", "logger": "loggers",
}  # fmt: skip
"""Names of options in other tools, which spelling alone does not lead to ours."""

_RANGE_ERRORS = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
    "too_long",
    "string_too_long",
}


@dataclass(frozen=True, config=STRICT)
class Options:
    """Base of the frozen option dataclasses; `dataclasses.replace` works on them and validates again.

    Raises ConfigError with the code ``unknown-option``, ``wrong-type``, ``unknown-choice`` or ``out-of-range``.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _config_error(error, cls) from None


def options_of(*kinds: type[Options]) -> dict[str, FieldInfo]:
    """The options of these classes by name: their fields with a description, which is the help text."""
    fields: list[dict[str, FieldInfo]] = [kind.__pydantic_fields__ for kind in kinds]  # type: ignore[attr-defined]
    return {name: field for group in fields for name, field in group.items() if field.description}


def unknown_option(name: str, options: Iterable[str]) -> ConfigError:
    """The error for a name that is not one of the options: it names the nearest one."""
    return ConfigError(f"unknown option {name!r}{nearest(name, options)}", code="unknown-option")


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar choice, or all of them."""
    choices = list(choices)
    other = _OTHER_NAMES.get(name)
    similar = [other] if other in choices else difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {similar[0]!r}?" if similar else f". Choose from: {', '.join(choices)}"


def _config_error(error: ValidationError, kind: type[Options]) -> ConfigError:
    """The first fault in one sentence, rather than pydantic's list."""
    faults = error.errors(include_url=False)
    for fault in faults:
        if fault["type"] == "unexpected_keyword_argument":
            return unknown_option(str(fault["loc"][0]), options_of(kind))
    first = faults[0]
    if not first["loc"]:
        return ConfigError(f"{kind.__name__}: {first['msg']}", code="wrong-type")
    option, *inside = first["loc"]
    name = f"{option}[{inside[0]}]" if inside and isinstance(inside[0], int) else str(option)
    # An option of several types has a fault for each of them.
    alternatives = [
        fault for fault in faults if fault["loc"][:1] == (option,) and fault["input"] is first["input"]
    ]
    expected = " or ".join(
        fault["msg"].removeprefix("Input should be ").replace("a valid tuple", "a list")
        for fault in alternatives
    )
    kinds = {fault["type"] for fault in alternatives}
    code = "wrong-type"
    if kinds & _RANGE_ERRORS:
        code = "out-of-range"
    elif kinds == {"literal_error"}:
        code = "unknown-choice"
    return ConfigError(f"{name} must be {expected}, not {first['input']!r}", code=code)

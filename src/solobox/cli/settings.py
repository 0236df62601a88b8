"""Knobs as options of a command, made from the dataclasses that they live in."""

from collections.abc import Collection
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from solobox.training.recipe import knobs


def options(*kinds: type, without: Collection[str] = ()) -> type:
    """A dataclass with an option for each knob of these, which may be left out so that other values stand.

    without: knobs that are no options here.
    """
    made = []
    for kind in kinds:
        for name, knob in knobs(kind).items():
            if name in without:
                continue
            values = knob.default if isinstance(knob.default, tuple) else (knob.default,)
            default = ", ".join(map(str, values)) or "none"
            text = f"{knob.help} [default: {default}]"
            option = Annotated[knob.kind | None, Parameter(help=text, show_default=False)]  # type: ignore[name-defined]
            made.append((name, option, field(default=None)))
    settings = make_dataclass("Settings", made, kw_only=True, frozen=True)
    settings.__module__ = __name__  # it would be "types", and cyclopts does not look into standard modules
    return settings


def given(settings: Any) -> dict[str, Any]:
    """The knobs that were given, of what `options` made, or of None."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)} if settings else {}
    return {name: value for name, value in values.items() if value is not None}

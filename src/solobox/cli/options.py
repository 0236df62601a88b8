"""Options as options of a command, made from the dataclasses that they live in."""

from collections.abc import Collection
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from solobox.config.recipe import options_of

NOT_FOR_FOLDS = (
    "finetune_epochs", "finetune_lr", "backbone_lr", "freeze", "folds", "patience", "val", "test", "devices", "nodes",
    "loggers",
)  # fmt: skip
"""Options of no use to a command that trains heads alone, on kept features and one device, and holds every image out in
its turn."""


def options(*kinds: type, without: Collection[str] = ()) -> type:
    """A dataclass with an option for each option of these, which may be left out so that other values stand.

    without: options that are no options here.
    """
    made = []
    for kind in kinds:
        for name, option in options_of(kind).items():
            if name in without:
                continue
            values = option.default if isinstance(option.default, tuple) else (option.default,)
            default = ", ".join(map(str, values)) or "none"
            text = f"{option.help} [default: {default}]"
            hint = Annotated[option.kind | None, Parameter(help=text, show_default=False)]  # type: ignore[name-defined]
            made.append((name, hint, field(default=None)))
    settings = make_dataclass("Settings", made, kw_only=True, frozen=True)
    settings.__module__ = __name__  # it would be "types", and cyclopts does not look into standard modules
    return settings


def given(settings: Any) -> dict[str, Any]:
    """The options that were given, of what `options` made, or of None."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)} if settings else {}
    return {name: value for name, value in values.items() if value is not None}

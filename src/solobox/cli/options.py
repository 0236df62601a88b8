"""The options of a recipe as options of a command, in groups."""

from collections.abc import Collection, Iterator
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from solobox.cli.console import Flag
from solobox.config.architecture import Architecture
from solobox.config.choices import Keep
from solobox.config.options import Options, options_of
from solobox.images.pixel_limit import MAX_PIXELS

if TYPE_CHECKING:
    from solobox.config.recipe import Recipe

_COMMON = Group.create_default_parameters()
_DATA = Group("Data", sort_key=1)
_MODEL = Group("Model", sort_key=2)
_AUGMENTATION = Group("Augmentation", sort_key=3)
_OPTIMIZATION = Group("Optimization", sort_key=4)
_HARDWARE = Group("Hardware", sort_key=5)
_LOGGING = Group("Logging", sort_key=6)

DATA_HELP = (
    "Labelled images: a CSV of most tools, COCO, Pascal VOC, YOLO, CVAT, Label Studio, masks and others "
    "(docs/reference/formats.md)."
)
DataPath: TypeAlias = Annotated[Path, Parameter(help=DATA_HELP)]
ImageFolder: TypeAlias = Annotated[
    Path | None,
    Parameter(
        help="The folder that image paths are relative to; by default that of the data file.", group=_DATA
    ),
]
KeepBox: TypeAlias = Annotated[
    Keep | None,
    Parameter(
        help="Which box to use of an image with several. By default such images are left out.", group=_DATA
    ),
]
SkipBad: TypeAlias = Annotated[
    bool,
    Parameter(help="Leave out rows with errors, and count them, instead of stopping.", group=_DATA),
    Flag,
]

BoxLayout: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="What the four numbers of each box mean, where the format does not say it: xyxy, xywh or cxcywh (yxyx, "
        "yxhw, cycxhw with y first), with -fractions, -percent or -thousandths unless they are pixels of the image.",
        group=_DATA,
    ),
]
AutoGroup: TypeAlias = Annotated[
    bool,
    Parameter(
        negative="--no-auto-group",
        help="Keep copies of an image and frames of a scene in one split, unless the data groups them.",
        group=_DATA,
    ),
]
MaxPixels: TypeAlias = Annotated[
    int | None,
    Parameter(
        help=f"Read images of up to so many pixels (width times height) instead of {MAX_PIXELS:,}; a JPEG may have 4 "
        "times as many where it is decoded at reduced size."
    ),
]


def files_of(data: Path, images: Path | None) -> Iterator[Path]:
    """The annotation and image files of labelled images; the annotations are read when the first one is asked for."""
    from solobox.data import formats

    yield data
    yield from formats.files(formats.read(data, images))


_GROUPS = {
    **dict.fromkeys(options_of(Architecture), _MODEL),
    **dict.fromkeys(("pretrained", "pretrained_head"), _MODEL),
    **dict.fromkeys(("val", "test", "folds"), _DATA),
    "crops": _AUGMENTATION,
    **dict.fromkeys(("precision", "accelerator", "devices", "nodes", "ram_gb"), _HARDWARE),
    "loggers": _LOGGING,
    # What most people use goes with the command's own parameters, which the help lists first.
    **dict.fromkeys(("size", "backbone", "epochs", "finetune_epochs", "batch", "seed"), _COMMON),
}
"""All others belong to the optimization."""

NOT_FOR_CROSS_VALIDATION = (
    "finetune_epochs", "finetune_lr", "backbone_lr", "freeze", "folds", "patience", "val", "test", "devices", "nodes",
    "loggers",
)  # fmt: skip
"""Options that mean nothing to a command that trains heads only, on one device, and holds each image out in turn."""

SHOWN_FOR_CROSS_VALIDATION = (
    "size", "backbone", "epochs", "batch", "seed", "crops", "pretrained", "pretrained_head", "lr", "accelerator",
    "ram_gb",
)  # fmt: skip
"""Of the rest, what such a command's help lists. It accepts all, and its help says so."""


def options_class(
    *kinds: type[Options], without: Collection[str] = (), shown: Collection[str] | None = None
) -> type:
    """A dataclass for a command's parameter ``*``: every option of `kinds`, None where the user does not set it.

    So the values of a preset or a TOML file stay where the command line says nothing. without: options to leave out.
    shown: options that the help lists, default all.
    """
    members = []
    for name, option in options_of(*kinds).items():
        if name in without:
            continue
        values = option.default if isinstance(option.default, tuple) else (option.default,)
        parameter = Parameter(
            help=f"{option.description} [default: {', '.join(map(str, values)) or 'none'}]",
            show_default=False, negative_iterable=(), consume_multiple=True, group=_GROUPS.get(name, _OPTIMIZATION),
            show=shown is None or name in shown,
        )  # fmt: skip
        members.append((name, Annotated[option.annotation | None, parameter], field(default=None)))  # type: ignore[operator]
    settings = make_dataclass("Settings", members, kw_only=True, frozen=True)
    settings.__module__ = __name__  # it would be "types", and cyclopts does not look into standard modules
    return settings


def set_options(settings: Any) -> dict[str, Any]:
    """The options that the user set, of an object that `options_class` describes, or of None."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)} if settings else {}
    return {name: value for name, value in values.items() if value is not None}


def require_accelerator(recipe: "Recipe") -> None:
    """Raise ConfigError ``no-accelerator`` at once, before any image is read, where the recipe needs a GPU in vain."""
    if recipe.accelerator == "cuda":
        from solobox.training.distributed import check_accelerator

        check_accelerator(recipe.accelerator)

"""What a trained localizer's ``config.json`` says about its training: the types of what this program reads of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Required, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from solobox.errors import ConfigError

_Count: TypeAlias = Annotated[int, Field(ge=0, le=10**12)]
_CHECKED = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


@with_config(_CHECKED)
class _Epoch(TypedDict, total=False):
    stage: Required[str]
    epoch: Required[_Count]
    train_loss: float | None
    val_iou: float | None
    lr: float | None
    seconds: float | None


@with_config(_CHECKED)
class _Recipe(TypedDict, total=False):
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    pretrained: str
    val: Annotated[float, Field(ge=0, le=1)]
    test: Annotated[float, Field(ge=0, le=1)]


@with_config(_CHECKED)
class _Metadata(TypedDict, total=False):
    # Models made in Python have none, those of older versions not all.
    recipe: _Recipe
    history: list[_Epoch]
    best: _Epoch
    counts: dict[str, _Count]
    unreadable: list[str]
    data: str
    sample_images: list[str]
    classes: list[str]
    seconds: dict[str, float]
    versions: dict[str, str]


_ADAPTER = TypeAdapter(_Metadata)


def check_metadata(metadata: Mapping[str, Any], name: object) -> None:
    """Check the types and bounds of metadata that a file holds; keys that are not known are not looked at.

    name: of the file. Raises ConfigError ``model-damaged``.
    """
    try:
        _ADAPTER.validate_python(dict(metadata))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))[:100]
        raise ConfigError(
            f"{name} is damaged: {where}: {fault['msg']}. Restore it, or train or export again",
            code="model-damaged",
        ) from None

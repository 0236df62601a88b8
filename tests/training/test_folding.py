"""A folded backbone is the same function of the same parameters."""

import copy

import pytest
import torch
from torch import Tensor, nn

from solobox.model.backbone import Backbone
from solobox.training.folding import folded


def backbone(name: str) -> Backbone:
    """A backbone whose statistics, scales and shifts are not those of a new one."""
    made = Backbone(name, strides=(8, 16, 32), pretrained="none").eval()
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, lower, upper in (
                (module.weight, 0.5, 1.5), (module.bias, -0.3, 0.3), (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data.uniform_(lower, upper, generator=generator)
    return made.to(memory_format=torch.channels_last)


def gradients(
    module: nn.Module, pixels: Tensor, *, autocast: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Maps, and the gradients of all parameters for a function of these maps."""
    module.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        maps = module(pixels)
    sum(feature.to(pixels.dtype).square().mean() for feature in maps).backward()
    return [feature.detach() for feature in maps], [
        parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None
    ]


def off(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative L2 error."""
    assert len(found) == len(wanted)
    return max(float((a.double() - b).norm() / b.double().norm()) for a, b in zip(found, wanted, strict=True))


# both kinds of normalisation layers; padding as TensorFlow does it; depthwise and strided 1x1 convolutions
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_maps_and_gradients_are_the_same(name: str) -> None:
    plain, pixels = backbone(name), torch.rand(2, 3, 64, 96) * 255
    keys, kinds = list(plain.state_dict()), [type(module) for module in plain.modules()]
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    wanted = gradients(plain, pixels)
    lower = gradients(plain, pixels, autocast=True)
    exact = copy.deepcopy(plain).double()
    exactly = gradients(exact, pixels.double())
    with folded(exact) as count:
        assert count == norms
        found = gradients(exact, pixels.double())
        assert off(found[0], exactly[0]) < 1e-9
        assert off(found[1], exactly[1]) < 1e-9
    with folded(plain):
        assert list(plain.state_dict()) == keys
        # In bf16 both are as far from float32.
        rounded = gradients(plain, pixels, autocast=True)
        assert off(rounded[0], wanted[0]) < 1.5 * off(lower[0], wanted[0])
    assert [type(module) for module in plain.modules()] == kinds
    assert off(gradients(plain, pixels)[0], wanted[0]) == 0


def test_a_copy_is_folded_by_its_own_layers() -> None:
    plain, pixels = backbone("resnet18"), torch.rand(1, 3, 64, 64) * 255
    with folded(plain), torch.no_grad():
        other = copy.deepcopy(plain)
        before = [feature.clone() for feature in other(pixels)]
        for parameter in plain.parameters():
            parameter.mul_(0.5)
        assert off(other(pixels), before) == 0
        assert off(plain(pixels), before) > 0.1
        for parameter in other.parameters():
            parameter.mul_(0.5)
        assert off(other(pixels), plain(pixels)) == 0


def test_what_is_frozen_gets_no_gradient() -> None:
    plain, pixels = backbone("resnet18").double(), torch.rand(1, 3, 64, 64).double() * 255
    frozen = next(parameter for name, parameter in plain.named_parameters() if name.endswith("conv1.weight"))
    frozen.requires_grad_(False)
    wanted = gradients(plain, pixels)[1]
    with folded(plain):
        assert off(gradients(plain, pixels)[1], wanted) < 1e-9
        assert frozen.grad is None


class Twice(nn.Module):
    """What a convolution gives is used with the normalisation after it and without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        made = self.conv(x)
        return [self.norm(made) + made]


def test_what_cannot_be_folded_is_left() -> None:
    module = Twice().eval()
    module.norm.weight.data.fill_(3)
    pixels = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        wanted = module(pixels)
        with folded(module) as count:
            assert count == 0
            assert off(module(pixels), wanted) == 0

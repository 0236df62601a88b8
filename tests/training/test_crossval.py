"""Heads that are asked about images they did not learn from."""

import copy
import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solobox import synthetic
from solobox.boxes import Floats, iou
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.sample import PREDICTED
from solobox.errors import ConfigError, DataError
from solobox.images.reading import read
from solobox.model.localizer import Localizer
from solobox.training.cross_conformal import held_out
from solobox.training.crossval import CrossValidator, OutOfFold, out_of_fold
from solobox.training.folds import assign_folds
from solobox.training.refined_folds import boxes_and_std
from solobox.training.stages import LocalizerHead
from solobox.training.train import train
from solobox.uncertainty.conformal import scales
from solobox.uncertainty.familiarity import Familiarity

pytestmark = pytest.mark.usefixtures("without_openvino")

QUICK: dict[str, Any] = {
    "size": 64, "crops": 2, "epochs": 1, "width": 16, "bins": 8, "batch": 32, "precision": "32-true",
}  # fmt: skip
"""In float32 whatever the processor can: bfloat16 would make much of another order of images, or another resize."""
FOLDS, LOST = 2, 4


def table(names: Sequence[str], groups: Sequence[str], has_box: Sequence[bool]) -> Dataset:
    boxes = [[1, 1, 5, 5] if there else [np.nan] * 4 for there in has_box]
    return Dataset([Path(name) for name in names], boxes, group=groups, names=names)


tables = st.lists(
    st.tuples(st.sampled_from(["", "", "a", "b", "c"]), st.booleans()), min_size=1, max_size=40
).map(
    lambda rows: table(
        [f"{number}.jpg" for number in range(len(rows))], [row[0] for row in rows], [row[1] for row in rows]
    )
)


def units_of(dataset: Dataset) -> list[str]:
    return [group or f"alone {name}" for group, name in zip(dataset.group, dataset.names, strict=True)]


@given(dataset=tables, folds=st.integers(2, 6))
def test_folds_keep_groups_whole_and_are_as_even_as_those_allow(dataset: Dataset, folds: int) -> None:
    units = units_of(dataset)
    with_box = Counter(unit for unit, there in zip(units, dataset.has_box, strict=True) if there)
    if len(with_box) < folds:
        with pytest.raises(DataError, match="use fewer folds"):
            assign_folds(dataset, folds)
        return
    fold = assign_folds(dataset, folds)
    assert fold.shape == (len(dataset),)
    assert set(fold.tolist()) <= set(range(folds))
    homes: dict[str, set[int]] = {}
    for unit, number in zip(units, fold.tolist(), strict=True):
        homes.setdefault(unit, set()).add(number)
    assert all(len(where) == 1 for where in homes.values())
    rest = Counter(unit for unit in units if unit not in with_box)
    for counts, counted in ((with_box, dataset.has_box), (rest, np.array([u in rest for u in units]))):
        filled = [int((counted & (fold == number)).sum()) for number in range(folds)]
        # What is dealt out last is no larger than the largest unit, and goes where there is least.
        assert max(filled) - min(filled) <= max(counts.values(), default=0)
    assert min(Counter(fold[dataset.has_box].tolist()).values()) > 0


@given(dataset=tables, seed=st.integers(0, 1000))
def test_folds_do_not_depend_on_the_order_of_the_images(dataset: Dataset, seed: int) -> None:
    if len({unit for unit, there in zip(units_of(dataset), dataset.has_box, strict=True) if there}) < 2:
        return
    fold = assign_folds(dataset, 2)
    order = np.random.default_rng(seed).permutation(len(dataset))
    assert assign_folds(dataset.select(order), 2).tolist() == fold[order].tolist()


def test_too_few_and_too_many_folds_are_errors() -> None:
    dataset = table(["a", "b", "c", "d"], ["g", "g", "", ""], [True, True, True, False])
    assert Counter(assign_folds(dataset, 2)[:3].tolist()) == {0: 2, 1: 1}
    with pytest.raises(ConfigError) as config_error:
        assign_folds(dataset, 1)
    assert config_error.value.code == "out-of-range"
    with pytest.raises(DataError) as error:
        assign_folds(dataset, 3)
    assert error.value.code == "too-few-groups"
    with pytest.raises(DataError) as error:
        out_of_fold(dataset, Recipe.from_preset("quick", QUICK), folds=3)
    assert error.value.code == "too-few-groups"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Thirty images, some without the object, one that is damaged."""
    dataset = synthetic.write(
        tmp_path_factory.mktemp("synthetic"), 30, seed=5, size=(96, 72), empty_share=0.3
    )
    assert dataset.has_box[LOST]
    assert not dataset.has_box.all()
    dataset.paths[LOST].write_bytes(dataset.paths[LOST].read_bytes()[:300])
    return dataset


@pytest.fixture(scope="module")
def validator(drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> CrossValidator:
    recipe = Recipe.from_preset("quick", QUICK)
    return CrossValidator.from_dataset(
        drawn, recipe, folder=tmp_path_factory.mktemp("validator"), min_images=15, skip_bad=True
    )


@pytest.fixture(scope="module")
def found(validator: CrossValidator) -> OutOfFold:
    return validator.out_of_fold(FOLDS)


def test_held_out_images_are_predicted_by_the_head_of_the_other_half(
    validator: CrossValidator, drawn: Dataset
) -> None:
    held = held_out(validator)
    assert held is not None
    usable = np.flatnonzero(drawn.has_box & (np.arange(len(drawn)) != LOST))
    half = assign_folds(drawn.select(usable), 2)
    boxes = replace(validator, untrained=LocalizerHead(validator.untrained, presence=False))
    expected = []
    for number in (0, 1):
        mask = np.isin(np.arange(len(drawn)), usable[half != number])
        head = boxes.fit(mask, effort=0.5)
        expected.append(boxes.outputs(head, usable[half == number]).boxes)
    order = np.argsort(np.concatenate([usable[half == 0], usable[half == 1]]))
    np.testing.assert_allclose(held.predicted, torch.cat(expected)[order].clamp(0, 1), atol=1e-6)
    np.testing.assert_allclose(held.truth, validator.images.boxes(usable), atol=1e-6)
    assert (held.scale > 0).all()


def test_held_out_images_are_as_unsure_as_the_final_head(validator: CrossValidator) -> None:
    """Heads of halves, trained for a shorter time, are less sure: their deviations are scaled to the final head's."""
    unseen = np.flatnonzero(validator.images.dataset.has_box & validator.images.readable)[:6]
    asked = []

    def std_of_unseen(localizer: Localizer, factor: float = 1.0) -> Floats:
        asked.append(localizer)
        _, std = boxes_and_std(validator.outputs(LocalizerHead(localizer), unseen))
        return std * (factor if localizer is validator.localizer else 1.0)

    held = held_out(validator, std_of_unseen=std_of_unseen)
    doubled = held_out(validator, std_of_unseen=partial(std_of_unseen, factor=2.0))
    assert held is not None
    assert doubled is not None
    np.testing.assert_array_equal(held.predicted, doubled.predicted)
    np.testing.assert_allclose(doubled.scale, 2 * held.scale, rtol=1e-9)
    final, *halves = asked[:3]
    assert final is validator.localizer
    ratios = [np.log(std_of_unseen(final) / std_of_unseen(each)).mean() for each in halves]
    usable = validator.images.dataset.has_box & validator.images.readable
    half = assign_folds(validator.images.dataset.select(usable), 2)
    for number, (localizer, ratio) in enumerate(zip(halves, ratios, strict=True)):
        rows = np.flatnonzero(usable)[half == number]
        _, std = boxes_and_std(validator.outputs(LocalizerHead(localizer), rows))
        expected = scales(held.predicted[half == number], std * np.exp(ratio))
        np.testing.assert_allclose(held.scale[half == number], expected, rtol=1e-5)


def test_a_box_that_nobody_looked_at_is_learned_from_and_not_held_out(
    validator: CrossValidator, found: OutOfFold, tmp_path: Path
) -> None:
    boxed = np.flatnonzero(validator.images.dataset.has_box & validator.images.readable)
    source = tuple(PREDICTED if row in boxed[::3] else "" for row in range(len(validator.images)))
    dataset = replace(validator.images.dataset, source=source)
    images = copy.copy(validator.images)
    images.dataset = dataset
    judged = np.setdiff1d(boxed, boxed[::3])
    held = held_out(replace(validator, images=images))
    everything = held_out(validator)
    assert held is not None
    assert everything is not None
    rows = np.searchsorted(boxed, judged)
    np.testing.assert_array_equal(
        held.predicted, everything.predicted[rows]
    )  # by heads that saw all of the others
    replace(found, dataset=dataset).write(tmp_path / "out_of_fold.csv")
    written = Dataset.read(tmp_path / "out_of_fold.csv", check="off").names
    assert [Path(name).name for name in written] == [Path(dataset.names[row]).name for row in judged]


def test_a_copy_in_the_other_half_is_not_held_out(
    validator: CrossValidator, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that saw the image itself says nothing of its errors on new ones."""
    usable = np.flatnonzero(drawn.has_box & (np.arange(len(drawn)) != LOST))
    half = assign_folds(drawn.select(usable), 2)
    one, other = usable[half == 0][0], usable[half == 1][0]
    signatures = validator.images.signatures.copy()
    signatures[one] = signatures[other]
    monkeypatch.setattr(type(validator.images), "signatures", property(lambda _: signatures))
    held, everything = held_out(validator), held_out(validator, np.arange(len(drawn)) != one)
    assert held is not None
    assert everything is not None
    assert len(held.truth) == len(usable) - 2


def test_images_of_one_group_hold_nothing_out(validator: CrossValidator, drawn: Dataset) -> None:
    only = np.zeros(len(drawn), np.bool_)
    only[np.flatnonzero(drawn.has_box)[0]] = True
    assert held_out(validator, only) is None


def boxes_of(found: OutOfFold) -> Floats:
    return np.stack([prediction.box for prediction in found.predictions])


def test_every_image_that_can_be_read_is_told_of_once(found: OutOfFold, drawn: Dataset) -> None:
    there = np.arange(len(drawn)) != LOST
    assert [prediction.image for prediction in found.predictions] == [str(path) for path in drawn.images]
    assert found.fold[there].tolist() == assign_folds(drawn, FOLDS)[there].tolist()
    assert found.fold[LOST] == -1
    assert found.predictions[LOST].error
    assert np.isnan(found.predictions[LOST].box).all()
    told = [found.predictions[row] for row in np.flatnonzero(there)]
    assert {prediction.size for prediction in told} == {(96, 72)}
    for prediction in told:
        assert not prediction.error
        assert (prediction.box >= 0).all()
        assert (prediction.box <= [96, 72, 96, 72]).all()
        assert (prediction.std > 0).all()
        assert 0 < prediction.presence < 1
        assert 0 < prediction.familiarity <= 1
    # The strangest image is like none of the others, the most usual one is as usual as all.
    likeness = sorted(prediction.familiarity for prediction in told)
    assert (likeness[0], likeness[-1]) == (1 / len(told), 1.0)


def test_the_heads_learnt_something_from_the_other_fold(found: OutOfFold, drawn: Dataset) -> None:
    measured = drawn.has_box & (found.fold >= 0)
    reached = iou(boxes_of(found)[measured], drawn.boxes[measured]).mean()
    middle = np.array([24, 18, 72, 54])
    assert reached > iou(middle, drawn.boxes[measured]).mean() + 0.1


def test_a_head_knows_nothing_of_the_boxes_of_its_own_fold(
    validator: CrossValidator, found: OutOfFold
) -> None:
    poisoned = validator.features.boxes.clone()
    own = validator.features.rows_of(torch.from_numpy(found.fold == 0))
    poisoned[own] = torch.where(poisoned[own].isnan(), torch.nan, torch.tensor([0.0, 0.0, 0.1, 0.1]))
    again = replace(validator, features=replace(validator.features, boxes=poisoned)).out_of_fold(FOLDS)
    held_out, others = found.fold == 0, found.fold == 1
    np.testing.assert_array_equal(boxes_of(again)[held_out], boxes_of(found)[held_out])
    # And those that did learn from it believed it.
    assert iou(boxes_of(again)[others], boxes_of(found)[others]).mean() < 0.5


def test_the_same_pixels_have_the_same_prediction(found: OutOfFold, drawn: Dataset) -> None:
    for row in (0, 1, 2):
        image = read(drawn.paths[row])
        seen = found.predict_pixels(row, image.pixels)
        assert seen.size == (96, 72)
        # Cached maps are rounded to bfloat16.
        np.testing.assert_allclose(seen.box, found.predictions[row].box, atol=0.5)
    blank = np.full((72, 96, 3), 127, np.uint8)
    assert np.abs(found.predict_pixels(0, blank).box - found.predictions[0].box).max() > 2
    with pytest.raises(DataError, match="00004"):
        found.predict_pixels(LOST, blank)


def test_it_is_written_row_by_row(found: OutOfFold, drawn: Dataset, tmp_path: Path) -> None:
    found.write(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert list(rows[0]) == ["image", "group", "fold", "x1", "y1", "x2", "y2", "iou"]
    measured = np.flatnonzero(drawn.has_box & (found.fold >= 0))
    assert [row["image"] for row in rows] == [drawn.names[place] for place in measured]
    for row, place in zip(rows, measured, strict=True):
        assert int(row["fold"]) == found.fold[place]
        box = [float(row[key]) for key in ("x1", "y1", "x2", "y2")]
        assert float(row["iou"]) == pytest.approx(float(iou(box, drawn.boxes[place])), abs=0.01)


def test_a_fit_is_a_function_of_its_images_and_seed(validator: CrossValidator) -> None:
    first = np.arange(len(validator.images.dataset)) < 15
    before = torch.random.get_rng_state()
    heads = [validator.fit(first), validator.fit(first), validator.fit(first, seed=1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    boxes = [validator.outputs(head, [20, 21]).boxes for head in heads]
    assert torch.equal(boxes[0], boxes[1])
    assert not torch.equal(boxes[0], boxes[2])
    assert [one.box.tolist() for one in validator.predict(heads[0], [21, 20])] == [
        one.box.tolist() for one in reversed(validator.predict(heads[0], [20, 21]))
    ]


def test_without_images_to_choose_by_no_patience_is_lost(validator: CrossValidator) -> None:
    """By a figure that never gets better the second epoch would have been the last."""
    first = np.arange(len(validator.images.dataset)) < 15
    hasty = replace(validator, recipe=replace(validator.recipe, patience=1))
    assert torch.equal(*(one.outputs(one.fit(first), [20, 21]).boxes for one in (validator, hasty)))


def test_masks_and_images_that_cannot_teach_are_refused(validator: CrossValidator) -> None:
    with pytest.raises(DataError, match="none of the images"):
        validator.fit(~validator.images.dataset.has_box)
    with pytest.raises(DataError, match="none of the images"):
        validator.fit(np.arange(30) == LOST)
    for wrong in ([0, 1, 2], np.ones(7, dtype=np.bool_)):
        with pytest.raises(ValueError, match="mask"):
            validator.fit(wrong)


def test_a_backbone_that_trains_too_has_no_kept_features(drawn: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--recipe quick"):
        CrossValidator.from_dataset(
            drawn, Recipe.from_preset("quick", QUICK | {"finetune_epochs": 1}), folder=tmp_path
        )


def test_a_image_that_cannot_be_read_stops_it_unless_told_otherwise(drawn: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="00004"):
        CrossValidator.from_dataset(drawn, Recipe.from_preset("quick", QUICK), folder=tmp_path)


def test_two_images_make_two_folds_and_nothing_is_called_familiar(
    validator: CrossValidator, tmp_path: Path
) -> None:
    """One image has no spread to be unlike; and those without the object may all be unreadable."""
    drawn = validator.images.dataset
    empty = int(np.flatnonzero(~drawn.has_box)[0])
    lost = tmp_path / "lost.jpg"
    lost.write_bytes(drawn.paths[empty].read_bytes()[:300])
    rows = [*np.flatnonzero(drawn.has_box & (np.arange(30) != LOST))[:2], empty]
    few = drawn.select(rows)
    few = replace(few, images=(*few.images[:2], lost))
    recipe = Recipe.from_preset("quick", QUICK)
    found = out_of_fold(few, recipe, folds=2, skip_bad=True)
    assert sorted(found.fold.tolist()) == [-1, 0, 1]
    for prediction in found.predictions[:2]:
        assert np.isfinite(prediction.box).all()
        assert np.isnan(prediction.familiarity)
        assert np.isnan(prediction.presence)


def test_familiarity_is_against_the_images_of_other_folds(
    validator: CrossValidator, found: OutOfFold
) -> None:
    held_out = np.flatnonzero(found.fold == 1)
    others, features = (
        validator.pooled_features(np.flatnonzero(found.fold == 0)),
        validator.pooled_features(held_out),
    )
    distances = Familiarity.fit(others, features).distance(features)
    likeness = np.array([found.predictions[row].familiarity for row in held_out])
    assert np.argsort(distances).tolist() == np.argsort(-likeness).tolist()


def test_fitted_on_all_it_is_what_training_gives(drawn: Dataset, tmp_path: Path) -> None:
    """In batches of two one pass is enough, so that there is one epoch and none to choose."""
    recipe = Recipe.from_preset("quick", QUICK | {"batch": 2})
    positives = drawn.select(drawn.has_box & (np.arange(30) != LOST))
    parts = replace(positives, split=("train",) * 20 + ("val",) * (len(positives) - 20))
    trained = train(parts, tmp_path / "run", recipe)
    history = trained.metadata["history"]
    assert isinstance(history, list)
    assert len(history) == 1
    validator = CrossValidator.from_dataset(parts.of_split("train"), recipe, folder=tmp_path)
    head = validator.fit(np.ones(20, dtype=np.bool_))
    same(LocalizerHead(Localizer.load(tmp_path / "run")), head)


def same(a: LocalizerHead, b: LocalizerHead) -> None:
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from solobox.data import splits
from solobox.errors import ConfigError, DataError

fractions = st.tuples(st.floats(0.01, 0.4), st.floats(0, 0.4))


def assign(
    names: Sequence[str],
    groups: Sequence[str] | None = None,
    given_: Sequence[str] | None = None,
    has_box: Sequence[bool] | None = None,
    predicted: Sequence[bool] | None = None,
    val: float = 0.1,
    test: float = 0.1,
) -> tuple[str, ...]:
    blank = [""] * len(names)
    boxes = [True] * len(names) if has_box is None else has_box
    guesses = [False] * len(names) if predicted is None else predicted
    return splits.assign(names, groups or blank, given_ or blank, boxes, guesses, val=val, test=test)


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"image_{index:04d}.jpg" for index in range(start, start + count)]


def of_units(units: Sequence[str], split: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for unit, name in zip(units, split, strict=True):
        found.setdefault(unit, set()).add(name)
    return found


tables = st.lists(
    st.tuples(st.text(max_size=3), st.sampled_from(["", "", "a", "b", "c", "d"]), st.booleans()),
    min_size=1,
    max_size=30,
)


@given(table=tables, parts=fractions)
def test_every_row_has_a_split_and_no_group_is_parted(
    table: list[tuple[str, str, bool]], parts: tuple[float, float]
) -> None:
    names, groups, boxes = zip(*table, strict=True)
    units = [("g" + group) if group else ("n" + name) for name, group, _ in table]
    positive = {unit for unit, box in zip(units, boxes, strict=True) if box}
    if len(positive) < 2:
        with pytest.raises(DataError, check=lambda error: error.code == "too-few-images"):
            assign(names, groups, has_box=boxes, val=parts[0], test=parts[1])
        return
    found = assign(names, groups, has_box=boxes, val=parts[0], test=parts[1])
    assert set(found) <= {"train", "val", "test"}
    assert all(len(where) == 1 for where in of_units(units, found).values())
    filled = {name for name, box in zip(found, boxes, strict=True) if box}
    assert {"train", "val"} <= filled
    if parts[1] > 0 and len(positive) >= 3:
        assert "test" in filled


@given(
    seed=st.integers(0, 10**9),
    more=st.integers(1, 30),
    parts=st.tuples(st.floats(0.1, 0.4), st.floats(0.1, 0.4)),
)
def test_more_images_move_none(seed: int, more: int, parts: tuple[float, float]) -> None:
    # With 200 images and parts of a tenth or more, none is empty but once in a thousand million times.
    before = [f"{seed}/{name}" for name in numbered(200)]
    after = [f"{seed}/{name}" for name in numbered(more, 200)]
    wide = assign(after[: more // 2] + before + after[more // 2 :], val=parts[0], test=parts[1])
    assert wide[more // 2 :][:200] == assign(before, val=parts[0], test=parts[1])


@given(order=st.permutations(numbered(12)))
def test_the_order_of_rows_does_not_matter(order: list[str]) -> None:
    wanted = dict(zip(numbered(12), assign(numbered(12)), strict=True))
    assert dict(zip(order, assign(order), strict=True)) == wanted


def test_the_fractions_are_met() -> None:
    found = assign(numbered(5000), val=0.2, test=0.1)
    assert found.count("val") == pytest.approx(1000, abs=120)
    assert found.count("test") == pytest.approx(500, abs=90)


def test_the_hash_is_the_same_for_ever() -> None:
    # A change here would move images from test to train in every data set that relies on it.
    found = assign(numbered(40))
    assert [index for index, name in enumerate(found) if name == "test"] == [3, 6, 12, 14, 18]
    assert [index for index, name in enumerate(found) if name == "val"] == [8, 23, 27, 32, 37]


def test_tiny_sets() -> None:
    assert sorted(assign(["a", "b"])) == ["train", "val"]
    assert sorted(assign(["a", "b", "c"])) == ["test", "train", "val"]
    assert sorted(assign(["a", "b", "c"], val=0.01, test=0.98)) == ["test", "train", "val"]
    assert sorted(assign(["a", "b"], val=0.01, test=0.98)) == ["train", "val"]
    assert set(assign(["a", "b", "c"], test=0)) == {"train", "val"}
    assert "val" not in assign(["a", "b", "c"], val=0)
    assert assign(["a"], val=0, test=0) == ("train",)
    for names, groups in [(["a"], [""]), (["a", "b"], ["g", "g"])]:
        with pytest.raises(DataError, check=lambda error: error.code == "too-few-images"):
            assign(names, groups)


def test_a_image_named_like_a_group_is_not_in_it() -> None:
    names, groups = numbered(50), [""] * 50
    alone = assign([*names, "x"], [*groups, ""])
    assert assign([*names, "x"], [*groups, "image_0001.jpg"])[:50] == alone[:50]


@given(st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=3, max_size=20), st.booleans())
def test_given_splits_are_kept(split: list[str], grouped: bool) -> None:
    assume({"train", "val"} <= set(split))
    names = numbered(len(split))
    groups = [f"g{index // 3}" for index in range(len(split))] if grouped else [""] * len(split)
    found = assign(names, groups, split)
    for index, name in enumerate(split):
        if name:
            assert found[index] == name
            continue
        near = {
            other for other, group in zip(split, groups, strict=True) if grouped and group == groups[index]
        } - {""}
        assert found[index] == (near.pop() if len(near) == 1 else "train")


def test_val_is_carved_from_train_and_nothing_else_moves() -> None:
    names = numbered(600)
    groups = [f"g{index // 2}" for index in range(600)]
    split = ["test" if index < 100 else "train" if index < 400 else "" for index in range(600)]
    found = assign(names, groups, split, val=0.2)
    assert found[:100] == ("test",) * 100
    assert set(found[100:]) == {"train", "val"}
    assert found.count("val") == pytest.approx(100, abs=40)
    assert all(len(where) == 1 for where in of_units(groups, found).values())
    assert assign(names, groups, split, val=0)[100:] == ("train",) * 500


def test_val_can_be_carved_where_the_same_hash_made_the_test_part() -> None:
    names = numbered(1000)
    test = ["test" if name == "test" else "" for name in assign(names, test=0.3)]
    found = assign(names, given_=test, val=0.2)
    assert found.count("val") == pytest.approx(140, abs=45)


def test_a_group_that_the_data_parts_is_left_as_it_is() -> None:
    names = numbered(6)
    split = ["test", "train", "train", "train", "train", "train"]
    found = assign(names, ["p", "p", "a", "b", "c", "d"], split, val=0.9, test=0)
    assert found[:2] == ("test", "train")
    assert "val" in found[2:]


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, check=lambda error: error.code == "no-training-images"):
        assign(numbered(3), given_=["test", "val", "test"])
    with pytest.raises(DataError, check=lambda error: error.code == "too-few-images"):
        assign(numbered(3), given_=["test", "train", "test"])
    with pytest.raises(DataError, check=lambda error: error.code == "too-few-images"):
        assign(numbered(3), given_=["test", "train", "train"], has_box=[True, False, False])


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_senseless_fractions_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, check=lambda error: error.code == "out-of-range"):
        assign(numbered(5), val=val, test=test)


@given(table=tables, guessed=st.lists(st.booleans(), min_size=30, max_size=30), parts=fractions)
def test_boxes_that_nobody_looked_at_fill_no_held_out_split_and_move_no_others(
    table: list[tuple[str, str, bool]], guessed: list[bool], parts: tuple[float, float]
) -> None:
    names, groups, boxes = zip(*table, strict=True)
    predicted = [box and guess for box, guess in zip(boxes, guessed, strict=False)]
    units = [("g" + group) if group else ("n" + name) for name, group, _ in table]
    judged = {unit for unit, box, guess in zip(units, boxes, predicted, strict=True) if box and not guess}
    assume(len(judged) >= 2)
    found = assign(names, groups, has_box=boxes, predicted=predicted, val=parts[0], test=parts[1])
    of_unit = of_units(units, found)
    guesses = {unit for unit, guess in zip(units, predicted, strict=True) if guess}
    assert all(of_unit[unit] == {"train"} for unit in guesses - judged)
    others = [row for row, unit in enumerate(units) if unit not in guesses - judged]

    def pick(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in others]

    alone = assign(
        pick(names), pick(groups), has_box=pick(boxes), predicted=pick(predicted), val=parts[0], test=parts[1]
    )
    assert alone == tuple(pick(found))


def test_carving_val_leaves_boxes_that_nobody_looked_at_in_train() -> None:
    names, guesses = numbered(300), [row % 3 > 0 for row in range(300)]
    found = assign(names, given_=["train"] * 300, predicted=guesses, val=0.3)
    assert "val" in found
    assert {split for split, guess in zip(found, guesses, strict=True) if guess} == {"train"}

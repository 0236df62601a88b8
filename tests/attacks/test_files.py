"""Annotations, decisions and settings made by an attacker: each is refused with a code at once."""

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from error_codes import has_code
from solobox.config.recipe import read_toml
from solobox.data import formats
from solobox.errors import SoloboxError
from solobox.evaluation.audit.decisions import read_decisions
from solobox.predict.writers import ImageIds
from solobox.training.run_folder import DATA_SOURCE, DataSource
from solobox.utils.json_utils import MAX_DEPTH, parse_json

ALLOWED_MEMORY = 300 << 20


def nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


def aliases(last: str) -> str:
    """Lists of nine aliases of the list before: 9**9 names in some hundred bytes."""
    lists = "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return f"a: &a [x, x, x, x, x, x, x, x, x]\n{lists}{last}"


YAML = {
    "bomb of images": aliases("train: *i\nnames: [a]\n"),
    "bomb of names": aliases("train: images\nnames: *i\n"),
    "alias of itself": "train: &a [*a]\n",
    "merged mapping": "a: &a {b: c}\ntrain:\n  <<: *a\n",
    "deep": "train: " + "[" * 20_000,
    "deep and closed": "train: " + nested(3_000),
    "deep mappings": "train: " + "{a: " * 3_000,
    "digits": "train: " + "9" * 5_000,
    "hexadecimal digits": "train: 0x" + "f" * 5_000,
    "base 60": "train: " + ":".join(["1"] * 5_000),
    "a date": "train: 2024-99-99",
    "binary": "train: !!binary 'a'",
    "an object": "train: !!python/object/apply:os.system ['true']",
    "a time": "train: !!timestamp x",
    "a truth": "train: !!bool x",
    "megabytes": "train: [" + "x," * (3 << 20) + "]",
}


def refusal(read: Callable[[], object]) -> str:
    """The code of the error; any other exception, and more memory than is allowed, is the test's failure."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
        code = ""
    except SoloboxError as error:
        code = error.code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_MEMORY / 1024
    return code


@pytest.mark.parametrize("kind", YAML)
def test_a_yaml_that_stands_for_more_than_it_says(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data.yaml").write_text(YAML[kind])
    assert refusal(lambda: formats.read(tmp_path)) == "bad-yaml"


def test_an_alias_of_a_name_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").touch()
    (tmp_path / "data.yaml").write_text("train: &here images\nnames: [*here]\n")
    assert len(formats.read(tmp_path).records) == 1


@pytest.mark.parametrize("name", ["x" * 5_000, "\0", "a/" * 3_000])
def test_a_yaml_with_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.yaml").write_text(json.dumps({"train": name}))
    assert refusal(lambda: formats.read(tmp_path)) == "not-found"


COCO: dict[str, str] = {
    "deep": '{"images": ' + "[" * 100_000,
    "deep and closed": '{"images": [], "annotations": ' + nested(900) + "}",
    "a deep box": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1, "bbox": '
    + nested(500) + "}]}",
    "deep objects": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "info": '
    + '{"a": ' * 900 + "1" + "}" * 901,
    "an image's id": '{"images": [{"id": ' + "9" * 5_000 + ', "file_name": "a.jpg"}], "annotations": []}',
    "a category's id": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": '
    + "9" * 5_000 + "}]}",
    "a number": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": ['
    + "9" * 5_000 + ", 1, 1, 1]}]}",
}  # fmt: skip


@pytest.mark.parametrize("kind", COCO)
def test_a_coco_json_of_digits_and_depth(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(COCO[kind])
    assert refusal(lambda: formats.read(path)) == "bad-json"
    assert refusal(lambda: ImageIds.read(path, ["a.jpg"])) == "coco-damaged"


NO_JSON = {
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep and closed": nested(900),
    "deep within": '{"decisions": ' + nested(500) + "}",
    "digits": '{"format": ' + "9" * 5_000 + "}",
    "cut": '{"a": [1, 2',
    "nothing": "",
}


@pytest.mark.parametrize("kind", NO_JSON)
def test_decisions_and_data_sources_of_digits_and_depth(tmp_path: Path, kind: str) -> None:
    for name in ("decisions.json", DATA_SOURCE):
        (tmp_path / name).write_text(NO_JSON[kind])
    assert refusal(lambda: read_decisions(tmp_path / "decisions.json")) == "decisions-unreadable"
    assert refusal(lambda: DataSource.load(tmp_path)) == "data-source-missing"


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + nested(3_000), "a = " + "9" * 5_000])
def test_a_toml_of_digits_and_depth(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(SoloboxError, check=has_code("config-unreadable")):
        read_toml(tmp_path / "recipe.toml")


@pytest.mark.parametrize("depth", [1, MAX_DEPTH, MAX_DEPTH + 1, 500])
def test_json_is_read_to_a_depth(depth: int) -> None:
    if depth <= MAX_DEPTH:
        assert parse_json(nested(depth)) == json.loads(nested(depth))
        assert parse_json('{"a":' * depth + "1" + "}" * depth)
        return
    for text in (nested(depth), '{"a":' * depth + "1" + "}" * depth, "[[]," + nested(depth - 1) + "]"):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[1, -1e999]"])
def test_json_of_numbers_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_json(text)
    values: Any = parse_json(text, allow_nan=True)
    assert not np.isfinite(np.atleast_1d(values)[-1])

import sys
from pathlib import Path

import custom_labelers
import numpy as np
import pytest

from solobox import autolabel
from solobox.autolabel import Candidate, find, known, register
from solobox.errors import ConfigError


def test_a_name_and_a_place_lead_to_the_same_function() -> None:
    assert find("test:whole") is custom_labelers.whole
    assert find("custom_labelers:whole") is custom_labelers.whole
    assert known()["test:whole"] is custom_labelers.whole


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (autolabel.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    (tmp_path / "mine_of_the_docstring.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    found = find("mine_of_the_docstring:middle")(np.zeros((8, 4, 3), np.uint8))
    assert found == [Candidate((1, 2, 3, 6), 1)]


def test_what_is_shipped() -> None:
    assert {"haar:frontalface", "haar:profileface", "haar:catface", "haar:fullbody", "haar:upperbody"} < set(
        known()
    )
    assert {"haar:eye", "hog:people", "grabcut"} < set(known())


def test_a_taken_name_is_refused_but_the_same_function_may_come_again() -> None:
    register("test:whole")(custom_labelers.whole)
    with pytest.raises(ConfigError, match="'grabcut' is there already"):
        register("grabcut")(custom_labelers.whole)
    assert find("grabcut") is not custom_labelers.whole


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("haar:frontalfaces", "is it 'haar:frontalface'"),
        ("grabcat", "is it 'grabcut'"),
        ("no_such_module:find", "no labeler"),
        ("custom_labelers:there_is_none", "no function 'there_is_none'"),
        ("custom_labelers:NOT_CALLABLE", "no function 'NOT_CALLABLE'"),
        ("../evil:function", "no labeler"),
    ],
)
def test_unknown_names_get_a_hint(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find(name)


def test_a_module_that_breaks_is_told_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_labelers.py").write_text("1 / 0")
    (tmp_path / "hungry_labelers.py").write_text("import no_such_package")
    with pytest.raises(ConfigError, match="cannot be imported: ZeroDivisionError"):
        find("broken_labelers:find")
    with pytest.raises(ConfigError, match="needs no_such_package"):
        find("hungry_labelers:find")
    assert "broken_labelers" not in sys.modules


def test_a_function_that_no_other_process_can_have_is_refused() -> None:
    def inside(pixels: object) -> list[Candidate]:
        return []

    register("test:inside")(inside)
    with pytest.raises(ConfigError, match="top of a module"):
        find("test:inside")

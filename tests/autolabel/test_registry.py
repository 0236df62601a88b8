from pathlib import Path

import custom_labelers
import numpy as np
import pytest

from solobox import autolabel
from solobox.autolabel import Candidate, available, find, register
from solobox.errors import ConfigError


def test_a_name_and_a_module_lead_to_the_same_function() -> None:
    assert find("test:whole") is custom_labelers.whole
    assert find("custom_labelers:whole") is custom_labelers.whole
    assert available()["test:whole"] is custom_labelers.whole


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (autolabel.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    (tmp_path / "mine_of_the_docstring.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    candidates = find("mine_of_the_docstring:middle")(np.zeros((8, 4, 3), np.uint8))
    assert candidates == [Candidate((1, 2, 3, 6), 1)]


def test_what_is_shipped() -> None:
    assert {"haar:frontalface", "haar:profileface", "haar:catface", "haar:fullbody", "haar:upperbody"} < set(
        available()
    )
    assert {"haar:eye", "hog:people", "grabcut"} < set(available())


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        register("grabcut")(custom_labelers.whole)
    assert caught.value.code == "labeler-exists"
    assert find("grabcut") is not custom_labelers.whole


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("haar:frontalfaces", "'haar:frontalface'?"),
        ("grabcat", "'grabcut'?"),
        ("no_such_module:find", "module:function"),
        ("custom_labelers:there_is_none", "'there_is_none'"),
        ("custom_labelers:NOT_CALLABLE", "'NOT_CALLABLE'"),
        ("../evil:function", "module:function"),
    ],
)
def test_unknown_names_get_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(name)
    assert caught.value.code == "labeler-unknown"
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"), [("1 / 0", "ZeroDivisionError"), ("import no_such_package", "no_such_package")]
)
def test_a_module_that_cannot_be_imported_is_not_an_unknown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cause: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_labelers.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        find("broken_labelers:find")
    assert caught.value.code == "labeler-broken"
    assert cause in str(caught.value)

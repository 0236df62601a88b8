import json
from pathlib import Path

import pytest
from check_sets import ImageSet
from rich.console import Console

from solobox.data.checks import CODES, Diagnosis, Finding
from solobox.data.checks.diagnosis import MAX_ROWS_PER_CODE


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    data = ImageSet(tmp_path)
    data.fine(3)
    return data


def shown(diagnosis: Diagnosis, width: int = 200) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(diagnosis.table())
    console.file.close()
    return console.export_text()


def test_findings_come_in_the_files_order_and_every_time_the_same(data: ImageSet) -> None:
    data.add("small.png", (10, 10, 12, 70))
    data.add("gone.png", (10, 10, 60, 60), draw=False)
    data.add("flat.png", (10, 20, 60, 20))
    first, second = data.check(), data.check()
    assert first == second
    assert [finding.row for finding in first.findings] == [5, 6, 7]
    assert [finding.level for finding in first.findings] == ["warning", "error", "error"]
    assert (len(first.errors), len(first.warnings)) == (2, 1)


def test_json_holds_everything_and_is_plain(data: ImageSet) -> None:
    data.add("flat.png", (10, 20, 60, 20))
    content = json.loads(json.dumps(data.check().to_json(), allow_nan=False))
    assert content["counts"] == {"empty-box": 1}
    assert (content["n_records"], content["n_images"], content["n_errors"], content["n_bad_rows"]) == (
        4,
        4,
        1,
        1,
    )
    (finding,) = content["findings"]
    assert set(finding) == set(Finding.__dataclass_fields__)
    assert (finding["row"], finding["image"]) == (5, "flat.png")


def test_every_finding_has_a_known_code_of_the_right_level(data: ImageSet) -> None:
    data.add("flat.png", (10, 20, 60, 20))
    finding = data.only()
    assert CODES[finding.code] == finding.level
    assert finding.message
    assert finding.advice


def test_the_table_says_row_file_fault_and_remedy(data: ImageSet) -> None:
    data.add("flat.png", (10, 20, 60, 20))
    text = shown(data.check())
    for word in ("row", "5", "flat.png", "no height", "draw the box again"):
        assert word in text


def test_the_table_lists_ten_of_a_kind_and_counts_the_rest(data: ImageSet) -> None:
    for number in range(MAX_ROWS_PER_CODE + 7):
        data.add(f"small{number}.png", (10, 10 + number, 12, 70))
    data.add("flat.png", (10, 20, 60, 20))
    text = shown(data.check("headers"))
    assert text.count("small") == MAX_ROWS_PER_CODE
    assert "and 7 more tiny-box" in text
    assert text.index("flat.png") < text.index("small0.png")  # errors first


def test_names_with_brackets_are_shown_as_they_are(data: ImageSet) -> None:
    data.add("a[bold].png", (10, 20, 60, 20))
    assert "a[bold].png" in shown(data.check())


def test_when_nothing_is_wrong_it_says_so(data: ImageSet) -> None:
    assert "Nothing is wrong" in shown(data.check())

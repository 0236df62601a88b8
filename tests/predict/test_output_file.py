import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prediction_rows import HEIGHT, WIDTH, made_up, stream

from solobox.errors import ConfigError, DataError
from solobox.predict.prediction import Prediction
from solobox.predict.writers import Columns, Parts, Plan, fingerprint, resume, write

HERE = Path(__file__).parent
NAMES = [f"{number:03d}{'-broken' if number % 50 == 7 else ''}.jpg" for number in range(300)]
PLAN: Plan = {"the model": "a" * 64, "--margins": 0.9, "--outer": None}
ALL = Columns("both", presence=True, familiarity=True)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "boxes.csv"


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "ROWS", 64)


def same(a: Prediction, b: Prediction) -> bool:
    """To the last bit."""
    edges = ("box", "std", "lower", "upper", "presence", "familiarity")
    return (a.image, a.size, a.error) == (b.image, b.size, b.error) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in edges
    )


def stopped(output: Path, after: int, *, resume: bool = False, plan: Plan = PLAN) -> int:
    """A run that an interrupt stops; how many rows it found at its start."""
    starts: list[int] = []

    def breaking(first: int) -> Iterator[Prediction]:
        starts.append(first)
        yield from stream(NAMES[first:after])
        raise KeyboardInterrupt

    def running() -> None:
        with Parts.opened(output, plan, len(NAMES), resume=resume) as kept:
            for _ in kept.keep(breaking(kept.done)):
                pass

    with pytest.raises(KeyboardInterrupt):
        running()
    return starts[0]


def test_rows_come_back_to_the_last_bit_and_the_folder_goes(output: Path) -> None:
    with Parts.opened(output, PLAN, len(NAMES)) as kept:
        assert kept.done == 0
        wanted = list(kept.keep(stream(NAMES)))
        assert kept.folder == output.with_name("boxes.csv.parts")
        assert sorted(path.name for path in kept.folder.glob("0*"))[:2] == [
            "000000000-000000064.jsonl",
            "000000064-000000128.jsonl",
        ]
        found = list(kept)
        kept.remove()
    assert len(found) == len(NAMES)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert list(output.parent.iterdir()) == []


def test_a_run_that_was_stopped_goes_on_at_a_whole_batch(output: Path) -> None:
    stopped(output, 200)
    assert stopped(output, 250, resume=True) == 192  # three times 64: models see images in batches
    with Parts.opened(output, PLAN, len(NAMES), resume=True) as kept:
        assert kept.done == 192
        list(kept.keep(stream(NAMES[kept.done :])))
        assert [one.image for one in kept] == NAMES


def test_rows_are_kept_before_a_file_is_full_where_images_take_long(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "ROWS", 10_000)
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    with Parts.opened(output, PLAN, len(NAMES)) as kept:
        walk = kept.keep(stream(NAMES))
        for _ in range(130):
            next(walk)
        assert kept.done == 128


def test_without_resume_what_a_stopped_run_found_is_not_thrown_away(output: Path) -> None:
    stopped(output, 200)
    with pytest.raises(DataError, match=r"holds what a stopped run had found, 192 .*--resume"), \
            Parts.opened(output, PLAN, len(NAMES)):  # fmt: skip
        pass
    assert stopped(output, 200, resume=True) == 192


def test_a_run_that_found_nothing_leaves_nothing(output: Path) -> None:
    stopped(output, 10)
    assert list(output.parent.iterdir()) == []
    with Parts.opened(
        output, PLAN, len(NAMES), resume=True
    ) as kept:  # there is nothing to go on with, which is fine
        assert kept.done == 0


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"--margins": None}, "--margins was 0.9 and is not given"),
        ({"--outer": 0.5}, "--outer was not given and is 0.5"),
        ({"the model": "b" * 64}, "the model changed since"),
    ],
)
def test_other_settings_are_refused_with_the_reason(output: Path, other: Plan, says: str) -> None:
    stopped(output, 100)
    before = sorted(path.name for path in resume.folder_of(output).iterdir())
    with pytest.raises(ConfigError, match=says), \
            Parts.opened(output, {**PLAN, **other}, len(NAMES), resume=True):  # fmt: skip
        pass
    assert sorted(path.name for path in resume.folder_of(output).iterdir()) == before


def test_a_missing_plan_is_told(output: Path) -> None:
    stopped(output, 100)
    (resume.folder_of(output) / "plan.json").unlink()
    with pytest.raises(ConfigError, match="missing or damaged"), \
            Parts.opened(output, PLAN, len(NAMES), resume=True):  # fmt: skip
        pass


@pytest.mark.parametrize("harm", ["cut", "gone", "text"])
def test_damaged_rows_are_told_and_not_written(output: Path, harm: str) -> None:
    stopped(output, 200)
    path = resume.folder_of(output) / "000000064-000000128.jsonl"
    if harm == "gone":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text(text[: text.rindex("\n", 0, -1) + 1] if harm == "cut" else text[:-9])

    def going_on() -> None:
        with Parts.opened(output, PLAN, len(NAMES), resume=True) as kept:
            list(kept.keep(stream(NAMES[kept.done :])))
            list(write(output, kept))

    with pytest.raises(DataError, match="begin anew"):
        going_on()
    assert not output.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_runs_at_once_are_kept_apart(output: Path) -> None:
    with Parts.opened(output, PLAN, len(NAMES)) as kept:
        next(kept.keep(stream(NAMES)))
        with pytest.raises(DataError, match=r"another `solobox predict` is writing .*boxes\.csv$"), \
                Parts.opened(output, PLAN, len(NAMES), resume=True):  # fmt: skip
            pass
        assert kept.folder.is_dir()


def test_what_killed_runs_left_is_removed(output: Path) -> None:
    output.parent.mkdir()
    own = [output.with_name(".boxes.csv.0123abcd.part"), output.with_name(".boxes.csv.0123abce.part")]
    own[0].write_text("half")
    own[1].mkdir()
    other = output.with_name(".boxes.json.0123abcd.part")
    other.write_text("another output's")
    stopped(output, 100)
    (resume.folder_of(output) / ".000000064-000000128.jsonl.0123abcd.part").write_text("half")
    stopped(output, 100, resume=True)
    assert sorted(path.name for path in output.parent.iterdir()) == [other.name, "boxes.csv.parts"]
    assert sorted(path.name for path in resume.folder_of(output).iterdir()) == [
        "000000000-000000064.jsonl", "lock", "plan.json",
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"), \
            Parts.opened(tmp_path / "boxes.csv", PLAN, 1):  # fmt: skip
        pass


def test_a_file_in_the_folders_place_is_told_and_stays(output: Path) -> None:
    output.parent.mkdir()
    resume.folder_of(output).write_text("mine")
    with pytest.raises(DataError, match="cannot be written"), Parts.opened(output, PLAN, 1):
        pass
    assert resume.folder_of(output).read_text() == "mine"


def test_a_folder_of_somebody_elses_keeps_its_files(output: Path) -> None:
    """One that has the name by chance, and no plan."""
    folder = resume.folder_of(output)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine\.txt"), Parts.opened(output, PLAN, 1):
        pass
    assert (folder / "mine.txt").read_text() == "mine"


def test_fingerprints_tell_lists_apart() -> None:
    lists = [[], [""], ["a"], ["ab"], ["a", "b"], ["b", "a"], ["1:a", "b"], ["a1:b"], ["\udcff"]]
    assert len({fingerprint(one) for one in lists}) == len(lists)


# Killed for good ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "images"
    for number in range(300):
        path = folder / str(number % 3) / NAMES[number // 3]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (number % 256, 90, 200)).save(path)
    return folder


@pytest.fixture(scope="module")
def named(images: Path) -> list[str]:
    return sorted(str(path) for path in images.rglob("*.jpg"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the program forks")
@pytest.mark.parametrize(
    ("ending", "how"),
    [(".csv", "steps"), (".jsonl", "1"), (".parquet", "2"), (".json", "3"), (".csv", "4")],
)
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_never_was(
    images: Path, named: list[str], tmp_path: Path, ending: str, how: str
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "images").symlink_to(images)
    inputs = [str(folder / "images" / Path(name).relative_to(images)) for name in named]
    wanted = tmp_path / f"wanted{ending}"
    inputs = [name for name in inputs if how != "steps" or "/images/0/" in name]
    for _ in write(wanted, stream(inputs), Columns(presence=True, familiarity=True)):
        pass
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    words = [sys.executable, str(HERE / "killed_program.py"), str(folder), ending, how]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    killed, went_on = map(int, done.stdout.split())
    assert killed > (20 if how == "steps" else 0)
    assert went_on > 0
    outputs = list(folder.glob(f"boxes*{ending}"))
    assert len(outputs) == (killed + 1 if how == "steps" else 1)
    for output in outputs:
        assert output.read_bytes() == wanted.read_bytes(), output
    # One that died as it cleared up leaves the folder's remains, hidden, to the next run.
    seen = {path.name for path in folder.iterdir() if not path.name.endswith(".part")}
    leftovers = seen - {path.name for path in outputs}
    assert leftovers == ({"images"} if how == "steps" else {"images", f"crops{ending}"})
    if how != "steps":
        crops = [path.name for path in (folder / f"crops{ending}").iterdir()]
        assert len(crops) == sum("broken" not in name for name in inputs)
        assert not any(name.startswith(".") for name in crops)


def test_the_stand_in_has_images_that_cannot_be_read_and_names_that_are_taken(named: list[str]) -> None:
    """Or the test above would say less than it seems to."""
    assert any(made_up(name).error for name in named)
    stems = [Path(name).stem for name in named]
    assert len(set(stems)) < len(stems)

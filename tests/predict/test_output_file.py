import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prediction_rows import HEIGHT, WIDTH, MadeUp, made_up

from solobox.errors import ConfigError, DataError
from solobox.predict import output_file
from solobox.predict.job import JobSummary, in_threads, run
from solobox.predict.output_file import DRAWN, OutputFile, folder_of, is_renamed
from solobox.predict.plan import Plan, fingerprint, model_fingerprint
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.predict.writers import FORMATS, Columns, write

HERE = Path(__file__).parent
NAMES = [f"{number:03d}{'-broken' if number % 50 == 7 else ''}.jpg" for number in range(300)]
ALL = Columns("both", presence=True, familiarity=True)
PLAN = Plan(
    model="a" * 64,
    inputs="b" * 64,
    rows=300,
    shard_size=64,
    options=PredictOptions(margins=0.9),
    columns=ALL,
    settings={"--crop": None},
)


@pytest.fixture(params=FORMATS)
def any_output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "deep" / f"boxes{request.param}"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "boxes.csv"


class Stopping(MadeUp):
    """Is interrupted at an image; keeps the names that it was given."""

    def __init__(self, at: str = "") -> None:
        self.at = at
        self.seen: list[str] = []

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        for name in images:
            if name == self.at:
                raise KeyboardInterrupt
            self.seen.append(name)
            yield made_up(name)


def finished(output: Path, *, resume: bool = False, model: MadeUp | None = None) -> JobSummary:
    with OutputFile.open(output, PLAN, NAMES, resume=resume) as job:
        return run(job, in_threads(model or MadeUp()))


def stopped(output: Path, at: int, *, resume: bool = False, plan: Plan = PLAN) -> list[str]:
    """A run that is interrupted at an image; gives those that it predicted."""
    model = Stopping(NAMES[at])

    def running() -> None:
        with OutputFile.open(output, plan, NAMES, resume=resume) as job:
            run(job, in_threads(model))

    with pytest.raises(KeyboardInterrupt):
        running()
    return model.seen


def expected(output: Path) -> bytes:
    """The bytes of an output that was written in one go."""
    path = output.with_name(f"expected{output.suffix}")
    for _ in write(path, map(made_up, NAMES), ALL):
        pass
    data = path.read_bytes()
    path.unlink()
    return data


def program(code: str, path: Path) -> str:
    """What a fresh process prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_rows_are_in_the_output_and_the_folder_goes(any_output: Path) -> None:
    assert finished(any_output) == JobSummary(300, 6, 0)
    assert [path.name for path in any_output.parent.iterdir()] == [any_output.name]
    assert any_output.read_bytes() == expected(any_output)


def test_a_run_continues_after_the_last_part_and_the_output_is_the_same(any_output: Path) -> None:
    stopped(any_output, 200)
    assert stopped(any_output, 250, resume=True) == NAMES[192:250]  # three times 64: whole batches
    model = Stopping()
    assert finished(any_output, resume=True, model=model) == JobSummary(300, 6, 0)
    assert model.seen == NAMES[192:]
    assert any_output.read_bytes() == expected(any_output)


def test_each_row_is_written_once(output: Path) -> None:
    """What is unfinished becomes the output by its name alone."""
    stopped(output, 299)
    inode = (folder_of(output) / "rows.csv").stat().st_ino
    finished(output, resume=True)
    assert output.stat().st_ino == inode


def test_an_older_output_stays_until_all_rows_are_there(output: Path) -> None:
    output.parent.mkdir()
    output.write_text("old")
    stopped(output, 200)
    assert output.read_text() == "old"
    finished(output, resume=True)
    assert output.read_bytes() == expected(output)


def test_without_resume_finished_parts_are_not_thrown_away(output: Path) -> None:
    stopped(output, 200)
    with pytest.raises(DataError) as error, OutputFile.open(output, PLAN, NAMES):
        pass
    assert error.value.code == "output-unfinished"
    assert "192" in str(error.value)
    finished(output, resume=True)


def test_names_of_images_survive_a_run_that_is_killed_as_it_begins_again(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    names = folder_of(output) / DRAWN[1]
    with OutputFile.open(output, PLAN, NAMES):
        names.write_text("[0, '000.jpg']")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(output_file, "replacing", killed)
        with OutputFile.open(output, PLAN, NAMES, resume=True):
            pass
    with OutputFile.open(output, PLAN, NAMES, resume=True):
        assert names.exists()


def test_a_run_without_a_part_leaves_nothing(output: Path) -> None:
    stopped(output, 10)
    assert list(output.parent.iterdir()) == []
    assert stopped(output, 10, resume=True) == NAMES[:10]  # nothing to continue, which is fine


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"options": PredictOptions()}, "--margins was 0.9 and is not set"),
        ({"options": PredictOptions(margins=0.9, min_presence=0.5)}, "--min-presence was not set and is 0.5"),
        ({"model": "c" * 64}, "the model changed"),
        ({"inputs": "c" * 64}, "the images changed"),
        ({"settings": {"--crop": "crops"}}, "--crop was not set and is crops"),
        ({"version": "9.0"}, "Solobox's version was"),
    ],
)
def test_another_plan_is_refused_with_the_difference(output: Path, other: dict[str, Any], says: str) -> None:
    stopped(output, 100)
    before = {path: path.read_bytes() for path in folder_of(output).iterdir()}
    with pytest.raises(ConfigError) as error, \
            OutputFile.open(output, replace(PLAN, **other), NAMES, resume=True):  # fmt: skip
        pass
    assert error.value.code == "plan-differs"
    assert says in str(error.value)
    assert {path: path.read_bytes() for path in folder_of(output).iterdir()} == before


@pytest.mark.parametrize("harm", ["gone", "text", "other layout"])
def test_a_plan_that_is_missing_or_damaged_is_an_error(output: Path, harm: str) -> None:
    stopped(output, 100)
    path = folder_of(output) / "plan.json"
    if harm == "gone":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text(text[:-9] if harm == "text" else text.replace('"layout": 3', '"layout": 1'))
    with pytest.raises((DataError, ConfigError)) as error, \
            OutputFile.open(output, PLAN, NAMES, resume=True):  # fmt: skip
        pass
    assert error.value.code == ("plan-differs" if harm == "other layout" else "plan-damaged")


@pytest.mark.parametrize("harm", ["cut", "gone", "changed"])
def test_damaged_rows_are_found_before_anything_is_predicted(output: Path, harm: str) -> None:
    stopped(output, 200)
    path = folder_of(output) / "rows.csv"
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if harm == "cut" else data.replace(b"010.jpg", b"011.jpg"))
    with pytest.raises(DataError) as error:
        finished(output, resume=True)
    assert error.value.code == "output-damaged"
    assert not output.exists()


def test_what_a_killed_run_wrote_after_its_last_part_is_cut_off(any_output: Path) -> None:
    stopped(any_output, 200)
    for name in ("journal.jsonl", next(folder_of(any_output).glob("rows.*")).name):
        with (folder_of(any_output) / name).open("a") as file:
            file.write("[64, 2, half a li")
    model = Stopping()
    finished(any_output, resume=True, model=model)
    assert model.seen == NAMES[192:]
    assert any_output.read_bytes() == expected(any_output)


def test_a_run_that_was_killed_when_all_was_written_does_nothing_again(output: Path) -> None:
    stopped(output, 200)
    with OutputFile.open(output, PLAN, NAMES, resume=True) as job:
        for shard in (3, 4):
            job.put(shard, [made_up(name) for name in job.names(shard)])
        (job.folder / "rows.csv").rename(output)  # and here it was killed
    assert is_renamed(output)
    model = Stopping()
    assert finished(output, resume=True, model=model) == JobSummary(300, 6, 0)
    assert model.seen == []
    assert output.read_bytes() == expected(output)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_file_that_replaced_a_finished_output_stays(output: Path) -> None:
    stopped(output, 200)
    (folder_of(output) / "rows.csv").unlink()
    output.write_text("of somebody else")
    assert not is_renamed(output)
    with pytest.raises(DataError) as error:
        finished(output, resume=True)
    assert error.value.code == "output-damaged"
    assert output.read_text() == "of somebody else"


def test_two_runs_at_once_are_kept_apart(output: Path) -> None:
    with OutputFile.open(output, PLAN, NAMES) as job:
        with pytest.raises(DataError) as error, OutputFile.open(output, PLAN, NAMES, resume=True):
            pass
        assert error.value.code == "output-busy"
        assert job.folder.is_dir()


def test_what_killed_runs_left_is_removed(output: Path) -> None:
    output.parent.mkdir()
    leftovers = [output.with_name(".boxes.csv.0123abcd.part"), output.with_name(".boxes.csv.0123abce.part")]
    leftovers[0].write_text("half")
    leftovers[1].mkdir()
    other = output.with_name(".boxes.json.0123abcd.part")
    other.write_text("another output's")
    stopped(output, 100)
    assert sorted(path.name for path in output.parent.iterdir()) == [other.name, "boxes.csv.unfinished"]
    finished(output, resume=True)
    assert sorted(path.name for path in output.parent.iterdir()) == [other.name, "boxes.csv"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"), \
            OutputFile.open(tmp_path / "boxes.csv", PLAN, NAMES):  # fmt: skip
        pass


def test_a_file_in_the_way_of_the_folder_is_an_error_and_stays(output: Path) -> None:
    output.parent.mkdir()
    folder_of(output).write_text("mine")
    with pytest.raises(DataError, match="cannot be written"), OutputFile.open(output, PLAN, NAMES):
        pass
    assert folder_of(output).read_text() == "mine"


def test_a_folder_with_other_files_keeps_them(output: Path) -> None:
    """One that has the name by chance."""
    folder = folder_of(output)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as error, OutputFile.open(output, PLAN, NAMES):
        pass
    assert error.value.code == "output-foreign"
    assert (folder / "mine.txt").read_text() == "mine"


def test_fingerprints_tell_lists_apart() -> None:
    lists = [[], [""], ["a"], ["ab"], ["a", "b"], ["b", "a"], ["1:a", "b"], ["a1:b"], ["\udcff"]]
    assert len({fingerprint(one) for one in lists}) == len(lists)


def test_a_models_fingerprint_is_of_its_files(tmp_path: Path) -> None:
    file, folder = tmp_path / "model.onnx", tmp_path / "run"
    file.write_bytes(b"a")
    folder.mkdir()
    with pytest.raises(ConfigError):
        model_fingerprint(folder)
    (folder / "config.json").write_bytes(b"a")
    (folder / "model.safetensors").write_bytes(b"b")
    found = {model_fingerprint(file), model_fingerprint(folder)}
    file.write_bytes(b"b")
    (folder / "model.safetensors").write_bytes(b"c")
    assert len(found | {model_fingerprint(file), model_fingerprint(folder)}) == 4


FULL = """
import resource, sys
from pathlib import Path
from prediction_rows import MadeUp
from solobox.errors import DataError
from solobox.predict.job import in_threads, run
from solobox.predict.output_file import OutputFile
from test_output_file import NAMES, PLAN
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    with OutputFile.open(Path(sys.argv[1]), PLAN, NAMES) as job:
        run(job, in_threads(MadeUp()))
except DataError as error:
    print(error)
"""


def test_a_run_continues_when_a_full_disk_has_space_again(any_output: Path) -> None:
    """The limit of the process's files stands for the end of the disk."""
    assert program(FULL, any_output).startswith(f"{any_output}: cannot be written: File too large")
    assert not any_output.exists()
    model = Stopping()
    finished(any_output, resume=True, model=model)
    assert 0 < len(model.seen) < len(NAMES)
    assert any_output.read_bytes() == expected(any_output)


GROWTH = """
import resource, sys
from pathlib import Path
from prediction_rows import MadeUp
from solobox.predict.job import in_threads, run
from solobox.predict.output_file import OutputFile
from solobox.predict.plan import Plan
from solobox.predict import writers
from solobox.predict.writers import Columns
writers.ROW_GROUP = 1000
def grown(count):
    names = ["a.jpg"] * count
    plan = Plan(model="a", inputs="b", rows=count, shard_size=128, columns=Columns("both", True, True))
    with OutputFile.open(Path(sys.argv[1]), plan, names) as job:
        run(job, in_threads(MadeUp()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few, many = grown(2_000), grown(40_000)
print((many - few) / 1024)
"""


def test_memory_does_not_grow_with_the_rows(any_output: Path) -> None:
    """Rows in memory would take some 60 MB."""
    assert float(program(GROWTH, any_output)) < 20


# Killed -----------------------------------------------------------------------------------------------


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
    for _ in write(wanted, map(made_up, inputs), Columns(presence=True, familiarity=True)):
        pass
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    words = [sys.executable, str(HERE / "killed_program.py"), str(folder), ending, how]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    killed, continued = map(int, done.stdout.split())
    assert killed > (20 if how == "steps" else 0)
    assert continued > 0
    outputs = list(folder.glob(f"boxes*{ending}"))
    assert len(outputs) == (killed + 1 if how == "steps" else 1)
    for output in outputs:
        assert output.read_bytes() == wanted.read_bytes(), output
    # A run that died as it removed the folder leaves the rest of it, hidden, to the next run.
    seen = {path.name for path in folder.iterdir() if not path.name.endswith(".part")}
    leftovers = seen - {path.name for path in outputs}
    assert leftovers == ({"images"} if how == "steps" else {"images", f"crops{ending}"})
    if how != "steps":
        crops = [path.name for path in (folder / f"crops{ending}").iterdir()]
        assert len(crops) == sum("broken" not in name for name in inputs)
        assert not any(name.startswith(".") for name in crops)


def test_the_stand_in_has_unreadable_images_and_names_that_are_taken(named: list[str]) -> None:
    """Else the test above would prove less."""
    assert any(made_up(name).error for name in named)
    stems = [Path(name).stem for name in named]
    assert len(set(stems)) < len(stems)

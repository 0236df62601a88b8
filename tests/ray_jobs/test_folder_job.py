import json
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray_standins import new_bucket, write_images

from error_codes import has_code
from solobox.errors import ConfigError, DataError
from solobox.predict.inputs import LeftOut
from solobox.predict.predictor import PredictOptions
from solobox.predict.writers import Columns
from solobox.ray import FolderJob, prepare
from solobox.ray.store_folder import StoreFolder

MODEL = b"a model"


@pytest.fixture
def bucket() -> str:
    return new_bucket()


def names_of(job: FolderJob) -> list[list[str]]:
    return [job.names(shard) for shard in range(job.plan.shards)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(count=st.integers(1, 60), size=st.integers(1, 70), remote=st.booleans())
def test_shards_are_the_inputs_in_order_and_of_one_size(
    tmp_path_factory: pytest.TempPathFactory, bucket: str, count: int, size: int, remote: bool
) -> None:
    inputs = [f"s3://bucket/{number}.jpg" for number in range(count)]
    folder = tmp_path_factory.mktemp("plan")
    (folder / "list.txt").write_text("\n".join(inputs))
    output = f"{bucket}/{folder.name}" if remote else str(folder / "out")
    job, is_old = prepare(output, MODEL, [str(folder / "list.txt")], Columns(), shard_size=size)
    assert (job.plan.rows, is_old) == (count, False)
    shards = names_of(job)
    assert [name for shard in shards for name in shard] == inputs
    assert [len(shard) for shard in shards] == [job.plan.rows_of(shard) for shard in range(job.plan.shards)]
    assert all(len(shard) == size for shard in shards[:-1])
    parts = [job.part_name(shard) for shard in range(job.plan.shards)]
    assert parts == sorted(set(parts))
    again = FolderJob.open(output)
    assert again is not None
    assert (again.plan, again.key, again.started) == (job.plan, job.key, job.started)


def test_what_a_folder_holds_beside_images_is_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    (tmp_path / "in" / "._00000.jpg").touch()
    (tmp_path / "in" / "a.heic").touch()
    (tmp_path / "in" / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    left_out = LeftOut()
    job, _ = prepare(str(tmp_path / "out"), MODEL, [str(tmp_path / "in")], Columns(), left_out=left_out)
    assert [Path(name).name for name in job.names(0)] == ["00000.jpg", "00001.jpg", "a.heic", "b.jpg"]
    assert left_out == LeftOut(hidden=1)


def test_labels_are_a_list_too(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("image,x1,y1,x2,y2\nb.jpg,1,1,5,5\na.jpg,1,1,5,5\nb.jpg,2,2,7,7\n")
    job, _ = prepare(str(tmp_path / "out"), MODEL, [str(labels)], Columns())
    assert [Path(name).name for name in job.names(0)] == ["b.jpg", "a.jpg"]
    labels.write_text("image,x1,y1,x2,y2\nb.jpg,1,1,5,5\n")
    with pytest.raises(ConfigError, check=has_code("plan-differs")):
        prepare(str(tmp_path / "out"), MODEL, [str(labels)], Columns())


def test_a_job_continues_and_nothing_is_listed_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 5)
    output, inputs = str(tmp_path / "out"), [str(tmp_path / "in")]
    first, _ = prepare(output, MODEL, inputs, Columns(), shard_size=2)
    (tmp_path / "in" / "new.jpg").write_bytes(b"")
    second, is_old = prepare(output, MODEL, inputs, Columns(), shard_size=2)
    assert is_old
    assert (second.plan, second.key, second.started) == (first.plan, first.key, first.started)
    assert second.plan.rows == 5
    assert second.read_model() == MODEL


def test_another_plan_is_refused_with_the_difference(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    output, inputs = str(tmp_path / "out"), [str(tmp_path / "in")]
    prepare(output, MODEL, inputs, Columns())
    for model, other_inputs, columns, options, size, says in (
        (b"a model more", inputs, Columns(), PredictOptions(), 1000, "the model changed"),
        (MODEL, [*inputs, "/more"], Columns(), PredictOptions(), 1000, "the images "),
        (MODEL, inputs, Columns(), PredictOptions(), 7, "images in a shard was 1000 and is 7"),
        (MODEL, inputs, Columns("both"), PredictOptions(), 1000, "x1_lower"),
        (MODEL, inputs, Columns(), PredictOptions(margins=0.9), 1000, "--margins was not set and is 0.9"),
        (MODEL, inputs, Columns(), PredictOptions(min_presence=0.5), 1000, "--min-presence was not set"),
    ):
        with pytest.raises(ConfigError) as error:
            prepare(output, model, other_inputs, columns, options, shard_size=size)
        assert error.value.code == "plan-differs"
        assert says in str(error.value)


def test_a_list_that_has_changed_is_refused_and_one_that_is_gone_is_not_needed(tmp_path: Path) -> None:
    path, output = tmp_path / "list.csv", str(tmp_path / "out")
    path.write_text("image\na.jpg\n")
    prepare(output, MODEL, [str(path)], Columns())
    path.write_text("image\na.jpg\nb.jpg\n")
    with pytest.raises(ConfigError, match=r"the list .*list.csv changed") as error:
        prepare(output, MODEL, [str(path)], Columns())
    assert error.value.code == "plan-differs"
    path.unlink()
    assert prepare(output, MODEL, [str(path)], Columns())[1]


def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path: Path, bucket: str) -> None:
    write_images(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    fsspec.filesystem("memory").pipe_file(f"{bucket}/thesis.txt", b"years of work")
    for output in (str(tmp_path / "out"), bucket):
        with pytest.raises(DataError, match=r"thesis\.txt"):
            prepare(output, MODEL, [str(tmp_path / "in")], Columns())
        assert StoreFolder.at(output).names() == {"thesis.txt"}


def test_a_run_that_was_killed_while_it_planned_begins_anew(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 3)
    output = tmp_path / "out"
    job, _ = prepare(str(output), MODEL, [str(tmp_path / "in")], Columns())
    (output / "_plan" / "plan.json").unlink()
    (output / "_plan" / "inputs.parquet").write_bytes(b"half")
    again, is_old = prepare(str(output), MODEL, [str(tmp_path / "in")], Columns())
    assert not is_old
    assert again.key == job.key
    assert [len(shard) for shard in names_of(again)] == [3]


def test_nothing_is_written_where_nothing_can_be_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, check=has_code("no-images")):
        prepare(str(tmp_path / "out"), MODEL, [str(tmp_path / "*.jpg")], Columns())
    with pytest.raises(ConfigError, check=has_code("out-of-range")):
        prepare(str(tmp_path / "out"), MODEL, [str(tmp_path)], Columns(), shard_size=0)
    assert not (tmp_path / "out").exists()


def test_a_damaged_plan_and_one_of_another_version_are_errors(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    inputs, output = [str(tmp_path / "in")], tmp_path / "out"
    prepare(str(output), MODEL, inputs, Columns())
    path = output / "_plan" / "plan.json"
    whole = json.loads(path.read_text())
    for text, code in (
        ("{", "plan-damaged"),
        ("[]", "plan-damaged"),
        (json.dumps(whole | {"colour": "red"}), "plan-damaged"),
        (json.dumps(whole | {"layout": 1}), "plan-differs"),
    ):
        path.write_text(text)
        with pytest.raises((DataError, ConfigError)) as error:
            prepare(str(output), MODEL, inputs, Columns())
        assert error.value.code == code


def test_a_name_that_is_no_utf8_is_escaped_and_has_its_row(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Path(str(tmp_path / "in" / "a\udcff.jpg")).write_bytes(b"x")
    job, _ = prepare(str(tmp_path / "out"), MODEL, [str(tmp_path / "in")], Columns())
    assert [Path(name).name for name in job.names(0)] == ["a\\xff.jpg"]

from pathlib import Path

import pytest
from PIL import Image

from solobox.cli.convert import convert
from solobox.data import formats
from solobox.errors import ConfigError, DataError


def labels(folder: Path, row: str = "a.png,1,2,30,20,train") -> Path:
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    path = folder / "labels.csv"
    path.write_text(f"image,x1,y1,x2,y2,split\n{row}\n")
    return path


def test_a_set_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "metadata.jsonl"
    convert(labels(tmp_path), out, to="hf")
    (record,) = formats.read(out).records
    assert (record.box, record.split) == ((1, 2, 29, 18), "train")
    convert(labels(tmp_path), tmp_path / "tasks.json", to="label-studio")
    assert "no room for: split" in "".join(capsys.readouterr())


def test_what_is_refused_leaves_no_file(tmp_path: Path) -> None:
    data, out = labels(tmp_path, "a.png,1,2,90,20,"), tmp_path / "out.json"
    with pytest.raises(DataError) as caught:
        convert(data, out, to="coco")
    assert caught.value.code == "data-errors"
    assert not out.exists()
    with pytest.raises(DataError) as caught:
        convert(data, data, to="csv", overwrite=True)
    assert caught.value.code == "output-is-input"
    with pytest.raises(ConfigError):
        convert(data, out, to="nothing")


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def converted(folder: Path, to: str) -> tuple[Path, Path, dict[str, bytes]]:
    """The labels, the folder that they were converted to, and what it holds."""
    data, out = labels(folder), folder / "out"
    convert(data, out, to=to)
    return data, out, tree(out)


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_a_folder_is_replaced_only_when_asked(tmp_path: Path, to: str) -> None:
    data, out, before = converted(tmp_path, to)
    assert before
    data.write_text("image,x1,y1,x2,y2,split\na.png,3,4,20,22,val\n")
    with pytest.raises(DataError) as caught:
        convert(data, out, to=to)
    assert caught.value.code == "output-exists"
    assert "--overwrite" in str(caught.value)
    assert tree(out) == before
    convert(data, out, to=to, overwrite=True)
    (record,) = formats.read(out).records
    assert record.split == "val"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.png", data, out]
    fresh = tmp_path / "fresh"
    convert(data, fresh, to=to)
    assert tree(out) == tree(fresh)  # nothing of the old one is left


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_a_failed_conversion_leaves_the_old_folder(
    tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, before = converted(tmp_path, to)
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if Path(target) == out and ".part" in self.name and tree(self) != before:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    data.write_text("image,x1,y1,x2,y2,split\na.png,3,4,20,22,val\n")
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(DataError, match="No space left"):
        convert(data, out, to=to, overwrite=True)
    assert tree(out) == before
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.png", data, out]


@pytest.mark.parametrize("to", ["voc", "yolo"])
@pytest.mark.parametrize("at", ["old", "before new", "new"])
def test_a_stopped_conversion_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, to: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C when the old folder is renamed, or just before or after the new one takes its place."""
    data, out, before = converted(tmp_path, to)
    data.write_text("image,x1,y1,x2,y2,split\na.png,3,4,20,22,val\n")
    convert(data, tmp_path / "fresh", to=to)
    after = tree(tmp_path / "fresh")
    rename = Path.rename

    def stops(self: Path, target: Path) -> Path:
        step = "old" if self == out else "new" if Path(target) == out and tree(self) == after else ""
        if step == "new" and at == "before new":
            raise KeyboardInterrupt
        renamed = rename(self, target)
        if step == at:
            raise KeyboardInterrupt
        return renamed

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(KeyboardInterrupt):
        convert(data, out, to=to, overwrite=True)
    assert tree(out) == (after if at == "new" else before)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", data.name, "fresh", "out"}


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_what_cannot_be_put_back_is_kept_and_named(
    tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, before = converted(tmp_path, to)
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if Path(target) == out:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(DataError) as caught:
        convert(data, out, to=to, overwrite=True)
    (kept,) = [path for path in tmp_path.iterdir() if path.is_dir() and path.name in str(caught.value)]
    assert tree(kept) == before


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_a_folder_with_anything_else_is_never_replaced(tmp_path: Path, to: str) -> None:
    data, out = labels(tmp_path), tmp_path / "photos"
    for name in ("holiday.jpg", "images/train/holiday.jpg", "Annotations/notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"mine")
        with pytest.raises(DataError) as caught:
            convert(data, out, to=to, overwrite=True)
        assert caught.value.code == "output-conflict"
        assert name in str(caught.value)
        assert (out / name).read_bytes() == b"mine"
        (out / name).unlink()


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_a_folder_is_not_replaced_by_what_is_read_from_it(tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    convert(labels(tmp_path), out, to=to)
    before = tree(out)
    with pytest.raises(DataError) as caught:
        convert(out, out, to=to, overwrite=True)
    assert caught.value.code == "output-is-input"
    assert tree(out) == before


@pytest.mark.parametrize(
    ("out", "told"), [("metadata.jsonl", False), ("boxes.jsonl", True), ("b/metadata.jsonl", True)]
)
def test_what_hugging_face_would_not_find_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, told: bool
) -> None:
    convert(labels(tmp_path), tmp_path / out, to="hf")
    assert ("load_dataset" in " ".join("".join(capsys.readouterr()).split())) == told

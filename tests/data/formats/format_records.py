"""Images and records for the tests of the formats."""

from pathlib import Path

from PIL import Image

from solobox.data.formats import Record

Box = tuple[float, float, float, float]


def draw(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)
    return path


def record(
    path: Path, box: Box | None, row: int = 1, label: str = "", split: str = "", **more: str
) -> Record:
    group, source = more.pop("group", ""), more.pop("source", "")
    return Record(row, f"row {row}", path.name, path, box, "", label, split, group, source, more)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, to see that nothing changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}

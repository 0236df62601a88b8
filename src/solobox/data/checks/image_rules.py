"""Rules about the image files themselves."""

from pathlib import Path

from solobox.data.checks.context import Case
from solobox.images.reading import FORMATS, SUFFIXES, is_image_name

# other image formats' suffixes: a JPEG called .heic is common where a phone converted it on the way
_OTHERS = {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".ppm", ".pgm", ".ico", ".psd", ".svg"}
_IMAGE_SUFFIXES = SUFFIXES | _OTHERS

_GIVE_IMAGES = "say where the images are with --images DIR"


def judge_files(case: Case) -> None:
    """Missing files, unreadable images, and names that say another format than the bytes."""
    missing = [key for key in case.images if case.looks[key].missing]
    # one wrong folder is one mistake, not one a row
    if missing and len(missing) == len(case.images) > 1:
        case.note(
            "no-images",
            -1,
            f"none of the {len(missing)} images is there; the first was looked for at {missing[0]}",
            _GIVE_IMAGES,
            bad=range(len(case.records)),
        )
        return
    folders: dict[Path, dict[str, str]] = {}
    for key, indices in case.images.items():
        seen = case.looks[key]
        index = indices[0]
        if seen.missing:
            case.note(
                "missing-file",
                index,
                f"there is no file {key}",
                _missing_advice(key, folders),
                bad=indices,
            )
        elif seen.problem:
            case.note(
                "unreadable-image",
                index,
                seen.problem,
                seen.advice or "replace the file by a whole one, or take its rows out",
                bad=indices,
            )
        elif seen.header is not None:
            _judge_suffix(case, index, key, seen.header.format)


def _judge_suffix(case: Case, index: int, path: Path, content: str) -> None:
    suffix = path.suffix.lower()
    fitting = FORMATS.get(content)
    if fitting is None or suffix in fitting or suffix not in _IMAGE_SUFFIXES:
        return
    case.note(
        "wrong-extension",
        index,
        f"the name ends in {path.suffix}, the bytes are {content}",
        "it is read by its bytes; other programs may not: rename the file and mend its row",
    )


def _missing_advice(path: Path, folders: dict[Path, dict[str, str]]) -> str:
    folder = path.parent
    if folder not in folders:
        folders[folder] = _names(folder)
    names = folders[folder]
    name = names.get(path.name.casefold()) or names.get(path.stem.casefold())
    if name is not None:
        return f"{name} is beside it: mend the name"
    return f"mend the name, take the row out, or {_GIVE_IMAGES}"


def _names(folder: Path) -> dict[str, str]:
    """Look up files by their name in any case, or by an image's name without its ending."""
    try:
        files = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return {}
    names = {Path(name).stem.casefold(): name for name in reversed(files) if is_image_name(name)}
    return names | {name.casefold(): name for name in reversed(files)}

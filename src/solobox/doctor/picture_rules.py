"""Rules about the picture files themselves."""

from pathlib import Path

from solobox.doctor.case import Case
from solobox.pictures import FORMATS, SUFFIXES, is_picture_name

# other picture formats' suffixes: a JPEG called .heic is common where a phone converted it on the way
_OTHERS = {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".ppm", ".pgm", ".ico", ".psd", ".svg"}
_PICTURE_SUFFIXES = SUFFIXES | _OTHERS

_GIVE_IMAGES = "say where the pictures are with --images DIR"


def judge_files(case: Case) -> None:
    """Missing files, unreadable pictures, and names that say another format than the bytes."""
    missing = [key for key in case.pictures if case.looks[key].missing]
    # one wrong folder is one mistake, not one a row
    if missing and len(missing) == len(case.pictures) > 1:
        case.note(
            "no-pictures",
            -1,
            f"none of the {len(missing)} pictures is there; the first was looked for at {missing[0]}",
            _GIVE_IMAGES,
            bad=range(len(case.records)),
        )
        return
    folders: dict[Path, dict[str, str]] = {}
    for key, indices in case.pictures.items():
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
                "unreadable-picture",
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
    if fitting is None or suffix in fitting or suffix not in _PICTURE_SUFFIXES:
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
    """Look up files by their name in any case, or by a picture's name without its ending."""
    try:
        files = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return {}
    names = {Path(name).stem.casefold(): name for name in reversed(files) if is_picture_name(name)}
    return names | {name.casefold(): name for name in reversed(files)}

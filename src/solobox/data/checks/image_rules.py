"""Rules about the image files."""

from pathlib import Path

from solobox.data.checks.context import CheckContext
from solobox.images.reading import FORMATS, is_any_image_name, is_image_name

_USE_IMAGES_OPTION = "give the folder of the images with --images DIR"


def check_files(context: CheckContext) -> None:
    """Find missing files, unreadable images, and suffixes that contradict the content."""
    missing = [key for key in context.images if context.image_info[key].missing]
    # one wrong folder is one mistake, not one per row
    if missing and len(missing) == len(context.images) > 1:
        context.add(
            "no-images",
            -1,
            f"none of the {len(missing)} images exists; "
            + (_broken_link(missing[0]) or f"the first should be at {missing[0]}"),
            _USE_IMAGES_OPTION,
            bad=range(len(context.records)),
        )
        return
    folders: dict[Path, dict[str, str]] = {}
    for key, indices in context.images.items():
        info = context.image_info[key]
        index = indices[0]
        if info.missing:
            message, advice = f"there is no file {key}", _missing_advice(key, folders)
            if broken := _broken_link(key):
                message, advice = broken, "restore what it leads to, or remove the link and its rows"
            context.add("missing-file", index, message, advice, bad=indices)
        elif info.problem:
            context.add(
                "unreadable-image",
                index,
                info.problem,
                info.advice or "replace the file by an intact one, or remove its rows",
                bad=indices,
            )
        elif info.header is not None:
            _check_suffix(context, index, key, info.header.format)


def _check_suffix(context: CheckContext, index: int, path: Path, content: str) -> None:
    fitting = FORMATS.get(content)
    if fitting is None or path.suffix.lower() in fitting or not is_any_image_name(path):
        return
    context.add(
        "wrong-extension",
        index,
        f"the name ends in {path.suffix}, the bytes are {content}",
        "Solobox reads it by its content, other programs may not: rename the file and correct its row",
    )


def _broken_link(path: Path) -> str:
    """What is wrong with a link that leads nowhere; empty for anything else."""
    if not path.is_symlink() or path.exists():
        return ""
    return f"{path} is a broken link: {path.readlink()} does not exist"


def _missing_advice(path: Path, folders: dict[Path, dict[str, str]]) -> str:
    folder = path.parent
    if folder not in folders:
        folders[folder] = _names(folder)
    names = folders[folder]
    name = names.get(path.name.casefold()) or names.get(path.stem.casefold())
    if name is not None:
        return f"{name} is in the same folder: correct the name"
    return f"correct the name, remove the row, or {_USE_IMAGES_OPTION}"


def _names(folder: Path) -> dict[str, str]:
    """The files of a folder by their name in any case, or by an image's name without its ending."""
    try:
        files = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return {}
    names = {Path(name).stem.casefold(): name for name in reversed(files) if is_image_name(name)}
    return names | {name.casefold(): name for name in reversed(files)}

"""What every extra installs: nothing under the GPL that NOTICE does not name."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

ALLOWED = {("av", "libx264"), ("av", "libx265")}
"""Libraries under the GPL in the wheels of permissive packages, never called by us: see NOTICE, docs/howto/video.md."""

_GPL = re.compile(r"\bA?GPL|(?<!lesser )(?<!library )general public license|\baffero\b", re.IGNORECASE)

_GPL_LIBRARIES = (
    "libx264", "libx265", "libxvid", "libpostproc", "librubberband", "libvidstab", "libdavs2", "libxavs", "libfrei0r",
    "libcdio", "libsmbclient", "libreadline", "libfftw", "libgsl", "libpoppler", "libmupdf", "libglpk",
)  # fmt: skip


def installed(name: str, extras: Iterable[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distribution with what it and its extras need, all that are installed here, by name."""
    try:
        one = distribution(name)
    except PackageNotFoundError:  # for another system, or an extra that is not installed
        return found
    known = found.setdefault(one.metadata["Name"].lower(), one)
    if known is not one and not extras:
        return found
    for text in one.requires or ():
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            installed(need.name, need.extras, found)
    return found


def licence(one: Distribution) -> str:
    """The licence as the distribution states it; of a whole text, which may quote others, the first line."""
    stated = one.metadata.get_all("License-Expression") or one.metadata.get_all("License") or []
    classifiers = [each for each in one.metadata.get_all("Classifier") or [] if each.startswith("License")]
    return " | ".join([*(text.strip().splitlines()[0] for text in stated if text.strip()), *classifiers])


def test_no_extra_brings_the_gpl_but_what_notice_names() -> None:
    extras = distribution("solobox").metadata.get_all("Provides-Extra") or []
    packages = installed("solobox", extras, {})
    assert len(packages) > 20
    stated = {name: licence(one) for name, one in packages.items()}
    assert {name: text for name, text in stated.items() if _GPL.search(text)} == {}
    bundled = {
        (name, library)
        for name, one in packages.items()
        for file in one.files or ()
        for library in _GPL_LIBRARIES
        if file.name.startswith((library, library.removeprefix("lib") + "-"))
    }
    assert bundled <= ALLOWED
    notice = (ROOT / "NOTICE").read_text()
    assert all(package in notice and library in notice for package, library in ALLOWED)


def test_no_extra_brings_pillow_heif() -> None:
    """Its wheels hold libx265 where pi-heif's do not, which the extra heif brings: see docs/reference/images.md."""
    needs = {Requirement(text).name.lower() for text in distribution("solobox").requires or ()}
    assert not needs & {"pillow-heif", "pillow_heif"}
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("NOTICE", "docs/reference/images.md")]
    assert all("pillow-heif" in text and "x265" in text for text in texts)


def test_the_licences_that_it_looks_for() -> None:
    for text in (
        "GPL-3.0-or-later",
        "AGPL-3.0-only",
        "GNU General Public License v2 (GPLv2)",
        "GPLv3",
        "GNU Affero",
    ):
        assert _GPL.search(text), text
    for text in (
        "LGPL-2.1",
        "GNU Lesser General Public License v3 (LGPLv3)",
        "MIT",
        "GNU Library General Public License",
    ):
        assert not _GPL.search(text), text


def test_the_source_calls_no_encoder_under_the_gpl() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"libx26[45]|libxvid", file.read_text(encoding="utf-8")), file

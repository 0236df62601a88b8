"""``solobox annotate``: from unlabelled images to labels and a model, on a page in the browser."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from solobox.cli.console import Flag, say, say_left_out
from solobox.cli.options import MaxPixels
from solobox.errors import ConfigError, DataError
from solobox.images.pixel_limit import allow_pixels
from solobox.utils.text import count_of

if TYPE_CHECKING:
    from solobox.annotation.session import Session


def annotate(
    folder: Annotated[Path, Parameter(name="FOLDER")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("labels.csv"),
    labels: Annotated[Path | None, Parameter(name="--from")] = None,
    classes: Annotated[tuple[str, ...], Parameter(name="--class", negative="")] = (),
    good_iou: float = 0.75,
    goal: float = 0.8,
    train: Annotated[bool, Flag] = False,
    port: int = 0,
    browser: bool = True,
    max_pixels: MaxPixels = None,
) -> int:
    """Draw a box on a few images of a folder, on a page in the browser; a model learns from them and draws the others.

    From the fifth box on a model is trained behind the page, again and again, and draws boxes to accept or correct.
    Every third image is chosen at random and shown without one: these measure the model. Everything is saved at once;
    the same command goes on where it was. Ctrl-C ends it.

    Parameters
    ----------
    folder
        The images, with those in subfolders. Nothing in it is changed.
    output
        Write the labels to this CSV. What was done is kept beside it, in a folder of the same name with .annotate.
    labels
        Begin with the labels in this file, of images in the folder.
    classes
        A class to choose from; give it several times. Without any, there are no classes until one is typed.
    good_iou
        A predicted box is good from this IoU on with the one that was drawn.
    goal
        Say that it is enough once at least this share of boxes is good, with 95% certainty.
    train
        Train the final model at the end, when Ctrl-C is pressed.
    port
        The port of the page; 0 for any free one.
    browser
        Open the page in the browser.
    """
    allow_pixels(max_pixels)
    for name, value in (("--good-iou", good_iou), ("--goal", goal)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} is between 0 and 1, not {value:g}", code="out-of-range")
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder", code="not-found")
    say(f"reading {folder}")
    from solobox.annotation.server import AnnotationServer

    with AnnotationServer(folder, output, good_iou=good_iou, goal=goal, classes=classes, port=port) as server:
        session = server.session
        if labels is not None:
            _begin_with(session, labels)
        say_left_out(session.folder.left_out)
        say(
            f"{len(session.folder):,} images, {len(session.answers):,} answered; the page is {server.address}"
        )
        say("the address is a secret: who on this machine has it can draw. Ctrl-C ends the program")
        if browser:
            webbrowser.open(server.address)
        server.run()
        say("saving")
    count = len(server.dataset)
    say(f"{output}: {count_of(count, 'labelled image')}" if count else "no labels yet")
    if not (train and count):
        return 0
    is_done = server.finish.run(train=True, predicted=False)
    for line in server.finish.lines:
        say(line)
    return 0 if is_done else 1


def _begin_with(session: "Session", labels: Path) -> None:
    from solobox.data.dataset import Dataset

    added, elsewhere = session.add(Dataset.read(labels, images=session.folder.folder))
    say(
        f"{labels}: {count_of(added, 'label')} added"
        + (f"; {elsewhere:,} of other images" if elsewhere else "")
    )

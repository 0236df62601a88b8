"""``solobox push``: a trained localizer to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated, Literal

from solobox.cli.console import Flag, bars, say, say_loading, say_reading
from solobox.cli.options import BoxLayout, ImageFolder, KeepBox, MaxPixels, SkipBad
from solobox.cli.train import read_checked
from solobox.images.pixel_limit import allow_pixels


def push(
    run: Path,
    repository: str,
    data: Path | None = None,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    private: Annotated[bool, Flag] = False,
    license: str | None = None,  # noqa: A002  (the hub's own word)
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Push a trained localizer to the Hugging Face Hub: the model, its exported file and a model card.

    Sign in with `hf auth login`, or set HF_TOKEN. Others use the model as hf:OWNER/NAME, in `solobox.load` and in every
    command that takes a model.

    Parameters
    ----------
    run
        The folder that `solobox train` wrote.
    repository
        OWNER/NAME of the model on the hub; it is created where it does not exist.
    data
        Labelled images to measure the model on for its card, as for `solobox evaluate`.
    split
        The split of the data to measure, as for `solobox evaluate`.
    private
        Only you, or your organization, may see a repository that is created.
    license
        The model's licence, an identifier of the hub such as apache-2.0; by default that of the pretrained weights.
    """
    allow_pixels(max_pixels)
    from solobox.hub.client import HubName, hub_client

    HubName.parse(repository)
    hub_client()
    dataset = None
    if data is not None:
        say_reading(data)
        dataset = read_checked(data, images, keep, skip_bad=skip_bad, layout=layout)
    say_loading(run)
    from solobox.evaluation.evaluate import evaluate
    from solobox.hub.push import push as push_model
    from solobox.model.localizer import Localizer

    localizer = Localizer.load(run)
    with bars() as progress:
        evaluation = evaluate(localizer, dataset, split, progress=progress) if dataset is not None else None
        pushed = push_model(
            localizer, repository, evaluation=evaluation, private=private, license=license, progress=progress
        )
    if pushed.not_exported:
        say(f"without model.onnx, so it needs PyTorch: {pushed.not_exported}")
    if evaluation is None:
        say("the card has no metrics: name labelled images to measure it on, after the repository")
    say(
        f"pushed {', '.join(pushed.files)}: {pushed.url} (hf:{HubName.parse(repository).repository}@{pushed.commit})"
    )

"""``solobox predict``: a box for each image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import bars, console
from solobox.cli.predict_checks import check_images_only, check_numbers, check_output, check_places
from solobox.cli.predict_model import Predictor, load
from solobox.cli.predict_ray import predict_on_ray
from solobox.cli.predict_rows import Tally, kept, plan_of, printed, watched, written
from solobox.cli.predict_video import check_places as check_places_of_clip
from solobox.cli.predict_video import only_video, predict_video
from solobox.errors import ConfigError
from solobox.predict.image_writers import Artist, Crops, Drawn, Names, illustrated
from solobox.predict.inputs import expand
from solobox.predict.onnx_runtimes import RuntimeName
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import check_presence
from solobox.predict.writers import Columns, ImageIds, Plan


def predict(
    model: str | Path,
    inputs: Annotated[list[str], Parameter(name="INPUT", negative="")],
    /,
    *,
    output: Annotated[str | Path | None, Parameter(name=["--output", "-o"])] = None,
    draw: Path | None = None,
    crop: Path | None = None,
    pad: float = 0.0,
    margins: float | None = None,
    outer: float | None = None,
    min_presence: float | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    coco_ids: Path | None = None,
    smooth: Annotated[bool, Parameter(negative="")] = False,
    engine: Literal["local", "ray"] = "local",
    runtime: RuntimeName = "onnxruntime",
) -> int:
    """Find the box in each image.

    Leaves with status 0 when all images were read, 1 when some were not: these have a row with their error.

    Parameters
    ----------
    model
        The folder that `solobox train` left, or the .onnx file that `solobox export` wrote, which needs no PyTorch.
    inputs
        Images, folders (with all below) and glob patterns; or one clip, or the number of a camera.
    output
        Write the rows to this file: .csv, .jsonl, .parquet, or .json for COCO's results; of a clip .csv or .jsonl.
        Without it they are printed.
    draw
        Write each image with its box drawn into this folder, and the band of its margins; of a clip into this .mp4.
    crop
        Write each object, cut out of the image at its full resolution, into this folder; with --outer by the outer
        box.
    pad
        Cut out more than the box on each side: this share of its width and height, such as 0.1.
    margins
        Also say between what each edge of the true box lies (x1_lower, x1_upper, ...), all four at once with this
        probability, such as 0.9.
    outer
        Also give the box that holds the whole object with this probability (x1_outer, ...): for cropping.
    min_presence
        Give no box for an image in which the object is with a probability below this.
    resume
        Go on where a run with the same -o and the same settings was stopped or killed.
    coco_ids
        Annotations in COCO's format: results name the images by their ids there, for evaluation. Without it they
        name them by file.
    smooth
        Make the boxes of a clip steadier over time, each believed as far as its margins are narrow.
    engine
        ray: shard by shard on a Ray cluster, from any store (s3://...) into a folder of Parquet files (-o), going on
        where an earlier run stopped.
    runtime
        What runs an exported model; some processors are faster by OpenVINO.
    """
    check_numbers(margins, outer, min_presence, pad, crop=crop is not None)
    clip = only_video(inputs)
    if engine == "ray" or clip is not None:
        check_images_only(
            "--engine ray" if clip is None else "a clip",
            {"--crop": crop, "--resume": resume, "--coco-ids": coco_ids}
            | ({"--draw": draw, "--smooth": smooth} if clip is None else {}),
        )
    elif smooth:
        raise ConfigError("--smooth is about time: it goes with a clip or a camera")
    if engine == "ray":
        if runtime != "onnxruntime":
            raise ConfigError("--engine ray runs models by ONNX Runtime: leave --runtime out")
        level = outer if margins is None else margins
        folder = None if output is None else str(output)
        return predict_on_ray(
            str(model), inputs, folder, level=level, outer=outer is not None, min_presence=min_presence
        )
    place = Path(output) if output is not None else None
    if clip is not None:
        check_places_of_clip(clip, place, draw)
    else:
        check_output(place, resume=resume, ids=coco_ids is not None)
    images = expand(inputs) if clip is None else []
    folders = {name: path for name, path in (("--draw", draw), ("--crop", crop)) if path is not None}
    if clip is None:
        check_places(images, inputs, place, folders)
    ids = ImageIds.read(coco_ids, images) if coco_ids is not None else ImageIds()
    predictor = load(Path(model), runtime)
    check_presence(min_presence, learned=predictor.presence, model=str(model))
    columns = Columns(
        "both" if margins is not None else "none" if outer is None else "outer",
        presence=predictor.presence,
        familiarity=predictor.familiarity,
    )
    if clip is not None:
        return predict_video(
            predictor, clip, columns=columns, output=place, draw=draw, margins=margins, outer=outer,
            min_presence=min_presence, smooth=smooth,
        )  # fmt: skip
    work = _Work(predictor, images, margins, outer, min_presence, draw, crop, pad)
    return _on_images(work, place, columns, folders, ids, resume=resume)


def _on_images(
    work: "_Work",
    output: Path | None,
    columns: Columns,
    folders: dict[str, Path],
    ids: ImageIds,
    *,
    resume: bool,
) -> int:
    images, predictor = work.images, work.predictor
    with bars() as progress:
        if output is None:
            progress.start("predicting", len(images))
            tally = Tally()
            for prediction in watched(printed(work.found(progress.say), columns), progress):
                tally.add(prediction)
        else:
            plan = plan_of(images, predictor.fingerprint, work.options())
            with kept(output, plan, len(images), resume=resume) as parts:
                rows = parts.keep(work.found(progress.say, parts.done, parts.folder))
                progress.start("predicting", len(images) - parts.done)
                for _ in watched(rows, progress):
                    pass
                tally = written(parts, output, columns, ids, progress)
    _report(tally, output, folders, ids)
    return 1 if tally.failed else 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be found, and which images are to be made of it."""

    predictor: Predictor
    images: Sequence[str]
    margins: float | None
    outer: float | None
    min_presence: float | None
    draw: Path | None
    crop: Path | None
    pad: float

    def options(self) -> Plan:
        """What decides the rows and the images, as a person gave it."""
        return {
            "--margins": self.margins,
            "--outer": self.outer,
            "--min-presence": self.min_presence,
            "--draw": str(self.draw.resolve()) if self.draw else None,
            "--crop": str(self.crop.resolve()) if self.crop else None,
            "--pad": self.pad,
        }

    def found(
        self, say: Callable[[str], None], first: int = 0, journals: Path | None = None
    ) -> Iterator[Prediction]:
        """The predictions of the images from the first on, each once what is drawn of it is on the disk.

        journals: the folder that keeps the names of what is drawn, for a run that goes on.
        """
        level = self.outer if self.margins is None else self.margins
        rest = islice(self.images, first, None)
        predictions = self.predictor.stream(rest, level=level, outer=self.outer is not None)
        if (least := self.min_presence) is not None:
            predictions = (prediction.if_present(least) for prediction in predictions)
        artists: list[Artist] = []
        if self.draw is not None:
            artists.append(Drawn(_names(self.draw, journals, "drawn")))
        if self.crop is not None:
            artists.append(Crops(_names(self.crop, journals, "crops"), self.pad, self.outer is not None))
        return illustrated(predictions, artists, say, first=first) if artists else predictions


def _names(folder: Path, journals: Path | None, what: str) -> Names:
    return Names(folder, journals / f"{what}.jsonl" if journals is not None else None)


def _report(tally: Tally, output: Path | None, folders: Mapping[str, Path], ids: ImageIds) -> None:
    """Say where everything is, and what is not there."""
    whats = {"--draw": "drawn images", "--crop": "crops"}
    places = [(output, "boxes"), *((folder, whats[option]) for option, folder in folders.items())]
    for place, what in places:
        if place is not None:
            console.print(f"{what}: {place}", highlight=False, markup=False, soft_wrap=True)
    told = "; their rows say why"
    if output is not None and output.suffix.lower() == ".json":
        told = ""
        if missing := tally.failed + tally.absent:
            console.print(
                f"{missing:,} of {tally.rows:,} images have no entry: {tally.absent:,} without the object, "
                f"{tally.failed:,} that could not be read",
                highlight=False,
            )
        if ids.categories > 1:
            console.print(
                f"every box is said to be of category {ids.category}, the first of {ids.categories}: evaluate "
                "without categories (useCats=0)",
                highlight=False,
            )
    if tally.failed:
        console.print(f"{tally.failed} of {tally.rows} images could not be read{told}")

"""``solobox predict --engine ray``: boxes for any number of images, from any store, on a Ray cluster."""

from collections.abc import Sequence
from importlib.util import find_spec

from solobox.cli.console import bars, console
from solobox.errors import ConfigError


def predict_on_ray(
    model: str,
    inputs: Sequence[str],
    output: str | None,
    *,
    level: float | None = None,
    outer: bool = False,
    min_presence: float | None = None,
) -> int:
    """Predict shard by shard into a folder of Parquet files, going on where an earlier run stopped.

    model: an exported model's file. inputs: see `solobox.ray.listing.listed`. output: a folder. All three may be
    in any store that fsspec knows. level, outer, min_presence: see `solobox.ray.Settings`.

    Gives the command's status: 0 when all images were read, 1 when some were not or shards are missing.
    """
    if output is None:
        raise ConfigError("--engine ray writes a folder of Parquet files: say where, with -o FOLDER")
    for needed in ("ray", "fsspec", "pyarrow"):
        if find_spec(needed) is None:
            raise ConfigError(f"--engine ray needs {needed}: install Solobox with its [ray] extra")
    from solobox.ray import Settings, prepare, run
    from solobox.ray.engine import connected, on_ray
    from solobox.ray.models import columns_of, load, read_model

    settings = Settings(level, outer, min_presence)
    data = read_model(model)
    columns = columns_of(load(data), settings)
    _say("making the list of images" if len(inputs) != 1 else f"making the list of images of {inputs[0]}")
    plan, is_old = prepare(output, data, inputs, columns, settings)
    _say(
        f"going on with the plan of {plan.made}: {plan.rows:,} images" if is_old
        else f"{plan.rows:,} images in {plan.shards:,} shards"
    )  # fmt: skip
    with connected(), bars() as progress:
        summary = run(plan, on_ray(load), progress)
    _say(f"boxes: {plan.place.url}")
    if summary.errors:
        _say(f"{summary.errors:,} of {summary.rows:,} images could not be read; their rows say why")
    for part, why in list(summary.failures.items())[:_SHOWN]:
        _say(f"{part} is missing: {why}")
    if summary.failures:
        _say(
            f"{len(summary.failures):,} of {plan.shards:,} shards are missing, and all others are done: run the same "
            "command again to try these"
        )
    return 1 if summary.errors or summary.failures else 0


_SHOWN = 10
"""Missing shards that are named, at most."""


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)

"""COCO's results: a JSON list with an entry for each box, as ``pycocotools`` and most evaluation servers take it.

Its format: https://cocodataset.org/#format-results
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from solobox.errors import DataError
from solobox.predict.prediction import Prediction
from solobox.predict.writers.columns import Columns

Id: TypeAlias = int | str

_BOX = Columns()


@dataclass(frozen=True, slots=True)
class ImageIds:
    """How a COCO file calls the images.

    of: the image's id by the input's name. An image that is not in it is called by its name.
    category: the category that every box is said to be of: the model finds one kind of object.
    categories: how many categories the file has; where there are several, `category` is only the first of them.
    """

    of: Mapping[str, Id] = field(default_factory=dict)
    category: Id = 1
    categories: int = 1

    @classmethod
    def read(cls, path: Path, names: Iterable[str]) -> "ImageIds":
        """Ids of the images and the category of a COCO file with annotations, for images of these names.

        An image is the image whose ``file_name`` its path ends with, by whole folders.

        Raises DataError for a file that is no COCO JSON, an image that is none of its images, and two that are the
        same.
        """
        images, categories = _content(path)
        by_name: dict[str, list[tuple[tuple[str, ...], Id]]] = {}
        for image in images:
            parts = PurePath(image["file_name"]).parts
            by_name.setdefault(parts[-1] if parts else "", []).append((parts, image["id"]))
        found: dict[str, Id] = {}
        taken: dict[Id, str] = {}
        for name in names:
            parts = PurePath(name).parts
            known = [
                entry
                for entry in by_name.get(parts[-1] if parts else "", [])
                if parts[-len(entry[0]) :] == entry[0]
            ]
            longest = max((len(names) for names, _ in known), default=0)
            ids = [identity for names, identity in known if len(names) == longest]
            if len(ids) != 1:
                what = f"{len(ids)} images" if ids else "no image"
                raise DataError(f"{path}: it has {what} with the file_name of {name}")
            if taken.setdefault(ids[0], name) != name:
                raise DataError(f"{path}: {name} and {taken[ids[0]]} are the same image, {ids[0]}")
            found[name] = ids[0]
        return cls(found, categories[0] if categories else 1, max(1, len(categories)))


def result(prediction: Prediction, ids: ImageIds) -> dict[str, object] | None:
    """One entry, or None for an image without a box: COCO has no way to say that.

    ``bbox`` is x, y, width, height in pixels of the upright image, to a hundredth; ``score`` is `presence`, or 1
    where the model never learned that.
    """
    box = [value for value in _BOX.values(prediction) if value is not None]
    if len(box) != 4:
        return None
    x1, y1, x2, y2 = box
    presence = prediction.presence
    return {
        "image_id": ids.of.get(prediction.image, prediction.image),
        "category_id": ids.category,
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "score": 1.0 if presence != presence else round(float(presence), 4),
    }


def _content(path: Path) -> tuple[list[Mapping[str, Any]], list[Id]]:
    """The images, and the categories' ids, least first."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        images = list(content["images"])
        categories = sorted(entry["id"] for entry in content.get("categories", ()))
        if not all(
            isinstance(image["file_name"], str) and isinstance(image["id"], int | str) for image in images
        ):
            raise TypeError("an image's file_name is text and its id a number or text")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no COCO JSON with images and categories ({error!r})") from error
    return images, categories

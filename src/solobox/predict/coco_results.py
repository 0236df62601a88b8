"""COCO's results: a JSON list with an entry for each box, as ``pycocotools`` and most evaluation servers take it.

Its format: https://cocodataset.org/#format-results
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from solobox.errors import DataError
from solobox.predict.prediction import Prediction

Id: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class ImageIds:
    """How COCO's results name the images.

    of: the image's id by the input's name. An image that is not in it is named by its path.
    category: the category of every box: the model finds one kind of object.
    categories: how many categories the file has; where there are several, `category` is the first of them.
    """

    of: Mapping[str, Id] = field(default_factory=dict)
    category: Id = 1
    categories: int = 1

    @classmethod
    def read(cls, path: Path, names: Iterable[str]) -> "ImageIds":
        """Ids of the images and the category of a COCO file with annotations, for images of these names.

        An image is the image whose ``file_name`` its path ends with, by whole folders.

        Raises DataError: ``coco-damaged``, ``coco-no-such-image`` for an image that is none or several of the file's,
        ``coco-same-image`` for two inputs that are the same one.
        """
        images, categories = _content(path)
        by_name: dict[str, list[tuple[tuple[str, ...], Id]]] = {}
        for image in images:
            parts = PurePath(image["file_name"]).parts
            by_name.setdefault(parts[-1] if parts else "", []).append((parts, image["id"]))
        image_ids: dict[str, Id] = {}
        taken: dict[Id, str] = {}
        for name in names:
            parts = PurePath(name).parts
            matches = [
                entry
                for entry in by_name.get(parts[-1] if parts else "", [])
                if parts[-len(entry[0]) :] == entry[0]
            ]
            longest = max((len(names) for names, _ in matches), default=0)
            ids = [identity for names, identity in matches if len(names) == longest]
            if len(ids) != 1:
                what = f"{len(ids)} images" if ids else "no image"
                raise DataError(
                    f"{path}: it has {what} with the file_name of {name}", code="coco-no-such-image"
                )
            if taken.setdefault(ids[0], name) != name:
                raise DataError(
                    f"{path}: {name} and {taken[ids[0]]} are the same image, {ids[0]}", code="coco-same-image"
                )
            image_ids[name] = ids[0]
        return cls(image_ids, categories[0] if categories else 1, max(1, len(categories)))


def coco_result(prediction: Prediction, box: Sequence[float], ids: ImageIds) -> dict[str, object]:
    """The entry of one box: ``x1, y1, x2, y2`` in pixels of the upright image.

    ``bbox`` is x, y, width, height, with 2 decimals; ``score`` is `presence`, or 1 where the model never learned that.
    """
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
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", code="file-unreadable"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: this is no COCO JSON with images and categories ({error!r})", code="coco-damaged"
        ) from error
    return images, categories

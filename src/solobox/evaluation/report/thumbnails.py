"""The images of the report: thumbnails with boxes drawn on them, in the page itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from solobox import boxes
from solobox.errors import ImageError
from solobox.images import drawing
from solobox.images.decode import ImageInput, decode

_SIDE = 400  # of an image in the report, in pixels: sharp on a phone, small enough for one file
_QUALITY = 80


@dataclass(frozen=True)
class Shot:
    """One image of the report and a drawn thumbnail.

    name: of the image. note: the figures beneath it. alt: what is to be seen, in words.
    uri: the thumbnail, empty without one. width, height: of the thumbnail, in pixels.
    error: why there is none.
    """

    name: str
    note: str
    alt: str
    uri: str = ""
    width: int = 0
    height: int = 0
    error: str = ""


def shoot(image: ImageInput, name: str, outlines: Sequence[drawing.Outline], note: str, alt: str) -> Shot:
    """Draw outlines, in pixels of the upright image, on a thumbnail of it; an image that has gone since says so."""
    shot = Shot(name, note, alt)
    try:
        decoded = decode(image, at_least=_SIDE)
    except ImageError as error:
        return replace(shot, error=str(error))
    height, width = decoded.pixels.shape[:2]
    ratio = width / decoded.size[0], height / decoded.size[1]
    scaled = [replace(outline, box=boxes.scale(outline.box, *ratio)) for outline in outlines]
    drawn = drawing.draw_reduced(decoded.pixels, scaled, _SIDE)
    buffer = io.BytesIO()
    # Colour at full resolution: thin coloured lines are what these images are for.
    drawn.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return replace(shot, uri=uri, width=drawn.width, height=drawn.height)

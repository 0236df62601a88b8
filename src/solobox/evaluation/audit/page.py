"""The audit's page: the worst labels first, each with the model's box, and a decision for every one of them.

One HTML file that needs nothing else and loads nothing. Decisions are made with keys or buttons, stay in the browser
while they are made, and are saved as a JSON file, which `solobox.evaluation.audit.decisions` reads.
"""

import base64
import hashlib
import io
import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.errors import ImageError
from solobox.evaluation.audit.decisions import FORMAT
from solobox.evaluation.audit.findings import Audit, Finding, Kind
from solobox.images import drawing
from solobox.images.decode import decode
from solobox.utils.atomic import replacing

SHOWN = 300
"""Labels on a page, at most: more would make a file that browsers are slow with."""

_BELOW = 12  # labels shown beyond the flagged ones, so that one sees where the line was drawn
_SIDE = 640  # of an image's longer side in pixels, at most
_QUALITY = 75


def write_audit_page(path: Path, audit: Audit, dataset: Dataset, *, title: str, data: str) -> None:
    """Write the page of an audit.

    The same audit of the same images gives the same bytes. The file appears whole or not at all.

    path: of the HTML file; its folder is made, and a file of that name is replaced.
    dataset: those that were audited; their images are read anew, and one that is gone since is said on the page.
    title: heading. data: how a person names the data on the command line, for the commands that the page tells of.

    Raises ``DataError`` when the file cannot be written.
    """
    flagged = len(audit.flagged)
    shown = audit.findings[: min(flagged + _BELOW, SHOWN)]
    script = resources.files("solobox.evaluation.audit").joinpath("templates/audit.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment = Environment(
        loader=PackageLoader("solobox.evaluation.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("audit.html.j2").render(
        title=title,
        data=data,
        cards=[_card(finding, dataset) for finding in shown],
        n=len(dataset),
        flagged=flagged,
        flagged_hidden=max(flagged - len(shown), 0),
        kinds=_counts(audit),
        script=Markup(script),  # noqa: S704 (our own file, which its hash below is made of)
        digest=digest,
        # Not in the page's text but read by its script, so it is made safe for a script and not for text.
        facts=Markup(_facts(shown, dataset, data)),  # noqa: S704
        truth_color="#{:02x}{:02x}{:02x}".format(*drawing.TRUTH),
        predicted_color="#{:02x}{:02x}{:02x}".format(*drawing.PREDICTED),
    )
    with replacing(Path(path)) as file:
        # File names may hold bytes that are no UTF-8; a page must not fail for them.
        file.write(text.encode("utf-8", "replace").decode("utf-8"))


@dataclass(frozen=True, slots=True)
class Card:
    """One label on the page.

    label, model, second: ``x, y, width, height`` in pixels of the full image, or None. uri: the image, without
    boxes; empty where it cannot be read. width, height: of the full image. line: of a box's line, in its pixels.
    """

    name: str
    finding: Finding
    label: list[float] | None
    model: list[float] | None
    second: list[float] | None
    uri: str = ""
    width: int = 0
    height: int = 0
    line: float = 0.0
    error: str = ""


def _card(finding: Finding, dataset: Dataset) -> Card:
    row = finding.row
    card = Card(
        dataset.names[row],
        finding,
        _rectangle(finding.label),
        _rectangle(finding.model),
        _rectangle(finding.second),
    )
    try:
        decoded = decode(dataset.images[row], at_least=_SIDE)
    except ImageError as error:
        return replace(card, error=str(error))
    image = Image.fromarray(decoded.pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = decoded.size
    return replace(card, uri=uri, width=width, height=height, line=max(width, height) / 220)


def _rectangle(box: Floats) -> list[float] | None:
    if np.isnan(box).any():
        return None
    x1, y1, x2, y2 = np.round(box, 2).tolist()
    return [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]


def _counts(audit: Audit) -> list[tuple[str, int]]:
    kinds = [finding.kind for finding in audit.flagged]
    counts = [(kind.value, kinds.count(kind)) for kind in Kind]
    return sorted(((kind, count) for kind, count in counts if count), key=lambda pair: -pair[1])


def _facts(shown: tuple[Finding, ...], dataset: Dataset, data: str) -> str:
    """What the page's script has to know, as JSON in which nothing can end the script."""
    items = [
        {
            "image": dataset.names[finding.row],
            "kind": finding.kind.value,
            "label": _numbers(finding.label),
            "model": _numbers(finding.model),
        }
        for finding in shown
    ]
    text = json.dumps({"format": FORMAT, "data": data, "items": items})
    # Decisions of another audit, even of the same data, must not be taken for this one's.
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return json.dumps({"key": f"solobox-audit-{key}"} | json.loads(text)).replace("<", "\\u003c")


def _numbers(box: Floats) -> list[float] | None:
    return None if np.isnan(box).any() else box.tolist()

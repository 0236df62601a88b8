"""The audit page: a person reviews the worst labels, each beside the predicted box, and decides what to do with them.

One HTML file that loads nothing else. Decisions are made with keys or buttons, stay in the browser's storage, and are
saved as a JSON file, which `solobox.evaluation.audit.decisions` reads.
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
from solobox.evaluation.audit.label_audit import Audit, AuditFinding, ErrorKind
from solobox.images import drawing
from solobox.images.reading import decode
from solobox.utils.atomic import replacing

MAX_CARDS = 300
"""Labels on a page, at most: a larger file would be slow in a browser."""

_UNFLAGGED = 12  # labels shown after the flagged ones, so that a person can judge the threshold
_SIDE = 640  # longer side of an image in pixels, at most
_QUALITY = 75


def write_audit_page(path: Path, audit: Audit, dataset: Dataset, *, title: str, data: str) -> None:
    """Write the page of an audit.

    The same audit of the same images gives the same bytes. The file is written completely or not at all.

    path: of the HTML file; missing folders are created, and an existing file is replaced.
    dataset: the audited dataset; its images are read again, and the page says which are missing by now.
    title: heading. data: the arguments that name the data on the command line, for the command shown on the page.

    Raises DataError if the file cannot be written.
    """
    flagged = len(audit.flagged)
    shown = audit.findings[: min(flagged + _UNFLAGGED, MAX_CARDS)]
    script = resources.files("solobox.evaluation.audit").joinpath("templates/audit.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment = Environment(
        loader=PackageLoader("solobox.evaluation.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("audit.html.j2").render(
        title=title,
        data=data,
        cards=[_label_card(finding, dataset) for finding in shown],
        n=len(dataset),
        flagged=flagged,
        flagged_hidden=max(flagged - len(shown), 0),
        n_unflagged=max(len(shown) - flagged, 0),
        kinds=_counts(audit),
        script=Markup(script),  # noqa: S704 (a file of this package, allowed by its hash)
        digest=digest,
        # It is inside a script element, so it is escaped for that and not as HTML.
        audit_json=Markup(_audit_json(shown, dataset, data)),  # noqa: S704
        truth_color="#{:02x}{:02x}{:02x}".format(*drawing.TRUTH),
        predicted_color="#{:02x}{:02x}{:02x}".format(*drawing.PREDICTED),
    )
    with replacing(Path(path)) as file:
        # A file name may contain bytes that are not UTF-8, which Python decodes to surrogates.
        file.write(text.encode("utf-8", "replace").decode("utf-8"))


@dataclass(frozen=True, slots=True)
class LabelCard:
    """One label on the page.

    label, predicted, second: ``x, y, width, height`` in pixels of the full image, or None. uri: the image without boxes
    as a data URI; empty if it cannot be read. width, height: of the full image. line: width of an outline in pixels.
    error: why the image cannot be read.
    """

    name: str
    finding: AuditFinding
    label: list[float] | None
    predicted: list[float] | None
    second: list[float] | None
    uri: str = ""
    width: int = 0
    height: int = 0
    line: float = 0.0
    error: str = ""


def _label_card(finding: AuditFinding, dataset: Dataset) -> LabelCard:
    row = finding.row
    card = LabelCard(
        dataset.names[row],
        finding,
        _rectangle(finding.label),
        _rectangle(finding.predicted),
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
    counts = [(kind.value, kinds.count(kind)) for kind in ErrorKind]
    return sorted(((kind, count) for kind, count in counts if count), key=lambda pair: -pair[1])


def _audit_json(shown: tuple[AuditFinding, ...], dataset: Dataset, data: str) -> str:
    """The data of the page's script, as JSON that cannot end the script element."""
    items = [
        {
            "image": dataset.names[finding.row],
            "kind": finding.kind.value,
            "label": _numbers(finding.label),
            "model": _numbers(finding.predicted),
        }
        for finding in shown
    ]
    text = json.dumps({"format": FORMAT, "data": data, "items": items})
    # The key of the browser's storage: decisions of another audit must not appear on this page.
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return json.dumps({"key": f"solobox-audit-{key}"} | json.loads(text)).replace("<", "\\u003c")


def _numbers(box: Floats) -> list[float] | None:
    return None if np.isnan(box).any() else box.tolist()

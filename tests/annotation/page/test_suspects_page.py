"""Suspicious labels in a real browser, by the real server: what is decided is in the corrected copy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import chromium, needs_chromium
from solobox.annotation.server import AnnotationServer
from solobox.annotation.suspects import Suspect, Suspects
from solobox.data.dataset import Dataset

pytestmark = needs_chromium

LABEL, MODEL = [2.0, 3.0, 20.0, 30.0], [10.0, 8.0, 40.0, 30.0]


@pytest.fixture
def labelled(tmp_path: Path) -> Dataset:
    rows = ["image,x1,y1,x2,y2,label,split,weather"]
    for number in range(4):
        path = tmp_path / ("left" if number % 2 else "right") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (number * 20, 90, 120)).save(path)
        name = path.relative_to(tmp_path)
        rows.append(
            f"{name},{','.join(map(str, LABEL))},cat,{'test' if number == 3 else 'train'},sun{number}"
        )
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    return Dataset.read(tmp_path / "data.csv")


def test_decisions_are_in_the_corrected_copy_and_go_on_after_a_restart(
    labelled: Dataset, tmp_path: Path
) -> None:
    model = Suspect(np.array(MODEL), "the label is shifted.")
    suspects = Suspects(labelled, {2: model, 0: model, 3: Suspect(np.full(4, np.nan), "no object is seen.")})
    out = tmp_path / "fixed.csv"
    with chromium() as browser:
        page = browser.new_page()
        for keys, shown in (("m", [2, 0]), ("k", [0, 3]), ("m", [3])):
            with AnnotationServer(suspects.folder(), out, suspects=suspects) as server:
                server.start()
                page.goto(server.address)
                page.wait_for_selector(f'#stage[data-shown="{shown[0]}"]')
                page.keyboard.press(keys)
                if len(shown) > 1:
                    page.wait_for_selector(f'#stage[data-shown="{shown[1]}"]')
                else:
                    page.wait_for_selector("#done-undo")
    fixed = Dataset.read(out)
    assert fixed.boxes[:3].tolist() == [LABEL, LABEL, MODEL]
    assert np.isnan(fixed.boxes[3]).all()
    assert fixed.split == labelled.split
    assert fixed.extra == labelled.extra
    assert fixed.label[:3] == labelled.label[:3]
    assert (fixed.source[0], fixed.source[2]) == ("", "accepted")
    assert Dataset.read(tmp_path / "data.csv").boxes.tolist() == labelled.boxes.tolist()

from pathlib import Path

import numpy as np
import pytest
from drawn import face

from solobox.autolabel import available, find, label
from solobox.autolabel.haar import CASCADES, SHORT, Haar
from solobox.boxes import iou
from solobox.errors import ConfigError


@pytest.mark.parametrize("name", ["frontalface", "frontalface_alt", "frontalface_alt2"])
def test_a_drawn_face_is_found_where_it_is(name: str) -> None:
    (candidate,) = find(f"haar:{name}")(np.array(face(centre=(180, 110), radius=50)))
    assert iou(candidate.box, (130, 60, 230, 160)) > 0.6
    assert candidate.score > 1


def test_two_faces_are_two_candidates_and_a_wall_is_none() -> None:
    two = face((500, 240), (120, 120), 60)
    two.paste(face((250, 240), (130, 120), 50), (250, 0))
    found = find("haar:frontalface")(np.array(two))
    centres = sorted((candidate.box[0] + candidate.box[2]) / 2 for candidate in found)
    assert centres == pytest.approx([120, 380], abs=8)
    assert find("haar:frontalface")(np.full((200, 200, 3), 128, np.uint8)) == []


def test_profiles_that_look_either_way_are_found() -> None:
    pixels = np.array(face((300, 240), (130, 120), 60))
    there = {candidate.box for candidate in find("haar:profileface")(pixels)}
    mirrored = find("haar:profileface")(np.ascontiguousarray(pixels[:, ::-1]))
    assert there
    assert {(300 - c.box[2], c.box[1], 300 - c.box[0], c.box[3]) for c in mirrored} == there


@pytest.mark.parametrize("cascade", CASCADES)
def test_every_cascade_loads_and_scores_from_its_threshold_up(cascade: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    for pixels in (noise, np.array(face())):
        for candidate in Haar(cascade)(pixels):
            assert 0 <= candidate.score < 60


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 900, 3), (24, 24, 3)])
def test_a_image_smaller_than_a_face_holds_none(shape: tuple[int, int, int]) -> None:
    assert find("haar:frontalface")(np.full(shape, 77, np.uint8)) == []


def test_every_cascade_and_short_name_is_known() -> None:
    assert {f"haar:{name}" for name in (*CASCADES, *SHORT)} <= set(available())
    assert set(SHORT.values()) <= set(CASCADES)


def test_an_opencv_without_cascades_is_an_error_for_people() -> None:
    with pytest.raises(ConfigError, match="opencv-python-headless<5"):
        Haar("of_the_future")(np.zeros((50, 50, 3), np.uint8))


@pytest.mark.real
def test_faces_of_people(real_data: Path) -> None:
    from solobox import Dataset

    faces = Dataset.read(real_data / "caltech" / "face.csv").select(np.arange(0, 435, 40))
    found = list(label(faces.paths, find("haar:frontalface"), workers=2))
    overlaps = [
        max((float(iou(c.box, box)) for c in each.candidates), default=0)
        for each, box in zip(found, faces.boxes, strict=True)
    ]
    assert np.mean(np.array(overlaps) > 0.4) > 0.8


def test_threads_find_what_one_finds(tmp_path: Path) -> None:
    paths = []
    for number in range(8):
        paths.append(tmp_path / f"{number}.png")
        face(centre=(120 + 8 * number, 120), radius=40 + 2 * number).save(paths[-1])
    for name in ("haar:frontalface", "grabcut"):
        assert list(label(paths, find(name), workers=3)) == list(label(paths, find(name), workers=1))

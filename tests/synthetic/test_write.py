from pathlib import Path

import numpy as np
import pytest

from solobox.data.dataset import Dataset
from solobox.images.reading import probe, read
from solobox.synthetic import ANNOTATIONS, LABELS, write


def test_what_is_written_is_what_is_given_back(tmp_path: Path) -> None:
    dataset = write(tmp_path, 6, seed=1, size=(80, 60))
    assert dataset.paths == tuple(tmp_path / "images" / f"{number:05}.jpg" for number in range(6))
    for path in dataset.paths:
        assert probe(path).size == (80, 60)
        assert probe(path).format == "JPEG"
    assert dataset.has_box.all()
    assert set(dataset.label) <= set(LABELS)
    assert set(dataset.split) == {""}
    assert (dataset.boxes[:, 2:] <= [80, 60]).all()


@pytest.mark.parametrize("form", ANNOTATIONS)
def test_every_format_reads_back(tmp_path: Path, form: str) -> None:
    written = write(tmp_path, 12, size=(64, 48), empty_share=0.4, exif_share=0.5, format=form)
    assert 0 < written.has_box.sum() < 12
    back = Dataset.read(tmp_path / ANNOTATIONS[form])
    assert [path.name for path in back.paths] == [path.name for path in written.paths]
    np.testing.assert_allclose(back.boxes, written.boxes, atol=1e-9)
    for path, original in zip(back.paths, written.paths, strict=True):
        assert path.samefile(original)


def test_turned_images_are_the_same_once_upright(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", 14, size=(64, 48))
    turned = write(tmp_path / "turned", 14, size=(64, 48), exif_share=1.0)
    np.testing.assert_array_equal(turned.boxes, plain.boxes)
    orientations = set()
    for path, same in zip(turned.paths, plain.paths, strict=True):
        header = probe(path)
        orientations.add(header.orientation)
        assert header.size == (64, 48)
        difference = read(path).pixels.astype(float) - read(same).pixels
        assert np.abs(difference).mean() < 8  # two JPEGs of one image
    assert 1 not in orientations
    assert len(orientations) >= 4


def test_each_image_depends_on_the_seed_and_its_number_alone(tmp_path: Path) -> None:
    few = write(tmp_path / "few", 2, seed=5)
    more = write(tmp_path / "more", 3, seed=5)
    other = write(tmp_path / "other", 2, seed=6)
    for index in range(2):
        assert few.paths[index].read_bytes() == more.paths[index].read_bytes()
        assert few.paths[index].read_bytes() != other.paths[index].read_bytes()
    np.testing.assert_array_equal(few.boxes, more.boxes[:2])


def test_sizes_vary_in_a_natural_range(tmp_path: Path) -> None:
    sizes = np.array([probe(path).size for path in write(tmp_path, 16).paths])
    assert sizes.min() >= 240
    assert sizes.max() <= 480
    assert len(np.unique(sizes, axis=0)) > 8
    assert 0 < (sizes[:, 0] < sizes[:, 1]).sum() < 16


def test_empty_images_have_no_box_and_no_label(tmp_path: Path) -> None:
    dataset = write(tmp_path, 3, size=(64, 48), empty_share=1.0)
    assert np.isnan(dataset.boxes).all()
    assert set(dataset.label) == {""}


def test_senseless_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count"):
        write(tmp_path, 0)
    with pytest.raises(ValueError, match="shares"):
        write(tmp_path, 1, empty_share=1.5)
    with pytest.raises(ValueError, match="shares"):
        write(tmp_path, 1, exif_share=-0.1)
    with pytest.raises(ValueError, match="format"):
        write(tmp_path, 1, format="xml")
    assert not list(tmp_path.iterdir())

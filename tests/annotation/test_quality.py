"""What the blind answers say: saved, looked at once, extrapolated."""

from pathlib import Path

import numpy as np
import pytest

from solobox.annotation.quality import QualityRecord, advice, mean_interval


def record(tmp_path: Path, threshold: float = 0.75) -> QualityRecord:
    return QualityRecord(tmp_path / "quality.json", threshold=threshold, goal=0.5)


def test_it_is_measured_after_a_few_and_then_more_and_more_seldom(tmp_path: Path) -> None:
    quality = record(tmp_path)
    measured = []
    for blind in range(60):
        if quality.is_due(blind):
            quality.add(3 * blind, np.full(blind, 0.8))
            measured.append(blind)
    assert measured[0] == 6
    gaps = np.diff(measured)
    assert gaps[0] <= 4
    assert gaps[-1] >= 8


def test_a_look_is_at_the_first_answers_alone_and_only_once(tmp_path: Path) -> None:
    quality = record(tmp_path)
    bad, good = [0.1] * 6, [0.9] * 6
    quality.add(30, np.array([*bad, *good]))
    before = quality.quality()
    assert before is not None
    assert before.look is not None
    assert (before.look.count, before.look.good) == (10, 4)
    quality.add(33, np.full(14, 0.9))  # a better model, and no further look
    after = quality.quality()
    assert after is not None
    assert after.look == before.look
    assert after.last.good == 14


def test_it_is_kept_for_one_threshold(tmp_path: Path) -> None:
    quality = record(tmp_path)
    quality.add(20, np.array([0.7, 0.8, 0.9, 0.6, 0.7, 0.8]))
    assert record(tmp_path).quality() == quality.quality()
    assert record(tmp_path, 0.5).quality() is None
    (tmp_path / "quality.json").write_text('{"threshold": 0.75, "measurements": [1')
    assert record(tmp_path).quality() is None


def test_nothing_is_said_before_the_first(tmp_path: Path) -> None:
    assert record(tmp_path).quality() is None
    assert not record(tmp_path).is_due(5)


def test_the_interval_holds_the_mean(tmp_path: Path) -> None:
    quality = record(tmp_path)
    ious = np.random.default_rng(0).beta(8, 2, 20)
    quality.add(60, ious)
    said = quality.quality()
    assert said is not None
    assert said.last.iou == pytest.approx(ious.mean())
    assert said.last.low < said.last.iou < said.last.high
    assert "boxes were good" in said.sentence


@pytest.mark.parametrize("count", [6, 10, 22])
@pytest.mark.parametrize("lost", [0.0, 0.12])
def test_the_interval_holds_the_true_mean_also_where_few_objects_are_lost(count: int, lost: float) -> None:
    rng = np.random.default_rng(1)
    truth = (1 - lost) * 10 / 13
    runs = 200
    held = 0
    for _ in range(runs):
        ious = np.where(rng.random(count) < lost, 0.0, rng.beta(10, 3, count))
        low, high = mean_interval(ious)
        held += low <= truth <= high
    assert held / runs >= 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5


def test_the_interval_narrows_and_has_its_level() -> None:
    ious = np.random.default_rng(2).beta(10, 3, 40)
    widths = [np.diff(mean_interval(ious[:count]))[0] for count in (5, 10, 20, 40)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.2
    assert np.diff(mean_interval(ious, 0.5))[0] < widths[-1]
    assert mean_interval(np.ones(10))[1] == 1


def test_more_labels_are_worth_what_the_trend_says() -> None:
    rising = [(n, 0.95 - 0.9 * n**-0.5) for n in (10, 20, 40, 80)]
    gain = 0.9 * (80**-0.5 - 100**-0.5)
    assert float(advice(rising).rsplit(" ", 1)[1]) == pytest.approx(gain, abs=0.003)
    assert "hardly" in advice([(n, 0.9) for n in (10, 20, 30, 40)])
    assert advice(rising[:3]) == ""

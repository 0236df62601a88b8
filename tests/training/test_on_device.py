"""What runs on a GPU, on the CPU: the same code, against the scalar functions of `crops` as the oracle."""

from functools import partialmethod
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss
from solobox.training import augment
from solobox.training.augment import Window
from solobox.training.compiling import is_compiled
from solobox.training.distributed import Ranks
from solobox.training.feature_cache import Kept
from solobox.training.finetune import from_resident, tune_everything
from solobox.training.image_cache import Squares
from solobox.training.loop import Forgets
from solobox.training.on_device import (
    NUMBERS,
    Resident,
    cut,
    draws,
    fit_on,
    has_room,
    random_windows,
    recolour,
    to_windows,
    uploaded,
)
from solobox.training.tensor_store import Store
from solobox.utils.progress import Silent

CPU = torch.device("cpu")


class Replay:
    """Gives given numbers in [0, 1) in the forms in which a NumPy generator gives its own."""

    def __init__(self, numbers: np.ndarray) -> None:
        self._left = [float(number) for number in numbers]

    def random(self) -> float:
        return self._left.pop(0)

    def uniform(self, lower: float, upper: float, count: int | None = None) -> Any:
        made = [lower + (upper - lower) * self.random() for _ in range(count or 1)]
        return np.array(made) if count else made[0]

    def normal(self, mean: float, deviation: float, count: int) -> np.ndarray:
        drawn = torch.tensor([self.random() for _ in range(count)], dtype=torch.float64)
        standard: np.ndarray = torch.special.ndtri(drawn).numpy()
        return mean + deviation * standard


def replay(numbers: np.ndarray) -> np.random.Generator:
    return cast("np.random.Generator", Replay(numbers))


def random_boxes(rng: np.random.Generator, count: int, side: float) -> np.ndarray:
    corners = np.sort(rng.uniform(0, side, (count, 2, 2)), axis=1)
    return corners.reshape(count, 4)


def as_rows(pixels: np.ndarray) -> Tensor:
    """(S, S, 3) images in the order of `Resident`."""
    return torch.from_numpy(np.stack([pixels]).transpose(0, 1, 3, 2).copy())


def tensors(window: Window) -> tuple[Tensor, Tensor]:
    corners = [[window.x1, window.y1, window.x2, window.y2]]
    return torch.tensor(corners, dtype=torch.float32), torch.tensor([window.mirrored])


# Windows ----------------------------------------------------------------------------------------------------


def test_the_same_numbers_give_the_same_windows_and_targets_as_one_by_one() -> None:
    rng, side = np.random.default_rng(0), 200
    boxes = random_boxes(rng, 3000, side)
    boxes[:20] = [0, 0, side, side]
    boxes[20:40, 2:] = boxes[20:40, :2] + 0.5  # tiny ones
    numbers = rng.random((3000, NUMBERS))
    found, mirrored = random_windows(torch.from_numpy(numbers), torch.from_numpy(boxes), side)
    targets = to_windows(torch.from_numpy(boxes), found, mirrored)
    kinds = set()
    for row in range(3000):
        wanted = augment.random_window(replay(numbers[row]), boxes[row], side, side)
        assert found[row].tolist() == [wanted.x1, wanted.y1, wanted.x2, wanted.y2], row
        assert bool(mirrored[row]) == wanted.mirrored
        np.testing.assert_allclose(targets[row].numpy(), wanted.to_window(boxes[row]), atol=1e-12)
        kinds.add(
            (bool(numbers[row, 0] < augment.CLOSE_SHARE), wanted.mirrored, wanted.x2 - wanted.x1 > side)
        )
    assert len(kinds) == 8


def test_windows_of_single_precision_are_those_of_double_to_a_pixel() -> None:
    boxes = torch.from_numpy(random_boxes(np.random.default_rng(1), 2000, 280))
    numbers = draws(0, 0, 2000)
    single, mirrored = random_windows(numbers, boxes.float(), 280)
    double, same = random_windows(numbers.double(), boxes, 280)
    assert torch.equal(mirrored, same)
    apart = (single - double).abs()
    assert float(apart.max()) <= 1  # where a side lies just between two pixels
    assert float((apart > 0).float().mean()) < 0.001


@given(
    st.tuples(*[st.floats(0, 1)] * 4),
    st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=NUMBERS, max_size=NUMBERS),
    st.integers(16, 400),
)
def test_a_window_shows_nearly_all_of_the_box(
    corners: tuple[float, ...], numbers: list[float], side: int
) -> None:
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([x1, y1, x2, y2]) * side
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    assume(extent.min() > 1)
    found, mirrored = random_windows(
        torch.tensor([numbers]), torch.tensor(box[None], dtype=torch.float32), side
    )
    shown = found[0].numpy()
    assert (shown[2:] - shown[:2]).min() >= augment.LEAST - 1
    assert (shown[2:] - shown[:2]).max() <= max(side / augment.CLOSE[0], augment.LEAST) + 1
    slack = 0.051 * extent + 1 + 0.06 * side  # as for the windows one by one, see test_windows
    assert (shown[:2] <= box[:2] + slack[:2]).all()
    assert (shown[2:] >= box[2:] - slack[2:]).all()
    target = to_windows(torch.tensor(box[None], dtype=torch.float32), found, mirrored)[0]
    assert target[0] < target[2]
    assert target[1] < target[3]


def test_the_windows_of_drawn_numbers_are_distributed_like_those_one_by_one() -> None:
    rng, count, side = np.random.default_rng(2), 6000, 100
    box = np.array([20.0, 30.0, 55.0, 90.0])
    boxes = torch.from_numpy(box).float().expand(count, 4)
    found, mirrored = random_windows(draws(3, 1, count), boxes, side)
    ones = [augment.random_window(rng, box, side, side) for _ in range(count)]
    wanted = np.array([[w.x1, w.y1, w.x2, w.y2, w.mirrored] for w in ones], dtype=float)
    ours = torch.cat([found, mirrored.float().unsqueeze(1)], dim=1).double().numpy()
    error = np.sqrt(wanted.var(axis=0) * 2 / count)
    assert (np.abs(ours.mean(axis=0) - wanted.mean(axis=0)) < 4 * error).all()
    np.testing.assert_allclose(ours.std(axis=0), wanted.std(axis=0), rtol=0.06)


def test_a_images_numbers_are_its_own() -> None:
    assert torch.equal(draws(5, 2, 10), draws(5, 2, 40)[:10])
    for other in (draws(5, 3, 10), draws(6, 2, 10)):
        assert not torch.equal(draws(5, 2, 10), other)
    assert draws(0, 0, 5).dtype == torch.float32
    assert abs(float(draws(0, 0, 9000).mean(dim=0).sub(0.5).abs().max())) < 0.015


# Pixels -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 60),
    st.tuples(st.floats(-1.2, 0.9), st.floats(-1.2, 0.9), st.floats(0.2, 2.5), st.floats(0.2, 2.5)),
    st.booleans(),
    st.sampled_from([16, 32, 48]),
    st.integers(0, 2**32),
)
def test_a_cut_is_that_of_pytorchs_kernel(
    length: int, place: tuple[float, ...], mirrored: bool, side: int, seed: int
) -> None:
    """Windows within, across the edges of, around and beside the image, shrunk and enlarged."""
    pixels = np.random.default_rng(seed).integers(0, 256, (length, length, 3), dtype=np.uint8)
    x, y, width, height = (round(number * length) for number in place)
    window = Window(x, y, x + max(width, 8), y + max(height, 8), mirrored)
    wanted = augment.cut(pixels, window, side)
    found = cut(as_rows(pixels), *tensors(window), side)[0].numpy()
    assert found.shape == wanted.shape
    apart = np.abs(found - wanted)
    assert apart.max() <= 1.01, window  # that kernel rounds between its two passes too
    assert apart.mean() < 0.5


def test_a_whole_image_of_the_same_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    found = cut(as_rows(pixels), *tensors(augment.whole(24, 24)), 24)
    assert torch.equal(found[0], torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float())
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_image_is_cut_the_same_in_any_company() -> None:
    rng = np.random.default_rng(4)
    pixels = torch.from_numpy(rng.integers(0, 256, (6, 40, 3, 40), dtype=np.uint8))
    found, mirrored = random_windows(draws(0, 0, 6), torch.from_numpy(random_boxes(rng, 6, 40)).float(), 40)
    together = cut(pixels, found, mirrored, 32)
    for row in range(6):
        alone = cut(pixels[row : row + 1], found[row : row + 1], mirrored[row : row + 1], 32)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1)
        assert float((alone[0] != together[row]).float().mean()) < 0.01


def test_pixels_and_box_move_together() -> None:
    """A white rectangle on black: where the pixels say it is must be where the box says it is."""
    pixels = np.zeros((200, 200, 3), np.uint8)
    box = np.array([60, 50, 150, 120])
    pixels[50:120, 60:150] = 255
    many = torch.from_numpy(box).float().expand(50, 4)
    found, mirrored = random_windows(draws(9, 0, 50), many, 200)
    shown = cut(as_rows(pixels).expand(50, -1, -1, -1), found, mirrored, 160)[:, 0] > 200
    targets = to_windows(many, found, mirrored)
    for row in range(50):
        rows, columns = np.flatnonzero(shown[row].any(dim=1)), np.flatnonzero(shown[row].any(dim=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(seen - np.clip(targets[row].numpy(), 0, 1) * 160).max() <= 2.5, found[row]


def test_colours_are_those_one_by_one_given_the_same_numbers() -> None:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (30, 3, 16, 16), dtype=np.uint8)
    numbers = rng.random((30, NUMBERS)).astype(np.float32)
    found = recolour(torch.from_numpy(numbers), torch.from_numpy(pixels).float()).numpy()
    for row in range(30):
        wanted = augment.recolour(replay(numbers[row, 6:]), pixels[row])
        assert np.abs(found[row] - wanted).max() <= 1
        assert np.abs(found[row] - wanted).mean() < 0.01
    assert found.min() == 0
    assert found.max() == 255


# Residence --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Squares:
    folder = tmp_path_factory.mktemp("synthetic")
    return Squares(
        synthetic.write(folder, 12, seed=3, size=(96, 72)), 60,
        budget=1e9, folder=folder, progress=Silent(), stage="images", skip_bad=False, ranks=Ranks(),
    )  # fmt: skip


def test_resident_images_are_the_squares_whatever_the_chunks(
    squares: Squares, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solobox.training.on_device._TOGETHER", 5)
    resident = Resident.of(squares, CPU)
    assert len(resident) == len(squares) == 12
    assert resident.pixels.permute(0, 1, 3, 2).numpy().tolist() == squares.pixels(np.arange(12)).tolist()
    np.testing.assert_allclose(resident.boxes.numpy(), squares.boxes, atol=1e-7)


def test_a_batch_is_what_its_images_and_numbers_make_it(squares: Squares) -> None:
    resident, numbers = Resident.of(squares, CPU), draws(1, 4, 12)
    rows = torch.tensor([7, 2, 11])
    pixels, targets = resident.batch(rows, 48, numbers)
    assert pixels.shape == (3, 3, 48, 48)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    for place, row in enumerate(rows.tolist()):
        own = replay(numbers[row].numpy())
        image, box = squares.image(row)
        window = augment.random_window(own, box, 60, 60)
        wanted = augment.recolour(own, augment.cut(image.pixels, window, 48))
        assert np.abs(pixels[place].numpy() - wanted).mean() < 1
        np.testing.assert_allclose(targets[place].numpy(), window.to_window(box), atol=1e-5)
    plain, targets = resident.batch(rows, 48, None)
    for place, row in enumerate(rows.tolist()):
        wanted = augment.cut(squares.image(row)[0].pixels, augment.whole(60, 60), 48)
        assert np.abs(plain[place].numpy() - wanted).max() <= 1
        np.testing.assert_allclose(targets[place].numpy(), squares.boxes[row], atol=1e-6)


def test_only_a_gpu_takes_residents(squares: Squares, tmp_path: Path) -> None:
    assert fit_on(squares, CPU) is None
    assert not has_room(1, CPU)
    given_ = torch.arange(3)
    assert uploaded(given_, CPU) is given_


def test_a_quarter_of_the_free_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    assert has_room(250, torch.device("cuda"))
    assert not has_room(251, torch.device("cuda"))


# Training ---------------------------------------------------------------------------------------------------


def small(**changes: Any) -> Recipe:
    settings = {"size": 64, "width": 16, "bins": 8, "batch": 5, "epochs": 0, "finetune_epochs": 2, "seed": 3}
    return Recipe.from_preset("finetune", settings | changes)


def test_batches_go_on_from_a_place_as_they_would_have() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (12, 40, 3, 40), dtype=np.uint8))
    boxes = torch.from_numpy(random_boxes(rng, 12, 1)).float()
    resident = Resident(pixels, boxes, boxes)
    groups = [np.array(rows) for rows in ([3, 9, 0, 4, 11], [1, 2, 5, 6, 7], [8, 10])]
    whole = list(from_resident(resident, groups, small(), 1))
    assert [len(pixels) for pixels, _ in whole] == [5, 5, 2]
    for a, b in zip(whole[1:], from_resident(resident, groups[1:], small(), 1), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    other = list(from_resident(resident, groups, small(), 2))
    assert not torch.equal(whole[0][0], other[0][0])
    assert whole[0][0].shape == (5, 3, 64, 64)
    assert float(torch.cat([targets for _, targets in whole]).min()) >= -0.05


@pytest.mark.parametrize("windows_each", [1, 3])
def test_the_whole_net_trains_on_resident_images(squares: Squares, windows_each: int) -> None:
    """Without windows the images are those that the other path shows: the losses of the first epoch agree."""
    recipe, fabric = small(crops=windows_each), Fabric(accelerator="cpu", devices=1)
    histories = []
    for resident in (Resident.of(squares, CPU), None):
        torch.manual_seed(0)
        localizer = Localizer(recipe.architecture, pretrained="bundled").eval()
        before = {key: value.clone() for key, value in localizer.state_dict().items()}
        history, _ = tune_everything(
            localizer, squares, squares_of(squares, 64), recipe, Loss.parse(recipe.loss),
            fabric, Silent(), Forgets(), resident=resident,
        )  # fmt: skip
        after = localizer.state_dict()
        assert any(not torch.equal(after[key], value) for key, value in before.items() if "backbone" in key)
        histories.append(history)
    ours, others = histories
    assert len(ours) == len(others) == 2
    same = windows_each == 1
    assert (abs(ours[0].train_loss - others[0].train_loss) < 0.01 * others[0].train_loss) == same


def squares_of(squares: Squares, side: int) -> Squares:
    return Squares(
        squares.dataset, side, budget=1e9, folder=squares.dataset.images[0].parent, progress=Silent(),
        stage="images", skip_bad=False, ranks=Ranks(),
    )  # fmt: skip


def test_kept_maps_that_were_moved_are_those_of_the_store(tmp_path: Path) -> None:
    shapes = [(4, 4, 3), (2, 2, 5)]
    store = Store(210, shapes, torch.bfloat16, budget=1e9, folder=tmp_path)  # two rows were left out
    given_ = [torch.randn(208, *shape).bfloat16() for shape in shapes]
    store.put(1, given_)
    kept = Kept(store, torch.arange(1, 209), torch.rand(208, 4), ())
    assert kept.near(CPU) is kept
    moved = kept.moved(CPU)
    assert [len(tensor) for tensor in moved.resident] == [208, 208]
    rows = torch.tensor([207, 0, 96, 95, 96])
    for own, wanted, tensor in zip(moved.maps(rows, CPU), kept.maps(rows, CPU), given_, strict=True):
        assert torch.equal(own, wanted)
        assert torch.equal(own, tensor[rows].permute(0, 3, 1, 2))
        assert own.stride() == wanted.stride()


def test_a_long_run_is_compiled_and_learns_the_same(
    squares: Squares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the making of kernels, as in test_compiling; of a tiny backbone, with its first stage frozen."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    recipe = small(
        backbone="test_resnet",
        pretrained="none",
        batch=6,
        freeze=1,
        vectorizer="gap",
        head="regression",
        loss="mse",
    )
    histories, states = [], []
    for long in (False, True):
        monkeypatch.setattr("solobox.training.finetune.pays", lambda device, steps, long=long: long)
        torch.manual_seed(0)
        localizer = Localizer(recipe.architecture).eval()
        loss, watches = Loss.parse(recipe.loss), Watches(localizer)
        history, _ = tune_everything(
            localizer, squares, squares_of(squares, 64), recipe, loss, Fabric(accelerator="cpu", devices=1),
            watches, Forgets(), resident=Resident.of(squares, CPU),
        )  # fmt: skip
        assert watches.seen == [long] * 4
        assert not is_compiled(localizer)
        histories.append([line.train_loss for line in history])
        states.append(localizer.state_dict())
    assert histories[0] == pytest.approx(histories[1], rel=1e-4)
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-3, atol=1e-4)


class Watches(Silent):
    """Sees at each step whether a module is compiled, and has no ear for remarks: there should be none."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self.seen = module, list[bool]()

    def advance(self, steps: int = 1, note: str = "") -> None:
        if note:
            self.seen.append(is_compiled(self._module))

    def say(self, text: str) -> None:
        pytest.fail(text)

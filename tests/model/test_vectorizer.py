import pytest
import torch

from solobox.model.vectorizer import ExtraConvs


def test_without_any_the_maps_pass_and_there_is_nothing_to_save() -> None:
    maps = [torch.rand(2, 8, 4, 4), torch.rand(2, 16, 2, 2)]
    extra = ExtraConvs((8, 16))
    assert extra.channels == (8, 16)
    assert not extra.state_dict()
    assert all(a is b for a, b in zip(extra(maps), maps, strict=True))


@pytest.mark.parametrize(("side", "once", "twice"), [(10, 5, 3), (9, 5, 3), (1, 1, 1)])
def test_each_halves_the_last_map_and_leaves_the_others(side: int, once: int, twice: int) -> None:
    maps = [torch.rand(2, 8, 20, 20), torch.rand(2, 16, side, side)]
    for channels, left in (((6,), once), ((6, 4), twice)):
        extra = ExtraConvs((8, 16), channels)
        finer, last = extra(maps)
        assert finer is maps[0]
        assert last.shape == (2, channels[-1], left, left)
        assert extra.channels == (8, channels[-1])


def test_it_is_a_convolution_of_3x3_and_stride_2_with_relu() -> None:
    extra = ExtraConvs((2,), (3,))
    pixels = torch.randn(1, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    weight, bias = extra.state_dict().values()
    assert weight.shape == (3, 2, 3, 3)
    # by hand: every second cell, each the sum over its neighbourhood, nothing beyond the border
    wide = torch.nn.functional.pad(pixels, (1, 1, 1, 1))
    expected = torch.zeros(1, 3, 4, 3)
    for row in range(4):
        for column in range(3):
            near = wide[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected[0, :, row, column] = (weight * near).sum(dim=(1, 2, 3)) + bias
    torch.testing.assert_close(extra([pixels])[0].detach(), expected.clamp(min=0), rtol=1e-5, atol=1e-5)


def test_the_scale_of_features_passes_through_at_the_start() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(4, 64, 16, 16).relu()]
    after = ExtraConvs((64,), (64, 64))(maps)[-1]
    assert 0.5 < float(after.detach().square().mean() / maps[0].square().mean()) < 2

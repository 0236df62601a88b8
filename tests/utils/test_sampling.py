from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from solobox.utils.sampling import evenly_spaced


@given(count=st.integers(0, 500), most=st.integers(2, 200))
def test_so_many_in_order_with_both_ends(count: int, most: int) -> None:
    chosen = evenly_spaced(count, most).tolist()
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))
    assert not count or (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = {after - before for before, after in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1

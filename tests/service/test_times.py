from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig_service.core.times import instant_of, text_of


def test_instants_are_written_as_marathon_does() -> None:
    assert text_of(1_423_647_110_021) == "2015-02-11T09:31:50.021Z"
    assert instant_of("2015-02-11T09:31:50Z") == 1_423_647_110_000


@given(st.integers(0, 4_000_000_000_000))
def test_an_instant_is_read_back_the_same(at_ms: int) -> None:
    assert instant_of(text_of(at_ms)) == at_ms


@pytest.mark.parametrize("text", ["", "yesterday", "2015-02-11", "2015-02-11T09:31:50+00:00", "2015-13-41T09:31:50Z"])
def test_what_is_no_instant_is_none(text: str) -> None:
    assert instant_of(text) is None

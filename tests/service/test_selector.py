from __future__ import annotations

import pytest

from runrig_service.core.errors import InvalidApp
from runrig_service.core.selector import parse_selector

WEB = {"tier": "web", "zone": "a"}


@pytest.mark.parametrize(
    "text, holds",
    [
        ("", True),
        ("tier", True),
        ("beta", False),
        ("!beta", True),
        ("! tier", False),
        ("tier==web", True),
        ("tier = web , zone == a", True),
        ("tier==db", False),
        ("tier!=db", True),
        ("beta!=x", True),
        ("zone in (a, b)", True),
        ("zone in (b,c)", False),
        ("zone notin (b)", True),
        ("tier,zone notin (a)", False),
    ],
)
def test_labels_are_selected(text: str, holds: bool) -> None:
    assert parse_selector(text)(WEB) is holds


@pytest.mark.parametrize("text", ["==", "tier==", "zone in ()", "zone in (a", "a b", "tier==web,,", "x" * 5000])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidApp, match="must be conditions"):
        parse_selector(text)

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runrig.errors import TimedOut, Unavailable
from runrig_service.cli.waiting import Waiting


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def looks(*news: str | Exception) -> Callable[[], tuple[str, bool]]:
    """Return a look that sees one after the other; the last is the end."""
    left: Iterator[str | Exception] = iter(news)

    def look() -> tuple[str, bool]:
        seen = next(left)
        if isinstance(seen, Exception):
            raise seen
        return seen, seen == "done"

    return look


def test_news_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()

    Waiting(60, clock, clock.pause).until(looks("1/2", "1/2", "2/2", "done"))

    assert capsys.readouterr().err.splitlines() == ["1/2", "2/2", "done"]


def test_a_server_that_is_away_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()

    Waiting(60, clock, clock.pause).until(looks("1/2", Unavailable("gone"), "done"))

    assert "no answer: gone" in capsys.readouterr().err


def test_a_wait_ends_in_time_with_the_last_news() -> None:
    clock = Clock()

    with pytest.raises(TimedOut, match=r"not complete in time \(1/2\)"):
        Waiting(5, clock, clock.pause).until(looks(*["1/2"] * 100))

    assert 5 <= clock.now < 6

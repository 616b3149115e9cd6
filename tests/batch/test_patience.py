"""Who waits for a framework that is away: it outwaits a restart, and not more."""

from __future__ import annotations

import pytest

from runrig.errors import TimedOut, Unavailable
from runrig_batch.cli.waiting import Patience


class Framework:
    """Answers the last of some questions."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def ask(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "here"


def test_a_framework_that_comes_back_is_asked_again() -> None:
    assert Patience().ask(Framework(Unavailable("refused")).ask) == "here"


def test_a_framework_that_stays_away_is_given_up() -> None:
    framework = Framework(*(Unavailable(f"refused {number}") for number in range(9)))

    with pytest.raises(Unavailable, match="refused 1"):
        Patience(away_s=0.0).ask(framework.ask)


def test_an_answer_that_takes_too_long_is_not_asked_for_again() -> None:
    framework = Framework(TimedOut("too long"))

    with pytest.raises(TimedOut):
        Patience().ask(framework.ask)
    assert not framework.errors

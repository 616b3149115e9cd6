"""The flag that loops wait for."""

from __future__ import annotations

import asyncio

import pytest

from runrig._wake import Wake


async def test_who_waits_goes_on_when_the_flag_is_set() -> None:
    wake = Wake()
    waiting = asyncio.create_task(wake.wait(60))
    await asyncio.sleep(0)

    wake.set()

    assert await waiting


async def test_a_flag_that_is_set_already_is_not_waited_for() -> None:
    wake = Wake()
    wake.set()

    assert await wake.wait(0)
    assert await wake.wait()


async def test_a_wait_ends_after_its_time_and_says_that_the_flag_is_not_set() -> None:
    wake = Wake()
    wake.set()
    wake.clear()

    assert not await wake.wait(0.001)


async def test_a_cancellation_that_comes_together_with_the_flag_is_not_lost() -> None:
    wake = Wake()
    waiting = asyncio.create_task(wake.wait(60))
    await asyncio.sleep(0)

    wake.set()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting

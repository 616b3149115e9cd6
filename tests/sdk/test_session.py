"""The session alone, on plain data."""

from __future__ import annotations

from runrig.ids import FrameworkId, Role
from runrig.offers import FrameworkInfo, OffersMade, RefusalCode, Revive, StreamRefused, Subscribe, Subscribed
from runrig.session import (
    CloseStream,
    Ended,
    EnvelopeCame,
    Heard,
    Lost,
    OpenStream,
    Session,
    SessionTick,
    Started,
    StreamClosed,
    StreamOpened,
    Transmit,
)

INFO = FrameworkInfo("web", (Role("default"),), FrameworkId("web-1"))
SUBSCRIBED = Subscribed(FrameworkId("web-1"), "cluster", 75_000, 15_000, 30_000)


def test_a_start_opens_a_stream_and_subscribes_with_a_number_above_any_earlier_start() -> None:
    session = Session(INFO)

    assert session.handle(Started(7), 0.0) == [OpenStream(1)]
    [transmit] = session.handle(StreamOpened(1), 0.0)

    assert isinstance(transmit, Transmit)
    assert isinstance(transmit.call, Subscribe)
    assert 7 * 2**20 < transmit.call.session < 8 * 2**20


def test_each_subscription_has_a_greater_number_than_the_last() -> None:
    session = subscribed()
    session.handle(StreamClosed(1, "reset"), 1.0)
    session.handle(SessionTick(), 20.0)

    [transmit] = session.handle(StreamOpened(2), 20.0)

    assert isinstance(transmit, Transmit)
    assert isinstance(transmit.call, Subscribe)
    assert transmit.call.session == 2**20 + 2


def test_news_of_an_old_stream_is_dropped() -> None:
    session = subscribed()
    session.handle(StreamClosed(1, "reset"), 1.0)
    session.handle(SessionTick(), 20.0)
    session.handle(StreamOpened(2), 20.0)

    assert session.handle(EnvelopeCame(1, 1, (OffersMade(()),)), 21.0) == []


def test_a_master_of_a_lower_epoch_is_refused() -> None:
    session = subscribed(epoch=5)

    [close] = session.handle(EnvelopeCame(1, 4, (OffersMade(()),)), 1.0)

    assert isinstance(close, CloseStream)
    assert "epoch 4 is over" in close.why


def test_a_broken_stream_is_opened_again_after_a_wait_that_doubles_up_to_a_bound() -> None:
    session = subscribed()
    waits = []
    now = 0.0
    for stream in range(1, 15):
        session.handle(StreamClosed(stream, "no master", 0.5), now)
        due = session.next_deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        assert session.handle(SessionTick(), now) == [OpenStream(stream + 1)]

    assert [round(wait, 6) for wait in waits[:3]] == [0.05, 0.1, 0.2]
    assert round(max(waits), 6) == 15.0


def test_the_interruption_is_told_once_and_calls_are_not_sent_meanwhile() -> None:
    session = subscribed()

    assert session.handle(StreamClosed(1, "reset"), 1.0) == [Lost("reset")]
    assert session.send(Revive()) == []
    session.handle(SessionTick(), 20.0)
    assert session.handle(StreamClosed(2, "no master"), 21.0) == []


def test_a_silent_master_is_given_up_after_the_time_that_it_named() -> None:
    session = subscribed()

    assert session.handle(SessionTick(), 74.9) == []
    [close] = session.handle(SessionTick(), 75.0)

    assert isinstance(close, CloseStream)
    assert "silent" in close.why


def test_a_leader_that_a_standby_names_is_asked_next_and_at_once() -> None:
    session = Session(INFO)
    session.handle(Started(1), 0.0)
    session.handle(StreamOpened(1), 0.0)
    refusal = StreamRefused(RefusalCode.NOT_LEADER, "ask h2", "h2:5055")

    session.handle(EnvelopeCame(1, 1, (refusal,)), 0.0)
    session.handle(StreamClosed(1, "refused"), 0.0)

    assert session.handle(SessionTick(), 0.0) == [OpenStream(2, "h2:5055")]


def test_a_session_that_was_superseded_ends_for_good() -> None:
    session = subscribed()

    outputs = session.handle(EnvelopeCame(1, 1, (StreamRefused(RefusalCode.SUPERSEDED, "newer"),)), 1.0)

    assert isinstance(outputs[-1], Ended)
    assert session.handle(StreamClosed(1, "end"), 2.0) == []
    assert session.next_deadline() is None


def test_roles_that_were_suppressed_subscribe_suppressed() -> None:
    session = subscribed()
    session.suppressed = {"default"}
    session.handle(StreamClosed(1, "reset"), 1.0)
    session.handle(SessionTick(), 20.0)

    [transmit] = session.handle(StreamOpened(2), 20.0)

    assert isinstance(transmit, Transmit)
    assert isinstance(transmit.call, Subscribe)
    assert transmit.call.suppressed_roles == ("default",)


def subscribed(epoch: int = 1) -> Session:
    session = Session(INFO)
    session.handle(Started(1), 0.0)
    session.handle(StreamOpened(1), 0.0)
    assert session.handle(EnvelopeCame(1, epoch, (SUBSCRIBED,)), 0.0) == [Heard(SUBSCRIBED)]
    return session

"""The SDK's scheduler on plain data: intent before launch, state before receipt, nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runrig._turn import Persist
from runrig.ids import AgentId, FrameworkId, OfferId, Role, TaskId
from runrig.offers import (
    Accept,
    Acknowledge,
    AnswerInverseOffer,
    Call,
    Decline,
    FrameworkInfo,
    InverseOffer,
    InverseOfferReason,
    InverseOffersMade,
    Kill,
    News,
    Offer,
    OffersMade,
    Reconcile,
    Revive,
    Subscribed,
    Suppress,
    TaskReference,
    TasksRecovering,
    TasksUpdated,
)
from runrig.resources import Resources
from runrig.scheduler import TASK_PREFIX, Scheduler, SchedulerCommand, Told, TurnEnded
from runrig.session import EnvelopeCame, Started, StreamClosed, StreamOpened, Transmit
from runrig.tasks import Command, Reason, StatusUpdate, TaskSpec, TaskState
from runrig.wants import Answer, AnswerInverse, Decision, Put, Run, Stop, TaskChanged, TaskView, Want

INFO = FrameworkInfo("f", (Role("default"),), FrameworkId("f-1"))


class Recorder:
    """A logic that keeps what it is told and answers what the test tells it to."""

    def __init__(self, *first: Decision) -> None:
        self.first = list(first)
        self.news: list[TaskView] = []
        self.reply: list[Decision] = []
        self.answers: dict[type[object], list[Decision]] = {}

    def restore(self, entries: Mapping[str, bytes], tasks: Mapping[TaskId, TaskView], now: float) -> list[Decision]:
        return self.first

    def handle(self, event: object, now: float) -> list[Decision]:
        if isinstance(event, TaskChanged):
            self.news.append(event.task)
            return self.reply
        return list(event) if isinstance(event, list) else self.answers.get(type(event), [])


def test_the_intent_is_durable_before_the_accept_is_sent() -> None:
    scheduler = connected(Recorder(Run((want("t1"),))))

    commands = turn(scheduler, OffersMade((offer("o1"),)))

    kinds = [type(command) if not isinstance(command, Transmit) else type(command.call) for command in commands]
    assert kinds.index(Persist) < kinds.index(Accept)
    persist = next(command for command in commands if isinstance(command, Persist))
    assert list(persist.puts) == [TASK_PREFIX + "t1"]


def test_state_and_the_logics_answer_are_durable_together_before_the_receipt() -> None:
    logic = Recorder(Run((want("t1"),)))
    scheduler = launched(logic)
    logic.reply = [Put("job", b"done"), Answer("question", 42)]

    commands = turn(scheduler, TasksUpdated((update("t1", 1, TaskState.TASK_FINISHED),)))

    assert isinstance(commands[0], Persist)
    assert commands[0].puts == {"app/job": b"done"}
    assert commands[0].deletes == (TASK_PREFIX + "t1",)
    assert isinstance(commands[1], Transmit)
    assert isinstance(commands[1].call, Acknowledge)
    assert any(isinstance(command, Answer) for command in commands[2:])


def test_a_repeated_update_is_acknowledged_and_not_told_again() -> None:
    logic = Recorder(Run((want("t1"),)))
    scheduler = launched(logic)
    turn(scheduler, TasksUpdated((update("t1", 1, TaskState.TASK_RUNNING),)))

    commands = turn(scheduler, TasksUpdated((update("t1", 1, TaskState.TASK_RUNNING),)))

    assert [type(call) for call in calls(commands)] == [Acknowledge]
    assert len(logic.news) == 1


def test_an_update_overtaken_by_a_later_one_changes_nothing() -> None:
    logic = Recorder(Run((want("t1"),)))
    scheduler = launched(logic)

    turn(scheduler, TasksUpdated((update("t1", 2, TaskState.TASK_RUNNING), update("t1", 1, TaskState.TASK_STARTING))))

    assert [view.state for view in logic.news] == [TaskState.TASK_RUNNING]


def test_a_restarted_scheduler_launches_no_task_again_and_reconciles_those_it_has() -> None:
    first = launched(Recorder(Run((want("t1"),))))
    entries = {TASK_PREFIX + "t1": first.records[TaskId("t1")].dump()}

    scheduler = Scheduler(INFO, Recorder(Run((want("t1"),))), entries, 0.0)
    commands = connect(scheduler)

    assert Reconcile((TaskReference(TaskId("t1"), AgentId("a1")),)) in calls(commands)
    assert Accept not in {type(call) for call in calls(turn(scheduler, OffersMade((offer("o2"),))))}


def test_a_launched_task_that_the_restored_logic_does_not_want_is_killed() -> None:
    first = launched(Recorder(Run((want("t1"),))))
    entries = {TASK_PREFIX + "t1": first.records[TaskId("t1")].dump()}

    scheduler = Scheduler(INFO, Recorder(), entries, 0.0)

    assert Kill(TaskId("t1")) in calls(connect(scheduler))


def test_a_launch_that_nobody_knows_of_is_told_as_lost() -> None:
    logic = Recorder(Run((want("t1"),)))
    scheduler = launched(logic)

    turn(scheduler, TasksUpdated((update("t1", 0, TaskState.TASK_UNKNOWN),)))

    [view] = logic.news
    assert view.state is TaskState.TASK_LOST
    assert view.status is not None
    assert view.status.reason is Reason.LAUNCH_LOST
    assert scheduler.records == {}


def test_recovering_is_no_verdict() -> None:
    logic = Recorder(Run((want("t1"),)))
    scheduler = launched(logic)

    turn(scheduler, TasksRecovering((TaskReference(TaskId("t1"), AgentId("a1")),)))

    assert logic.news == []
    assert TaskId("t1") in scheduler.records


def test_a_stopped_task_that_waits_is_forgotten_and_one_that_runs_is_killed_until_it_ends() -> None:
    logic = Recorder(Run((want("t1"), want("t2", cpus=64_000))))
    scheduler = launched(logic)

    scheduler.handle(Told([Stop(TaskId("t1"), 500), Stop(TaskId("t2"))]), 10.0)
    commands = scheduler.handle(TurnEnded(), 10.0)
    assert calls(commands)[0] == Kill(TaskId("t1"), 500)
    assert scheduler.waiting == {}

    assert Kill(TaskId("t1"), 500) in calls(scheduler.handle(TurnEnded(), 41.0))
    turn(scheduler, TasksUpdated((update("t1", 1, TaskState.TASK_KILLED),)))
    assert calls(scheduler.handle(TurnEnded(), 80.0)) == []


def test_a_stranger_that_runs_is_killed_and_acknowledged() -> None:
    scheduler = connected(Recorder())

    commands = turn(scheduler, TasksUpdated((update("ghost", 3, TaskState.TASK_RUNNING),)))

    assert [type(call) for call in calls(commands)] == [Kill, Acknowledge]


def test_with_nothing_wanted_offers_are_declined_and_suppressed_and_a_want_revives_at_once() -> None:
    scheduler = connected(Recorder())
    commands = turn(scheduler, OffersMade((offer("o1"),)))
    assert Decline in {type(call) for call in calls(commands)}

    scheduler.handle(Told([Run((want("t1"),))]), 1.0)

    assert Revive((Role("default"),)) in calls(scheduler.handle(TurnEnded(), 1.0))


def test_nothing_wanted_at_the_subscription_suppresses() -> None:
    scheduler = Scheduler(INFO, Recorder(), {}, 0.0)

    assert Suppress((Role("default"),)) in calls(connect(scheduler))


def test_an_offer_that_fits_nothing_is_declined_with_what_it_is_short_of() -> None:
    scheduler = connected(Recorder(Run((want("big", cpus=64_000),))))

    commands = turn(scheduler, OffersMade((offer("o1"),)))

    [decline] = [call for call in calls(commands) if isinstance(call, Decline)]
    assert decline.filter.reason == "short of cpu_millis by 60000"


def test_any_number_of_wants_that_fit_nowhere_keep_none_behind_them_from_running() -> None:
    hopeless = tuple(replace(want(f"big-{n}", cpus=64_000), group=f"group-{n}") for n in range(5_000))
    scheduler = connected(Recorder(Run((*hopeless, want("small")))))

    commands = turn(scheduler, OffersMade((offer("o1"),)))

    [accept] = [call for call in calls(commands) if isinstance(call, Accept)]
    assert [spec.task_id for launch in accept.groups for spec in launch.tasks] == ["small"]


def test_a_want_that_cannot_be_launched_is_told_as_an_error_and_costs_nothing_more() -> None:
    logic = Recorder(Run((Want(TaskSpec(TaskId("a/b"), Resources(cpu_millis=1), command=Command(shell="true"))),)))

    scheduler = connected(logic)

    assert [view.state for view in logic.news] == [TaskState.TASK_ERROR]
    assert scheduler.waiting == {}


def test_offers_of_a_lost_session_are_not_used_by_the_next() -> None:
    scheduler = connected(Recorder(Run((want("t1"),))))
    scheduler.handle(EnvelopeCame(1, 1, (OffersMade((offer("o1"),)),)), 1.0)
    scheduler.handle(StreamClosed(1, "reset"), 1.0)

    assert calls(scheduler.handle(TurnEnded(), 1.0)) == []
    assert TaskId("t1") in scheduler.waiting


def test_a_gang_is_accepted_at_once_and_by_itself() -> None:
    gang = tuple(replace(want(f"g{number}"), gang="g") for number in (1, 2))
    scheduler = connected(Recorder(Run((*gang, want("single")))))
    set_of_two = [
        replace(offer(f"o{number}"), gang_id="g", resources=Resources.parse("cpus:1;mem:32M")) for number in (1, 2)
    ]

    commands = turn(scheduler, OffersMade((*set_of_two, offer("o3"))))

    first, second = [call for call in calls(commands) if isinstance(call, Accept)]
    assert (first.atomic, [group.offer_ids for group in first.groups]) == (True, [("o1",), ("o2",)])
    assert (second.atomic, [group.offer_ids for group in second.groups]) == (False, [("o3",)])
    [persist] = [command for command in commands if isinstance(command, Persist)]
    assert len(persist.puts) == 3


def test_a_set_of_offers_that_does_not_hold_its_gang_is_declined_whole_with_the_reason() -> None:
    gang = tuple(replace(want(f"g{number}"), gang="g") for number in (1, 2))
    scheduler = connected(Recorder(Run(gang)))
    short = replace(offer("o1"), gang_id="g", resources=Resources.parse("cpus:1;mem:32M"))

    commands = turn(scheduler, OffersMade((short,)))

    [decline] = [call for call in calls(commands) if isinstance(call, Decline)]
    assert (decline.offer_ids, decline.filter.reason) == (("o1",), "1 of 2 of gang g fit")
    assert len(scheduler.waiting) == 2


def test_a_gang_that_was_offered_too_little_has_all_offered_again_after_a_while() -> None:
    gang = tuple(replace(want(f"g{number}", cpus=3000), gang="g") for number in (1, 2))
    scheduler = connected(Recorder(Run(gang)))
    turn(scheduler, OffersMade((offer("o1"),)))
    assert scheduler.next_deadline() == 6.0

    assert calls(scheduler.handle(TurnEnded(), 5.9)) == []
    assert calls(scheduler.handle(TurnEnded(), 6.0)) == [Revive((Role("default"),))]


def test_news_of_inverse_offers_is_told_and_what_is_meant_to_be_done_is_answered() -> None:
    asked = InverseOffersMade(
        (InverseOffer("i1", InverseOfferReason.DRAIN, AgentId("a1"), "h1", (TaskId("t1"),), Resources(cpu_millis=1)),)
    )
    logic = Recorder()
    scheduler = connected(logic)
    logic.answers[InverseOffersMade] = [AnswerInverse("i1", is_accepted=False, reason="x" * 300)]

    assert calls(turn(scheduler, asked)) == [AnswerInverseOffer("i1", is_accepted=False, reason="x" * 255)]


def want(task_id: str, cpus: int = 1000) -> Want:
    return Want(TaskSpec(TaskId(task_id), Resources(cpu_millis=cpus, mem_mib=32), command=Command(shell="true")))


def offer(offer_id: str) -> Offer:
    return Offer(OfferId(offer_id), AgentId("a1"), "h1", Role("default"), Resources.parse("cpus:4;mem:4G"))


def update(task_id: str, number: int, state: TaskState) -> StatusUpdate:
    return StatusUpdate(INFO.framework_id, TaskId(task_id), AgentId("a1"), number, state)


def connect(scheduler: Scheduler) -> list[SchedulerCommand]:
    scheduler.handle(Started(1), 0.0)
    scheduler.handle(StreamOpened(1), 0.0)
    return turn(scheduler, Subscribed(INFO.framework_id, "c", 75_000, 15_000, 30_000))


def connected(logic: Recorder) -> Scheduler:
    scheduler = Scheduler(INFO, logic, {}, 0.0)
    connect(scheduler)
    return scheduler


def launched(logic: Recorder) -> Scheduler:
    scheduler = connected(logic)
    turn(scheduler, OffersMade((offer("o1"),)))
    assert TaskId("t1") in scheduler.records
    return scheduler


def turn(scheduler: Scheduler, *news: News, stream: int = 1) -> list[SchedulerCommand]:
    commands = scheduler.handle(EnvelopeCame(stream, 1, news), 1.0)
    return [*commands, *scheduler.handle(TurnEnded(), 1.0)]


def calls(commands: list[SchedulerCommand]) -> list[Call]:
    return [command.call for command in commands if isinstance(command, Transmit)]

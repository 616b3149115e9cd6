"""Update streams from an agent's core through a master's to a scheduler's, on links that lose, double and overtake."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from runrig_agent.core.events import TaskChecked
from runrig_agent.core.task import TaskKey
from tests.properties.effort import searching
from tests.properties.receipts import Watched
from tests.properties.relay import Item, is_lossy

pick = st.integers(0, 1_000)


class UpdateStreams(RuleBasedStateMachine):
    """Tasks that live and end, while everybody dies now and then and the links do what they want."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Watched()
        for name in ("t1", "t2", "t3"):
            self.one_more_task_is_wanted(name)
        self.relay.deliver_all()

    def one_more_task_is_wanted(self, name: str) -> None:
        self.relay.names.append(name)
        self.relay.want(name)

    @precondition(lambda self: len(self.relay.names) < 8)
    @rule()
    def another_task_is_wanted(self) -> None:
        self.one_more_task_is_wanted(f"t{len(self.relay.names) + 1}")

    # Tasks

    def running(self) -> list[TaskKey]:
        return [key for key in self.relay.started if key not in self.relay.ended]

    @precondition(lambda self: self.running())
    @rule(which=pick, results=st.lists(st.booleans(), min_size=1, max_size=6))
    def a_task_is_checked(self, which: int, results: list[bool]) -> None:
        key = self.running()[which % len(self.running())]
        for is_healthy in results:
            self.relay.tell_agent(TaskChecked(key, 0, is_healthy))

    @precondition(lambda self: self.running())
    @rule(which=pick, code=st.sampled_from([0, 1, 137]))
    def a_task_ends(self, which: int, code: int) -> None:
        self.relay.end_task(self.running()[which % len(self.running())], code)

    # Links

    def under_way(self) -> list[list[Item]]:
        return [queue for queue in self.relay.queues() if queue]

    @precondition(lambda self: self.under_way())
    @rule(which=pick, count=st.integers(1, 4))
    def something_arrives(self, which: int, count: int) -> None:
        queue = self.under_way()[which % len(self.under_way())]
        for _ in range(min(count, len(queue))):
            if any(queue is each for each in self.under_way()):
                self.relay.deliver(queue)

    @rule()
    def everything_arrives(self) -> None:
        self.relay.deliver_all()

    @precondition(lambda self: any(is_lossy(item) for queue in self.under_way() for item in queue))
    @rule(which=pick, fault=st.sampled_from(["lost", "doubled", "overtaken"]))
    def something_goes_wrong(self, which: int, fault: str) -> None:
        lossy = [(queue, place) for queue in self.under_way() for place in range(len(queue)) if is_lossy(queue[place])]
        queue, place = lossy[which % len(lossy)]
        match fault:
            case "lost":
                del queue[place]
            case "doubled":
                queue.append(queue[place])
            case _:
                queue.append(queue.pop(place))

    @rule(is_agents=st.booleans())
    def a_link_breaks(self, is_agents: bool) -> None:
        if is_agents:
            self.relay.cut_agent()
        else:
            self.relay.cut_scheduler()

    # Crashes and time

    @rule(lost=st.integers(0, 5))
    def the_agent_is_killed(self, lost: int) -> None:
        self.relay.start_agent(lost)

    @rule()
    def the_master_is_killed(self) -> None:
        self.relay.restart_master()

    @rule()
    def the_framework_is_killed(self) -> None:
        self.relay.start_scheduler()

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 10.0, 21.0, 90.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.relay.pass_time(seconds)

    @rule(waits=st.lists(st.sampled_from([9.0, 10.0, 20.0, 40.0, 300.0, 600.0]), min_size=2, max_size=8))
    def nothing_comes_through_for_long(self, waits: list[float]) -> None:
        """Let the agent try again and again, later each time."""
        for seconds in waits:
            self.relay.pass_time(seconds)
            for queue in self.under_way():
                queue[:] = [item for item in queue if not is_lossy(item)]

    # In the end

    def teardown(self) -> None:
        """Let the faults end: within the longest wait between two tries everything is acknowledged."""
        if not self.relay.is_sound:
            return
        self.relay.deliver_all()
        for _ in range(63):
            self.relay.pass_time(10.0)
            self.relay.deliver_all()
        agent, scheduler = self.relay.agent, self.relay.scheduler
        assert agent.count_unacknowledged() == 0
        for key in self.relay.started:
            last = self.relay.streams[key[1]].said[max(self.relay.streams[key[1]].said)]
            if last.state.is_terminal:
                assert self.relay.ends[key[1]] is last.state
                assert agent.living(key) is None
            else:
                record = scheduler.records[key[1]]
                assert record.status is not None
                assert (record.number, record.status.state) == (last.number, last.state)
                assert record.status.healthy is last.healthy


TestUpdateStreams = UpdateStreams.TestCase
TestUpdateStreams.settings = searching(examples=60, steps=40)

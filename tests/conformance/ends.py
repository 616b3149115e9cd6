"""The two sides that cases play, each with the words that cases need: an agent, and a framework's scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from runrig.v1 import agent_pb2, operator_pb2, scheduler_pb2, tasks_pb2
from tests.conformance.lines import AGENT, CLEAN, SCHEDULER
from tests.conformance.messages import (
    FINISHED,
    RUNNING,
    accept,
    group,
    has,
    launch,
    reconcile,
    register,
    status,
    subscribe,
)

if TYPE_CHECKING:
    from tests.conformance.cluster import Cluster


def anything(message: Any) -> bool:
    """Match every message."""
    return True


class End:
    """This side's end of a stream."""

    def __init__(self, cluster: Cluster, kind: str) -> None:
        self.cluster = cluster
        self.line = cluster.driver.line(kind)
        self.is_admitted = False

    def anew(self, kind: str) -> None:
        """Open another stream; what still comes over the old one is seen no more."""
        self.line = self.cluster.driver.line(kind)
        self.is_admitted = False

    async def send(self, *items: Any, number: int | None = None) -> None:
        """Write an envelope."""
        await self.line.write(*items, number=number)

    async def expect(self, kind: str, where: Callable[[Any], bool] = anything, within_ms: float = 0) -> Any:
        """Return the next message of a kind, which must come, and within `within_ms` if that is time that passes."""
        line = self.line
        await self.cluster.driver.wait(lambda: bool(line.waiting(kind, where)) or line.end is not None, within_ms)
        message = line.take(kind, where)
        assert message is not None, f"no {kind} came; waiting: {line.inbox}; the stream's end: {line.end}"
        return message

    async def end(self, within_ms: float = 0) -> str:
        """Return the status with which the master ends the stream, which it must."""
        line = self.line
        await self.cluster.driver.wait(lambda: line.end is not None, within_ms)
        assert line.end is not None, f"the stream goes on; waiting: {line.inbox}"
        return line.end

    async def refusal(self, within_ms: float = 0) -> str:
        """Return why the master refuses this stream, and see that it ends in order."""
        refused = await self.expect("refusal", within_ms=within_ms)
        assert await self.end() == CLEAN
        assert refused.message, "a refusal says why"
        return scheduler_pb2.RefusalCode.Name(refused.code).removeprefix("REFUSAL_CODE_")

    async def hears_no(self, *kinds: str) -> None:
        """See that nothing of these kinds has come, or is on its way."""
        await self.cluster.settle()
        assert not [kind for kind in self.line.kinds() if kind in kinds], self.line.inbox

    async def break_off(self) -> None:
        """Break the stream."""
        self.is_admitted = False
        await self.line.break_off()

    async def ask(self, number: int) -> None:
        """Ask what every master answers, and wait for the answer: all that was written before it has come."""
        raise NotImplementedError


class PlayedAgent(End):
    """An agent."""

    def __init__(self, cluster: Cluster, info: agent_pb2.AgentInfo) -> None:
        super().__init__(cluster, AGENT)
        self.info = info
        self.session = 0

    @property
    def id(self) -> str:
        """Return its id."""
        return self.info.agent_id

    async def register(
        self, *tasks: agent_pb2.TaskReport, session: int | None = None, epoch: int = 0, is_new_line: bool = True
    ) -> None:
        """Send a registration on a new stream, with the next session."""
        if is_new_line and (self.line.number or self.line.end is not None):
            self.anew(AGENT)
        self.session = session if session is not None else self.session + 1
        await self.send(register(self.info, self.session, epoch, tasks))

    async def returns(self, *tasks: agent_pb2.TaskReport) -> Any:
        """Register with what it has, and be taken back."""
        await self.register(*tasks)
        return await self.admitted()

    async def admitted(self) -> Any:
        """Wait until the master takes it."""
        registered = await self.expect("registered")
        self.is_admitted = True
        self.cluster.silence_timeout_ms = registered.silence_timeout_ms
        return registered

    async def says(
        self,
        scheduler: PlayedScheduler,
        task_id: str,
        state: tasks_pb2.TaskState.ValueType = RUNNING,
        number: int = 1,
        **fields: Any,
    ) -> tasks_pb2.StatusUpdate:
        """Report what became of a task."""
        said = status(scheduler.id, task_id, self.id, state, number, **fields)
        await self.send(agent_pb2.AgentReport(update=said))
        return said

    def has(
        self,
        scheduler: PlayedScheduler,
        task_id: str,
        state: tasks_pb2.TaskState.ValueType = RUNNING,
        number: int = 1,
    ) -> agent_pb2.TaskReport:
        """Build what it says of a task when it registers."""
        return has(scheduler.id, scheduler.role, task_id, self.id, state, number)

    async def launched(self) -> list[str]:
        """Return the tasks of the next launch."""
        order = await self.expect("launch")
        return [task.task_id for task in order.tasks]

    async def state(self) -> str:
        """Return what an operator sees of it."""
        row = await self.row()
        return operator_pb2.AgentState.Name(row.state).removeprefix("AGENT_STATE_")

    async def row(self) -> operator_pb2.Agent:
        """Return what an operator sees of it."""
        listed = await self.cluster.ask(
            self.cluster.operator.ListAgents(operator_pb2.ListAgentsRequest(agent_ids=[self.id]))
        )
        [row] = listed.agents
        return row

    async def becomes(self, state: str, within_ms: float = 0) -> None:
        """Wait until an operator sees it in a state."""
        await self.cluster.until(lambda: self._is(state), f"{self.id} is {state}", within_ms)

    async def _is(self, state: str) -> bool:
        return await self.state() == state

    async def leaves(self) -> None:
        """Break the stream, and wait until the master knows."""
        await self.break_off()
        await self.becomes("DISCONNECTED")

    async def ask(self, number: int) -> None:
        """Report an end in a framework that nobody knows: such a report is acknowledged by the master itself."""
        nobody = f"nobody-{self.cluster.tag}"
        report = status(nobody, f"nothing-{number}", self.id, FINISHED, 1)
        await self.send(agent_pb2.AgentReport(update=report))
        await self.expect("acknowledge", lambda receipt: receipt.task_id == report.task_id)


class PlayedScheduler(End):
    """A framework's scheduler."""

    def __init__(self, cluster: Cluster, info: scheduler_pb2.FrameworkInfo) -> None:
        super().__init__(cluster, SCHEDULER)
        self.info = info
        self.session = 0

    @property
    def id(self) -> str:
        """Return its framework's id."""
        return self.info.framework_id

    @property
    def role(self) -> str:
        """Return its first role."""
        return self.info.roles[0]

    async def subscribe(
        self, suppressed: Iterable[str] = (), session: int | None = None, is_new_line: bool = True
    ) -> None:
        """Send a subscription on a new stream, with the next session."""
        if is_new_line and (self.line.number or self.line.end is not None):
            self.anew(SCHEDULER)
        self.session = session if session is not None else self.session + 1
        await self.send(subscribe(self.info, self.session, suppressed))

    async def returns(self, suppressed: Iterable[str] = ()) -> Any:
        """Subscribe, and be taken."""
        await self.subscribe(suppressed)
        return await self.admitted()

    async def admitted(self) -> Any:
        """Wait until the master takes it."""
        subscribed = await self.expect("subscribed")
        self.is_admitted = True
        self.info.framework_id = subscribed.framework_id
        self.cluster.note_framework(subscribed.framework_id)
        self.cluster.offer_timeout_ms = subscribed.offer_timeout_ms
        self.cluster.silence_timeout_ms = subscribed.silence_timeout_ms
        return subscribed

    async def offers(self, count: int = 1, within_ms: float = 0) -> list[scheduler_pb2.Offer]:
        """Return the next offers, which must come, in the order of their agents."""
        offers = [await self.expect("offer", within_ms=within_ms) for _ in range(count)]
        return sorted(offers, key=lambda offer: offer.agent_id)

    async def offer(self, within_ms: float = 0) -> scheduler_pb2.Offer:
        """Return the next offer, which must come."""
        [offer] = await self.offers(1, within_ms)
        return offer

    async def update(self, task_id: str, within_ms: float = 0) -> tasks_pb2.StatusUpdate:
        """Return the next update of a task, which must come."""
        update = await self.expect("update", lambda update: update.task_id == task_id, within_ms)
        assert isinstance(update, tasks_pb2.StatusUpdate)
        assert update.framework_id == self.id
        return update

    async def says_of(self, task_id: str, agent_id: str = "") -> tasks_pb2.StatusUpdate:
        """Reconcile one task and return the answer."""
        await self.send(reconcile((task_id, agent_id)))
        return await self.update(task_id)

    async def runs(self, *specs: tasks_pb2.TaskSpec, on: PlayedAgent) -> None:
        """Launch tasks on the next offer of an agent, and let it say that they run; the rest is offered again."""
        offer = await self.expect("offer", lambda offer: offer.agent_id == on.id)
        await self.send(accept(group(offer, launch(*specs))))
        await on.expect("launch")
        for spec in specs:
            await on.says(self, spec.task_id)
            await self.update(spec.task_id)

    async def row(self) -> operator_pb2.Framework:
        """Return what an operator sees of the framework."""
        request = operator_pb2.ListFrameworksRequest(framework_ids=[self.id], include_completed=True)
        [row] = (await self.cluster.ask(self.cluster.operator.ListFrameworks(request))).frameworks
        return row

    async def becomes(self, state: str, within_ms: float = 0) -> None:
        """Wait until an operator sees the framework in a state."""
        await self.cluster.until(lambda: self._is(state), f"{self.id} is {state}", within_ms)

    async def _is(self, state: str) -> bool:
        row = await self.row()
        return operator_pb2.FrameworkState.Name(row.state).removeprefix("FRAMEWORK_STATE_") == state

    async def leaves(self) -> None:
        """Break the stream, and wait until the master knows."""
        await self.break_off()
        await self.becomes("DISCONNECTED")

    async def ask(self, number: int) -> None:
        """Reconcile a task that nobody knows."""
        question = (f"nothing-{number}", f"nowhere-{self.cluster.tag}")
        await self.send(reconcile(question))
        await self.update(question[0])

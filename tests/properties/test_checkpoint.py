"""The agent's checkpoint on disk against the one in memory: after any changes a new process finds the same in both."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from runrig.ids import AgentId, FrameworkId, Role, TaskId
from runrig.tasks import Reason, RuntimeKind, Source, StatusUpdate, TaskState
from runrig_agent.checkpoint import Checkpoint
from runrig_agent.core import records
from runrig_agent.core.memory_checkpoint import MemoryCheckpoint
from runrig_agent.core.task import Ending, TaskKey
from tests.agent.core.given import container, process
from tests.properties.effort import searching

names = st.sampled_from(["t", "T/é"]).map(TaskId)
keys = st.tuples(st.sampled_from(["f", "g"]).map(FrameworkId), names)
numbers = st.integers(1, 5)
times = st.sampled_from([0.0, 0.1, 1_700_000_000.123, 1_700_000_000.5])
texts = st.sampled_from(["", "it ran for more than its 5 s", "é\n'\"\0\U0001f600"])
specs = st.sampled_from([process("t", ports=(31000, 31005), max_run_ms=5, kill_grace_ms=0), container("t")])
updates = st.builds(
    StatusUpdate,
    st.sampled_from(["f", "g"]).map(FrameworkId),
    names,
    st.just(AgentId("a1")),
    numbers,
    st.sampled_from(TaskState),
    st.sampled_from(Reason),
    st.sampled_from(Source),
    texts,
    st.sampled_from([0, 1_700_000_000_123]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, 0, 1, 137]),
    st.sampled_from(RuntimeKind),
    texts.map(lambda text: text.replace("\0", "")),
    st.sampled_from([0, 4242]),
    st.sampled_from(["", "10.0.0.1"]),
)
endings = st.builds(
    Ending,
    st.sampled_from([state for state in TaskState if state.is_terminal]),
    st.sampled_from(Reason),
    texts,
    times,
    times,
    st.none() | times,
    st.booleans(),
)
tasks = st.builds(
    records.TaskRecord, keys, texts, st.just(Role("eng/ads")), specs, st.sampled_from([(), (TaskId("t"),)]), times
)
changes = st.one_of(
    st.builds(records.PutLink, st.integers(0, 2**62), st.integers(0, 2**62)),
    st.builds(records.PutTask, tasks),
    st.builds(records.PutTask, tasks),
    st.builds(records.PutEnding, keys, endings),
    st.builds(records.PutUpdate, updates),
    st.builds(records.PutUpdate, updates),
    st.builds(records.DropUpdate, keys, numbers),
    st.builds(records.PutAcknowledged, keys, numbers, numbers),
    st.builds(records.PutTombstone, st.builds(records.Tombstone, keys, st.none(), times)),
    st.builds(
        records.PutTombstone,
        updates.map(lambda update: records.Tombstone((update.framework_id, update.task_id), update, 1.5)),
    ),
    st.builds(records.DropTombstones, st.lists(keys, max_size=3).map(tuple)),
)


class Kept(RuleBasedStateMachine):
    """Changes in any order, sensible or not, written singly and together, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.runner = asyncio.Runner()
        self.memory = MemoryCheckpoint()
        self.agent_id = self.open()

    def open(self) -> AgentId:
        self.checkpoint, opened = self.runner.run(Checkpoint.open(self.path))
        assert opened.saved == self.memory.saved()
        assert not opened.is_host_rebooted
        return opened.agent_id

    @rule(writes=st.lists(st.lists(changes, max_size=4), min_size=1, max_size=4))
    def changes_are_written(self, writes: list[list[records.Change]]) -> None:
        async def together() -> None:
            await asyncio.gather(*(self.checkpoint.write(tuple(each)) for each in writes))

        self.runner.run(together())
        for each in writes:
            self.memory.apply(each)

    @rule(key=keys, count=st.integers(0, 4), through=numbers, spec=specs)
    def a_task_lives(self, key: TaskKey, count: int, through: int, spec: object) -> None:
        """Do as the core does: a task, its updates, receipts, and a tombstone in the end."""
        task = records.TaskRecord(key, "tests", Role("eng"), process(key[1]), (), 7.5)
        said = [StatusUpdate(*key, AgentId("a1"), number, TaskState.TASK_RUNNING) for number in range(1, count + 1)]
        lived: list[records.Change] = [records.PutTask(task), *map(records.PutUpdate, said)]
        if count:
            lived.append(records.PutAcknowledged(key, min(through, count), min(through + 1, count)))
        if through > count:
            lived.append(records.PutTombstone(records.Tombstone(key, said[-1] if said else None, 9.5)))
        self.changes_are_written([lived])

    @rule()
    def the_agent_starts_anew(self) -> None:
        self.runner.run(self.checkpoint.close())
        assert self.open() == self.agent_id

    def teardown(self) -> None:
        with self.folder, self.runner:
            try:
                self.the_agent_starts_anew()
            finally:
                self.runner.run(self.checkpoint.close())


TestKept = Kept.TestCase
TestKept.settings = searching(examples=40, steps=20)

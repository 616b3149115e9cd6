"""Stores against a dict: both engines of the master's and of the SDK's keep what was committed, and nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runrig import store as sdk_store
from runrig.errors import Conflict, Superseded, Unavailable
from runrig_master import store as master_store
from runrig_master.store import Term
from tests.properties.effort import searching

T = TypeVar("T")

keys = st.sampled_from(["a", "a/", "a/1", "a/2", "a0", "b", "é", "é/1", "%", "a%", "a_", "a/\U0010ffff", "'", "a\0b"])
prefixes = st.sampled_from(["", "a", "a/", "é", "%", "_", "'", "a\0", "A", "zz"])
puts = st.dictionaries(keys, st.sampled_from([b"", b"1", b"\x00\xff", b"x" * 5_000]), max_size=3)
deletes = st.lists(keys, max_size=3)
NO_TEXT = "\ud800"
"""Half a character: SQLite cannot write it."""
commits = st.lists(st.tuples(puts, deletes), min_size=2, max_size=5)


class Entries(RuleBasedStateMachine):
    """Commits to one store, one after the other and many at a time, and reopenings."""

    is_durable: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.runner = asyncio.Runner()
        self.model: dict[str, bytes] = {}
        self.open()

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def expect(self, puts: Mapping[str, bytes], deletes: Iterable[str]) -> None:
        """Apply a commit to the model: of a key that is both put and deleted nothing is left."""
        self.model.update(puts)
        for key in deletes:
            self.model.pop(key, None)

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str]) -> Awaitable[None]:
        raise NotImplementedError

    def read(self, prefix: str) -> Awaitable[dict[str, bytes]]:
        raise NotImplementedError

    @rule(puts=puts, deletes=deletes)
    def somebody_commits(self, puts: dict[str, bytes], deletes: list[str]) -> None:
        self.run(self.commit(puts, deletes))
        self.expect(puts, deletes)

    @rule(commits=commits)
    def many_commit_at_once(self, commits: list[tuple[dict[str, bytes], list[str]]]) -> None:
        async def together() -> None:
            await asyncio.gather(*(self.commit(*each) for each in commits))

        self.run(together())
        for each in commits:
            self.expect(*each)

    @rule(puts=puts, deletes=deletes, prefix=prefixes)
    def what_is_asked_later_sees_what_was_asked_before(
        self, puts: dict[str, bytes], deletes: list[str], prefix: str
    ) -> None:
        async def together() -> dict[str, bytes]:
            _, found = await asyncio.gather(self.commit(puts, deletes), self.read(prefix))
            return found

        found = self.run(together())
        self.expect(puts, deletes)
        assert list(found.items()) == self.expected(prefix)

    @precondition(lambda self: self.is_durable)
    @rule(commits=commits, place=st.integers(0, 5))
    def one_of_many_cannot_be_written(self, commits: list[tuple[dict[str, bytes], list[str]]], place: int) -> None:
        """Let a commit fail in its midst: nothing of it is left, and all of the others is."""
        broken = self.commit({"a": b"broken", NO_TEXT: b""}, ["b"])
        asked = [self.commit(*each) for each in commits]
        asked.insert(place, broken)

        async def together() -> list[object]:
            return [*await asyncio.gather(*asked, return_exceptions=True)]

        outcome = self.run(together())
        for each in commits:
            self.expect(*each)
        assert isinstance(outcome.pop(min(place, len(commits))), UnicodeEncodeError)
        assert outcome == [None] * len(commits)

    @precondition(lambda self: self.is_durable)
    @rule()
    def the_process_starts_anew(self) -> None:
        with pytest.raises(Conflict):
            self.open()
        self.close()
        with pytest.raises(Unavailable):
            self.run(self.read(""))
        self.open()

    @rule(prefix=prefixes)
    def somebody_reads(self, prefix: str) -> None:
        assert list(self.run(self.read(prefix)).items()) == self.expected(prefix)

    def expected(self, prefix: str) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self.model.items() if key.startswith(prefix))

    @invariant()
    def what_was_committed_is_there(self) -> None:
        assert list(self.run(self.read("")).items()) == sorted(self.model.items())

    def teardown(self) -> None:
        with self.folder, self.runner:
            self.close()


class SdkMemory(Entries):
    """A framework's store that may forget."""

    is_durable = False
    store: sdk_store.Store

    def open(self) -> None:
        self.store = sdk_store.MemoryStore()

    def close(self) -> None:
        self.run(self.store.close())

    def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str]) -> Awaitable[None]:
        return self.store.commit(puts, deletes)

    def read(self, prefix: str) -> Awaitable[dict[str, bytes]]:
        return self.store.read(prefix)


class SdkSqlite(SdkMemory):
    """A framework's store on disk."""

    is_durable = True

    def open(self) -> None:
        self.store = sdk_store.SqliteStore(self.path)


class MasterMemory(Entries):
    """A master's store that may forget: leaderships come and go, and those that are over write nothing."""

    is_durable = False
    store: master_store.Store

    def __init__(self) -> None:
        super().__init__()
        self.term = self.run(self.store.campaign())
        self.over = [Term(0), Term(self.term.epoch + 1)]
        """Leaderships that have ended, and one that was never begun."""

    def open(self) -> None:
        self.store = master_store.open_store("memory:")

    def close(self) -> None:
        self.store.close()

    def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str]) -> Awaitable[None]:
        return self.store.commit(puts, deletes, self.term)

    def read(self, prefix: str) -> Awaitable[dict[str, bytes]]:
        return self.store.read(prefix)

    @rule()
    def another_master_leads(self) -> None:
        self.over = [*self.over[:-1], self.term]
        term = self.run(self.store.campaign())
        assert term.epoch == self.term.epoch + 1
        self.term = term
        self.over.append(Term(term.epoch + 1))

    @rule(puts=puts, deletes=deletes, which=st.integers(0, 100))
    def one_that_does_not_lead_commits(self, puts: dict[str, bytes], deletes: list[str], which: int) -> None:
        with pytest.raises(Superseded):
            self.run(self.store.commit(puts, deletes, self.over[which % len(self.over)]))

    @rule(commits=commits, place=st.integers(0, 5))
    def another_leads_while_many_commit(self, commits: list[tuple[dict[str, bytes], list[str]]], place: int) -> None:
        """Let what was asked before the new leadership stand; what comes after is refused, each by itself."""
        old, before, after = self.term, commits[:place], commits[place:]

        async def together() -> list[object]:
            asked: list[Awaitable[object]] = [self.store.commit(*each, old) for each in before]
            asked.append(self.store.campaign())
            asked.extend(self.store.commit(*each, old) for each in after)
            return await asyncio.gather(*asked, return_exceptions=True)

        outcome = self.run(together())
        assert outcome[: len(before)] == [None] * len(before)
        assert all(isinstance(error, Superseded) for error in outcome[len(before) + 1 :])
        for each in before:
            self.expect(*each)
        term = outcome[len(before)]
        assert term == Term(old.epoch + 1)
        self.term = Term(old.epoch + 1)
        self.over = [*self.over[:-1], old, Term(old.epoch + 2)]


class MasterSqlite(MasterMemory):
    """A master's store on disk."""

    is_durable = True

    def open(self) -> None:
        self.store = master_store.open_store(f"sqlite://{self.path}")


TestSdkMemory = SdkMemory.TestCase
TestSdkSqlite = SdkSqlite.TestCase
TestMasterMemory = MasterMemory.TestCase
TestMasterSqlite = MasterSqlite.TestCase
TestSdkMemory.settings = TestMasterMemory.settings = searching(examples=30, steps=30)
TestSdkSqlite.settings = TestMasterSqlite.settings = searching(examples=30, steps=30)

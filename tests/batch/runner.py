"""The batch framework in one process: its real mind and API, on `Cluster` and scripted sandboxes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from runrig.errors import NotFound, Unavailable
from runrig.ids import FrameworkId, Role, TaskId
from runrig.wants import Answer
from runrig_batch.api import app
from runrig_batch.core.limits import Limits
from runrig_batch.logs import Logs
from runrig_batch.mind import Stream, Wanted
from runrig_batch.outputs import OutputFiles
from runrig_batch.settings import ApiSettings, OutputSettings, Settings
from tests.batch.cluster import Cluster


class ClusterMind:
    """Answers what the mind answers; what it keeps waiting is answered when the test moves the cluster on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.is_connected = True
        self.framework_id = FrameworkId("fw")
        self.declines: dict[str, int] = {}
        self._waiting: dict[int, asyncio.Future[object]] = {}
        cluster.on_answer = self._answered

    async def ask(self, question: object) -> object:
        """Return the answer's value, or raise it."""
        future = self._waiting[id(question)] = asyncio.get_running_loop().create_future()
        self.cluster.tell(question)
        value = await future
        if isinstance(value, BaseException):
            raise value
        return value

    def tell(self, event: object) -> None:
        """Hand an event over."""
        self.cluster.tell(event)

    def _answered(self, answer: Answer) -> None:
        future = self._waiting.pop(id(answer.question), None)
        if future is not None and not future.done():
            future.set_result(answer.value)


@dataclass
class ScriptedSandboxes:
    """What tasks have written so far; a follower is served until `end`."""

    written: dict[str, list[tuple[Stream, bytes]]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)
    is_down: bool = False
    is_wiped: bool = False
    reads: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(
        self, address: str, task_id: TaskId, wanted: Wanted, *, follow: bool
    ) -> AsyncGenerator[tuple[Stream, bytes], None]:
        """Yield what is there; with `follow` what comes, until the task ends or the agent goes down."""
        self.reads.append(task_id)
        place = 0
        while True:
            if self.is_wiped:
                raise NotFound("task", task_id)
            if self.is_down:
                raise Unavailable(f"{address} does not answer")
            for stream, data in self.written[task_id][place:]:
                place += 1
                if wanted in (stream, "both"):
                    yield stream, data
            if not follow or task_id in self.ended:
                return
            self.news = asyncio.Event()
            await self.news.wait()

    def write(self, task_id: str, data: bytes, stream: Stream = "stdout") -> None:
        """Have a task write something."""
        self.written[task_id].append((stream, data))
        self.news.set()

    def end(self, task_id: str) -> None:
        """End a task's output."""
        self.ended.add(task_id)
        self.news.set()

    def go_down(self) -> None:
        """Break off, and answer nobody."""
        self.is_down = True
        self.news.set()


class Runner:
    """All of it; `http` talks to the API."""

    def __init__(self, data_dir: Path, limits: Limits | None = None, api: ApiSettings | None = None) -> None:
        self.settings = Settings(
            data_dir,
            limits=limits or Limits(roles=(Role("batch"), Role("eng/ads"))),
            api=api or ApiSettings(follow_retry_s=0.001, max_body_bytes=100_000),
            outputs=OutputSettings(first_retry_s=0.001, last_retry_s=0.002, max_stream_bytes=1000),
        )
        self.cluster = Cluster(self.settings.limits)
        self.mind = ClusterMind(self.cluster)
        self.sandboxes = ScriptedSandboxes()
        self.files = OutputFiles(data_dir)
        logs = Logs(self.mind, self.sandboxes, self.files, self.settings.api)
        self.app = app(self.mind, logs, self.settings)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090")

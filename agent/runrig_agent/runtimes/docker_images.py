"""Images: brought when they are missing, once for all who wait for the same one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from docker.utils import parse_repository_tag

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_engine import Api, Engine
from runrig_agent.runtimes.docker_errors import image_unavailable, launch_failed
from runrig_agent.runtimes.docker_streams import EngineAnswer

Progress = Callable[[str], None]

PROGRESS_INTERVAL_S = 1.0


class _Pull:
    """One pull and those who are told how it goes."""

    def __init__(self) -> None:
        self.listeners: list[Progress] = []
        self.task: asyncio.Task[None] | None = None

    def tell(self, text: str) -> None:
        for listener in self.listeners:
            listener(text)


class Images:
    """Makes sure that images are there. `at_once` bounds the pulls."""

    def __init__(self, engine: Engine, at_once: int) -> None:
        self._engine = engine
        self._slots = asyncio.Semaphore(at_once)
        self._pulls: dict[str, _Pull] = {}

    async def ensure(self, image: str, must_pull: bool, progress: Progress) -> None:
        """Pull `image` when it is missing, or anyway; raises LaunchFailed."""
        if not must_pull and await self._is_here(image):
            return
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = _Pull()
            pull.task = asyncio.create_task(self._pull(image, pull))
        pull.listeners.append(progress)
        assert pull.task is not None
        await asyncio.shield(pull.task)

    async def _is_here(self, image: str) -> bool:
        try:
            await self._engine.ask(lambda api: api.inspect_image(image))
        except EngineAnswer as answer:
            if answer.status == 404:
                return False
            raise launch_failed(answer) from answer
        except Unavailable as error:
            raise launch_failed(error) from error
        return True

    async def _pull(self, image: str, pull: _Pull) -> None:
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(pull.tell, text)

        try:
            async with self._slots:
                pull.tell(f"pulling {image}")
                await self._engine.pull(lambda api: _pull(api, image, tell))
        except EngineAnswer as answer:
            raise image_unavailable(image, answer) from answer
        except Unavailable as error:
            raise launch_failed(error) from error
        finally:
            del self._pulls[image]


def _pull(api: Api, image: str, progress: Progress) -> None:
    """Pull in a thread; raises EngineAnswer when the engine gives up half-way."""
    name, tag = _split(image)
    layers: dict[str, tuple[int, int]] = {}
    last = time.monotonic()
    for line in api.pull(name, tag=tag, stream=True, decode=True):
        if "error" in line:
            raise EngineAnswer(500, str(line["error"]))
        detail = line.get("progressDetail") or {}
        if "id" in line and "total" in detail:
            layers[line["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
        if layers and time.monotonic() - last > PROGRESS_INTERVAL_S:
            last = time.monotonic()
            done, total = (sum(sizes) >> 20 for sizes in zip(*layers.values(), strict=True))
            progress(f"pulling {image}: {done} of {total} MiB, {len(layers)} layers")


def _split(image: str) -> tuple[str, str | None]:
    """Separate the tag: without one, and without digest, the engine would pull them all."""
    name, tag = parse_repository_tag(image)
    return name, tag or "latest"

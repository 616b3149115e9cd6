"""Calls of the engine: the docker SDK, which blocks, in bounded threads."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import docker
import docker.errors
import requests.exceptions
from docker.utils import kwargs_from_env

from runrig.errors import Unavailable
from runrig_agent.runtimes.docker_settings import DockerSettings
from runrig_agent.runtimes.docker_streams import Endpoint, EngineAnswer

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"

T = TypeVar("T")
Api: TypeAlias = Any
"""The SDK's APIClient, of which the stubs know only half."""


class Engine:
    """One engine. Two pools of threads and connections: a call that takes long never blocks one that asks."""

    def __init__(self, settings: DockerSettings) -> None:
        self.address = settings.address or os.environ.get("DOCKER_HOST") or DEFAULT_ADDRESS
        self._settings = settings
        self._asking: Api = None
        self._changing: Api = None
        self._ask_threads = ThreadPoolExecutor(settings.calls_at_once, "docker-ask")
        self._change_threads = ThreadPoolExecutor(settings.calls_at_once, "docker-change")
        self._pull_threads = ThreadPoolExecutor(settings.pulls_at_once, "docker-pull")
        self._endpoint: Endpoint | None = None

    @property
    def is_local(self) -> bool:
        """Say whether its containers are processes of this host."""
        return self.address.startswith("unix:")

    @property
    def endpoint(self) -> Endpoint:
        """Where long answers are asked for; raises Unavailable before the first `connect`."""
        if self._endpoint is None:
            raise Unavailable(f"the Docker engine at {self.address} was not reached yet")
        return self._endpoint

    async def connect(self) -> Endpoint:
        """Agree on a version of the API, with fresh connections; raises Unavailable, EngineAnswer."""
        settings = self._settings
        asking = await self._run(self._ask_threads, lambda: self._client(settings.connect_timeout_s))
        self.disconnect()
        asking.timeout = settings.inspect_timeout_s
        version = str(asking.api_version)
        self._asking = asking
        self._changing = await self._run(self._ask_threads, lambda: self._client(settings.call_timeout_s, version))
        self._endpoint = Endpoint(self.address, version)
        return self._endpoint

    async def ask(self, call: Callable[[Api], T]) -> T:
        """Make a call that only asks; raises Unavailable, EngineAnswer."""
        return await self._call(self._asking, self._ask_threads, call)

    async def change(self, call: Callable[[Api], T]) -> T:
        """Make a call that changes something; raises Unavailable, EngineAnswer."""
        return await self._call(self._changing, self._change_threads, call)

    async def pull(self, call: Callable[[Api], T]) -> T:
        """Make a call that goes on for as long as something is heard; raises Unavailable, EngineAnswer."""
        version = self.endpoint.version

        def with_own_client() -> T:
            client = self._client(self._settings.pull_quiet_s, version)
            with contextlib.closing(client):
                return call(client)

        return await self._run(self._pull_threads, with_own_client)

    def disconnect(self) -> None:
        """Drop the connections; calls fail until the next `connect`."""
        for client in (self._asking, self._changing):
            if client is not None:
                client.close()
        self._asking = self._changing = None

    def close(self) -> None:
        """Let go of everything; calls that hang are left to their timeouts."""
        self.disconnect()
        for threads in (self._ask_threads, self._change_threads, self._pull_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    def _client(self, timeout_s: float, version: str = "auto") -> Api:
        tls = None
        if os.environ.get("DOCKER_TLS_VERIFY") and not self.is_local:
            tls = kwargs_from_env().get("tls")
        return docker.APIClient(
            base_url=self.address,
            version=version,
            timeout=math.ceil(timeout_s),
            tls=tls or False,
            max_pool_size=self._settings.calls_at_once,
        )

    async def _call(self, client: Api, threads: ThreadPoolExecutor, call: Callable[[Api], T]) -> T:
        if client is None:
            raise Unavailable(f"the Docker engine at {self.address} is not connected")
        return await self._run(threads, lambda: call(client))

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, call)
        except docker.errors.APIError as error:
            status = error.response.status_code if error.response is not None else 500
            raise EngineAnswer(status, str(error.explanation or error)) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise Unavailable(f"the Docker engine at {self.address} does not answer: {error}") from error

"""The process of the service framework: the core on the SDK's engine, and the REST API beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from runrig.framework import Framework
from runrig.serving import listening, serve_beside
from runrig.store import SqliteStore
from runrig_service.api import build_api
from runrig_service.core.service import Service
from runrig_service.settings import Settings, checked


async def run_service(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, or until a part fails; `on_listening` is told the API's URL.

    Instances run on: the next process with the same data directory takes them up. Raises InvalidInput for settings,
    Conflict where another process has the directory open or listens at the port, and as the SDK does.
    """
    checked(settings)
    with listening("the service API", settings.api.address) as listener:
        settings = replace(settings, api=replace(settings.api, port=listener.getsockname()[1]))
        framework = Framework(
            name=settings.name,
            roles=settings.roles,
            logic=Service(settings.limits, settings.policy),
            store=SqliteStore(settings.data_dir / "state.db"),
            master=settings.master,
            failover_timeout_ms=settings.failover_timeout_ms,
            web_url=settings.api.url,
        )
        on_listening(settings.api.url)
        api = build_api(framework, settings)
        await serve_beside({"framework": framework.run()}, api, listener, settings.api.max_requests)

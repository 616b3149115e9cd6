"""The process of the batch framework: the mind on the SDK's engine, the REST API, the collector of output."""

from __future__ import annotations

from collections.abc import Callable

from runrig.framework import Framework
from runrig.serving import listening, serve_beside, url_of
from runrig.store import SqliteStore
from runrig_batch.api import app
from runrig_batch.collector import Collector
from runrig_batch.core.batch import Batch
from runrig_batch.logs import Logs
from runrig_batch.outputs import OutputFiles
from runrig_batch.sandboxes import AgentSandboxes
from runrig_batch.settings import Settings, checked


async def serve(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, or until a part fails; `on_listening` is told the API's URL.

    Tasks run on: the next process with the same data directory takes them up.
    """
    checked(settings)
    with listening("the batch API", settings.api.address) as listener:
        framework = Framework(
            name=settings.name,
            roles=settings.roles,
            logic=Batch(settings.limits),
            store=SqliteStore(settings.data_dir / "state.db"),
            master=settings.master,
            failover_timeout_ms=settings.failover_timeout_ms,
            web_url=url_of(listener),
        )
        sandboxes = AgentSandboxes(lambda: framework.framework_id)
        files = OutputFiles(settings.data_dir)
        api = app(framework, Logs(framework, sandboxes, files, settings.api), settings)
        collector = Collector(framework, sandboxes, files, settings.outputs)
        on_listening(url_of(listener))
        try:
            parts = {"framework": framework.run(), "collector": collector.run()}
            await serve_beside(parts, api, listener, settings.api.max_requests)
        finally:
            await sandboxes.close()

"""What a task writes, its files, and commands inside it: a client of its agent's SandboxService.

    async with Sandbox("h1:5051") as sandbox:
        async for stream, data in sandbox.read_logs(framework_id, task_id, follow=True):
            ...

The agent's address is that of the task in `runrig tasks show`, or of the offer that the task was launched on.
It works for ended tasks too, as long as the agent keeps their sandboxes.
"""

from __future__ import annotations

from runrig._grpc_sandbox import Sandbox, SandboxFile, Session, Stream

__all__ = ["Sandbox", "SandboxFile", "Session", "Stream"]

"""What the engine's complaints mean: by their words, for it has no codes."""

from __future__ import annotations

import re

from runrig.errors import Unavailable
from runrig.tasks import Reason
from runrig_agent.runtime import LaunchFailed
from runrig_agent.runtimes.docker_streams import EngineAnswer

_FAULT_OF_TASK = True
_FAULT_OF_HOST = False

_MEANINGS: tuple[tuple[str, Reason, bool, str], ...] = (
    (
        r"port is already allocated|address already in use|failed to bind|Bind for ",
        Reason.PORT_IN_USE,
        _FAULT_OF_HOST,
        "a port is in use by something else on the agent",
    ),
    (
        r"unable to find user|no matching entries in passwd|unable to find group|no matching entries in group",
        Reason.USER_UNKNOWN,
        _FAULT_OF_TASK,
        "the image does not know the user; name one of its users, or give a uid",
    ),
    (r"no space left on device|disk quota exceeded", Reason.DISK_FULL, _FAULT_OF_HOST, "the agent's disk is full"),
    (
        r"executable file not found|exec format error|exec: .*(no such file|permission denied)",
        Reason.START_FAILED,
        _FAULT_OF_TASK,
        "the command is not in the image, or cannot be executed",
    ),
    (
        r"bind source path does not exist|invalid mount config",
        Reason.VOLUME_REFUSED,
        _FAULT_OF_TASK,
        "a volume's directory does not exist on the agent",
    ),
    (r"invalid reference format", Reason.INVALID_TASK, _FAULT_OF_TASK, "container.image is not the name of an image"),
    (r"network .* not found", Reason.START_FAILED, _FAULT_OF_TASK, "the agent's engine has no such network"),
)


def launch_failed(error: EngineAnswer | Unavailable) -> LaunchFailed:
    """Return the reason why a container could not be created or started."""
    text = _shortened(str(error))
    if isinstance(error, Unavailable):
        return LaunchFailed(Reason.RUNTIME_UNAVAILABLE, text)
    for pattern, reason, is_task_fault, meaning in _MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return LaunchFailed(reason, f"{meaning}: {text}", is_task_fault)
    is_task_fault = error.status == 400  # the engine found the description wrong
    return LaunchFailed(Reason.START_FAILED, f"the engine refused: {text}", is_task_fault)


def image_unavailable(image: str, error: object) -> LaunchFailed:
    """Return the reason for an image that is not there and could not be pulled."""
    text = _shortened(str(error))
    return LaunchFailed(
        Reason.IMAGE_UNAVAILABLE,
        f"image {image!r} is not on this agent and could not be pulled: {text}; check its name and `docker login` "
        "on the agent, or bring it there with `docker load`",
    )


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:497]}..."

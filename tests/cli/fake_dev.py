"""`runrig dev` over fake parts: fake_dev.py DIR [restart|no-restart|endless] [master|agent]=PORT[:MANNER]..."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from runrig.cli.cluster import ClusterFile, Kind, Part, only_supervisor
from runrig.cli.foreground import Acts, Foreground
from runrig.cli.supervisor import SupervisorSettings

PROGRAM = str(Path(__file__).with_name("fake_part.py"))


def part(name: str, port: int, manner: str = "") -> Part:
    kind = name.split("-", maxsplit=1)[0]
    command = (sys.executable, PROGRAM, str(port), *([manner] if manner and manner != "contained" else []))
    process: tuple[str, ...] = ()
    if manner == "contained":  # another process starts it and waits for it, as `docker exec` does
        command, process = ("sh", "-c", 'trap "" TERM; "$@"; exit 137', "sh", *command), command
    http = f"http://127.0.0.1:{port}"
    return Part(name, cast("Kind", kind), command, (("FAKE", "1"),), "", http, f"{http}/readyz", process)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def settled() -> None:
    say("settled")


async def never() -> None:
    say("tasks do not end")
    await asyncio.Event().wait()


async def end_tasks() -> None:
    say("tasks ended")


def main() -> None:
    directory, mode, *words = sys.argv[1:]
    file = ClusterFile(Path(directory))
    (file.directory / "logs").mkdir(parents=True, exist_ok=True)
    parts = []
    for word in words:
        name, _, rest = word.partition("=")
        port, _, manner = rest.partition(":")
        parts.append(part(name, int(port), manner))
    settings = SupervisorSettings(
        restarts=mode != "no-restart", first_delay_s=0.05, longest_delay_s=0.2, stop_s=0.5, ready_s=20
    )
    with only_supervisor(file.directory):
        foreground = Foreground(parts, file.survivors(), file, settings, say)
        asyncio.run(foreground.run(Acts(settled, lambda: say("announced"), never if mode == "endless" else end_tasks)))


if __name__ == "__main__":
    main()

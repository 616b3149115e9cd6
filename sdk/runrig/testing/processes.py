"""A real cluster for integration tests.

`runrig dev` in a directory of its own, whose parts can be killed and started again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

START_TIMEOUT_S = 60.0
POLL_S = 0.05


class RealCluster:
    """What runs in `directory`; the parts are those of its cluster.json."""

    def __init__(self, directory: Path, supervisor: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.supervisor = supervisor
        self._restarted: dict[str, subprocess.Popen[bytes]] = {}
        self.parts: dict[str, dict[str, Any]] = {part["name"]: part for part in self._content()["parts"]}

    @property
    def master(self) -> str:
        """Return the master's gRPC address."""
        return str(self.parts["master"]["grpc"])

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which `runrig` finds this cluster."""
        content = self._content()
        found = {f"RUNRIG_{kind.upper()}": content[kind] for kind in ("master", "service", "batch")}
        return {**os.environ, **{name: str(value) for name, value in found.items() if value}}

    def pid(self, name: str) -> int:
        """Return the process of a part."""
        restarted = self._restarted.get(name)
        return restarted.pid if restarted is not None else int(self.parts[name]["pid"])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a part; with SIGKILL wait until it is gone."""
        pid = self.pid(name)
        os.kill(pid, number)
        if number is signal.SIGKILL:
            restarted = self._restarted.pop(name, None)
            if restarted is not None:
                restarted.wait()
            else:
                until(lambda: not _runs(pid), f"{name} (pid {pid}) has gone")

    def start(self, name: str) -> None:
        """Start a killed part again, with the very command that cluster.json records for it."""
        part = self.parts[name]
        with (self.directory / "logs" / f"{name}.log").open("ab") as log:
            self._restarted[name] = subprocess.Popen(
                part["command"],
                env={**os.environ, **part["env"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def runrig(self, *words: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of `runrig` against this cluster; fail if it fails, unless `check` is false."""
        done = self._run(words, self.environment, timeout_s)
        return _succeeded(done) if check else done

    def json(self, *words: str) -> Any:
        """Return what a command of `runrig` says in JSON."""
        return json.loads(_succeeded(self._run(words, {**self.environment, "RUNRIG_OUTPUT": "json"})).stdout)

    def _run(
        self, words: Sequence[str], env: Mapping[str, str], timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runrig", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)

    def log(self, name: str) -> str:
        """Return what a part has said."""
        return (self.directory / "logs" / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End everything: the tasks, then the parts."""
        self.supervisor.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.supervisor.wait(30)
        for process in self._restarted.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.supervisor.poll() is None:
            self.supervisor.kill()
            self.supervisor.wait()

    def _content(self) -> dict[str, Any]:
        content = json.loads((self.directory / "cluster.json").read_text())
        assert isinstance(content, dict)
        return content


@contextmanager
def real_cluster(directory: Path, *options: str) -> Iterator[RealCluster]:
    """Run `runrig dev --ports auto --data-dir directory OPTIONS` while the block runs."""
    command = [sys.executable, "-m", "runrig", "dev", "--ports", "auto", "--data-dir", str(directory), *options]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "dev.log").open("wb") as log:
        supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: _is_ready(directory, supervisor), "the cluster is ready", START_TIMEOUT_S)
        cluster = RealCluster(directory, supervisor)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise
    try:
        yield cluster
    finally:
        cluster.stop()


def until(condition: Callable[[], T], what: str, within_s: float = 30.0) -> T:
    """Wait until `condition()` is true and return it; fail, saying `what`, when it is not within `within_s`.

    An AssertionError that it raises (a command that failed) means not yet, and is told at the end.
    """
    end = time.monotonic() + within_s
    while True:
        why: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            why = error
        else:
            if value:
                return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:g} s: {what}") from why
        time.sleep(POLL_S)


def _succeeded(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(done.args[2:])}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def _is_ready(directory: Path, supervisor: subprocess.Popen[bytes]) -> bool:
    if supervisor.poll() is not None:
        text = (directory / "dev.log").read_text(errors="replace")
        raise AssertionError(f"runrig dev ended with {supervisor.returncode}:\n{text}")
    try:
        return bool(json.loads((directory / "cluster.json").read_text())["state"] == "ready")
    except (FileNotFoundError, ValueError):
        return False


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

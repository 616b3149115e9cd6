"""`runrig dev` as far as it goes without a cluster; tests/cli/test_cluster.py runs whole ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runrig.cli import plan
from runrig.cli.cluster import only_supervisor
from tests.cli.conftest import Runrig


def test_ports_in_use_are_reported_by_name_and_leave_nothing_behind(
    runrig: Runrig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(plan, "SERVICE", port)

        result = runrig("dev", "--agents", "1")

    assert result.exit_code == 5
    assert f"port {port} for service" in result.stderr
    assert "use --ports auto" in result.stderr
    assert list(tmp_path.glob("runrig-dev-*")) == []


def test_a_directory_in_use_is_refused_with_the_pid(runrig: Runrig, tmp_path: Path) -> None:
    with only_supervisor(tmp_path):
        result = runrig("dev", "--data-dir", str(tmp_path))

    assert result.exit_code == 5
    assert f"`runrig dev` (pid {os.getpid()}) runs the cluster in {tmp_path}" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--agents", "65"),
        ("--agents", "-1"),
        ("--runtime", "lxc"),
        ("--ports", "8080"),
        ("--resources", "cpus:many"),
        ("--hosts", "0"),
        ("--hosts", "2", "--agents", "2"),
    ],
)
def test_wrong_options_are_wrong_usage(runrig: Runrig, tmp_path: Path, words: tuple[str, ...]) -> None:
    result = runrig("dev", "--ports", "auto", "--data-dir", str(tmp_path), *words)

    assert result.exit_code == 2
    assert words[-2] in result.stderr


def test_help_has_examples(runrig: Runrig) -> None:
    assert "runrig dev --agents 3" in runrig("dev", "--help").stdout

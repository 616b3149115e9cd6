"""The import contracts of pyproject.toml: each catches what it is there for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import ROOT, SDK, pyproject

# The public modules of the SDK that may act. All others are vocabulary, and pure.
ACTING = {"cli", "framework", "logs", "sandbox", "serving", "store", "testing", "v1"}

INNOCENT = {
    "runrig/__init__.py": "from runrig.framework import run",
    "runrig/resources.py": "import dataclasses",
    "runrig/framework.py": "import asyncio, runrig.resources, runrig._wire_tasks, runrig._grpc_session",
    "runrig/wants.py": "import runrig.resources",
    "runrig/_wire_tasks.py": "import runrig.v1.tasks_pb2",
    "runrig/_grpc_session.py": "import grpc, runrig.v1.tasks_pb2",
    "runrig/v1/__init__.py": "",
    "runrig/v1/tasks_pb2.py": "import google.protobuf",
    "runrig/testing/__init__.py": "import runrig, runrig_master.core, runrig_agent.core.tasks",
    "runrig/cli/__init__.py": "import click",
    "runrig_master/__init__.py": "",
    "runrig_master/__main__.py": "import runrig_master.cli",
    "runrig_master/cli.py": "import runrig.cli, runrig_master.loop",
    "runrig_master/loop.py": "import runrig_master.core, runrig_master.grpc_operator",
    "runrig_master/grpc_operator.py": "import runrig._wire_tasks, runrig.v1.tasks_pb2",
    "runrig_master/core/__init__.py": "import runrig.resources, runrig_master.core.offers",
    "runrig_master/core/offers.py": "import dataclasses, enum, bisect",
    "runrig_agent/__init__.py": "",
    "runrig_agent/core/__init__.py": "",
    "runrig_agent/core/tasks.py": "",
    "runrig_agent/runtimes/__init__.py": "",
    "runrig_agent/runtimes/docker_engine.py": "import docker",
    "runrig_service/__init__.py": "",
    "runrig_service/cli/__init__.py": "import runrig.cli, runrig_service.scheduler",
    "runrig_service/scheduler.py": "import runrig, runrig.wants, runrig_service.core",
    "runrig_service/core/__init__.py": "import runrig.resources",
    "runrig_batch/__init__.py": "",
    "runrig_batch/core/__init__.py": "",
}

OFFENCES = [
    ("siblings", "runrig_service/scheduler.py", "import runrig_batch.core"),
    ("siblings", "runrig_master/loop.py", "import runrig_agent.core"),
    ("siblings", "runrig/framework.py", "import runrig_master.core"),
    ("cores-at-the-bottom", "runrig_master/core/offers.py", "from runrig_master import loop"),
    ("cores-at-the-bottom", "runrig_service/core/__init__.py", "import runrig_service.scheduler"),
    ("clis-on-top", "runrig_master/loop.py", "import runrig_master.cli"),
    ("trunk-on-top", "runrig/framework.py", "import runrig.cli"),
    ("pure", "runrig_master/core/offers.py", "import time"),
    ("pure", "runrig_agent/core/tasks.py", "from google.protobuf import message"),
    ("pure", "runrig_batch/core/__init__.py", "def later():\n    import random"),
    ("pure", "runrig/resources.py", "import os.path"),
    ("pure", "runrig_service/core/__init__.py", "import runrig"),
    ("author-api", "runrig_agent/__init__.py", "import runrig.wants"),
    ("author-api", "runrig_master/loop.py", "from runrig import run"),
    ("public-sdk", "runrig_batch/__init__.py", "import runrig._wire_tasks"),
    ("public-sdk", "runrig_service/scheduler.py", "from runrig import _grpc_session"),
    ("docker", "runrig_agent/runtimes/__init__.py", "import docker"),
    ("docker", "runrig_service/scheduler.py", "import docker.errors"),
    ("stubs", "runrig/framework.py", "from runrig.v1 import tasks_pb2"),
    ("stubs", "runrig_master/loop.py", "import runrig.v1.tasks_pb2"),
    ("testing", "runrig/framework.py", "import runrig.testing"),
    ("testing", "runrig_master/loop.py", "import runrig.testing"),
]


def test_the_rules_allow_what_they_should(tmp_path: Path) -> None:
    write(tmp_path, INNOCENT)

    verdict = lint(tmp_path)

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("contract, file, line", OFFENCES)
def test_an_offence_is_caught(tmp_path: Path, contract: str, file: str, line: str) -> None:
    write(tmp_path, {**INNOCENT, file: f"{INNOCENT[file]}\n{line}"})

    verdict = lint(tmp_path, contract)

    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert "0 kept, 1 broken" in verdict.stdout


def test_every_contract_is_shown_to_catch_something() -> None:
    assert {contract for contract, _, _ in OFFENCES} == {each["id"] for each in contracts()}


def test_a_public_module_of_the_sdk_is_pure_unless_it_is_known_to_act() -> None:
    [pure] = [each for each in contracts() if each["id"] == "pure"]
    found = {path.stem for path in SDK.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    public = {f"runrig.{name}" for name in found - ACTING if not name.startswith("_")}

    assert public - set(pure["modules"]) == set(), "name them in the contract `pure`, or in ACTING above"


def contracts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyproject()["tool"]["importlinter"]["contracts"]
    return found


def write(folder: Path, modules: dict[str, str]) -> None:
    """Make a small project: the modules, and the real rules."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests/house", folder / "tests/house", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests/__init__.py").touch()
    for name, text in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def lint(folder: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    only = ["--contract", contract] if contract else []
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache", *only],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import click
import grpc
import pytest
from click.testing import CliRunner

from runrig.cli import main as trunk
from runrig.cli.failures import EXIT_CODES, failure_of
from runrig.cli.main import TWIGS, Trunk, main
from runrig.errors import Conflict, InvalidInput, NotFound, RunrigError, TimedOut, Unavailable
from tests.cli.conftest import Runrig


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "details")


HEAVY = ("grpc", "google", "httpx", "rich", "docker", "runrig_master", "runrig_agent", "runrig_service")


BARE = """
import importlib.util, sys, types
sdk = types.ModuleType("runrig")
sdk.__path__ = importlib.util.find_spec("runrig").submodule_search_locations
sys.modules["runrig"] = sdk  # what authors import is left out: this is about the trunk
"""


def test_the_trunk_imports_nothing_heavy_for_help() -> None:
    program = (
        f"{BARE}\nfrom runrig.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr.split() == []
    assert "Usage:" in done.stdout


def test_help_lists_every_command_and_exit_code(runrig: Runrig) -> None:
    text = runrig("--help").stdout

    for name in TWIGS:
        assert f"\n  {name} " in text
    for code, meaning in EXIT_CODES:
        assert f"\n  {code} " in text
        assert meaning in text


def leaves(command: click.Command, words: tuple[str, ...] = ("runrig",)) -> Iterator[tuple[str, str]]:
    """Yield each command that does something, with its help."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from leaves(inner, (*words, name))
    else:
        yield " ".join(words), command.get_help(click.Context(command, info_name=" ".join(words)))


def test_the_help_of_every_command_has_an_example_and_none_is_mangled() -> None:
    helps = dict(leaves(main))

    assert {"runrig master", "runrig exec", "runrig batch wait", "runrig tasks show"} <= helps.keys()
    assert [name for name, text in helps.items() if name not in text.partition("\n")[2]] == []
    assert [name for name, text in helps.items() if "\b" in text or "\\b" in text] == []


def test_a_command_whose_package_is_missing_says_how_to_install_it(
    runrig: Runrig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunk, "entry_points", lambda **_: ())

    result = runrig("master", "--help")

    assert result.exit_code == 2
    assert result.stderr == ("runrig: `runrig master` is not installed; install it: pip install 'runrig[master]'\n")


def test_a_command_that_lacks_a_library_names_it_and_the_extra(runrig: Runrig, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = EntryPoint("agent", "no_such_library.cli:agent", "runrig.commands")
    monkeypatch.setattr(trunk, "entry_points", lambda **_: (branch,))

    result = runrig("agent")

    assert result.exit_code == 2
    assert "no_such_library" in result.stderr
    assert "pip install 'runrig[agent]'" in result.stderr


def test_another_package_can_add_a_command(runrig: Runrig, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = EntryPoint("mine", "runrig.cli.version:version", "runrig.commands")
    monkeypatch.setattr(trunk, "entry_points", lambda **_: (branch,))

    assert "\n  mine" in runrig("--help").stdout
    assert runrig("mine", "--client").exit_code == 0


def test_an_unknown_command_is_wrong_usage(runrig: Runrig) -> None:
    result = runrig("nonsense")

    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.stderr


def test_the_version_is_printed_without_a_master(runrig: Runrig) -> None:
    assert runrig("--version").stdout.startswith("runrig 0.")


@pytest.mark.parametrize(
    "error, code",
    [
        (InvalidInput("--mem", "x", "a size"), 2),
        (NotFound("task", "t"), 3),
        (Unavailable("gone"), 4),
        (Conflict("it runs"), 5),
        (TimedOut("too long"), 124),
        (rpc_error(grpc.StatusCode.UNAVAILABLE), 4),
        (rpc_error(grpc.StatusCode.INVALID_ARGUMENT), 2),
        (OSError(13, "Permission denied", "/data"), 1),
        (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_an_error_becomes_one_line_and_its_exit_code(error: BaseException, code: int) -> None:
    @click.group(cls=Trunk)
    def group() -> None: ...

    @group.command()
    def failing() -> None:
        raise error

    result = CliRunner().invoke(group, ["failing"])

    assert result.exit_code == code
    assert "Traceback" not in result.output
    if code != 130:
        assert result.stderr.startswith("runrig: ")
        assert result.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    assert failure_of(ZeroDivisionError("a bug")) is None


def test_every_kind_of_error_has_a_documented_exit_code() -> None:
    documented = {code for code, _ in EXIT_CODES}

    for kind in (InvalidInput("f", "v", "a"), NotFound("k", "n"), Conflict(), Unavailable(), TimedOut()):
        failure = failure_of(kind)
        assert failure is not None
        assert failure.exit_code in documented
    assert failure_of(RunrigError("x")) is not None


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "runrig", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("runrig ")
    assert isinstance(main, Trunk)

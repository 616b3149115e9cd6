"""The commands, against the API on a real port; behind it is a cluster on which all goes well between two questions."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result

from runrig.cli.main import main
from runrig.errors import (
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_TASK_FAILED,
    EXIT_TIMEOUT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)
from runrig_service.api import build_api
from runrig_service.settings import Settings
from tests.service.runner import Runner

WEB = {"id": "shop/web", "cmd": "serve", "instances": 2}


class Lively(Runner):
    """Goes on by itself: while it is `stuck` nothing starts."""

    stuck = False

    async def ask(self, question: object) -> object:
        """Let time pass, and all that waits come to run, before and after each question."""
        self.advance(1)
        value = self.answer(question)
        if not self.stuck:
            self.settle()
        return value


@pytest.fixture
def cluster() -> Lively:
    return Lively()


@pytest.fixture
def url(cluster: Lively, tmp_path: Path) -> Iterator[str]:
    app = build_api(cluster, Settings(tmp_path))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def web(tmp_path: Path) -> str:
    return written(tmp_path, WEB)


def written(folder: Path, content: object) -> str:
    path = folder / "app.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def runrig(url: str, *words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["service", *words], input=stdin, env={"RUNRIG_SERVICE": url})


def test_deploy_waits_until_the_app_is_complete(url: str, web: str) -> None:
    result = runrig(url, "deploy", web, "--wait")

    assert result.exit_code == EXIT_OK, result.output
    assert result.stdout.splitlines()[1].split("\t")[:3] == ["/shop/web", "RUNNING", "2/2"]
    assert "2/2 running" in result.stderr


def test_deploy_reads_stdin_and_lists_of_apps(url: str) -> None:
    apps = json.dumps([WEB, {"id": "db", "cmd": "store"}])

    result = runrig(url, "deploy", "-", "-o", "name", stdin=apps)

    assert result.stdout.split() == ["/shop/web", "/db"], (result.output, result.exception)
    assert json.loads(runrig(url, "ls", "-o", "json").stdout)[0]["id"] == "/db"


def test_to_deploy_the_same_again_changes_nothing(url: str, web: str) -> None:
    runrig(url, "deploy", web)
    before = json.loads(runrig(url, "show", "shop/web", "-o", "json").stdout)

    result = runrig(url, "deploy", web, "--wait")

    assert result.exit_code == EXIT_OK
    assert json.loads(runrig(url, "show", "shop/web", "-o", "json").stdout) == before


def test_apps_are_listed_shown_scaled_restarted_and_removed(url: str, cluster: Lively, web: str) -> None:
    runrig(url, "deploy", web)

    assert runrig(url, "scale", "shop/web", "3", "--wait").exit_code == EXIT_OK
    assert "3/3" in runrig(url, "ls").stdout
    assert runrig(url, "show", "/shop/web").stdout.count("TASK_RUNNING") == 3
    before = cluster.running
    assert runrig(url, "restart", "shop/web", "--wait").exit_code == EXIT_OK
    assert not set(before) & set(cluster.running)
    assert "/shop/web: gone" in runrig(url, "rm", "shop/web", "--wait").stderr
    assert cluster.running == []
    assert "no apps" in runrig(url, "ls").stderr


@pytest.mark.parametrize("words", [("show",), ("scale", "2"), ("restart",), ("rm",)])
def test_an_app_that_is_not_there_ends_with_not_found(url: str, words: tuple[str, ...]) -> None:
    verb, *rest = words

    result = runrig(url, verb, "none", *rest)

    assert result.exit_code == EXIT_NOT_FOUND
    assert result.stderr == "runrig: App '/none' does not exist\n"


@pytest.mark.parametrize(
    "content, part",
    [
        ("{", "JSON"),
        ("[]", "one app at least"),
        ('{"cmd": "serve"}', 'an app with an "id"'),
        ('{"id": "web", "cmd": "serve", "cpus": "many"}', "/cpus: must be a number"),
        ('{"id": "web", "cmd": "\\ud800"}', "/cmd: must be valid Unicode"),
        ("{", ": '{' is not allowed"),
        ("[" * 10_000, "JSON"),
        ('{"id": "web", "cmd": "x", "cpus": NaN}', "/cpus: nan is not allowed"),
        ('[{"id": "web", "cmd": "x", "upgradeStrategy": {"maximumOverCapacity": 1e400}}]', "(0)/upgradeStrategy/max"),
    ],
)
def test_a_file_that_is_no_app_ends_with_usage(url: str, tmp_path: Path, content: str, part: str) -> None:
    result = runrig(url, "deploy", written(tmp_path, content))

    assert result.exit_code == EXIT_USAGE
    assert part in result.stderr


def test_a_wait_that_is_too_long_ends_with_timeout_and_says_what_is_missing(
    url: str, cluster: Lively, web: str
) -> None:
    cluster.stuck = True

    result = runrig(url, "deploy", web, "--wait", "--timeout", "0")

    assert result.exit_code == EXIT_TIMEOUT
    assert "0/2 running" in result.stderr


def test_a_framework_that_does_not_answer_ends_with_unreachable() -> None:
    result = runrig("http://127.0.0.1:1", "ls")

    assert result.exit_code == EXIT_UNREACHABLE
    assert result.stderr.startswith("runrig: no service framework answers at http://127.0.0.1:1; ")


def test_what_is_no_url_is_refused_and_what_is_no_service_is_said_to_be_none(url: str) -> None:
    no_url = runrig("ftp://host", "ls")
    other = CliRunner().invoke(main, ["batch", "ls"], env={"RUNRIG_BATCH": url})

    assert (no_url.exit_code, other.exit_code) == (EXIT_USAGE, EXIT_UNREACHABLE)
    assert no_url.stderr == "runrig: --service: 'ftp://host' is not allowed; allowed: http://host:port\n"
    assert other.stderr == f"runrig: {url} answered /v1/jobs with 404; is it a batch framework?\n"


def test_codes_are_those_that_are_documented() -> None:
    assert (EXIT_OK, EXIT_TASK_FAILED, EXIT_USAGE, EXIT_NOT_FOUND) == (0, 1, 2, 3)
    assert (EXIT_UNREACHABLE, EXIT_CONFLICT, EXIT_TIMEOUT) == (4, 5, 124)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "nonsense", "127.0.0.1:http"])
def test_run_refuses_addresses(listen: str, tmp_path: Path) -> None:
    result = runrig("", "run", "--listen", listen, "--data-dir", str(tmp_path))

    assert result.exit_code == EXIT_USAGE
    assert "--listen" in result.stderr


def test_every_command_explains_itself_with_an_example() -> None:
    for verb in ("run", "deploy", "ls", "show", "scale", "restart", "rm"):
        result = CliRunner().invoke(main, ["service", verb, "--help"])

        assert result.exit_code == EXIT_OK
        assert "Example:" in result.output

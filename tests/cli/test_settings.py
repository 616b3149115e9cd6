from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from runrig.cli.main import main as cli
from runrig.cli.settings import addresses
from runrig.errors import InvalidInput
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster

Configure = Callable[[str], Path]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Write the user's configuration."""

    def write(text: str) -> Path:
        path = tmp_path / "config" / "runrig" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path

    return write


def asked(runrig: Runrig, *words: str) -> str:
    """Return which master a command looked for: none answers at port 1, 2 or 3."""
    text = runrig("agents", "ls", *words).stderr
    return text.partition("answers at ")[2].partition(";")[0]


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    runrig: Runrig, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[client]\nmaster = "127.0.0.1:1"\n')

    assert asked(runrig) == "127.0.0.1:1"
    monkeypatch.setenv("RUNRIG_MASTER", "127.0.0.1:2")
    assert asked(runrig) == "127.0.0.1:2"
    assert asked(runrig, "--master", "127.0.0.1:3") == "127.0.0.1:3"


def test_a_file_can_be_named(runrig: Runrig, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[client]\nmaster = "127.0.0.1:1"\n')

    result = runrig("--config", str(path), "agents", "ls")

    assert "answers at 127.0.0.1:1" in result.stderr


def test_the_form_of_the_output_can_be_configured(master: FakeMaster, runrig: Runrig, configure: Configure) -> None:
    configure('[client]\noutput = "json"\n')

    assert runrig("agents", "ls").stdout == "[]\n"
    assert runrig("agents", "ls", "-o", "name").stdout == ""


def test_a_table_of_a_command_sets_its_options(runrig: Runrig, configure: Configure) -> None:
    configure('[agents.ls]\nmaster = "127.0.0.1:1"\n')

    assert asked(runrig) == "127.0.0.1:1"


def test_an_option_of_a_command_has_a_variable_of_its_own(runrig: Runrig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNRIG_DEV_AGENTS", "1000")

    assert "--agents" in runrig("dev").stderr


@pytest.mark.parametrize("words", [("agent",), ("master",), ("service", "run"), ("batch", "serve"), ("dev",)])
def test_options_of_programs_are_configured_by_their_own_names(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found

    for option in command.params:
        if isinstance(option, click.Option):
            assert f"--{str(option.name).replace('_', '-')}" in option.opts


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("nonsense", "a TOML file"),
        ('master = "h1"\n', "tables only"),
        ('[client]\nmasters = "h1"\n', "'masters' is not allowed; allowed: master, service, batch, output"),
        ("client = 1\n", "a table: [client]"),
        (
            "[agents]\nspeed = 1\n",
            "[agents] of the configuration: 'speed' is not allowed; allowed: activate",
        ),
        (
            "[agnet]\nhostname = 'h1'\n",
            "table of the configuration: 'agnet' is not allowed; allowed: client, dev, master",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_allowed(
    runrig: Runrig, configure: Configure, text: str, complaint: str
) -> None:
    configure(text)

    result = runrig("agents", "ls")

    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_file_that_was_named_must_exist(runrig: Runrig) -> None:
    result = runrig("--config", "missing.toml", "agents", "ls")

    assert (result.exit_code, "a file that exists" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "text, found",
    [
        ("h1", ("h1:5055",)),
        ("h1:1, h2:2,", ("h1:1", "h2:2")),
        ("[::1]:1", ("[::1]:1",)),
        ("[::1]", ("[::1]:5055",)),
    ],
)
def test_addresses_are_read_with_a_default_port(text: str, found: tuple[str, ...]) -> None:
    assert addresses("--master", text) == found


@pytest.mark.parametrize("text", ["", ",", "http://h1:5055", "h1:port", "h1:0", ":5055"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--master"):
        addresses("--master", text)

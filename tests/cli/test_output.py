from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest

from runrig.cli.output import Column, Form, cell, fitted, plain, print_list, print_one


@dataclass(frozen=True)
class Job:
    id: str
    state: str
    count: int
    note: str = ""


COLUMNS = (
    Column[Job]("ID", lambda job: job.id, "id"),
    Column[Job]("STATE", lambda job: job.state, "state"),
    Column[Job]("COUNT", lambda job: job.count, "number"),
    Column[Job]("NOTE", lambda job: job.note, wide=True),
)
JOBS = (Job("job-1", "RUNNING", 7, "a note"), Job("job-22", "FAILED", 12))


def test_a_piped_list_is_tab_separated_with_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(JOBS, COLUMNS)

    assert capsys.readouterr().out == "ID\tSTATE\tCOUNT\njob-1\tRUNNING\t7\njob-22\tFAILED\t12\n"


def test_a_table_that_is_asked_for_is_aligned_even_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(JOBS, COLUMNS, Form.TABLE)

    assert capsys.readouterr().out == (
        "ID      STATE    COUNT\n"
        "job-1   RUNNING      7\n"
        "job-22  FAILED      12\n"
    )  # fmt: skip


def test_wide_has_the_columns_that_the_table_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(JOBS, COLUMNS, Form.WIDE)

    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "STATE", "COUNT", "NOTE"]
    assert first.endswith("a note")
    assert second.endswith("-")


def test_json_of_a_list_is_a_list_of_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(JOBS, COLUMNS, Form.JSON)

    assert json.loads(capsys.readouterr().out)[0] == {
        "id": "job-1",
        "state": "RUNNING",
        "count": 7,
        "note": "a note",
    }


def test_json_of_an_empty_list_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([], COLUMNS, Form.JSON, empty="no jobs")

    assert capsys.readouterr().out == "[]\n"


def test_name_prints_one_id_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(JOBS, COLUMNS, Form.NAME)

    assert capsys.readouterr().out == "job-1\njob-22\n"


def test_that_there_is_nothing_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([], COLUMNS, empty="no jobs; `runrig batch submit --help`")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "no jobs; `runrig batch submit --help`\n"


def test_one_item_is_printed_as_lines_with_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_one(JOBS[0], COLUMNS)

    assert capsys.readouterr().out == "Id:    job-1\nState: RUNNING\nCount: 7\nNote:  a note\n"


def test_control_characters_never_reach_a_terminal() -> None:
    assert plain("a\x1b[2Jb") == "a?[2Jb"
    assert cell("one\ntwo\tthree\x07") == "one two three?"


@pytest.mark.parametrize("value, text", [(None, "-"), ("", "-"), (0, "0"), (True, "yes"), (False, "no")])
def test_a_cell_is_never_empty(value: object, text: str) -> None:
    assert cell(value) == text


def test_a_table_that_is_too_wide_shortens_its_ids_to_unique_prefixes_first() -> None:
    rows = [["3f2a77c1-0000-0000", "web"], ["3f2a77c1-1111-0000", "web"], ["90210000-2222-0000", "web"]]

    assert fitted(["ID", "NAME"], rows, ["id", "text"], width=20) == [
        ["3f2a77c1-0", "web"],
        ["3f2a77c1-1", "web"],
        ["90210000", "web"],
    ]


def test_a_table_that_is_still_too_wide_cuts_its_texts() -> None:
    rows = [["job-1", "an error message that goes on and on"]]

    [[identity, message]] = fitted(["ID", "MESSAGE"], rows, ["id", "text"], width=20)

    assert identity == "job-1"
    assert message == "an error mes…"
    assert len(f"{identity}  {message}") == 20


def test_a_table_that_fits_is_left_alone() -> None:
    rows = [["3f2a77c1-0000-0000", "web"]]

    assert fitted(["ID", "NAME"], rows, ["id", "text"], width=80) == rows


PRINTER = """
from runrig.cli.output import Column, print_list
columns = [Column("ID", str, "id"), Column("STATE", lambda _: "TASK_RUNNING", "state")]
print_list(["3f2a77c1-0000-0000-0000"], columns)
"""


@pytest.mark.parametrize("variables, is_coloured", [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_asks_for_none(variables: dict[str, str], is_coloured: bool) -> None:
    text = on_terminal(PRINTER, {"TERM": "xterm", **variables})

    assert "TASK_RUNNING" in text
    assert ("\x1b[32m" in text) is is_coloured


def on_terminal(program: str, variables: dict[str, str]) -> str:
    """Run a program with a terminal of 80 columns as its stdout; return what it wrote."""
    outside, inside = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(outside, 4096):
                chunks.append(chunk)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=inside,
            stderr=subprocess.PIPE,
            env={**env, "COLUMNS": "80", **variables},
            timeout=60,
            check=False,
        )
    finally:
        os.close(inside)  # ends the reader
        reader.join()
        os.close(outside)
    assert done.returncode == 0, done.stderr.decode()
    return b"".join(chunks).decode()

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runrig_agent.sandbox_logs import LogLimits, rotate_by_copy, rotate_by_rename
from runrig_agent.sandbox_reading import LogReader

Rotate = Callable[[Path, LogLimits], object]
PIECES = st.lists(st.sampled_from([b"\n", b"a", b"bc\n", b"\n\n"]), max_size=6)
LIMITS = LogLimits(max_bytes=0, max_files=4)


def read_all(reader: LogReader, looks: int = 3) -> bytes:
    """Read until nothing came for some looks: a rotation may take one to settle."""
    found, quiet = b"", 0
    while quiet < looks:
        data = reader.read()
        found += data
        quiet = 0 if data else quiet + 1
    return found


def append(sandbox: Path, data: bytes, name: str = "stdout") -> None:
    with (sandbox / name).open("ab") as file:
        file.write(data)


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[LogReader]:
    append(tmp_path, b"begin\n")
    with LogReader(tmp_path, "stdout", follow=True) as reader:
        assert read_all(reader) == b"begin\n"
        yield reader


def test_all_that_is_kept_is_read_oldest_first(tmp_path: Path) -> None:
    for name, data in (("stdout.2", b"one\n"), ("stdout.1", b"two\n"), ("stdout", b"three\n")):
        append(tmp_path, data, name)

    with LogReader(tmp_path, "stdout") as reader:
        assert read_all(reader) == b"one\ntwo\nthree\n"


def test_without_follow_what_is_written_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    append(tmp_path, b"before\n")

    with LogReader(tmp_path, "stdout") as reader:
        append(tmp_path, b"after\n")
        assert read_all(reader) == b"before\n"


def test_a_task_that_has_written_nothing_has_no_output(tmp_path: Path) -> None:
    with LogReader(tmp_path, "stderr") as reader:
        assert reader.read() == b""


def test_a_follower_begins_when_the_file_comes(tmp_path: Path) -> None:
    with LogReader(tmp_path, "stdout", follow=True) as reader:
        assert reader.read() == b""
        append(tmp_path, b"hello\n")
        assert read_all(reader) == b"hello\n"


@pytest.mark.parametrize("rotate", [rotate_by_copy, rotate_by_rename])
def test_a_follower_misses_nothing_over_a_rotation(follower: LogReader, tmp_path: Path, rotate: Rotate) -> None:
    append(tmp_path, b"not yet read\n")
    rotate(tmp_path / "stdout", LIMITS)
    append(tmp_path, b"after\n")

    assert read_all(follower) == b"not yet read\nafter\n"


@pytest.mark.parametrize("rotate", [rotate_by_copy, rotate_by_rename])
def test_a_follower_misses_nothing_over_rotations_between_two_looks(
    follower: LogReader, tmp_path: Path, rotate: Rotate
) -> None:
    for data in (b"one\n", b"two\n", b"three\n"):
        append(tmp_path, data)
        rotate(tmp_path / "stdout", LIMITS)
    append(tmp_path, b"four\n")

    assert read_all(follower) == b"one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("rotate", [rotate_by_copy, rotate_by_rename])
def test_a_follower_that_is_overtaken_goes_on_with_the_oldest_that_is_kept(
    follower: LogReader, tmp_path: Path, rotate: Rotate
) -> None:
    append(tmp_path, b"older\n")
    rotate(tmp_path / "stdout", LIMITS)
    assert read_all(follower) == b"older\n"

    for number in range(6):
        append(tmp_path, b"%d\n" % number)
        rotate(tmp_path / "stdout", LIMITS)

    assert read_all(follower) == b"3\n4\n5\n"


def test_a_copy_that_is_being_made_is_waited_for(follower: LogReader, tmp_path: Path) -> None:
    append(tmp_path, b"0123456789")
    append(tmp_path, b"begin\n0123", "stdout.1")

    assert follower.read() == b""
    append(tmp_path, b"456789", "stdout.1")
    assert follower.read() == b""
    os.truncate(tmp_path / "stdout", 0)
    append(tmp_path, b"after")

    assert read_all(follower) == b"0123456789after"


def test_a_task_that_empties_its_log_is_followed_from_its_start(follower: LogReader, tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"new\n")

    assert read_all(follower) == b"new\n"


def test_a_task_that_replaces_its_log_is_followed(follower: LogReader, tmp_path: Path) -> None:
    (tmp_path / "stdout").unlink()
    append(tmp_path, b"replaced\n")

    assert read_all(follower) == b"replaced\n"


def test_a_task_that_removes_a_rotated_log_does_not_stop_its_followers(tmp_path: Path) -> None:
    append(tmp_path, b"old\n", "stdout.1")
    append(tmp_path, b"new\n")
    with LogReader(tmp_path, "stdout", follow=True) as reader:
        assert read_all(reader) == b"old\nnew\n"
        (tmp_path / "stdout.1").unlink()
        append(tmp_path, b"more\n")

        assert read_all(reader, looks=20) == b"more\n"


@pytest.mark.parametrize("name", ["stdout", "stdout.1"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("of another")
    (tmp_path / name).symlink_to("secret")

    with LogReader(tmp_path, "stdout", follow=True) as reader:
        assert read_all(reader) == b""


def test_a_pipe_in_place_of_a_log_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stdout")

    with LogReader(tmp_path, "stdout") as reader:
        assert reader.read() == b""


@given(
    files=st.lists(PIECES, min_size=1, max_size=4),
    lines=st.integers(0, 12),
)
@settings(max_examples=200, deadline=None)
def test_the_last_lines_are_those_of_the_text(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]], lines: int
) -> None:
    sandbox = tmp_path_factory.mktemp("sandbox")
    parts = [b"".join(pieces) for pieces in files]
    for number, part in enumerate(reversed(parts)):
        append(sandbox, part, f"stdout.{number}" if number else "stdout")
    text = b"".join(parts)

    with LogReader(sandbox, "stdout", tail_lines=lines) as reader:
        found = read_all(reader, looks=1)

    assert found == (b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b"")


def test_the_last_lines_of_a_long_file_are_found(tmp_path: Path) -> None:
    append(tmp_path, b"".join(b"line %d\n" % number for number in range(100_000)))

    with LogReader(tmp_path, "stdout", tail_lines=30_000) as reader:
        found = read_all(reader)

    assert found.splitlines()[0] == b"line 70000"
    assert found.splitlines()[-1] == b"line 99999"


def test_a_reader_keeps_no_file_open(tmp_path: Path) -> None:
    for name in ("stdout", "stdout.1", "stdout.2"):
        append(tmp_path, b"x", name)
    before = len(os.listdir("/proc/self/fd"))

    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(LogReader(tmp_path, "stdout", follow=True)).read()

    assert len(os.listdir("/proc/self/fd")) == before

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig.ids import TaskId
from runrig_batch.outputs import Clipped, OutputFiles

TASK = TaskId("job-1.0.1")


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 60))
def test_a_clipped_stream_keeps_its_beginning_and_its_end(pieces: list[bytes], most: int) -> None:
    clipped = Clipped(most)
    for piece in pieces:
        clipped.add(piece)

    result, whole = clipped.result(), b"".join(pieces)

    if len(whole) <= most:
        assert result == whole
    else:
        head, tail = most - most // 2, most // 2
        assert result.startswith(whole[:head] + b"\n[runrig: ")
        assert result.endswith(b" bytes are left out here]\n" + (whole[-tail:] if tail else b""))
        assert f"{len(whole) - most} bytes".encode() in result


def test_kept_output_is_read_back(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path)

    files.keep(TASK, {"stdout": b"out", "stderr": b""})

    assert b"".join(files.pieces(TASK, "stdout")) == b"out"
    assert list(files.pieces(TASK, "stderr")) == []
    assert [path.name for path in (tmp_path / "outputs/job-1").iterdir()] == ["0.1.out"]


def test_what_is_missing_is_said_until_it_is_there(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path)
    files.note_missing(TASK, "the agent is gone")
    assert files.missing(TASK) == "the agent is gone"

    files.keep(TASK, {"stdout": b"found after all", "stderr": b""})

    assert files.missing(TASK) == ""


@pytest.mark.parametrize("task_id", ["../etc/passwd", "job-1", "../../x.0.1", "a/../b.0.1", "a/b.0.1"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, task_id: str) -> None:
    files = OutputFiles(tmp_path)

    with pytest.raises(AssertionError):
        files.note_missing(TaskId(task_id), "x")


def test_sweeping_deletes_only_what_is_unknown(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path)
    files.keep(TASK, {"stdout": b"x"})
    files.keep(TaskId("job-2.0.1"), {"stdout": b"x"})

    assert files.sweep({"job-1"}) == 1

    assert list(files.pieces(TaskId("job-2.0.1"), "stdout")) == []
    assert list(files.pieces(TASK, "stdout")) == [b"x"]

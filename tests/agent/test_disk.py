from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runrig_agent.core.events import DiskChanged
from runrig_agent.disk import DiskSettings, DiskWatch, release_reserve, take_reserve

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 20 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", tmp_path], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be made here: {mounted.stderr}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def fill(path: Path) -> None:
    """Take up all that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(MIB)):
                pass
        except OSError:
            pass


def free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def test_a_disk_that_fills_up_is_told_of_once_and_again_when_it_has_room(disk: Path) -> None:
    told: list[DiskChanged] = []
    watch = DiskWatch(disk, told.append)

    watch.look()
    assert told == []
    fill(disk / "hog")
    watch.look()
    watch.look()
    [full] = told
    (disk / "hog").unlink()
    watch.look()

    assert str(disk) in (full.problem or "")
    assert told == [full, DiskChanged(None)]


def test_the_reserve_is_room_on_a_full_disk_and_the_disk_counts_as_full_until_it_is_back(disk: Path) -> None:
    told: list[DiskChanged] = []
    watch = DiskWatch(disk, told.append, DiskSettings(reserve_bytes=MIB, room_bytes=0))
    watch.look()
    fill(disk / "hog")
    assert free(disk) == 0

    release_reserve(disk)
    (disk / "note").write_bytes(bytes(MIB // 2))
    watch.look()

    assert [each.problem is None for each in told] == [False]
    assert not (disk / "reserve").exists()


def test_a_reserve_takes_up_room_and_is_taken_once(disk: Path) -> None:
    before = free(disk)

    assert take_reserve(disk, MIB)
    assert take_reserve(disk, MIB)

    assert before - free(disk) == MIB


def test_no_reserve_is_kept_by_halves(disk: Path) -> None:
    before = free(disk)

    assert not take_reserve(disk, 100 * MIB)

    assert free(disk) == before

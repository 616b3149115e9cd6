"""Directories of persistent volumes, with real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runrig.tasks import Reason
from runrig_agent.runtime import LaunchFailed
from runrig_agent.volumes import Volumes


def test_a_volume_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = Volumes(tmp_path).provide("data")
    (path / "file").write_text("kept")

    again = Volumes(tmp_path).provide("data")

    assert (again / "file").read_text() == "kept"
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("volume_id", ["..%2F..%2Fetc", ".trash", "-rf", "a b:c,d", "é" * 255, "%2Etrash"])
def test_no_id_leads_elsewhere_or_to_another_volume(tmp_path: Path, volume_id: str) -> None:
    volumes = Volumes(tmp_path)

    path = volumes.provide(volume_id)

    assert path.parent == tmp_path / "volumes"
    assert not path.name.startswith(".")
    assert path not in {volumes.path(other) for other in ("data", ".trash", "%2Etrash") if other != volume_id}


def test_a_volume_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "volumes").touch()

    with pytest.raises(LaunchFailed, match=r"volume data cannot be made: .*check the agent's work directory") as failed:
        Volumes(tmp_path).provide("data")

    assert failed.value.reason is Reason.START_FAILED


async def test_a_deletion_takes_all_of_one_volume_and_nothing_else(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    path, other = volumes.provide("data"), volumes.provide("other")
    (path / "a/b").mkdir(parents=True)
    (path / "a/b/file").write_text("goes")
    (path / "a").chmod(0)
    (path / "link").symlink_to(other)
    (other / "file").write_text("stays")

    problem = await volumes.delete("data")

    assert problem is None
    assert sorted(each.name for each in volumes.directory.rglob("*")) == [".trash", "file", "other"]


async def test_what_was_nested_deeper_than_a_path_is_long_is_deleted(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    descriptor = os.open(volumes.provide("data"), os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("nested", dir_fd=descriptor)
        below = os.open("nested", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    assert await volumes.delete("data") is None
    assert not volumes.path("data").exists()


async def test_a_volume_that_never_was_is_deleted_without_a_word(tmp_path: Path) -> None:
    assert await Volumes(tmp_path).delete("data") is None
    assert await Volumes(tmp_path).delete("data") is None


async def test_a_deletion_that_a_crash_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    interrupted = volumes.directory / ".trash/data/data-0/half"
    interrupted.mkdir(parents=True)
    (volumes.provide("data") / "file").write_text("of a volume made anew and destroyed, too")

    assert await volumes.delete("data") is None
    assert [each.name for each in volumes.directory.rglob("*")] == [".trash"]


async def test_what_cannot_be_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = Volumes(tmp_path)
    (volumes.provide("data") / "file").touch()

    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    problem = await volumes.delete("data")
    monkeypatch.undo()

    assert problem is not None
    assert problem.endswith("file: Operation not permitted")
    assert await volumes.delete("data") is None
    assert list((volumes.directory / ".trash").iterdir()) == []

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runrig.ids import FrameworkId, TaskId
from runrig.tasks import Reason, RuntimeKind
from runrig_agent.runtime import LaunchFailed, TaskKey
from runrig_agent.sandbox_trash import empty_trash
from runrig_agent.sandbox_usage import measure
from runrig_agent.sandboxes import Sandboxes, SandboxSettings, keep_s

DAY_S = 86_400.0
START_S = 1_000_000.0
SETTINGS = SandboxSettings(gc_age_s=10 * DAY_S, gc_least_age_s=0, forget_age_s=DAY_S)
PROCESS = RuntimeKind.PROCESS


def key(task: str, framework: str = "f") -> TaskKey:
    return FrameworkId(framework), TaskId(task)


class Place:
    """An agent's sandboxes, on a clock and a disk of the test's."""

    def __init__(self, work: Path, settings: SandboxSettings = SETTINGS) -> None:
        self.work = work
        self.now_s = START_S
        self.used = 0.0
        self.forgotten: list[TaskKey] = []
        self.is_engine_down = False
        self.sandboxes = self.restarted(settings)

    def restarted(self, settings: SandboxSettings = SETTINGS) -> Sandboxes:
        self.sandboxes = Sandboxes(
            self.work, self.forget, settings, clock=lambda: self.now_s, disk_used=lambda _: self.used
        )
        return self.sandboxes

    async def forget(self, task: TaskKey, kind: RuntimeKind) -> None:
        assert kind is PROCESS
        if self.is_engine_down:
            raise LaunchFailed(Reason.RUNTIME_UNAVAILABLE, "the engine is down")
        self.forgotten.append(task)

    def ended(self, name: str, days_ago: float = 0.0) -> TaskKey:
        task = key(name)
        (self.sandboxes.create(task, PROCESS) / "stdout").write_bytes(b"x" * 10_000)
        self.sandboxes.mark_ended(task, int((self.now_s - days_ago * DAY_S) * 1000))
        return task


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    await place.sandboxes.recover(frozenset())
    return place


def test_an_empty_disk_keeps_a_week_and_a_full_one_next_to_nothing() -> None:
    settings = SandboxSettings()

    assert keep_s(settings, 0.0) == pytest.approx(7 * DAY_S * 0.9)
    assert keep_s(settings, 0.5) == pytest.approx(7 * DAY_S * 0.4)
    assert keep_s(settings, 0.9) == settings.gc_least_age_s
    assert keep_s(settings, 1.0) == settings.gc_least_age_s


async def test_a_sandbox_is_private_and_found_again(place: Place) -> None:
    path = place.sandboxes.create(key("t"), PROCESS)

    assert path.stat().st_mode & 0o777 == 0o700
    assert place.sandboxes.create(key("t"), PROCESS) == path
    assert place.sandboxes.find(key("t")) == path
    assert place.sandboxes.find(key("other")) is None


@pytest.mark.parametrize("task", ["..", ".", ".trash", "a:b", "-rf", "é" * 255, "x" * 255, "stdout.1"])
async def test_an_odd_id_has_a_sandbox_of_its_own_below_its_framework(place: Place, task: str) -> None:
    path = place.sandboxes.create(key(task, framework=task), PROCESS)

    assert path.resolve().parents[1] == place.sandboxes.directory.resolve()
    assert path.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    "user, uid, gid", [("nobody", 65534, 65534), ("4242", 4242, 4242), ("4242:77", 4242, 77), ("", 0, 0)]
)
async def test_a_sandbox_belongs_to_the_user_of_its_task(place: Place, user: str, uid: int, gid: int) -> None:
    status = place.sandboxes.create(key("t"), PROCESS, user).stat()

    assert (status.st_uid, status.st_gid) == (uid, gid)


async def test_a_user_who_is_not_there_is_refused(place: Place) -> None:
    with pytest.raises(LaunchFailed, match="no user 'no-such-user' on this agent") as refused:
        place.sandboxes.create(key("t"), PROCESS, "no-such-user")

    assert refused.value.reason is Reason.USER_UNKNOWN
    assert place.sandboxes.find(key("t")) is None


async def test_a_user_that_only_the_image_knows_can_write_to_the_sandbox(place: Place) -> None:
    path = place.sandboxes.create(key("t"), RuntimeKind.DOCKER, "postgres")

    assert path.stat().st_mode & 0o777 == 0o777


async def test_ended_tasks_are_collected_when_they_are_old_enough(place: Place) -> None:
    old, young = place.ended("old", days_ago=9.1), place.ended("young", days_ago=8.9)
    living = key("living")
    place.sandboxes.create(living, PROCESS)

    collected = await place.sandboxes.collect()

    assert collected.sandboxes == (old,)
    assert collected.freed_bytes >= 10_000
    assert place.sandboxes.find(old) is None
    assert place.sandboxes.find(young) is not None
    assert place.sandboxes.find(living) is not None


async def test_a_fuller_disk_collects_sooner(place: Place) -> None:
    place.ended("a", days_ago=3)
    place.used = 0.5

    assert (await place.sandboxes.collect()).sandboxes == ()

    place.used = 0.7
    assert (await place.sandboxes.collect()).sandboxes == (key("a"),)


async def test_a_full_disk_never_costs_a_living_task_its_sandbox(place: Place) -> None:
    place.sandboxes.create(key("living"), PROCESS)
    place.now_s += 1000 * DAY_S
    place.used = 1.0

    collected = await place.sandboxes.collect()

    assert collected.sandboxes == ()
    assert place.sandboxes.find(key("living")) is not None


async def test_a_disk_that_has_room_again_keeps_the_younger(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.sandboxes.recover(frozenset())
    for number in range(40):
        place.ended(f"t{number:02}", days_ago=5 - number / 100)

    def used(_: Path) -> float:
        return 0.95 if place.sandboxes.find(key("t00")) else 0.2

    place.sandboxes._disk_used = used
    collected = await place.sandboxes.collect()

    assert len(collected.sandboxes) == 32
    assert place.sandboxes.find(key("t31")) is None
    assert place.sandboxes.find(key("t32")) is not None


async def test_no_more_sandboxes_are_kept_than_allowed(tmp_path: Path) -> None:
    place = Place(tmp_path, replace(SETTINGS, gc_max_ended=2))
    await place.sandboxes.recover(frozenset())
    for number in range(5):
        place.ended(f"t{number}", days_ago=1 - number / 10)

    collected = await place.sandboxes.collect()

    assert collected.sandboxes == (key("t0"), key("t1"), key("t2"))


async def test_marks_survive_a_restart(place: Place) -> None:
    place.ended("old", days_ago=9.5)
    place.ended("young")

    sandboxes = place.restarted()
    await sandboxes.recover(frozenset())

    assert (await sandboxes.collect()).sandboxes == (key("old"),)
    place.now_s += 9.5 * DAY_S
    assert (await sandboxes.collect()).sandboxes == (key("young"),)


async def test_a_task_that_lives_on_over_a_restart_is_left_alone(place: Place) -> None:
    place.sandboxes.create(key("living"), PROCESS)
    sandboxes = place.restarted()
    await sandboxes.recover(frozenset({key("living")}))
    place.now_s += 100 * DAY_S

    assert (await sandboxes.collect()).sandboxes == ()


async def test_a_sandbox_without_mark_or_living_task_counts_as_ended_at_the_restart(place: Place) -> None:
    place.sandboxes.create(key("lost"), PROCESS)
    place.now_s += 100 * DAY_S
    sandboxes = place.restarted()
    await sandboxes.recover(frozenset())

    assert (await sandboxes.collect()).sandboxes == ()
    place.now_s += 10 * DAY_S
    assert (await sandboxes.collect()).sandboxes == (key("lost"),)


async def test_a_torn_record_harms_nobody(place: Place) -> None:
    path = place.sandboxes.create(key("ta:rn"), PROCESS)
    living = place.sandboxes.create(key("li:ving"), PROCESS)
    for record in path.parent.glob(".*.json"):
        record.write_text("")
    sandboxes = place.restarted()
    await sandboxes.recover(frozenset({key("li:ving")}))
    place.now_s += 10 * DAY_S

    collected = await sandboxes.collect()

    assert collected.sandboxes == (key("ta:rn"),)
    assert living.is_dir()


async def test_nothing_is_left_of_a_framework_whose_tasks_are_gone(place: Place) -> None:
    place.ended("a", days_ago=20)
    place.ended("b", days_ago=20)

    await place.sandboxes.collect()

    assert [path.name for path in place.sandboxes.directory.iterdir()] == [".trash"]
    assert list((place.sandboxes.directory / ".trash").iterdir()) == []


async def test_containers_are_forgotten_long_before_sandboxes(place: Place) -> None:
    place.ended("new", days_ago=0.5)
    place.ended("old", days_ago=1.5)

    collected = await place.sandboxes.collect()

    assert place.forgotten == [key("old")]
    assert collected.forgotten == (key("old"),)
    assert place.sandboxes.find(key("old")) is not None
    assert (await place.sandboxes.collect()).forgotten == ()


async def test_what_has_ended_is_forgotten_at_once_when_nobody_comes_back(place: Place) -> None:
    place.sandboxes.create(key("alive"), PROCESS)
    place.ended("old", days_ago=2)
    await place.sandboxes.collect()
    place.ended("young")

    await place.sandboxes.forget_ended()

    assert place.forgotten == [key("old"), key("young")]
    assert place.sandboxes.find(key("young")) is not None


async def test_no_more_containers_are_kept_than_allowed(tmp_path: Path) -> None:
    place = Place(tmp_path, replace(SETTINGS, forget_max_ended=1))
    await place.sandboxes.recover(frozenset())
    place.ended("a", days_ago=0.2)
    place.ended("b", days_ago=0.1)

    assert (await place.sandboxes.collect()).forgotten == (key("a"),)


async def test_a_container_is_forgotten_later_when_its_engine_is_down(place: Place) -> None:
    place.ended("old", days_ago=20)
    place.is_engine_down = True

    collected = await place.sandboxes.collect()

    assert collected.sandboxes == (key("old"),)
    assert collected.forgotten == ()
    assert collected.problems == ("process runtime: the engine is down",)
    place.is_engine_down = False
    sandboxes = place.restarted()
    await sandboxes.recover(frozenset())
    assert (await sandboxes.collect()).forgotten == (key("old"),)
    assert (await sandboxes.collect()).forgotten == ()


async def test_the_first_mark_counts(place: Place) -> None:
    task = place.ended("t", days_ago=9.5)
    place.sandboxes.mark_ended(task, int(place.now_s * 1000))

    assert (await place.sandboxes.collect()).sandboxes == (task,)


async def test_a_mark_for_an_unknown_task_is_ignored(place: Place) -> None:
    place.sandboxes.mark_ended(key("unknown"), 1)

    assert (await place.sandboxes.collect()).sandboxes == ()


def test_the_trash_is_emptied_of_trees_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    trash = tmp_path / "trash"
    deep_tree(trash / "victim", depth=3_000)

    emptied = empty_trash(trash)

    assert emptied.problems == []
    assert emptied.files == 1
    assert list(trash.iterdir()) == []


def test_a_link_in_the_trash_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    trash, kept = tmp_path / "trash", tmp_path / "kept"
    (trash / "victim").mkdir(parents=True)
    kept.mkdir()
    (kept / "file").touch()
    (trash / "victim/link").symlink_to(kept)
    (trash / "victim/closed").mkdir(mode=0o000)

    empty_trash(trash)

    assert (kept / "file").exists()
    assert list(trash.iterdir()) == []


async def test_usage_counts_blocks_and_follows_no_link(place: Place) -> None:
    path = place.sandboxes.create(key("t"), PROCESS)
    (path / "data").write_bytes(b"x" * 1_000_000)
    os.link(path / "data", path / "again")
    (path / "link").symlink_to("/usr")

    usage = await place.sandboxes.usage(key("t"))

    assert 1_000_000 <= usage.disk_bytes < 1_100_000
    assert usage.files == 3
    assert not usage.is_partial


def test_usage_of_very_many_files_is_told_as_partial(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()

    assert measure(tmp_path, entries_max=10).is_partial


def deep_tree(top: Path, depth: int) -> None:
    top.mkdir(parents=True)
    current = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)

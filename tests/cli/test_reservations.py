"""`runrig reserve`, `unreserve`, `reservations` and `volumes`."""

from __future__ import annotations

import json

import grpc
import pytest

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import resources_pb2
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster


@pytest.fixture
def kept(master: FakeMaster) -> FakeMaster:
    """Let an agent keep something for a role, with a volume on it; another keeps nothing."""
    total = resources_pb2.Resources(cpu_millis=2000, mem_mib=8192, disk_mib=102_400)
    free = resources_pb2.Resources(cpu_millis=500, mem_mib=4096, disk_mib=51_200)
    reservation = resources_pb2.Reservation(reservation_id="db-1", role="eng/db", resources=total)
    volume = resources_pb2.PersistentVolume(volume_id="data", reservation_id="db-1", disk_mib=51_200)
    state = pb.ReservationState(
        reservation=reservation, free=free, volumes=[pb.VolumeState(volume=volume, task_id="db.1")]
    )
    master.agents = [
        pb.Agent(agent_id="id-one", hostname="one", reservations=[state]),
        pb.Agent(agent_id="id-two", hostname="two"),
    ]
    return master


def test_resources_are_reserved_with_labels_out_of_another_reservation(kept: FakeMaster, runrig: Runrig) -> None:
    result = runrig(
        *("reserve", "one", "x", "eng/db/hot", "cpus:1;mem:1G;ports:[31000]", "--from", "db-1", "--label", "tier=fast")
    )

    assert (result.exit_code, result.stdout) == (0, "x\n")
    assert "runrig unreserve one x" in result.stderr
    [told] = kept.told
    assert isinstance(told, pb.ReserveRequest)
    assert (told.agent_id, told.from_reservation_id) == ("id-one", "db-1")
    assert (told.reservation.reservation_id, told.reservation.role) == ("x", "eng/db/hot")
    assert (told.reservation.resources.mem_mib, told.reservation.resources.ports[0].end) == (1024, 31000)
    assert [(label.name, label.value) for label in told.reservation.labels] == [("tier", "fast")]


@pytest.mark.parametrize(
    "words, said",
    [
        (("a/b", "eng", "cpus:1"), "reservation.reservation_id: 'a/b'"),
        (("x", "a//b", "cpus:1"), "role: 'a//b'"),
        (("x", "eng", "cpus"), "RESOURCES: 'cpus'"),
        (("x", "eng", "cpus:0"), "some cpu, memory, disk"),
        (("x", "eng", "cpus:1", "--label", "fast"), "--label: 'fast' is not allowed; allowed: NAME=VALUE"),
    ],
)
def test_a_reservation_that_cannot_be_ends_with_2_and_says_why(
    kept: FakeMaster, runrig: Runrig, words: tuple[str, ...], said: str
) -> None:
    result = runrig("reserve", "one", *words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert kept.told == []


def test_a_reservation_is_given_back_by_the_beginning_of_its_id(kept: FakeMaster, runrig: Runrig) -> None:
    result, missing = runrig("unreserve", "one", "db"), runrig("unreserve", "two", "db")

    assert result.stdout == "db-1\n"
    assert missing.exit_code == 3
    assert "`runrig reservations ls`" in missing.stderr
    assert kept.told == [pb.UnreserveRequest(agent_id="id-one", reservation_id="db-1")]


def test_reservations_in_use_are_kept_and_that_ends_with_5(kept: FakeMaster, runrig: Runrig) -> None:
    kept.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "task db.1 runs in it")

    result = runrig("unreserve", "one", "db-1")

    assert (result.exit_code, result.stderr) == (5, "runrig: task db.1 runs in it\n")


def test_reservations_are_listed_with_what_is_free(kept: FakeMaster, runrig: Runrig) -> None:
    table = runrig("reservations", "ls", "-o", "table").stdout.splitlines()
    [found] = json.loads(runrig("reservations", "ls", "--role", "eng/db", "-o", "json").stdout)

    assert table[1].split() == ["db-1", "one", "eng/db", "0.5/2", "4G/8G", "50G/100G", "1"]
    assert (found["agent_id"], found["resources"]["total"]["cpu_millis"]) == ("id-one", 2000)
    assert json.loads(runrig("reservations", "ls", "--agent", "two", "-o", "json").stdout) == []
    assert json.loads(runrig("reservations", "ls", "--role", "eng", "-o", "json").stdout) == []


def test_volumes_are_listed_with_the_tasks_that_use_them(kept: FakeMaster, runrig: Runrig) -> None:
    table = runrig("volumes", "ls", "-o", "table").stdout.splitlines()
    [found] = json.loads(runrig("volumes", "ls", "--agent", "one", "-o", "json").stdout)

    assert table[1].split() == ["data", "one", "db-1", "50G", "IN", "USE", "db.1"]
    assert (found["disk_mib"], found["task_id"], found["is_doomed"]) == (51_200, "db.1", False)


def test_a_volume_is_made_and_deleted(kept: FakeMaster, runrig: Runrig) -> None:
    made = runrig("volumes", "create", "one", "db-1", "more", "1.5G")
    gone = runrig("volumes", "rm", "one", "data")

    assert (made.stdout, gone.stdout) == ("more\n", "data\n")
    volume = resources_pb2.PersistentVolume(volume_id="more", reservation_id="db-1", disk_mib=1536)
    assert kept.told == [
        pb.CreateVolumeRequest(agent_id="id-one", volume=volume),
        pb.DestroyVolumeRequest(agent_id="id-one", volume_id="data"),
    ]


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("one", "db-1", "x", "0"), 2, "SIZE: '0'"),
        (("one", "db-1", "x", "big"), 2, "SIZE: 'big'"),
        (("one", "db-1", "a/b", "1G"), 2, "volume.volume_id: 'a/b'"),
        (("one", "nope", "x", "1G"), 3, "no reservation 'nope'"),
        (("three", "db-1", "x", "1G"), 3, "no agent 'three'"),
    ],
)
def test_a_volume_that_cannot_be_is_refused_in_words(
    kept: FakeMaster, runrig: Runrig, words: tuple[str, ...], code: int, said: str
) -> None:
    result = runrig("volumes", "create", *words)

    assert result.exit_code == code
    assert said in result.stderr
    assert kept.told == []

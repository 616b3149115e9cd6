"""`runrig roles` and `runrig quota`, against a master that answers from lists."""

from __future__ import annotations

import json

import grpc
import pytest

from runrig.v1 import operator_pb2 as pb
from runrig.v1 import resources_pb2
from tests.cli.conftest import Runrig
from tests.cli.fake_master import FakeMaster


def amounts(**named: int) -> resources_pb2.Quota:
    return resources_pb2.Quota(**named)


def role(
    name: str, limit: resources_pb2.Quota | None = None, guarantee: resources_pb2.Quota | None = None, used: int = 0
) -> pb.Role:
    return pb.Role(
        role=name,
        weight_millis=2500,
        limit=limit,
        guarantee=guarantee,
        subtree_used=resources_pb2.Resources(cpu_millis=used),
        tasks_wanted=7,
    )


def test_a_limit_is_set_in_the_units_of_people(master: FakeMaster, runrig: Runrig) -> None:
    result = runrig("quota", "set", "eng/ads", "--limit", "cpus:1.5;mem:64G;disk:1T;gpus:0")

    assert result.exit_code == 0, result.stderr
    limit = amounts(cpu_millis=1500, mem_mib=65_536, disk_mib=1_048_576, gpus=0)
    assert master.told == [pb.SetQuotasRequest(quotas=[pb.RoleQuota(role="eng/ads", limit=limit)])]


def test_what_is_not_given_stays_as_it_is(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [role("eng", amounts(cpu_millis=9000), amounts(mem_mib=5))]

    runrig("quota", "set", "eng", "--guarantee", "cpus:2", "--force")
    runrig("quota", "set", "eng", "--limit", "none")

    first = pb.RoleQuota(role="eng", limit=amounts(cpu_millis=9000), guarantee=amounts(cpu_millis=2000))
    second = pb.RoleQuota(role="eng", guarantee=amounts(mem_mib=5))
    assert master.told == [
        pb.SetQuotasRequest(quotas=[first], is_forced=True),
        pb.SetQuotasRequest(quotas=[second]),
    ]


def test_both_are_taken_away(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [role("eng", amounts(cpu_millis=9000))]

    result, again = runrig("quota", "unset", "eng"), runrig("quota", "unset", "ops")

    assert (result.stdout, result.stderr) == ("eng\n", "")
    assert (again.exit_code, again.stderr) == (0, "it had none\n")
    assert master.told[0] == pb.SetQuotasRequest(quotas=[pb.RoleQuota(role="eng")])


def test_only_roles_with_a_quota_are_listed(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [role("eng", amounts(cpu_millis=9000), amounts(mem_mib=1536), used=1500), role("ops")]

    listed = json.loads(runrig("quota", "ls", "-o", "json").stdout)
    table = runrig("quota", "ls", "-o", "table").stdout.splitlines()

    [found] = listed
    assert found["limit"] == {"cpu_millis": 9000, "mem_mib": None, "disk_mib": None, "gpus": None}
    assert found["guarantee"]["mem_mib"] == 1536
    assert found["subtree"]["used"]["cpu_millis"] == 1500
    assert table[1].split() == ["eng", "cpus:9", "mem:1536M", "1.5", "0M", "7"]


def test_a_limit_below_what_is_used_says_what_follows(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [role("eng", amounts(cpu_millis=1000), used=3000)]

    assert "it uses cpus:3 now" in runrig("quota", "set", "eng", "--guarantee", "none").stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (("set", "eng"), "--limit: None is not allowed; allowed: --limit, --guarantee or both"),
        (("set", "a//b", "--limit", "cpus:1"), "ROLE: 'a//b' is not allowed"),
        (("set", "eng", "--limit", "ports:1"), "--limit: 'ports:1' is not allowed; allowed: cpus, mem, disk and gpus"),
        (("set", "eng", "--limit", ""), "--limit: '' is not allowed"),
        (("set", "eng", "--limit", "cpus:-1"), "--limit cpus: '-1' is not allowed"),
        (("set", "eng", "--limit", "cpus:1;cpus:2"), "each resource once, but cpus is given twice"),
        (("set", "eng", "--guarantee", "gpus:0.5"), "--guarantee gpus: '0.5' is not allowed"),
        (("unset", ""), "ROLE: '' is not allowed"),
    ],
)
def test_a_quota_that_cannot_be_ends_with_2_and_says_why(
    master: FakeMaster, runrig: Runrig, words: tuple[str, ...], said: str
) -> None:
    result = runrig("quota", *words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert master.told == []


def test_what_the_master_refuses_of_a_quota_ends_with_2(master: FakeMaster, runrig: Runrig) -> None:
    text = "quotas.guarantee.cpu_millis: 9000 is not allowed; allowed: at most 8000"
    master.refusal = (grpc.StatusCode.INVALID_ARGUMENT, text)

    result = runrig("quota", "set", "eng", "--guarantee", "cpus:9")

    assert (result.exit_code, result.stderr) == (2, f"runrig: {text}\n")


def test_a_weight_and_the_kind_of_offers_are_set(master: FakeMaster, runrig: Runrig) -> None:
    result = runrig("roles", "set", "eng/ads", "--weight", "2.5", "--offers", "optimistic")

    assert result.stdout == "eng/ads\n"
    assert "runrig roles show eng/ads" in result.stderr
    assert master.told == [
        pb.SetRoleWeightRequest(role="eng/ads", weight_millis=2500),
        pb.SetRoleOffersRequest(role="eng/ads", is_optimistic=True),
    ]


@pytest.mark.parametrize(
    "words, said",
    [
        (("eng",), "--weight, --offers or both"),
        (("eng", "--weight", "0"), "0.001 to 1000000"),
        (("eng", "--weight", "-1"), "--weight: '-1'"),
        (("eng", "--weight", "much"), "--weight: 'much'"),
        (("eng/", "--weight", "1"), "ROLE: 'eng/'"),
        (("eng", "--offers", "greedy"), "'greedy' is not one of"),
    ],
)
def test_a_role_that_cannot_be_set_so_ends_with_2_and_says_why(
    master: FakeMaster, runrig: Runrig, words: tuple[str, ...], said: str
) -> None:
    result = runrig("roles", "set", *words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert master.told == []


def test_a_role_is_shown_with_its_quota_and_what_it_wants(master: FakeMaster, runrig: Runrig) -> None:
    master.roles = [role("eng", amounts(cpu_millis=9000))]

    shown = runrig("roles", "show", "eng").stdout
    found = json.loads(runrig("roles", "show", "eng", "-o", "json").stdout)

    assert "cpus:9" in shown
    assert (found["weight_millis"], found["tasks_wanted"], found["offers"]) == (2500, 7, "exclusive")
    assert found["guarantee"] is None

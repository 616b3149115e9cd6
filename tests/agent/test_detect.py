from __future__ import annotations

import os
from pathlib import Path

import pytest

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig.reservations import Reservation
from runrig.resources import Resources
from runrig_agent.detect import (
    agent_resources,
    count_gpus,
    default_hostname,
    detected,
    parse_attributes,
    parse_reservations,
)


def test_a_host_has_cpus_memory_disk_and_ports(tmp_path: Path) -> None:
    found = detected(tmp_path)

    assert 0 < found.cpu_millis <= len(os.sched_getaffinity(0)) * 1000
    assert found.mem_mib > 0
    assert found.disk_mib > 0
    assert found.ports == ((31000, 32000),)


def test_what_the_operator_names_counts_and_the_rest_is_detected(tmp_path: Path) -> None:
    found = detected(tmp_path)

    resources = agent_resources("cpus:1.5;gpus:2;licences:3", tmp_path)

    assert (resources.cpu_millis, resources.gpus, resources.custom) == (1500, 2, (("licences", 3000),))
    assert (resources.mem_mib, resources.ports) == (found.mem_mib, found.ports)


def test_an_operator_can_say_none(tmp_path: Path) -> None:
    resources = agent_resources("disk:0;ports:[]", tmp_path)

    assert (resources.disk_mib, resources.ports) == (0, ())


@pytest.mark.parametrize("text", ["cpus:0", "cpus", "mem:lots", "ports:[9-1]"])
def test_what_is_no_amount_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="--resources"):
        agent_resources(text, tmp_path)


def test_everything_can_be_named(tmp_path: Path) -> None:
    text = "cpus:4;mem:8192M;disk:100M;gpus:1;ports:[31000-31999]"

    assert agent_resources(text, tmp_path) == Resources.parse(text)


def test_a_host_without_the_tool_has_no_gpus() -> None:
    assert count_gpus("no-such-tool-anywhere") == 0


def test_gpus_are_counted_by_the_drivers_tool(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    tool.chmod(0o755)

    assert count_gpus(str(tool)) == 2


def test_attributes_are_read() -> None:
    assert parse_attributes("rack:a; zone:eu-1;;url:http://x") == (
        ("rack", "a"),
        ("zone", "eu-1"),
        ("url", "http://x"),
    )


@pytest.mark.parametrize("text", ["rack", "rack:", ":a", "hostname:x", "a:" + "b" * 256, "a:b;a:c"])
def test_what_is_no_attribute_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--attributes"):
        parse_attributes(text)


OFFERED = Resources.parse("cpus:4;mem:8G;disk:100G;ports:[31000-31009]")


def test_reservations_are_read() -> None:
    ssd, ports = parse_reservations(("ssd=db/main:cpus:2;mem:4G;disk:80G", "web= web :ports:[31000-31001]"), OFFERED)

    assert ssd == Reservation("ssd", Role("db/main"), Resources.parse("cpus:2;mem:4G;disk:80G"), is_static=True)
    assert ports == Reservation("web", Role("web"), Resources.parse("ports:[31000-31001]"), is_static=True)


@pytest.mark.parametrize(
    "texts, word",
    [
        (("ssd",), "ID=ROLE:NAME:AMOUNT"),
        (("ssd=db",), "ID=ROLE:NAME:AMOUNT"),
        (("=db:cpus:1",), "reservation_id"),
        (("ssd=/db:cpus:1",), "role"),
        (("ssd=db:cpus:much",), "--reserve ssd.cpus"),
        (("ssd=db:",), "some cpu, memory"),
        (("ssd=db:cpus:1", "ssd=eng:cpus:1"), "each once"),
        (("a=db:cpus:3", "b=db:cpus:2"), "--reserve b: 'cpus:2;mem:0M' is not allowed; allowed: what is left: cpus:1"),
    ],
)
def test_what_cannot_be_reserved_is_refused(texts: tuple[str, ...], word: str) -> None:
    with pytest.raises(InvalidInput, match="--reserve") as refused:
        parse_reservations(texts, OFFERED)

    assert word in str(refused.value)


def test_a_host_has_a_name() -> None:
    assert default_hostname()

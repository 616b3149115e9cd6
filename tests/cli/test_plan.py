from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runrig.cli.cluster import ClusterFile, Part, address_of
from runrig.cli.plan import MAX_AGENTS, Choices, Machine, Ports, claims, plan, share
from runrig.errors import InvalidInput
from runrig.resources import Resources, ports_contain

MACHINE = Machine(cpu_millis=12_000, mem_mib=30_000, disk_mib=60_000)


def option(part: Part, name: str) -> str:
    return part.command[part.command.index(name) + 1]


def planned(agents: int = 3, **choices: str) -> list[Part]:
    return plan(Choices(agents, Path("/data"), **choices), Ports.default(agents), MACHINE)  # type: ignore[arg-type]


def test_a_cluster_is_a_master_agents_and_both_frameworks_at_the_documented_ports() -> None:
    parts = planned()

    assert [(part.name, part.kind, part.grpc, part.http) for part in parts] == [
        ("master", "master", "127.0.0.1:5055", "http://127.0.0.1:5050"),
        ("agent-1", "agent", "127.0.0.1:5051", "http://127.0.0.1:5151"),
        ("agent-2", "agent", "127.0.0.1:5052", "http://127.0.0.1:5152"),
        ("agent-3", "agent", "127.0.0.1:5053", "http://127.0.0.1:5153"),
        ("service", "service", "", "http://127.0.0.1:8080"),
        ("batch", "batch", "", "http://127.0.0.1:8090"),
    ]
    assert address_of(parts, "master") == "127.0.0.1:5055"
    assert address_of(parts, "batch") == "http://127.0.0.1:8090"


def test_each_command_is_complete_so_that_it_can_be_started_by_hand() -> None:
    master, agent, *_, batch = planned(runtime="docker", docker_host="unix:///run/other.sock")

    assert master.command[:4] == (sys.executable, "-m", "runrig", "master")
    assert option(master, "--state") == "sqlite:////data/master/master.db"
    assert option(agent, "--master") == "127.0.0.1:5055"
    assert option(agent, "--work-dir") == "/data/agents/agent-1"
    assert option(agent, "--hostname") == "agent-1"
    assert option(agent, "--runtime") == "docker"
    assert option(agent, "--docker-host") == "unix:///run/other.sock"
    assert "--remove-ended" in agent.command
    assert batch.command[3:5] == ("batch", "serve")
    assert option(batch, "--data-dir") == "/data/batch"


@pytest.mark.parametrize("agents", [0, 1, 4, 5, 20, MAX_AGENTS])
def test_no_port_is_given_twice(agents: int) -> None:
    found = claims(planned(agents))

    assert len({claim.port for claim in found}) == len(found) == 4 + 2 * agents


def test_agents_share_the_machine_and_have_task_ports_of_their_own() -> None:
    shares = [share(MACHINE, 3, number, 31_000, "") for number in range(3)]

    assert {each.cpu_millis for each in shares} == {4_000}
    assert sum(each.mem_mib for each in shares) <= MACHINE.mem_mib
    assert sum(each.disk_mib for each in shares) <= MACHINE.disk_mib
    for number, each in enumerate(shares):
        assert ports_contain(((31_000, 31_999),), each.ports)
        assert all(other.ports != each.ports for other in shares[number + 1 :])


def test_an_agent_of_a_small_machine_still_has_room_for_an_app_of_one_cpu() -> None:
    assert share(Machine(2_000, 4_000, 10_000), 3, 0, 31_000, "").cpu_millis == 2_000


def test_resources_that_were_given_replace_those_of_the_same_name_only() -> None:
    given = share(MACHINE, 3, 1, 31_000, "cpus:1;licences:5")

    assert given.cpu_millis == 1_000
    assert given.custom == (("licences", 5_000),)
    assert given.mem_mib == share(MACHINE, 3, 1, 31_000, "").mem_mib
    assert Resources.parse(str(given)) == given


def test_resources_that_cannot_be_read_are_refused_by_the_name_of_the_option() -> None:
    with pytest.raises(InvalidInput, match=r"--resources"):
        share(MACHINE, 3, 0, 31_000, "cpus:many")


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    file, parts = ClusterFile(tmp_path), planned()

    file.write("ready", parts, {"master": 4711})

    assert file.read() == [(part, 4711 if part.name == "master" else None) for part in parts]
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_the_same_choices_find_the_same_plan_again(tmp_path: Path) -> None:
    choices, parts = Choices(3, tmp_path), planned()
    ClusterFile(tmp_path, choices.as_json()).write("stopped", parts, {})

    assert ClusterFile(tmp_path, Choices(3, tmp_path).as_json()).planned_before() == parts
    assert ClusterFile(tmp_path, Choices(2, tmp_path).as_json()).planned_before() == []
    assert ClusterFile(tmp_path / "other", choices.as_json()).planned_before() == []


def test_no_file_is_no_cluster(tmp_path: Path) -> None:
    assert ClusterFile(tmp_path).read() == []
    assert ClusterFile(tmp_path).survivors() == {}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"parts": [{"name": "x"}]}', '{"parts": 1}'])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)

    with pytest.raises(InvalidInput, match=r"--data-dir.*cluster\.json"):
        ClusterFile(tmp_path).read()


def test_a_pid_that_belongs_to_another_program_is_no_survivor(tmp_path: Path) -> None:
    file, parts = ClusterFile(tmp_path), planned()
    file.write("ready", parts, {"master": 1})

    assert file.survivors() == {}

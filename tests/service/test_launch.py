from __future__ import annotations

from runrig.constraints import Constraint, Operator
from runrig.ids import Role, TaskId
from runrig.resources import Resources
from runrig.tasks import CheckKind, NetworkMode, Volume
from runrig.wants import PortWant, Want
from runrig_service.core.app_json import read_app
from runrig_service.core.launch import want
from runrig_service.core.limits import Limits, Policy

VERSION = "2015-02-11T09:31:50.021Z"
POLICY = Policy(roles=(Role("service"), Role("eng/web")))
MAPPINGS = [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "hostPort": 31_053, "protocol": "udp"}]
BRIDGED = {
    "container": {"docker": {"image": "nginx"}, "portMappings": MAPPINGS},
    "networks": [{"mode": "container/bridge"}],
}


def wanted(**fields: object) -> Want:
    app = read_app({"id": "/shop/web", "cmd": "serve", **fields}, Limits(), POLICY)
    return want(app, TaskId("shop_web.instance-1"), VERSION, POLICY)


def env(found: Want) -> dict[str, str]:
    return dict(found.spec.command.env)


def test_a_task_has_what_the_app_says() -> None:
    found = wanted(cpus=0.5, mem=64, disk=10, gpus=1, user="nobody", labels={"a": "b"}, taskKillGracePeriodSeconds=7)

    assert found.spec.resources == Resources(500, 64, 10, 1)
    assert (found.spec.command.shell, found.spec.command.user) == ("serve", "nobody")
    assert (found.spec.name, found.spec.labels, found.spec.kill_grace_ms) == ("/shop/web", (("a", "b"),), 7000)
    assert (found.group, found.role, found.priority) == ("/shop/web", "service", 0)
    assert wanted(priority=7).priority == 7
    assert wanted(role="eng/web").role == "eng/web"


def test_args_are_the_arguments_of_an_image() -> None:
    found = wanted(cmd=None, args=["-v"], container={"docker": {"image": "nginx", "forcePullImage": True}})

    assert found.spec.command.argv == ("-v",)
    assert found.spec.container is not None
    assert (found.spec.container.image, found.spec.container.force_pull) == ("nginx", True)
    assert found.spec.container.network is NetworkMode.HOST


def test_a_task_finds_marathons_variables() -> None:
    found = wanted(cpus=0.1, labels={"my-team": "a", "long": "x" * 600}, env={"LEVEL": "info"}, **BRIDGED)

    assert env(found) == {
        "LEVEL": "info",
        "MARATHON_APP_DOCKER_IMAGE": "nginx",
        "MARATHON_APP_ID": "/shop/web",
        "MARATHON_APP_LABELS": "MY_TEAM",
        "MARATHON_APP_LABEL_MY_TEAM": "a",
        "MARATHON_APP_RESOURCE_CPUS": "0.1",
        "MARATHON_APP_RESOURCE_DISK": "0.0",
        "MARATHON_APP_RESOURCE_GPUS": "0",
        "MARATHON_APP_RESOURCE_MEM": "128.0",
        "MARATHON_APP_VERSION": VERSION,
        "MESOS_TASK_ID": "shop_web.instance-1",
    }


def test_the_apps_own_variables_win() -> None:
    assert env(wanted(env={"MARATHON_APP_ID": "mine"}))["MARATHON_APP_ID"] == "mine"


def test_ports_of_the_host_are_any_unless_the_app_requires_its_own() -> None:
    ports = [{"port": 8080, "name": "http"}, {"port": 0}]

    assert wanted(portDefinitions=ports).ports == (PortWant(name="http", env=("PORT_8080",)), PortWant())
    assert wanted(portDefinitions=ports, requirePorts=True).ports[0].host_port == 8080


def test_ports_of_a_bridge_are_mapped() -> None:
    assert wanted(**BRIDGED).ports == (
        PortWant(0, 80, "http", "tcp", ("PORT_80",)),
        PortWant(31_053, 53, "", "udp", ("PORT_53",)),
    )


def test_ports_of_a_container_network_need_none_of_the_host() -> None:
    found = wanted(
        container={"docker": {"image": "nginx"}, "portMappings": [{"containerPort": 80, "name": "http"}]},
        networks=[{"mode": "container", "name": "blue"}],
        healthChecks=[{"protocol": "TCP"}],
    )

    assert found.ports == ()
    assert found.spec.container is not None
    assert (found.spec.container.network, found.spec.container.network_name) == (NetworkMode.USER, "blue")
    assert env(found)["PORT"] == env(found)["PORT0"] == env(found)["PORT_80"] == env(found)["PORT_HTTP"] == "80"
    assert found.spec.health_checks[0].port == 80


def test_checks_run_on_the_agent_whatever_their_protocol() -> None:
    found = wanted(
        healthChecks=[
            {"protocol": "HTTPS", "path": "/health", "intervalSeconds": 5},
            {"protocol": "MESOS_TCP", "port": 80},
            {"protocol": "COMMAND", "command": {"value": "true"}},
        ]
    )

    https, tcp, command = found.spec.health_checks
    assert (https.kind, https.scheme, https.path, https.interval_ms) == (CheckKind.HTTP, "https", "/health", 5000)
    assert (tcp.kind, tcp.port) == (CheckKind.TCP, 80)
    assert (command.kind, command.shell) == (CheckKind.COMMAND, "true")


def test_constraints_are_said_in_the_words_of_the_sdk() -> None:
    found = wanted(
        constraints=[["hostname", "UNIQUE"], ["@zone", "CLUSTER", "a"], ["rack", "CLUSTER"], ["os", "IS", "linux"]]
    )

    assert found.constraints == (
        Constraint("hostname", Operator.UNIQUE),
        Constraint("zone", Operator.EQUALS, "a"),
        Constraint("os", Operator.EQUALS, "linux"),
    )


def test_volumes_are_directories_of_the_host() -> None:
    volumes = [{"hostPath": "/srv", "containerPath": "/data", "mode": "RO"}]

    assert wanted(container={"type": "MESOS", "volumes": volumes}).spec.volumes == (Volume("/srv", "/data", True),)

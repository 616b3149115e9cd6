from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig.ids import Role
from runrig_service.core.app import App, AppConstraint, AppPort, Network, NetworkKind
from runrig_service.core.app_json import merged, read_app, read_stored_app
from runrig_service.core.app_render import render_app
from runrig_service.core.errors import InvalidApp
from runrig_service.core.limits import Limits, Policy

POLICY = Policy(roles=(Role("service"), Role("eng/web")))
DOCKER = {"type": "DOCKER", "docker": {"image": "nginx"}}

FULL: dict[str, Any] = {
    "id": "/shop/web",
    "args": ["serve", "--port", "$PORT0"],
    "instances": 3,
    "cpus": 0.5,
    "mem": 256,
    "disk": 100,
    "gpus": 1,
    "user": "nobody",
    "env": {"LEVEL": "info"},
    "labels": {"tier": "web"},
    "role": "eng/web",
    "acceptedResourceRoles": ["*"],
    "constraints": [
        ["hostname", "UNIQUE"],
        ["rack", "GROUP_BY", "3"],
        ["@zone", "CLUSTER", "a"],
        ["os", "LIKE", "li.*"],
        ["os", "UNLIKE", "win.*"],
        ["rack", "MAX_PER", "2"],
        ["disk", "IS", "ssd"],
    ],
    "container": {
        "type": "DOCKER",
        "docker": {
            "image": "nginx:1",
            "forcePullImage": True,
            "parameters": [{"key": "hostname", "value": "a"}],
        },
        "portMappings": [
            {"containerPort": 80, "hostPort": 0, "servicePort": 9000, "protocol": "tcp", "name": "http"},
            {"containerPort": 53, "hostPort": 31_053, "protocol": "udp", "labels": {"a": "b"}},
        ],
        "volumes": [{"hostPath": "/srv", "containerPath": "/data", "mode": "RO"}],
    },
    "networks": [{"mode": "container/bridge"}],
    "fetch": [{"uri": "http://files/a.tgz", "extract": False, "executable": True, "destPath": "a"}],
    "healthChecks": [
        {"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 1, "intervalSeconds": 5, "timeoutSeconds": 1.5},
        {"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 0},
        {"protocol": "TCP", "port": 80},
    ],
    "backoffSeconds": 2,
    "backoffFactor": 1.5,
    "maxLaunchDelaySeconds": 60,
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.2},
    "unreachableStrategy": {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120},
    "killSelection": "OLDEST_FIRST",
    "priority": 100,
    "taskKillGracePeriodSeconds": 20,
    "dependencies": ["../db", "/auth"],
}


def read(**fields: object) -> App:
    return read_app({"id": "/web", "cmd": "serve", **fields}, Limits(), POLICY)


def problems(**fields: object) -> dict[str, tuple[str, ...]]:
    with pytest.raises(InvalidApp) as caught:
        read(**fields)
    return caught.value.problems


@pytest.mark.parametrize(
    "body",
    [
        FULL,
        {"id": "web", "cmd": "serve"},
        {"id": "web", "cmd": "serve", "portDefinitions": [], "unreachableStrategy": "disabled"},
        {"id": "web", "cmd": "serve", "portDefinitions": [{"port": 8080, "name": "http"}], "requirePorts": True},
        {"id": "web", "container": DOCKER, "networks": [{"mode": "container", "name": "blue", "labels": {"a": "b"}}]},
        {
            "id": "web",
            "cmd": "serve",
            "container": {"type": "MESOS", "volumes": [{"hostPath": "/a", "containerPath": "b"}]},
        },
    ],
)
def test_what_is_rendered_is_read_back_as_the_same_app(body: dict[str, Any]) -> None:
    app = read_app(body, Limits(), POLICY)

    rendered = render_app(app)

    assert read_app(rendered, Limits(), POLICY) == app
    assert read_stored_app(rendered) == app
    assert None not in rendered.values()


def test_all_fields_of_a_full_app_are_shown_as_they_were_given() -> None:
    rendered = render_app(read_app(FULL, Limits(), POLICY))

    changed = {name for name in FULL if rendered[name] != FULL[name]}

    assert changed == {"container", "fetch", "healthChecks", "dependencies"}  # these gain their defaults
    assert rendered["dependencies"] == ["/db", "/auth"]


def test_an_app_needs_little() -> None:
    app = read()

    assert (app.app_id, app.instances, app.cpu_millis, app.mem_mib) == ("/web", 1, 1000, 128)
    assert app.networks == (Network(NetworkKind.HOST),)
    assert app.ports == (AppPort(),)


@pytest.mark.parametrize(
    "fields, network, ports",
    [
        ({"ports": [9000, 0]}, "host", (AppPort(9000), AppPort(0))),
        ({"ports": [], "portDefinitions": []}, "host", ()),
        ({"ports": [], "portDefinitions": [{"port": 5}]}, "host", (AppPort(5),)),
        ({"portDefinitions": [], "ports": [9000]}, "host", (AppPort(9000),)),
        (
            {"container": {"docker": {"image": "a", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}},
            "container/bridge",
            (AppPort(host_port=0, container_port=80),),
        ),
        ({"container": {"docker": {"image": "a", "network": "HOST"}}, "ports": [1]}, "host", (AppPort(1),)),
        (
            {
                "container": {"docker": {"image": "a", "network": "USER"}, "portMappings": [{"containerPort": 80}]},
                "ipAddress": {"networkName": "blue"},
            },
            "container",
            (AppPort(host_port=None, container_port=80),),
        ),
        (
            {
                "container": {"docker": {"image": "a"}},
                "ipAddress": {"networkName": "blue", "discovery": {"ports": [{"number": 80, "name": "http"}]}},
            },
            "container",
            (AppPort(host_port=None, container_port=80, name="http"),),
        ),
        (
            {"container": DOCKER, "networks": [{"mode": "container/bridge"}]},
            "container/bridge",
            (AppPort(host_port=0),),
        ),
        (
            {"container": {**DOCKER, "portMappings": []}, "networks": [{"mode": "container/bridge"}], "ports": [0]},
            "container/bridge",
            (),
        ),
        ({"container": DOCKER, "networks": [{"mode": "container", "name": "blue"}]}, "container", ()),
    ],
)
def test_every_generation_of_networks_and_ports_is_read(
    fields: dict[str, object], network: str, ports: tuple[AppPort, ...]
) -> None:
    app = read(**fields)

    assert (app.network, app.ports) == (network, ports)


def test_uris_are_the_older_fetch() -> None:
    assert [each.uri for each in read(uris=["http://a", "http://b"], fetch=[]).fetch] == ["http://a", "http://b"]
    assert [each.uri for each in read(uris=["http://a"], fetch=[{"uri": "http://b"}]).fetch] == ["http://b"]


def test_nulls_and_unknown_fields_are_passed_over() -> None:
    nulls = dict.fromkeys(["args", "user", "container", "env", "healthChecks", "upgradeStrategy", "gpus", "fetch"])

    app = read(**nulls, storeUrls=[], taskRateLimit=1.0, tasksRunning=3, version="x", secrets={}, residency=None)

    assert app == read()


def test_amounts_are_rounded_up_to_whole_units() -> None:
    app = read(cpus=1 / 3, mem=32.5)

    assert (app.cpu_millis, app.mem_mib) == (334, 33)
    assert read(cpus=0.1).cpu_millis == 100


def test_health_checks_have_marathons_defaults() -> None:
    [http, command] = read(healthChecks=[{}, {"protocol": "COMMAND", "command": {"value": "true"}}]).health_checks

    assert (http.grace_ms, http.interval_ms, http.timeout_ms) == (300_000, 60_000, 20_000)
    assert (http.max_consecutive_failures, http.path, http.port_index, http.delay_ms) == (3, "/", 0, 0)
    assert (command.port_index, command.delay_ms) == (None, 15_000)


@pytest.mark.parametrize(
    "fields, path, part",
    [
        ({"id": "/UPPER"}, "/id", "small letters"),
        ({"id": "/a/../b"}, "/id", "small letters"),
        ({"id": "/"}, "/id", "must be a path"),
        ({"id": "/shop/versions"}, "/id", "reserved"),
        ({"id": "/" + "a" * 300}, "/id", "200 characters"),
        ({"id": None}, "/id", "must be defined"),
        ({"id": 7}, "/id", "must be a string; got 7"),
        ({"cpus": "1"}, "/cpus", "must be a number from 0.001"),
        ({"cpus": 0}, "/cpus", "got 0"),
        ({"cpus": True}, "/cpus", "must be a number"),
        ({"cpus": float("inf")}, "/cpus", "must be a number"),
        ({"mem": -1}, "/mem", "must be a number from 0"),
        ({"instances": -1}, "/instances", "must be a whole number from 0 to 10000; got -1"),
        ({"instances": 1.5}, "/instances", "got 1.5"),
        ({"priority": 1001}, "/priority", "must be a whole number from 0 to 1000; got 1001"),
        ({"instances": 10**400}, "/instances", "must be a whole number"),
        ({"instances": True}, "/instances", "got True"),
        ({"cmd": 5}, "/cmd", "must be a string"),
        ({"cmd": "a\0b"}, "/cmd", "zero bytes"),
        ({"cmd": "\ud800"}, "/cmd", "valid Unicode"),
        ({"cmd": "a" * 20_000}, "/cmd", "at most 16384 characters"),
        ({"cmd": "a", "args": ["b"]}, "/", "not both"),
        ({"cmd": None}, "/", "must either contain"),
        ({"env": {"A": 1}}, "/env/A", "must be a string; got 1"),
        ({"env": {"A": {"secret": "s"}}}, "/env/A", "must be a string"),
        ({"env": {"A=B": "1"}}, "/env", "must be names without `=`, and no zero byte; got 'A=B'"),
        ({"env": {f"A{number}": "x" * 16_000 for number in range(20)}}, "/env", "bytes must be at most 262144; got"),
        ({"env": {"": "1"}}, "/env", "keys must have"),
        ({"env": []}, "/env", "must be an object"),
        ({"env": {str(number): "" for number in range(2000)}}, "/env", "at most 900"),
        ({"labels": {"a": None, "b": []}}, "/labels/b", "must be a string"),
        ({"constraints": [["rack"]]}, "/constraints(0)", "must be [field, operator]"),
        ({"constraints": [["rack", "NEAR", "x"]]}, "/constraints(0)", "must be one of UNIQUE"),
        ({"constraints": [["rack", "LIKE", "("]]}, "/constraints(0)", "regular expression"),
        ({"constraints": [["rack", "MAX_PER", "0"]]}, "/constraints(0)", "at least 1"),
        ({"constraints": [["rack", "IS"]]}, "/constraints(0)", "needs a value"),
        ({"constraints": "rack UNIQUE"}, "/constraints", "must be a list"),
        ({"container": {"type": "DOCKER"}}, "/container/docker", "must be defined"),
        ({"container": {"docker": {"image": ""}}}, "/container/docker/image", "must not be empty"),
        ({"container": {"docker": {"image": "  "}}}, "/container/docker/image", "must not be empty"),
        ({"container": {"docker": {"image": "a", "privileged": True}}}, "/container/docker/privileged", "privileged"),
        ({"container": {"docker": {"image": "a"}, "volumes": [{"persistent": {}, "containerPath": "a"}]}},
         "/container/volumes(0)/hostPath", "must be defined"),
        ({"container": 1}, "/container", "must be an object"),
        ({"networks": [{"mode": "bridge"}]}, "/networks(0)/mode", "must be one of host"),
        ({"networks": [{"mode": "container/bridge"}]}, "/networks", "without an image"),
        ({"networks": [{"mode": "container"}], "container": DOCKER}, "/networks(0)/name", "must be the name"),
        ({"networks": [{"mode": "host"}, {"mode": "host"}]}, "/networks", "must be one network"),
        ({"ports": ["80"]}, "/ports(0)/", "must be a whole number"),
        ({"ports": [70_000]}, "/ports(0)/", "65535"),
        ({"ports": list(range(1, 200))}, "/ports", "at most 100"),
        ({"portDefinitions": [{"port": 1}, {"port": 1}]}, "/portDefinitions", "Service ports must be unique"),
        ({"portDefinitions": [{"name": "a"}, {"name": "a"}]}, "/portDefinitions", "Port names must be unique"),
        ({"portDefinitions": [{"name": "a b"}]}, "/portDefinitions(0)/name", "letters"),
        ({"portDefinitions": [{"protocol": "udp,tcp"}]}, "/portDefinitions(0)/protocol", "one port for tcp"),
        ({"healthChecks": [{"protocol": "PING"}]}, "/healthChecks(0)/protocol", "must be one of HTTP"),
        ({"healthChecks": [{"protocol": "COMMAND"}]}, "/healthChecks(0)/command", "must be defined"),
        ({"healthChecks": [{"portIndex": 1}]}, "/healthChecks(0)/portIndex", "number of ports, 1"),
        ({"healthChecks": [{}], "portDefinitions": []}, "/healthChecks(0)/portIndex", "the app has none"),
        ({"healthChecks": [{"intervalSeconds": 0}]}, "/healthChecks(0)/intervalSeconds", "from 0.001"),
        ({"healthChecks": [7]}, "/healthChecks(0)", "must be an object"),
        ({"upgradeStrategy": {"minimumHealthCapacity": 2}}, "/upgradeStrategy/minimumHealthCapacity", "to 1.0"),
        ({"unreachableStrategy": "never"}, "/unreachableStrategy", "disabled"),
        (
            {"unreachableStrategy": {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 1}},
            "/unreachableStrategy/expungeAfterSeconds",
            "must not be less",
        ),
        ({"backoffFactor": 0.5}, "/backoffFactor", "from 1.0"),
        ({"killSelection": "RANDOM"}, "/killSelection", "YOUNGEST_FIRST"),
        ({"taskKillGracePeriodSeconds": -1}, "/taskKillGracePeriodSeconds", "from 0"),
        ({"role": "other"}, "/role", "must be one of service, eng/web"),
        ({"acceptedResourceRoles": ["other"]}, "/acceptedResourceRoles(0)", "must be one of *"),
        ({"readinessChecks": [{}]}, "/readinessChecks", "not supported"),
        ({"secrets": {"a": {"source": "b"}}}, "/secrets", "not supported"),
        ({"executor": "/bin/mine"}, "/executor", "must be empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_its_path(fields: dict[str, object], path: str, part: str) -> None:
    found = problems(**fields)

    assert path in found
    assert part in " ".join(found[path])


def test_all_problems_are_told_at_once() -> None:
    assert set(problems(cpus="a", mem="b", env={"A": 1})) == {"/cpus", "/mem", "/env/A"}


def test_a_command_that_is_wrong_is_not_said_to_be_missing_too() -> None:
    assert set(problems(cmd=5)) == {"/cmd"}


def test_an_update_replaces_whole_fields_and_what_says_the_same() -> None:
    current = render_app(read(env={"A": "1"}, portDefinitions=[{"port": 5}], fetch=[{"uri": "http://a"}]))

    app = read_app(
        merged(current, {"args": ["b"], "env": {"B": "2"}, "ports": [7], "uris": ["http://b"], "cpus": None}),
        Limits(),
        POLICY,
    )

    assert (app.cmd, app.args, app.env) == (None, ("b",), (("B", "2"),))
    assert [port.service_port for port in app.ports] == [7]
    assert [each.uri for each in app.fetch] == ["http://b"]


def test_an_update_may_move_an_app_to_another_network() -> None:
    current = render_app(read())
    legacy = {"docker": {"image": "a", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}

    bridged = read_app(merged(current, {"container": legacy}), Limits(), POLICY)
    back = read_app(
        merged(render_app(bridged), {"networks": [{"mode": "host"}], "container": DOCKER}), Limits(), POLICY
    )

    assert bridged.network is NetworkKind.BRIDGE
    assert back.network is NetworkKind.HOST


def test_a_stored_app_is_read_though_limits_and_roles_are_stricter_now() -> None:
    app = read(instances=500, role="eng/web")

    with pytest.raises(InvalidApp):
        read_app(render_app(app), Limits(instances=10), Policy())
    assert read_stored_app(render_app(app)) == app


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={name: JSON | st.just(value) for name, value in FULL.items()}))
def test_whatever_is_sent_is_read_or_refused_and_read_back_the_same(body: dict[str, Any]) -> None:
    outcome = read_or_refused(body)

    if isinstance(outcome, App):
        assert read_app(render_app(outcome), Limits(), POLICY) == outcome
    else:
        assert outcome.problems
        assert str(outcome).isprintable()


@pytest.mark.parametrize("path", ["container", "healthChecks", "constraints", "networks", "upgradeStrategy"])
@given(value=JSON)
def test_hostile_parts_are_refused_and_never_crash(path: str, value: object) -> None:
    outcome = read_or_refused({"id": "/web", "cmd": "serve", path: value})

    assert isinstance(outcome, App) or all(name.startswith("/") for name in outcome.problems)


def read_or_refused(body: dict[str, Any]) -> App | InvalidApp:
    try:
        return read_app(body, Limits(), POLICY)
    except InvalidApp as error:
        return error


def test_constraints_keep_marathons_words() -> None:
    app = read(constraints=[["rack", "CLUSTER"], ["hostname", "UNIQUE"]])

    assert app.constraints == (AppConstraint("rack", "CLUSTER"), AppConstraint("hostname", "UNIQUE"))

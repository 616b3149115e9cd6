from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig_batch.core.job_file import FIELDS, decode, described, parse_submission
from runrig_batch.core.limits import BOUNDLESS, Limits

LIMITS = Limits(roles=(Role("batch"),), max_tasks=1000)
DEEP: Any = []
for _ in range(50):
    DEEP = [DEEP]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"command": ""}, "command"),
    ({"command": 7}, "command"),
    ({"command": "a\0b"}, "command"),
    ({"command": "x" * 70_000}, "command"),
    ({"command": "\ud800"}, "command"),
    ({"argv": []}, "argv"),
    ({"argv": ["a", 1]}, "argv[1]"),
    ({"argv": [""]}, "argv[0]"),
    ({"argv": ["a"], "command": "b"}, "argv"),
    ({"command": "x", "nmae": "y"}, "nmae"),
    ({"command": "x", "name": "a.b"}, "name"),
    ({"command": "x", "name": "a/b"}, "name"),
    ({"command": "x", "name": "-a"}, "name"),
    ({"command": "x", "name": "é"}, "name"),
    ({"command": "x", "name": "a" * 64}, "name"),
    ({"command": "x", "name": "a\n"}, "name"),
    ({"command": "x", "name": None}, "name"),
    ({"command": "x", "image": ""}, "image"),
    ({"command": "x", "image": "  "}, "job x-1.0.1.container.image"),
    ({"command": "x", "env": ["A=b"]}, "env"),
    ({"command": "x", "env": {"A=": "b"}}, "env.A="),
    ({"command": "x", "env": {"": "b"}}, "env."),
    ({"command": "x", "env": {"A": None}}, "env.A"),
    ({"command": "x", "env": {"A": True}}, "env.A"),
    ({"command": "x", "env": {"RUNRIG_JOB_ID": "b"}}, "env.RUNRIG_JOB_ID"),
    ({"command": "x", "env": {f"A{n}": "b" for n in range(300)}}, "env"),
    ({"command": "x", "env": {f"A{n}": "b" * 60_000 for n in range(3)}}, "env"),
    ({"command": "x", "cpus": 0}, "cpus"),
    ({"command": "x", "cpus": -1}, "cpus"),
    ({"command": "x", "cpus": "many"}, "cpus"),
    ({"command": "x", "cpus": 0.0001}, "cpus"),
    ({"command": "x", "cpus": float("nan")}, "cpus"),
    ({"command": "x", "cpus": float("inf")}, "cpus"),
    ({"command": "x", "cpus": True}, "cpus"),
    ({"command": "x", "cpus": [1]}, "cpus"),
    ({"command": "x", "cpus": "1e400"}, "cpus"),
    ({"command": "x", "mem": "-5M"}, "mem"),
    ({"command": "x", "mem": "5X"}, "mem"),
    ({"command": "x", "mem": "9" * 60}, "mem"),
    ({"command": "x", "gpus": 1.5}, "gpus"),
    ({"command": "x", "array": 0}, "array"),
    ({"command": "x", "array": 1001}, "array"),
    ({"command": "x", "array": "0-1000"}, "array"),
    ({"command": "x", "array": "0-9999999999"}, "array"),
    ({"command": "x", "array": "5-3"}, "array"),
    ({"command": "x", "array": "1,1"}, "array"),
    ({"command": "x", "array": "1,,2"}, "array"),
    ({"command": "x", "array": [1, 1]}, "array"),
    ({"command": "x", "array": []}, "array"),
    ({"command": "x", "array": [-1]}, "array"),
    ({"command": "x", "array": True}, "array"),
    ({"command": "x", "array": 2.0}, "array"),
    ({"command": "x", "array": {"from": 1}}, "array"),
    ({"command": "x", "array": 2, "items": ["a"]}, "array"),
    ({"command": "x", "gang": 0}, "gang"),
    ({"command": "x", "gang": 1001}, "gang"),
    ({"command": "x", "gang": True}, "gang"),
    ({"command": "x", "gang": 2, "array": 2}, "array"),
    ({"command": "x", "gang": 2, "items": ["a", "b"]}, "items"),
    ({"command": "x", "gang": 2, "parallelism": 1}, "parallelism"),
    ({"command": "x", "expected_runtime": "soon"}, "expected_runtime"),
    ({"command": "x", "expected_runtime": "99999d"}, "expected_runtime"),
    ({"command": "x", "items": []}, "items"),
    ({"command": "x", "items": ["a"] * 1001}, "items"),
    ({"command": "x", "items": ["a" * 5000]}, "items[0]"),
    ({"command": "x", "items": "abc"}, "items"),
    ({"command": "x", "items": [1]}, "items[0]"),
    ({"command": "x", "parallelism": -1}, "parallelism"),
    ({"command": "x", "retries": 101}, "retries"),
    ({"command": "x", "retries": "2x"}, "retries"),
    ({"command": "x", "retry_delay": "8d"}, "retry_delay"),
    ({"command": "x", "timeout": "1 fortnight"}, "timeout"),
    ({"command": "x", "timeout": -5}, "timeout"),
    ({"command": "x", "timeout": "99999999d"}, "timeout"),
    ({"command": "x", "kill_grace": None}, "kill_grace"),
    ({"command": "x", "constraints": [["rack"]]}, "constraints[0][1]"),
    ({"command": "x", "constraints": [["rack", "LIKE", "("]]}, "constraints[0].value"),
    ({"command": "x", "constraints": [["rack", "NEAR", "a"]]}, "constraints[0][1]"),
    ({"command": "x", "constraints": "rack"}, "constraints"),
    ({"command": "x", "constraints": [["a", "EQUALS", "b", "c"]]}, "constraints[0]"),
    ({"command": "x", "priority": 1001}, "priority"),
    ({"command": "x", "role": "other"}, "role"),
    ({"command": "x", "role": "../etc"}, "role"),
    ({"command": "x", "user": ""}, "user"),
    ({"command": "x", "fetch": [{"url": "x"}]}, "fetch[0].url"),
    ({"command": "x", "fetch": [{"uri": "x", "destination": "../../etc"}]}, "fetch[0].destination"),
    ({"command": "x", "fetch": [{"uri": "x", "extract": "yes"}]}, "fetch[0].extract"),
    ({"command": "x", "fetch": [{"uri": "x", "sha256": "abc"}]}, "fetch[0].sha256"),
    ({"command": "x", "fetch": [3]}, "fetch[0]"),
    ({"command": "x", "labels": {"a": DEEP}}, "labels.a"),
    ({"command": "x", "key": "k" * 129}, "key"),
    ({"command": "x", "key": ""}, "key"),
    ({}, "command"),
]


@pytest.mark.parametrize("description, field", REFUSED, ids=[f"{n}-{field}" for n, (_, field) in enumerate(REFUSED)])
def test_a_wrong_field_is_named(description: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_submission(description, LIMITS)

    assert caught.value.field == field
    assert caught.value.allowed


@pytest.mark.parametrize("description", [None, 3, "x", [], [{"command": "x"}], DEEP])
def test_what_is_no_object_is_no_job(description: object) -> None:
    with pytest.raises(InvalidInput, match="command"):
        parse_submission(description, LIMITS)


def test_a_name_is_made_from_the_program() -> None:
    def name(**description: object) -> str:
        return parse_submission(description, LIMITS)[0].name

    assert name(command="/usr/bin/make -j2 all") == "make"
    assert name(argv=["./render.sh", "x"]) == "rendersh"
    assert name(image="ghcr.io/acme/tool:3") == "tool"
    assert name(command="'unclosed") == "unclosed"
    assert name(command="$(x)") == "x"
    assert name(command="...") == "job"


def test_json_and_toml_say_the_same() -> None:
    toml = 'command = "true"\narray = 3\nconstraints = [["rack", "UNIQUE"]]\n[env]\nA = 1\n'
    json = '{"command": "true", "array": 3, "constraints": [["rack", "UNIQUE"]], "env": {"A": 1}}'

    assert parse_submission(decode(toml, True), LIMITS) == parse_submission(decode(json, False), LIMITS)


def test_a_job_that_names_no_role_runs_in_the_first() -> None:
    assert parse_submission({"command": "x"}, LIMITS)[0].role == "batch"
    assert parse_submission({"command": "x"}, Limits())[0].role is None


def test_an_array_of_one_index_keeps_its_index() -> None:
    spec, _ = parse_submission({"command": "x", "array": [7]}, LIMITS)

    assert parse_submission(described(spec), LIMITS)[0] == spec
    assert spec.indices == ((7, 7),)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
times = st.integers(0, 10**7).map(lambda number: f"{number}ms")
jobs = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)},
    optional={
        "image": st.just("python:3"),
        "env": st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), texts, max_size=3),
        "cpus": st.integers(1, 64000).map(lambda millis: f"{millis / 1000:.3f}"),
        "mem": st.integers(0, 10**6).map(lambda mib: f"{mib}M"),
        "disk": st.integers(0, 10**6),
        "gpus": st.integers(0, 8),
        "retries": st.integers(0, 100),
        "retry_delay": times,
        "timeout": times,
        "expected_runtime": times,
        "kill_grace": times,
        "priority": st.integers(0, 1000),
        "role": st.just("batch"),
        "user": texts,
        "labels": st.dictionaries(texts, texts, max_size=3),
        "constraints": st.lists(st.sampled_from([["rack", "UNIQUE"], ["a", "EQUALS", "b"]]), max_size=2),
        "fetch": st.lists(st.sampled_from(["http://a/b", {"uri": "x", "extract": True}]), max_size=2),
    },
)
commands = st.one_of(
    st.fixed_dictionaries({"command": texts}), st.fixed_dictionaries({"argv": st.lists(texts, min_size=1)})
)
arrays: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.integers(0, 1000).map(lambda number: {"parallelism": number}),
    st.integers(1, 1000).map(lambda size: {"array": size, "parallelism": size // 2}),
    st.integers(1, 1000).map(lambda size: {"gang": size}),
    st.sets(st.integers(0, 2**31 - 1), min_size=1, max_size=20).map(lambda found: {"array": sorted(found)}),
    st.lists(texts, min_size=1, max_size=5).map(lambda items: {"items": items}),
)


@given(jobs, commands, arrays)
def test_a_job_is_stored_as_its_description_and_reads_back_the_same(
    job: dict[str, Any], command: dict[str, Any], array: dict[str, Any]
) -> None:
    spec, _ = parse_submission({**job, **command, **array}, LIMITS)

    stored = described(spec)

    assert parse_submission(stored, BOUNDLESS)[0] == spec
    assert set(stored) <= set(FIELDS)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5))
def test_garbage_is_read_or_refused_and_never_breaks_the_reader(description: dict[str, Any]) -> None:
    try:
        spec, _ = parse_submission({"command": "x", **description}, LIMITS)
    except InvalidInput:
        return

    assert parse_submission(described(spec), BOUNDLESS)[0] == spec

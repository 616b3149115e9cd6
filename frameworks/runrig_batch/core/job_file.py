"""Job descriptions: what users write, and what is stored. `described` is the inverse of `parse_submission`.

Every value that is not allowed is refused with the field, the value and what is allowed; nothing is ignored.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from typing import Any

from runrig.constraints import Constraint, Operator, checked_constraint
from runrig.errors import InvalidInput
from runrig.ids import Role, checked_role
from runrig.resources import Resources, checked_resources, milli_text, parse_count, parse_cpus, parse_mib
from runrig.tasks import MAX_MILLISECONDS, Fetch, checked_task
from runrig_batch.core import durations, indices
from runrig_batch.core.fields import (
    amount_in,
    flag_in,
    list_in,
    only_known,
    pairs_in,
    text_in,
    texts_in,
    whole_in,
)
from runrig_batch.core.indices import Ranges
from runrig_batch.core.job import Job, JobId, JobSpec, want_of
from runrig_batch.core.limits import Limits

FIELDS = (
    *(
        "name",
        "command",
        "argv",
        "image",
        "env",
        "cpus",
        "mem",
        "disk",
        "gpus",
        "array",
        "items",
        "gang",
        "parallelism",
    ),
    *(
        "retries",
        "retry_delay",
        "timeout",
        "expected_runtime",
        "kill_grace",
        "constraints",
        "priority",
        "role",
        "user",
        "fetch",
        "labels",
    ),
    "key",
)
MAX_CONSTRAINTS = 32
MAX_FETCH = 64
MAX_LABELS = 64
MAX_ARGUMENTS = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_ENV_NAME = re.compile(r"[^=\0]+\Z")
_FETCH_FIELDS = ("uri", "destination", "executable", "extract", "sha256")
_RESERVED_ENV = "RUNRIG_"


def decode(text: str, is_toml: bool) -> object:
    """Read JSON or TOML; raise InvalidInput naming the place of the fault."""
    try:
        return tomllib.loads(text) if is_toml else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if is_toml else "JSON"
        raise InvalidInput("job", text[:60], f"valid {kind} ({error})") from None


def parse_submission(description: object, limits: Limits) -> tuple[JobSpec, str]:
    """Return the job that is described, and the client's key for it, or an empty text; raise InvalidInput."""
    given = only_known("job", description, FIELDS)
    key = text_in("key", given["key"], 128) if "key" in given else ""
    return _spec(given, limits), key


def _spec(given: Mapping[str, object], limits: Limits) -> JobSpec:
    argv, shell = _command(given, limits)
    ranges, items = _array(given, limits)
    spec = JobSpec(
        name=_name(given, argv, shell),
        resources=_resources(given, limits),
        argv=argv,
        shell=shell,
        image=text_in("image", given["image"], 512) if "image" in given else "",
        env=_env(given, limits),
        indices=ranges,
        items=items,
        parallelism=whole_in("parallelism", given.get("parallelism", 0), 0, limits.max_tasks),
        retries=whole_in("retries", given.get("retries", 0), 0, limits.max_retries),
        retry_delay_ms=durations.parse_ms("retry_delay", given.get("retry_delay", "1s"), 7 * 86_400_000),
        timeout_ms=durations.parse_ms("timeout", given.get("timeout", 0), MAX_MILLISECONDS),
        kill_grace_ms=durations.parse_ms("kill_grace", given["kill_grace"], 86_400_000)
        if "kill_grace" in given
        else None,
        constraints=_constraints(given),
        priority=whole_in("priority", given.get("priority", 0), 0, limits.max_priority),
        role=_role(given, limits),
        user=text_in("user", given["user"], 64) if "user" in given else "",
        fetch=_fetch(given),
        labels=pairs_in("labels", given.get("labels", {}), MAX_LABELS, 16 * 1024),
        is_gang="gang" in given,
        expected_runtime_ms=durations.parse_ms("expected_runtime", given.get("expected_runtime", 0), MAX_MILLISECONDS),
    )
    return _launchable(spec)


def _launchable(spec: JobSpec) -> JobSpec:
    """Check the first task as an agent would; the others differ only in their index and item."""
    first = next(indices.all_of(spec.indices))
    checked_task(want_of(Job(JobId(f"{spec.name}-1"), 1, spec, 0.0), first, 1).spec, "job")
    return spec


def _name(given: Mapping[str, object], argv: tuple[str, ...], shell: str) -> str:
    if "name" in given:
        name = text_in("name", given["name"], 256)
        if not _NAME.match(name):
            raise InvalidInput("name", name, "1 to 63 letters, digits, `-` and `_`, the first a letter or digit")
        return name
    words = argv or _words(shell) or (str(given.get("image", "")).split(":")[0],)
    bare = re.sub(r"[^A-Za-z0-9_-]", "", words[0].rsplit("/", 1)[-1]).lstrip("-_")[:40]
    return bare or "job"


def _words(shell: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(shell[:1000]))
    except ValueError:
        return tuple(shell[:1000].split())


def _command(given: Mapping[str, object], limits: Limits) -> tuple[tuple[str, ...], str]:
    if "command" in given and "argv" in given:
        raise InvalidInput("argv", given["argv"], "either command, which a shell reads, or argv, which none does")
    if "argv" in given:
        most = limits.max_command_bytes
        argv = texts_in("argv", given["argv"], MAX_ARGUMENTS, "words", most, most)
        if not argv[0]:
            raise InvalidInput("argv[0]", argv[0], "the program to run")
        return argv, ""
    if "command" in given:
        return (), text_in("command", given["command"], limits.max_command_bytes)
    if "image" not in given:
        raise InvalidInput("command", "", "command or argv; only an image has a command of its own")
    return (), ""


def _env(given: Mapping[str, object], limits: Limits) -> tuple[tuple[str, str], ...]:
    env = pairs_in("env", given.get("env", {}), limits.max_env, limits.max_env_bytes)
    for name, value in env:
        if not _ENV_NAME.match(name):
            raise InvalidInput(f"env.{name}", value, "names without `=`")
        if name.startswith(_RESERVED_ENV):
            raise InvalidInput(
                f"env.{name}",
                value,
                f"names that do not begin with {_RESERVED_ENV}: the framework sets those",
            )
    return env


def _array(given: Mapping[str, object], limits: Limits) -> tuple[Ranges, tuple[str, ...]]:
    if "gang" in given:
        for name in ("array", "items", "parallelism"):
            if name in given:
                raise InvalidInput(name, given[name], "nothing beside gang, whose tasks run all at once")
        return indices.first_indices(whole_in("gang", given["gang"], 1, limits.max_gang)), ()
    if "items" in given:
        if "array" in given:
            raise InvalidInput("array", given["array"], "either array or items, which has one index per item")
        items = texts_in(
            "items", given["items"], limits.max_tasks, "items", limits.max_item_bytes, limits.max_items_bytes
        )
        return indices.first_indices(len(items)), items
    array = given.get("array", 1)
    if isinstance(array, list | tuple):
        found = list_in("array", array, limits.max_tasks, "indices")
        return indices.ranges_of("array", [whole_in("array", each, 0, indices.MAX_INDEX) for each in found]), ()
    if isinstance(array, str) and not array.isdigit():
        ranges = indices.parse_ranges("array", text_in("array", array, 200_000))
        if indices.count_of(ranges) > limits.max_tasks:
            raise InvalidInput("array", array, f"at most {limits.max_tasks} indices")
        return ranges, ()
    return indices.first_indices(whole_in("array", array, 1, limits.max_tasks)), ()


def _resources(given: Mapping[str, object], limits: Limits) -> Resources:
    def amount(name: str, default: str | float) -> str | float:
        return amount_in(name, given[name]) if name in given else default

    found = Resources(
        cpu_millis=parse_cpus("cpus", amount("cpus", milli_text(limits.default_cpu_millis))),
        mem_mib=parse_mib("mem", amount("mem", limits.default_mem_mib)),
        disk_mib=parse_mib("disk", amount("disk", 0)),
        gpus=parse_count("gpus", amount("gpus", 0)),
    )
    if found.cpu_millis == 0 and found.gpus == 0:
        raise InvalidInput("cpus", given.get("cpus"), "more than 0, unless the task has a gpu")
    return checked_resources("job", found)


def _constraints(given: Mapping[str, object]) -> tuple[Constraint, ...]:
    if "constraints" not in given or given["constraints"] in ([], ()):
        return ()
    found = list_in("constraints", given["constraints"], MAX_CONSTRAINTS, "constraints")
    return tuple(_constraint(f"constraints[{number}]", each) for number, each in enumerate(found))


def _constraint(field: str, value: object) -> Constraint:
    parts = list_in(field, value, 3, 'texts: an attribute, an operator and its value, such as ["rack", "LIKE", "a|b"]')
    attribute = text_in(f"{field}[0]", parts[0], 255)
    operator = text_in(f"{field}[1]", parts[1] if len(parts) > 1 else "", 32, may_be_empty=True)
    if operator not in Operator.__members__:
        raise InvalidInput(f"{field}[1]", operator, ", ".join(Operator.__members__))
    wanted = text_in(f"{field}[2]", str(parts[2]) if len(parts) > 2 else "", 1024, may_be_empty=True)
    return checked_constraint(field, Constraint(attribute, Operator[operator], wanted))


def _role(given: Mapping[str, object], limits: Limits) -> Role | None:
    if given.get("role") is None:
        return limits.roles[0] if limits.roles else None
    role = checked_role("role", text_in("role", given["role"], 512))
    if limits.roles and role not in limits.roles:
        raise InvalidInput("role", role, f"the roles of this framework: {', '.join(limits.roles)}")
    return role


def _fetch(given: Mapping[str, object]) -> tuple[Fetch, ...]:
    if "fetch" not in given or given["fetch"] in ([], ()):
        return ()
    found = list_in("fetch", given["fetch"], MAX_FETCH, "files")
    return tuple(_fetched(f"fetch[{number}]", each) for number, each in enumerate(found))


def _fetched(field: str, value: object) -> Fetch:
    given = only_known(field, {"uri": value} if isinstance(value, str) else value, _FETCH_FIELDS)
    uri = text_in(f"{field}.uri", given.get("uri", ""), 4096)
    sha256 = text_in(f"{field}.sha256", given.get("sha256", ""), 64, may_be_empty=True)
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InvalidInput(f"{field}.sha256", sha256, "64 hexadecimal digits, in lower case")
    destination = text_in(f"{field}.destination", given.get("destination", ""), 1024, may_be_empty=True)
    if destination.startswith("/") or ".." in destination.split("/"):
        raise InvalidInput(f"{field}.destination", destination, "a path within the sandbox")
    return Fetch(
        uri,
        destination,
        executable=flag_in(f"{field}.executable", given.get("executable", False)),
        extract=flag_in(f"{field}.extract", given.get("extract", False)),
        sha256=sha256,
    )


def described(spec: JobSpec) -> dict[str, Any]:
    """Return the description that reads back as `spec`: what is stored, and what the API shows."""
    resources = spec.resources
    plain: dict[str, Any] = {
        "name": spec.name,
        "command": spec.shell,
        "argv": list(spec.argv),
        "image": spec.image,
        "env": dict(spec.env),
        "disk": f"{resources.disk_mib}M" if resources.disk_mib else "",
        "gpus": resources.gpus,
        "items": list(spec.items),
        "parallelism": spec.parallelism,
        "retries": spec.retries,
        "timeout": durations.text_of(spec.timeout_ms) if spec.timeout_ms else "",
        "expected_runtime": durations.text_of(spec.expected_runtime_ms) if spec.expected_runtime_ms else "",
        "constraints": [[each.attribute, each.operator.name, each.value] for each in spec.constraints],
        "priority": spec.priority,
        "role": spec.role or "",
        "user": spec.user,
        "fetch": [_described_fetch(each) for each in spec.fetch],
        "labels": dict(spec.labels),
    }
    found = {name: value for name, value in plain.items() if value not in ("", 0, [], {})}
    found["cpus"] = milli_text(resources.cpu_millis)
    found["mem"] = f"{resources.mem_mib}M"
    found["retry_delay"] = durations.text_of(spec.retry_delay_ms)
    if spec.kill_grace_ms is not None:
        found["kill_grace"] = durations.text_of(spec.kill_grace_ms)
    if spec.is_gang:
        found["gang"] = spec.size
    elif not spec.items and spec.indices != indices.first_indices(1):
        text = indices.text_of(spec.indices)
        found["array"] = [int(text)] if text.isdigit() else text  # a bare number is a size
    return found


def _described_fetch(fetch: Fetch) -> dict[str, Any]:
    given = {name: getattr(fetch, name) for name in _FETCH_FIELDS}
    return {name: value for name, value in given.items() if value}

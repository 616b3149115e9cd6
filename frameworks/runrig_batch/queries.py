"""The query parameters of the REST API: each is checked, and one that does not exist is refused."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar, cast

from starlette.datastructures import QueryParams

from runrig.errors import InvalidInput
from runrig_batch.core.durations import parse_ms
from runrig_batch.core.fields import whole_in
from runrig_batch.core.job import IndexState, JobId, JobState
from runrig_batch.core.questions import ListIndices, ListJobs
from runrig_batch.mind import Wanted
from runrig_batch.settings import ApiSettings

S = TypeVar("S", bound=StrEnum)

ACTIVE = frozenset({JobState.WAITING, JobState.RUNNING})


def only(query: QueryParams, *names: str) -> None:
    """Raise InvalidInput for a parameter that is not one of `names`."""
    for name in query:
        if name not in names:
            raise InvalidInput(name, query[name], f"no such parameter; there are {', '.join(names) or 'none'}")


def jobs_asked(query: QueryParams, settings: ApiSettings) -> ListJobs:
    """Read which jobs are asked for."""
    only(query, "state", "prefix", "label", "limit", "before")
    return ListJobs(
        states=_job_states(query),
        prefix=query.get("prefix", ""),
        labels=tuple(_label(each) for each in query.getlist("label")),
        before=whole_in("before", query.get("before", 0), 0, 2**53),
        limit=whole_in("limit", query.get("limit", settings.default_page), 1, settings.max_page),
    )


def indices_asked(job_id: JobId, query: QueryParams, settings: ApiSettings) -> ListIndices:
    """Read which indices of a job are asked for."""
    only(query, "state", "limit", "after")
    after = query.get("after")
    return ListIndices(
        job_id,
        states=_states("state", query.getlist("state"), IndexState),
        after=-1 if after is None else whole_in("after", after, 0, 2**31),
        limit=whole_in("limit", query.get("limit", settings.default_page), 1, settings.max_page),
    )


def seconds(query: QueryParams, name: str, default_s: float, most_s: float) -> float:
    """Read a time; above the most that a request may wait it is cut to that, as clients ask again."""
    if name not in query:
        return default_s
    return min(parse_ms(name, query[name], 10**12) / 1000, most_s)


def flag(query: QueryParams, name: str) -> bool:
    """Read `true` or `false`."""
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise InvalidInput(name, value, "true or false")
    return value in ("true", "1", "")


def stream(query: QueryParams) -> Wanted:
    """Read which stream is wanted."""
    value = query.get("stream", "both")
    if value not in ("stdout", "stderr", "both"):
        raise InvalidInput("stream", value, "stdout, stderr or both")
    return cast("Wanted", value)


def _job_states(query: QueryParams) -> frozenset[JobState]:
    given = query.getlist("state")
    plain = [each for each in given if each not in ("all", "active")]
    states = _states("state", plain, JobState, "all", "active")
    return states | ACTIVE if "active" in given else states


def _states(field: str, given: list[str], kind: type[S], *also: str) -> frozenset[S]:
    allowed = [state.value for state in kind]
    for each in given:
        if each not in allowed:
            raise InvalidInput(field, each, ", ".join([*also, *allowed]))
    return frozenset(kind(each) for each in given)


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name:
        raise InvalidInput("label", text, "name:value")
    return name, value

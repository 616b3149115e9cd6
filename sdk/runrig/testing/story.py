"""The trace of a cluster in words: one short line for each thing that happened."""

from __future__ import annotations

from runrig.testing.faults import Fault
from runrig.testing.messages import all_said, said_by
from runrig.testing.world import START, Entry

WIDTH = 118


def clock(at: float) -> str:
    """Say a time of the simulation, from its beginning: `0:01:35.250`, with days before it if there are any."""
    minutes, seconds = divmod(at - START, 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hours}:{minutes:02}:{seconds:06.3f}"


def told(entry: Entry) -> str:
    """Tell one line of the trace."""
    line = f"{clock(entry.at)}  {entry.who:<10} {entry.what}{_detail(entry.detail)}"
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _detail(detail: object) -> str:
    if detail is None or detail == ():
        return ""
    if isinstance(detail, Fault):
        lasts = f" for {detail.lasts_s:.1f} s" if detail.lasts_s else ""
        return "".join(f" {word}" for word in (detail.who, detail.other) if word) + lasts
    if not isinstance(detail, tuple):
        return f" {said_by(detail)}"
    if all(isinstance(part, str) for part in detail):  # a task's key
        return f" {detail[-1]}"
    if len(detail) == 2 and isinstance(detail[0], tuple):  # a task's key and its exit code
        return f" {detail[0][-1]}, exit code {detail[1]}"
    return f": {all_said(detail)}"

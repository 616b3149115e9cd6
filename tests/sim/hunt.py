"""The proof that the simulation catches bugs: each is planted in a copy of the tree, and seeds are run until one fails.

    make mutants                                 all of them
    make mutants ARGS="--only epoch --story"     those whose name, part or file has the word, with what led to the end

The table says which seed failed and who objected. Exit 1: a bug stayed unseen within its bound and nothing says that
no simulation could see it; or the list has rotted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.mutants.mutant import ROOT

PACKAGES = ("sdk", "master", "agent", "frameworks")
COPIED = (*PACKAGES, "tests/sim", "tests/master")
TIME_LIMIT_S = 300.0
"""For the hunt of one bug: twenty times what one takes that is seen late."""


@dataclass(frozen=True, slots=True)
class Catch:
    """How a hunt ended; `seed` None: nothing failed within the bound, or in time."""

    mutant: Mutant
    seed: int | None
    where: str
    what: str
    story: str
    took_s: float

    @property
    def is_fine(self) -> bool:
        """Say whether it ended as the list says: caught, or equivalent and not caught."""
        return (self.seed is None) == bool(self.mutant.equivalent)

    @property
    def verdict(self) -> str:
        """Return one word for the table."""
        if self.seed is not None:
            return "caught" if self.is_fine else "CAUGHT, though said to be equivalent"
        return "equivalent" if self.is_fine else "NOT CAUGHT"


def copy_tree(target: Path) -> None:
    """Copy all that a simulation needs, with what is compiled of it: that stays good, as times are copied, too."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(".*"))
    shutil.copy2(ROOT / "tests" / "__init__.py", target / "tests")


async def hunt_one(mutant: Mutant, copy: Path, time_limit_s: float = TIME_LIMIT_S) -> Catch:
    """Plant a bug in a copy, seek, and take it out again."""
    path = copy / mutant.file
    original = path.read_text()
    began = time.monotonic()
    mutant.plant(copy)
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        stale.unlink()  # a file that was changed within a second and kept its length would be taken for the old one
    try:
        found = await _seek(copy, mutant.within, time_limit_s)
    finally:
        path.write_text(original)
    where, what, story = (str(found.get(key, "")) for key in ("where", "what", "story"))
    seed = found["seed"]
    assert seed is None or isinstance(seed, int)
    return Catch(mutant, seed, where, what, story, time.monotonic() - began)


async def _seek(copy: Path, bound: int, time_limit_s: float) -> dict[str, object]:
    places = [str(copy / name) for name in PACKAGES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*places, str(copy)))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.sim.seek", str(copy), str(bound)),
        cwd=copy,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(child.communicate(), time_limit_s)
    except TimeoutError:
        return {"seed": None, "what": f"it did not come to an end within {time_limit_s:g} s"}
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        return {"seed": None, "what": "the seeds could not be run", "story": errors.decode()}
    found: dict[str, object] = json.loads(out)
    return found


async def hunt(mutants: Sequence[Mutant], jobs: int, tell: Callable[[Catch], None]) -> list[Catch]:
    """Hunt all, `jobs` at a time, each in a copy of its own; `tell` is told of each as it ends."""
    caught: list[Catch] = []
    left = iter(mutants)
    with tempfile.TemporaryDirectory(prefix="runrig-mutants-") as folder:

        async def work(copy: Path) -> None:
            await asyncio.to_thread(copy_tree, copy)
            for mutant in left:
                catch = await hunt_one(mutant, copy)
                caught.append(catch)
                tell(catch)

        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, min(jobs, len(mutants)))):
                group.create_task(work(Path(folder) / f"copy-{number}"))
    return sorted(caught, key=lambda each: mutants.index(each.mutant))


def line_of(catch: Catch) -> str:
    """Return a line of the table."""
    mutant = catch.mutant
    seed = "-" if catch.seed is None else str(catch.seed)
    reason = f"{catch.where} {catch.what}" if catch.seed is not None else mutant.equivalent or catch.what
    return (
        f"{mutant.part:<8} {mutant.name:<72} {catch.verdict:<11} {seed:>4} of {mutant.within:<4}"
        f"{catch.took_s:7.1f} s  {reason}"[:240]
    )


def counts_of(catches: Sequence[Catch]) -> str:
    """Return the last lines of the table: how many of each part were caught, and by whom."""
    parts = Counter(catch.mutant.part for catch in catches)
    caught = Counter(catch.mutant.part for catch in catches if catch.seed is not None)
    equivalent = sum(bool(catch.mutant.equivalent) for catch in catches)
    checkers = Counter(catch.where.partition(":")[0] for catch in catches if catch.seed is not None)
    seeds = sorted(catch.seed for catch in catches if catch.seed is not None)
    middle, last = (seeds[len(seeds) // 2], seeds[-1]) if seeds else (0, 0)
    return "\n".join(
        (
            "by part:  " + ", ".join(f"{part} {caught[part]} of {count}" for part, count in parts.items()),
            "by place: " + ", ".join(f"{place} {count}" for place, count in checkers.most_common()),
            f"in all:   {len(seeds)} of {len(catches)} caught, half of them by seed {middle}, all by seed {last}",
            f"          {equivalent} are said to be equivalent",
        )
    )


@click.command()
@click.option("--jobs", default=2, show_default=True, help="How many are hunted at a time.")
@click.option("--only", default="", help="Hunt those whose name, part or file has this in it.")
@click.option("--within", default=0, help="Try this many seeds, whatever the list says.")
@click.option("--story", is_flag=True, help="Tell what led to each failure.")
def main(jobs: int, only: str, within: int, story: bool) -> None:
    """Plant bugs in copies of the tree, one at a time, and see that the simulation notices."""
    chosen = [each for each in MUTANTS if only in each.name or only in each.part or only in each.file]
    if within:
        chosen = [replace(each, within=within) for each in chosen]
    done = 0

    def tell(catch: Catch) -> None:
        nonlocal done
        done += 1
        click.echo(f"{done:>4}/{len(chosen)} {line_of(catch)}", err=True)

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        catches = asyncio.run(hunt(chosen, jobs, tell))
        for catch in catches:
            click.echo(line_of(catch))
            if story or not catch.is_fine:
                click.echo(catch.story)
        click.echo(counts_of(catches))
        sys.exit(0 if all(catch.is_fine for catch in catches) else 1)
    sys.exit(130)


if __name__ == "__main__":
    main()

"""Gangs of several roles that together want more than may be laid away, and such as a limit forbids."""

from __future__ import annotations

from dataclasses import replace

from runrig.demand import Demand
from runrig.ids import Role
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import FINISHED, World, agent, demand, given, launch_on, notes, offers_in, said, task

AFTER_S = 10.0
LASTS_S = 100.0
SETTINGS = CoreSettings(layaway_after_s=AFTER_S, layaway_s=LASTS_S, layaway_fraction=0.5)


def busy(agents: int) -> World:
    """Return a world of agents with two cpus, each used by two tasks of framework g."""
    world = given(*(agent(f"a{number}", cpus=2) for number in range(agents)), settings=SETTINGS)
    for offer in offers_in(world.want(demand("d", count=2 * agents), by="g")):
        world.accept(launch_on(offer, *(task(f"{offer.agent_id}-{index}") for index in range(2))), by="g")
    return world


def gang(name: str, count: int, priority: int = 0) -> Demand:
    return replace(demand(name, count=count), gang_id=name, priority=priority)


def laying_away(world: World) -> set[str]:
    """Return the gangs that lay away."""
    return {claim.wanted.demand.gang_id for claim in world.master.cluster.backlog.claims}


def test_a_gang_that_others_crowd_out_lays_away_when_they_have_their_places() -> None:
    world = busy(agents=4)
    world.want(gang("first", 4), by="f")
    world.want(gang("second", 4), by="h", after=1.0)
    world.turn(after=AFTER_S)
    assert laying_away(world) == {"first"}

    for number in range(2):
        ends = [said(f"a{number}-{index}", FINISHED, agent_id=f"a{number}", framework_id="g") for index in range(2)]
        world.report(*ends, by=f"a{number}")

    assert {offer.gang_id for offer in world.offers("f")} == {"first"}
    assert laying_away(world) == {"second"}


def test_juniors_do_not_begin_before_a_gang_that_is_crowded_out() -> None:
    world = busy(agents=4)
    world.want(gang("first", 3), by="f")
    world.want(gang("second", 2), by="h", after=1.0)
    world.want(gang("third", 1), by="i", after=1.0)

    world.turn(after=AFTER_S)
    assert laying_away(world) == {"first"}
    world.turn(after=LASTS_S)

    assert laying_away(world) == {"second", "third"}


def test_a_gang_that_has_had_its_time_leaves_its_turn_to_one_of_a_lower_priority() -> None:
    world = busy(agents=4)
    world.want(gang("urgent", 4, priority=0), by="f", role="train")
    world.want(gang("other", 4, priority=-1), by="h", role="train")
    world.turn(after=AFTER_S)
    assert laying_away(world) == {"urgent"}

    world.turn(after=LASTS_S)

    assert laying_away(world) == {"other"}


def test_what_a_limit_forbids_is_not_laid_away_and_others_of_the_role_are() -> None:
    world = busy(agents=4)
    world.set_quotas(RoleQuota(Role("train"), Quota(cpu_millis=3000)))
    world.want(gang("large", 4), by="f", role="train")
    world.want(gang("small", 2), by="h", role="train", after=1.0)

    world.turn(after=AFTER_S)

    assert laying_away(world) == {"small"}


def test_a_lay_away_that_a_new_limit_forbids_ends() -> None:
    world = busy(agents=4)
    world.want(gang("train", 4), by="f", role="train")
    assert "gang lays away" in notes(world.turn(after=AFTER_S))

    world.set_quotas(RoleQuota(Role("train"), Quota(cpu_millis=3000)))

    assert laying_away(world) == set()

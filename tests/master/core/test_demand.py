"""Offers cut to demand: just what is wanted, where it suits, one task at a time to the poorest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from runrig.constraints import Constraint, Operator
from runrig.demand import Demand, Placement
from runrig.ids import Role
from runrig.offers import Filter, Offer, RescindReason, UpdateFramework
from runrig.reservations import Reservation
from runrig.resources import Resources
from runrig.tasks import RuntimeKind, Terms
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_master.core.settings import CoreSettings
from tests.master.core.cluster import (
    FINISHED,
    NO_FILTER,
    World,
    agent,
    demand,
    framework,
    given,
    launch_on,
    offers_in,
    refused_calls,
    rescinded,
    said,
    task,
)

UNIQUE_HOST = (Constraint("hostname", Operator.UNIQUE),)


def cpus(offers: list[Offer]) -> list[int]:
    return [offer.resources.cpu_millis // 1000 for offer in offers]


def agents_of(offers: list[Offer]) -> list[str]:
    return [offer.agent_id for offer in offers]


def test_a_framework_with_demand_is_offered_just_what_it_wants() -> None:
    world = given(agent("a1", cpus=4))

    [offer] = offers_in(world.want(demand("d", cpus=1, count=2)))

    assert offer.resources == Resources(2000, 256)


def test_a_framework_that_uses_demand_and_states_none_is_offered_nothing() -> None:
    world = given(agent("a1"))

    assert offers_in(world.subscribe(framework("f"), uses_demand=True)) == []


def test_demand_is_not_offered_twice_while_an_offer_of_it_is_out() -> None:
    world = given(agent("a1"), agent("a2"))
    world.want(demand("d"))

    assert offers_in(world.want(demand("d"))) == []
    assert len(offers_in(world.want(demand("d", count=2)))) == 1


def test_what_was_launched_is_taken_off_the_demand() -> None:
    world = given(agent("a1"))
    [offer] = offers_in(world.want(demand("d", count=2)))

    commands = world.accept(launch_on(offer, task("t1"), task("t2")))

    assert offers_in(commands) == []


def test_what_was_offered_and_not_launched_is_offered_elsewhere() -> None:
    world = given(agent("a1"), agent("a2"))
    [offer] = offers_in(world.want(demand("d", count=2)))

    [other] = offers_in(world.accept(launch_on(offer, task("t1")), filter_=Filter(60_000)))

    assert (other.agent_id, cpus([other])) == ("a2", [1])


def test_declined_demand_looks_at_other_agents_at_once() -> None:
    world = given(agent("a1"), agent("a2"))
    [offer] = offers_in(world.want(demand("d")))

    [other] = offers_in(world.decline(offer, filter_=Filter(60_000)))

    assert agents_of([offer, other]) == ["a1", "a2"]


def test_demand_that_fits_nowhere_waits_for_what_becomes_free() -> None:
    world = given(agent("a1", cpus=2))
    world.want(demand("d", count=2))
    world.accept(launch_on(world.offers(), task("t1"), task("t2")))
    assert offers_in(world.want(demand("d", count=1))) == []

    [offer] = offers_in(world.report(said("t1", FINISHED)))

    assert cpus([offer]) == [1]


def test_demand_that_no_agent_can_ever_hold_costs_nothing_until_one_can() -> None:
    world = given(agent("a1", cpus=4))
    assert offers_in(world.want(demand("d", cpus=8))) == []
    assert len(world.master.cluster.backlog.infeasible) == 1

    [offer] = offers_in(world.connect(agent("a2", cpus=16)))

    assert offer.agent_id == "a2"
    assert not world.master.cluster.backlog.infeasible


def test_the_more_urgent_demand_is_served_first() -> None:
    world = given(agent("a1", cpus=1))

    [offer] = offers_in(world.want(demand("small"), replace(demand("urgent"), priority=5, port_count=0)))

    client = next(iter(world.master.cluster.backlog.waiting))
    assert client.demand.demand_id == "small"
    assert cpus([offer]) == [1]


def test_two_frameworks_share_task_by_task_and_not_host_by_host() -> None:
    world = given(agent("a1", cpus=12, mem_mib=100_000))
    world.want(demand("d", cpus=1, count=100))
    world.accept(launch_on(world.offers(), *(task(f"t{number}") for number in range(12))))
    world.want(demand("d", cpus=1, count=88))
    world.want(demand("e", cpus=2, count=100), by="g")
    world.report(*(said(f"t{number}", FINISHED) for number in range(12)))

    held = {name: sum(cpus(world.offers(name))) for name in ("f", "g")}
    assert held == {"f": 6, "g": 6}


def test_a_raw_framework_lives_beside_one_with_demand() -> None:
    world = given(agent("a1", cpus=4), framework("raw"))

    made = offers_in(world.want(demand("d", cpus=1), by="a-first"))

    assert sorted((offer.role, cpus([offer])[0]) for offer in made) == [("a-first", 1), ("raw", 3)]


@pytest.mark.parametrize("placement, expected", [(Placement.PACK, {"a2": 2}), (Placement.SPREAD, {"a1": 1, "a3": 1})])
def test_the_hint_says_which_of_several_agents_is_better(placement: Placement, expected: dict[str, int]) -> None:
    world = given(agent("a1", cpus=8), agent("a2", cpus=4), agent("a3", cpus=8))

    made = offers_in(world.want(replace(demand("d", count=2), placement=placement)))

    assert {offer.agent_id: cpus([offer])[0] for offer in made} == expected


def test_unique_hosts_are_counted_with_the_tasks_of_the_group_and_the_offers_that_are_out() -> None:
    world = given(*(agent(f"a{number}") for number in range(4)))
    web = replace(demand("d", count=2), constraints=UNIQUE_HOST, group="web")
    first = offers_in(world.want(web))
    web_task = replace(task("t1"), terms=Terms(group="web"))
    world.accept(launch_on(first[0], web_task), filter_=NO_FILTER)

    more = offers_in(world.want(replace(web, count=9)))

    assert Counter(agents_of([*first, *more])) == Counter({f"a{number}": 1 for number in range(4)})


def test_a_group_is_balanced_over_the_values_of_an_attribute() -> None:
    racks = [agent(f"a{number}", attributes=(("rack", "x" if number < 3 else "y"),)) for number in range(4)]
    world = given(*racks)
    balanced = replace(demand("d", count=4), constraints=(Constraint("rack", Operator.GROUP_BY),), group="web")

    made = offers_in(world.want(balanced))

    by_rack = Counter({"x": 0, "y": 0})
    for offer in made:
        by_rack[dict(offer.attributes)["rack"]] += cpus([offer])[0]
    assert by_rack == {"x": 2, "y": 2}


def test_constraints_runtimes_and_ports_choose_the_agent() -> None:
    world = given(
        agent("a1"),
        agent("a2", attributes=(("zone", "eu"),)),
        agent("a3", attributes=(("zone", "eu"),), ports="[31000-31001]"),
    )
    picky = replace(demand("d"), constraints=(Constraint("zone", Operator.EQUALS, "eu"),), port_count=2)

    [offer] = offers_in(world.want(picky, replace(demand("docker"), runtime=RuntimeKind.DOCKER)))

    assert (offer.agent_id, offer.resources.ports) == ("a3", ((31000, 31001),))


def test_gpus_go_only_to_who_asks_for_them() -> None:
    world = given(agent("a1", cpus=4, gpus=2), framework("raw"))
    [raw] = offers_in(world.turn())
    world.decline(raw, by="raw", filter_=Filter(60_000))

    [asked] = offers_in(world.want(Demand("d", Resources(1000, 128, gpus=1))))

    assert (raw.resources.gpus, asked.resources.gpus) == (0, 1)


def test_a_limit_caps_a_role_with_all_below_it_and_offers_are_cut_to_fit() -> None:
    world = given(agent("a1", cpus=8, mem_mib=8192), framework("raw", "eng/raw"))
    world.set_quotas(RoleQuota(framework("x", "eng").roles[0], limit=Quota(cpu_millis=5000)))
    world.want(demand("d", count=9), by="f", role="eng/f")

    held = sum(cpus(world.offers("f"))) + sum(cpus(world.offers("raw")))

    assert held == 5


def test_a_guarantee_is_served_before_fairness() -> None:
    world = given(agent("a1", cpus=4))
    world.set_quotas(RoleQuota(framework("vip").roles[0], guarantee=Quota(cpu_millis=3000)))
    world.handle(world.subscription(framework("vip"), uses_demand=True))
    world.want(demand("d", count=1), by="vip")
    [first] = world.offers("vip")
    world.accept(launch_on(first, task("v1")), by="vip")
    world.want(demand("d", count=9), by="poor")
    world.accept(launch_on(world.offers("poor"), *(task(f"p{number}") for number in range(3))), by="poor")

    world.want(demand("d", count=9), by="vip")
    world.report(said("p0", FINISHED, framework_id="poor"), said("p1", FINISHED, framework_id="poor"))

    assert sum(cpus(world.offers("vip"))) == 2
    assert world.offers("poor") == []


def test_an_offer_held_without_an_answer_is_called_in_for_demand_that_waits() -> None:
    world = given(agent("a1", cpus=4), framework("hoarder"))
    world.turn()
    assert offers_in(world.want(demand("d"))) == []

    due = world.master.next_deadline()
    assert due is not None
    commands = world.turn(after=due - world.now)

    assert [reason for _, reason in rescinded(commands)] == [RescindReason.DEMANDED]
    assert [(offer.role, cpus([offer])) for offer in offers_in(commands)] == [("f", [1])]
    assert due - world.now <= 0
    assert world.offers("hoarder") == []


def test_only_as_many_held_offers_are_called_in_as_are_needed() -> None:
    world = given(*(agent(f"a{number}", cpus=4) for number in range(5)), framework("hoarder"))
    world.turn()
    world.want(demand("d", count=6))

    world.turn(after=1.0)

    assert sum(cpus(world.offers("f"))) == 6
    assert len(world.offers("hoarder")) == 3


def test_nobody_is_woken_again_and_again_for_demand_that_nothing_helps() -> None:
    world = given(agent("a1", cpus=2), framework("hoarder"))
    world.turn()
    world.want(demand("d", cpus=4))

    world.turn(after=1.0)

    due = world.master.next_deadline()
    assert due is not None
    assert due > world.now


def test_demand_may_name_the_reservation_that_alone_will_do() -> None:
    kept = Reservation("fast", Role("f"), Resources(2000, 1024), is_static=True)
    world = given(agent("a1"), replace(agent("a2"), reservations=(kept,)))

    [offer] = offers_in(world.want(replace(demand("d", count=9), reservation_id="fast")))

    assert offer.reservation is not None
    assert (offer.agent_id, offer.reservation.reservation_id, cpus([offer])) == ("a2", "fast", [2])


def test_offers_of_demand_that_has_changed_its_group_count_in_the_new_one() -> None:
    world = given(agent("a1"), agent("a2"))
    web = replace(demand("d"), constraints=UNIQUE_HOST, group="web")
    [offer] = offers_in(world.want(web))
    world.want(replace(web, group="api"))
    world.decline(offer, filter_=NO_FILTER)

    [other] = offers_in(world.want(replace(web, group="api"), replace(web, demand_id="e")))

    assert other.agent_id == "a1"


def test_demand_that_is_withdrawn_is_forgotten() -> None:
    world = given(agent("a1", cpus=1))
    world.want(demand("d", count=5), demand("huge", cpus=99))

    world.want()

    backlog = world.master.cluster.backlog
    assert not backlog.waiting
    assert not backlog.infeasible


def test_demand_of_a_role_that_is_given_up_is_forgotten() -> None:
    world = given(agent("a1", cpus=1))
    world.handle(world.subscription(framework("f", "eng", "ops"), uses_demand=True))
    world.want(demand("d", count=5), role="ops")

    world.call(UpdateFramework(framework("f", "eng")))

    assert not world.master.cluster.backlog.waiting
    assert world.offers() == []


def test_a_demand_id_stands_once() -> None:
    world = World(CoreSettings())

    [refused] = refused_calls(world.want(demand("d"), demand("d")))

    assert refused == ("update_demand", "update_demand.demand_id: 'd' is not allowed; allowed: each once in a role")

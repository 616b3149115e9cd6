"""`match` on plain data: constraints, fitness, ports, and what is said of offers that do not serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runrig.constraints import Constraint, Operator
from runrig.demand import Placement
from runrig.ids import AgentId, OfferId, Role, TaskId
from runrig.matching import Matched, Placed, match, place_attributes
from runrig.offers import Offer
from runrig.reservations import PersistentVolume, Reservation, Unavailability
from runrig.resources import Resources
from runrig.tasks import Command, Container, RuntimeKind, TaskSpec, Terms, Volume
from runrig.wants import PortWant, Want

EQUALS, NOT_EQUALS, LIKE, UNLIKE = Operator.EQUALS, Operator.NOT_EQUALS, Operator.LIKE, Operator.UNLIKE
UNIQUE, GROUP_BY, MAX_PER = Operator.UNIQUE, Operator.GROUP_BY, Operator.MAX_PER


@pytest.mark.parametrize(
    "operator, value, hosts",
    [
        (EQUALS, "a", ["h1"]),
        (NOT_EQUALS, "a", ["h2", "h3"]),
        (LIKE, "a|b", ["h1", "h2"]),
        (LIKE, "", []),
        (UNLIKE, "[ab]", ["h3"]),
        (UNLIKE, "x", ["h1", "h2", "h3"]),
    ],
)
def test_a_constraint_admits_the_agents_that_meet_it(operator: Operator, value: str, hosts: list[str]) -> None:
    """The third agent has no rack: only what is not asked for can be true of it."""
    offers = [offer("h1", rack="a"), offer("h2", rack="b"), offer("h3")]
    wants = several(9, Constraint("rack", operator, value))

    assert sorted(set(hosts_of(match(wants, offers, Placed())))) == hosts


def test_hostname_is_an_attribute_and_a_pattern_must_fit_the_whole_of_it() -> None:
    offers = [offer("web-1"), offer("web-10")]

    found = match(several(4, Constraint("hostname", LIKE, r"web-\d")), offers, Placed())

    assert set(hosts_of(found)) == {"web-1"}


def test_all_constraints_must_be_met() -> None:
    offers = [offer("h1", rack="a", disk="ssd"), offer("h2", rack="a"), offer("h3", disk="ssd")]
    wants = several(1, Constraint("rack", EQUALS, "a"), Constraint("disk", EQUALS, "ssd"))

    assert hosts_of(match(wants, offers, Placed())) == ["h1"]


def test_unique_puts_one_of_a_group_on_each_value_those_that_run_included() -> None:
    placed = Placed()
    placed.add("web", place_attributes(offer("h1")))

    found = match(several(3, Constraint("hostname", UNIQUE)), offers(3), placed)

    assert hosts_of(found) == ["h2", "h3"]
    assert found.unplaced == ["web-3"]
    assert "hostname UNIQUE" in found.reasons.values()


def test_groups_do_not_count_each_others_tasks() -> None:
    one = Constraint("hostname", UNIQUE)

    found = match([*several(1, one), *several(1, one, group="other")], offers(1), Placed())

    assert hosts_of(found) == ["h1", "h1"]


def test_what_has_ended_makes_room_again() -> None:
    placed = Placed()
    placed.add("web", place_attributes(offer("h1")))
    placed.add("web", place_attributes(offer("h1")), -1)

    assert hosts_of(match(several(1, Constraint("hostname", UNIQUE)), offers(1), placed)) == ["h1"]


def test_max_per_allows_so_many_on_each_value() -> None:
    racks = [offer("h1", rack="a"), offer("h2", rack="a"), offer("h3", rack="b")]

    found = match(several(9, Constraint("rack", MAX_PER, "2")), racks, Placed())

    assert Counter(item.offer.attribute("rack") for item in found.matches) == {"a": 2, "b": 2}


@pytest.mark.parametrize("placement", list(Placement))
def test_group_by_keeps_the_values_even_whatever_the_fitness(placement: Placement) -> None:
    racks = [offer("h1", "cpus:9;mem:9G", rack="a"), offer("h2", "cpus:3;mem:9G", rack="b"), offer("h3", rack="b")]
    wants = several(6, Constraint("rack", GROUP_BY), placement=placement)

    found = match(wants, racks, Placed())

    assert Counter(item.offer.attribute("rack") for item in found.matches) == {"a": 3, "b": 3}


def test_group_by_stops_where_the_emptiest_value_has_no_room() -> None:
    racks = [offer("h1", "cpus:9;mem:9G", rack="a"), offer("h2", "cpus:1;mem:9G", rack="b")]

    found = match(several(6, Constraint("rack", GROUP_BY)), racks, Placed())

    assert Counter(item.offer.attribute("rack") for item in found.matches) == {"a": 2, "b": 1}
    assert len(found.unplaced) == 3


def test_group_by_with_a_number_puts_one_on_each_value_until_so_many_values_are_known() -> None:
    three = Constraint("rack", GROUP_BY, "3")
    placed = Placed()
    two = [offer("h1", rack="a"), offer("h2", rack="b")]

    first = match(several(6, three), two, placed)
    rest = match(several(6, three)[2:], [*two, offer("h3", rack="c")], placed)

    assert hosts_of(first) == ["h1", "h2"]
    assert Counter(item.offer.attribute("rack") for item in [*first.matches, *rest.matches]) == {"a": 2, "b": 2, "c": 2}


def test_pack_fills_the_fullest_agent_that_has_room_and_spread_goes_to_where_fewest_are() -> None:
    rooms = [offer("h1", "cpus:4;mem:4G"), offer("h2", "cpus:2;mem:4G"), offer("h3", "cpus:3;mem:4G")]

    packed = match(several(5, placement=Placement.PACK), rooms, Placed())
    spread = match(several(5, placement=Placement.SPREAD), rooms, Placed())

    assert hosts_of(packed) == ["h2", "h2", "h3", "h3", "h3"]
    assert hosts_of(spread) == ["h1", "h3", "h2", "h1", "h3"]


def test_spread_counts_what_runs_already() -> None:
    placed = Placed()
    placed.add("web", place_attributes(offer("h1", "cpus:8;mem:8G")))

    assert hosts_of(match(several(1, placement=Placement.SPREAD), offers(2), placed)) == ["h2"]


def test_a_room_takes_what_fits_and_not_a_thousandth_more() -> None:
    found = match(several(5, cpus=1334), [offer("h1", "cpus:4;mem:4G")], Placed())

    assert len(found.matches) == 2
    assert found.reasons == {"o-h1": "short of cpu_millis by 2"}


def test_an_agent_without_the_runtime_does_not_serve_and_one_that_names_none_is_tried() -> None:
    boxed = replace(several(1)[0], spec=replace(spec("boxed"), container=Container("busybox")))
    plain = replace(offer("h1"), runtimes=(RuntimeKind.PROCESS,))

    found = match([boxed], [plain], Placed())

    assert found.reasons == {"o-h1": "agent has no docker runtime"}
    assert hosts_of(match([boxed], [offer("h2")], Placed())) == ["h2"]


def test_a_want_of_a_role_takes_offers_of_that_role_only() -> None:
    other = replace(offer("h1"), role=Role("other"))
    want = replace(several(1)[0], role=Role("default"))

    assert hosts_of(match([want], [other, offer("h2")], Placed())) == ["h2"]


def test_ports_are_taken_from_the_offer_each_once_and_told_to_the_task() -> None:
    wants = [replace(want, ports=(PortWant(name="http"), PortWant(env=("DEBUG_PORT",)))) for want in several(2)]

    found = match(wants, [offer("h1", "cpus:4;mem:4G;ports:[31000-31001,31005-31006]")], Placed())

    first, second = (item.spec for item in found.matches)
    assert [port.host_port for port in (*first.ports, *second.ports)] == [31000, 31001, 31005, 31006]
    assert dict(first.command.env) == {
        "HOST": "h1",
        "PORT": "31000",
        "PORTS": "31000,31001",
        "PORT0": "31000",
        "PORT1": "31001",
        "PORT_HTTP": "31000",
        "DEBUG_PORT": "31001",
    }
    assert second.resources.ports == ((31005, 31006),)


def test_a_fixed_port_is_had_by_one_and_other_ports_leave_it_alone() -> None:
    fixed = [replace(want, ports=(PortWant(), PortWant(host_port=31000))) for want in several(2)]

    found = match(fixed, [offer("h1", "cpus:4;mem:4G;ports:[31000-31003]")], Placed())

    [only] = found.matches
    assert [port.host_port for port in only.spec.ports] == [31001, 31000]
    assert found.reasons == {"o-h1": "short of ports: 2 wanted, 31000 among them"}


def test_what_the_task_says_of_its_environment_stands() -> None:
    want = replace(several(1)[0], spec=replace(spec("t"), command=Command(shell="true", env=(("HOST", "mine"),))))

    [found] = match([want], offers(1), Placed()).matches

    assert dict(found.spec.command.env)["HOST"] == "mine"


def test_wants_that_fit_nowhere_are_passed_over_and_do_not_count() -> None:
    hopeless = several(1000, cpus=64_000)

    found = match([*hopeless, *several(2, group="small")], offers(1), Placed(), most=2)

    assert [item.want.task_id for item in found.matches] == ["small-1"]
    assert len(found.unplaced) == 1000


def test_a_group_that_waits_for_balance_is_tried_again_when_another_of_it_is_placed() -> None:
    """A large one must not go first, and may once a small one has gone to the emptier rack."""
    placed = Placed()
    placed.add("web", place_attributes(offer("h1", rack="a")))
    racks = [offer("h1", "cpus:4;mem:4G", rack="a"), offer("h2", "cpus:1;mem:4G", rack="b")]
    large, small = several(1, Constraint("rack", GROUP_BY), cpus=4000), several(1, Constraint("rack", GROUP_BY))
    large = [replace(large[0], spec=spec("large", 4000))]

    found = match([*large, *small], racks, placed)

    assert [item.want.task_id for item in found.matches] == ["web-1", "large"]
    assert found.unplaced == []


def test_a_launched_task_carries_the_terms_of_its_want() -> None:
    want = replace(several(1)[0], priority=3, expected_duration_ms=5000)

    [found] = match([want], offers(1), Placed()).matches

    assert found.spec.terms == Terms("", "web", 3, "", 5000)


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    found = match(gang(8), offers(2), Placed())
    too_large = match(gang(9), offers(2), Placed())

    assert Counter(hosts_of(found)) == {"h1": 4, "h2": 4}
    assert {item.spec.terms.gang_id for item in found.matches} == {"g"}
    assert too_large.matches == []
    assert len(too_large.unplaced) == 9


def test_a_gang_that_fails_leaves_everything_to_those_behind_it() -> None:
    placed = Placed()

    found = match([*gang(9), *several(8, group="small")], offers(2), placed)

    assert {item.want.group for item in found.matches} == {"small"}
    assert len(found.matches) == 8
    assert placed.counts("web") == {}


def test_what_a_gang_uses_is_accepted_with_it_and_no_other_is_placed_there() -> None:
    found = match([*gang(1), *several(4, group="small")], offers(2), Placed())

    assert hosts_of(found) == ["h1", *["h2"] * 4]


def test_offers_made_for_a_gang_serve_no_one_else_and_are_used_whole() -> None:
    theirs = [replace(each, gang_id="g") for each in offers(2)]

    others = match([*several(1, group="small"), *gang(1, "other")], theirs, Placed())
    short = match(gang(9), theirs, Placed())
    found = match([*several(1, group="small"), *gang(8)], theirs, Placed())

    assert others.matches == []
    assert set(others.reasons.values()) == {"nothing of gang g is wanted"}
    assert set(short.reasons.values()) == {"8 of 9 of gang g fit"}
    assert (Counter(hosts_of(found)), len(found.unplaced)) == ({"h1": 4, "h2": 4}, 1)


def test_a_gang_of_several_shapes_finds_its_places_largest_first() -> None:
    rooms = [offer("h1", "cpus:2;mem:4G"), offer("h2", "cpus:1;mem:4G")]
    small, large = gang(1), [replace(gang(1)[0], spec=spec("large", 2000))]

    found = match([*small, *large], rooms, Placed())

    assert {item.want.task_id: item.offer.hostname for item in found.matches} == {"large": "h1", "web-1": "h2"}


def test_constraints_hold_within_a_gang() -> None:
    unique = [replace(each, constraints=(Constraint("hostname", UNIQUE),)) for each in gang(3)]

    assert match(unique, offers(2), Placed()).matches == []
    assert sorted(hosts_of(match(unique, offers(3), Placed()))) == ["h1", "h2", "h3"]


def test_the_urgent_are_placed_first_and_among_equals_the_earlier() -> None:
    wants = [*several(3, group="a"), *several(2, group="b", cpus=2000)]
    urgent = replace(several(1, group="c")[0], priority=1)

    found = match([*wants, urgent], [offer("h1", "cpus:6;mem:4G")], Placed())

    assert [item.want.task_id for item in found.matches] == ["c-1", "a-1", "a-2", "a-3", "b-1"]


@pytest.mark.parametrize("placement", list(Placement))
def test_what_is_reserved_is_used_first_and_named_by_the_task(placement: Placement) -> None:
    kept = reserved(offer("h2"), "ssd")

    found = match(several(5, placement=placement), [offer("h1"), kept], Placed())

    assert hosts_of(found) == ["h2"] * 4 + ["h1"]
    assert [item.spec.terms.reservation_id for item in found.matches] == ["ssd"] * 4 + [""]


def test_what_is_lent_goes_to_those_that_promise_to_end_in_time_and_to_them_first() -> None:
    lent = replace(offer("h2", "cpus:1;mem:1G"), lent_for_ms=10_000)
    wants = [
        replace(want, expected_duration_ms=ms) for want, ms in zip(several(4), (0, 10_001, 9_000, 10_000), strict=True)
    ]

    found = match(wants, [lent, offer("h1", "cpus:2;mem:2G")], Placed())
    alone = match(wants[:2], [lent], Placed())

    assert [(item.want.expected_duration_ms, item.offer.hostname) for item in found.matches] == [
        (0, "h1"),
        (10_001, "h1"),
        (9_000, "h2"),
    ]
    assert alone.reasons == {"o-h2": "lent to tasks that promise to end within 10 s"}


def test_a_want_that_names_a_reservation_or_a_volume_goes_nowhere_else() -> None:
    bare = several(2)
    named = replace(bare[0], spec=replace(bare[0].spec, terms=Terms("ssd")))
    stored = replace(bare[1], spec=replace(bare[1].spec, volumes=(Volume("", "/data", volume_id="v1"),)))
    here = replace(reserved(offer("h3"), "ssd"), volumes=(PersistentVolume("v1", "ssd", 100),))

    found = match([named, stored], [offer("h1"), reserved(offer("h2"), "other"), here], Placed())
    elsewhere = match([named, stored], [offer("h1"), reserved(offer("h2"), "other")], Placed())

    assert hosts_of(found) == ["h3", "h3"]
    assert elsewhere.reasons == {"o-h2": "not of reservation ssd", "o-h1": "not of reservation ssd"}


def test_a_volume_is_used_by_one_task_at_a_time() -> None:
    stored = [
        replace(each, spec=replace(each.spec, volumes=(Volume("", "/data", volume_id="v1"),))) for each in several(2)
    ]
    here = replace(reserved(offer("h1"), "ssd"), volumes=(PersistentVolume("v1", "ssd", 100),))

    assert len(match(stored, [here], Placed()).matches) == 1


@pytest.mark.parametrize("placement", list(Placement))
def test_an_agent_that_will_be_away_before_the_end_is_taken_only_if_no_other_will_do(placement: Placement) -> None:
    leaving = replace(offer("h1", "cpus:1;mem:1G"), unavailability=Unavailability(1_060_000))
    staying = offer("h2", "cpus:2;mem:2G")
    short, long = [
        [replace(each, expected_duration_ms=duration_ms) for each in several(1, placement=placement)]
        for duration_ms in (60_000, 60_001)
    ]

    assert hosts_of(match(long, [leaving, staying], Placed(), now=1000.0)) == ["h2"]
    assert hosts_of(match(long, [leaving], Placed(), now=1000.0)) == ["h1"]
    if placement is not Placement.SPREAD:
        assert hosts_of(match(short, [leaving, staying], Placed(), now=1000.0)) == ["h1"]


def gang(count: int, gang_id: str = "g") -> list[Want]:
    return [replace(each, gang=gang_id) for each in several(count)]


def reserved(offer: Offer, reservation_id: str) -> Offer:
    return replace(offer, reservation=Reservation(reservation_id, Role("default"), offer.resources))


def several(
    count: int,
    *constraints: Constraint,
    group: str = "web",
    cpus: int = 1000,
    placement: Placement = Placement.ANY,
) -> list[Want]:
    return [
        Want(spec(f"{group}-{number}", cpus), constraints=constraints, group=group, placement=placement)
        for number in range(1, count + 1)
    ]


def spec(task_id: str, cpus: int = 1000) -> TaskSpec:
    return TaskSpec(TaskId(task_id), Resources(cpu_millis=cpus, mem_mib=32), command=Command(shell="true"))


def offer(hostname: str, resources: str = "cpus:4;mem:4G", **attributes: str) -> Offer:
    amount = Resources.parse(resources)
    return Offer(
        OfferId(f"o-{hostname}"),
        AgentId(hostname),
        hostname,
        Role("default"),
        amount,
        attributes=tuple(attributes.items()),
    )


def offers(count: int) -> Sequence[Offer]:
    return [offer(f"h{number}") for number in range(1, count + 1)]


def hosts_of(found: Matched) -> list[str]:
    return [item.offer.hostname for item in found.matches]

"""Each case runs on the master's core, and over gRPC against a master: this suite's own, or one that is named.

With RUNRIG_CONFORMANCE_MASTER=host:port (`make conformance MASTER=host:port`) cases run against that master alone;
those that need what cannot be asked of it are skipped, saying so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conformance.agent_under_test import AgentUnderTest
from tests.conformance.cases import MARKER, Case, Need
from tests.conformance.cluster import Cluster
from tests.conformance.core_driver import CoreDriver
from tests.conformance.grpc_driver import GrpcDriver
from tests.conformance.masters import OwnMaster, own_masters

REMOTE = os.environ.get("RUNRIG_CONFORMANCE_MASTER", "")
PATIENCE_S = float(os.environ.get("RUNRIG_CONFORMANCE_PATIENCE_S", "40"))
"""For how long a case may wait for a timeout of a master that was named."""
CASE_TIMEOUT_S = 300
PLACES = ("remote",) if REMOTE else ("core", "grpc")
NOT_REMOTE = (Need.RESTART, Need.DEFAULTS)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(case): a case of the conformance suite, docs/conformance.md")


def case_of(item: pytest.Function) -> Case:
    """Return what a test says of itself."""
    marker = item.get_closest_marker(MARKER)
    assert marker is not None, f"{item.name} has no @case"
    case = marker.args[0]
    assert isinstance(case, Case)
    return case


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cluster" not in metafunc.fixturenames:
        return
    case = case_of(metafunc.definition)
    places = [place for place in PLACES if not (place == "core" and Need.WIRE in case.needs)]
    metafunc.parametrize("cluster", [_parameter(place) for place in places], indirect=True)


def _parameter(place: str) -> object:
    if place == "core":
        return pytest.param(place)
    return pytest.param(place, marks=[pytest.mark.xdist_group("conformance"), pytest.mark.timeout(CASE_TIMEOUT_S)])


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OwnMaster, OwnMaster]]:
    """Yield masters of this session; nothing is started before it is used."""
    with own_masters(tmp_path_factory.mktemp("conformance")) as pair:
        yield pair


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, masters: tuple[OwnMaster, OwnMaster]) -> AsyncIterator[Cluster]:
    """Yield a cluster without agents and frameworks."""
    case = case_of(request.node)
    if request.param == "core":
        core = CoreDriver()
        await core.begin()
        async with _in_use(Cluster(core)) as cluster:
            yield cluster
        return
    driver = await _reached(case, masters) if request.param == "grpc" else GrpcDriver(REMOTE)
    try:
        await driver.ready()
        if request.param == "remote":
            await _skip_what_cannot_be(case, driver)
        async with _in_use(Cluster(driver)) as cluster:
            yield cluster
    finally:
        await driver.close()


async def _reached(case: Case, masters: tuple[OwnMaster, OwnMaster]) -> GrpcDriver:
    patient, hasty = masters
    master = hasty if {Need.OFFER_TIMEOUT, Need.SILENCE} & set(case.needs) else patient
    return GrpcDriver(master.address, master.kill_and_start)


@contextlib.asynccontextmanager
async def _in_use(cluster: Cluster) -> AsyncIterator[Cluster]:
    await cluster.begin()
    try:
        yield cluster
    finally:
        await cluster.leave_nothing_behind()


async def _skip_what_cannot_be(case: Case, driver: GrpcDriver) -> None:
    for need in case.needs:
        if need in NOT_REMOTE:
            pytest.skip(need.value)
    if not {Need.OFFER_TIMEOUT, Need.SILENCE} & set(case.needs):
        return
    probe = Cluster(driver)
    await probe.scheduler("probe", suppressed=[probe.name("probe")])
    await probe.leave_nothing_behind()
    announced = {Need.OFFER_TIMEOUT: probe.offer_timeout_ms, Need.SILENCE: probe.silence_timeout_ms}
    for need in case.needs:
        wait_s = announced.get(need, 0) / 1000
        if wait_s > PATIENCE_S:
            pytest.skip(f"{need.value}: {wait_s:g} s; RUNRIG_CONFORMANCE_PATIENCE_S={wait_s:g} lets it")


@pytest.fixture
def agent() -> AgentUnderTest:
    """Return an agent's core behind the wire mapping, to which the case plays the master."""
    if REMOTE:
        pytest.skip("it is about an agent, and a master was named")
    return AgentUnderTest()

"""One simulation: a cluster, a storm, users, checkers; then calm, in which all that is wanted must come true.

`simulate(seed)` raises AssertionError with the seed, the time and the chain of causes when a checker objects.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runrig.ids import TaskId
from runrig.tasks import TaskState
from runrig.testing import Cluster
from runrig.testing.faults import Climate, Fault, Storm, storm
from runrig.testing.wire_grpc import WireCodec
from runrig_batch.core.job import IndexState, JobState, parts_of
from runrig_batch.core.questions import IndexPage, JobPage, ListIndices, ListJobs, ShowJob
from runrig_batch.core.views import JobSummary
from runrig_master.core.settings import CoreSettings
from runrig_service.core.questions import ShowApp
from tests.master.core.books import check_books
from tests.sim import drills
from tests.sim.agent_promises import AgentPromises
from tests.sim.checkers import AgentChecker, FrameworkChecker, MasterChecker
from tests.sim.framework_promises import FrameworkPromises
from tests.sim.hostile import Hostile
from tests.sim.landlord import Landlord
from tests.sim.master_promises import MasterPromises
from tests.sim.service_promises import ServicePromises
from tests.sim.workload import RETRIES, Script, Users, acts, is_cursed, is_gang

AGENTS = 20
RESOURCES = "cpus:4;mem:4G;disk:1G;ports:[31000-31099]"
STORM_S = 300.0
CALM_S = 300.0
"""How long it may take, once the faults stop, until all that is wanted is so."""
WIRED_EVERY = 5
"""In one of so many simulations all envelopes go through protobuf, as they do on the wire."""
SETTLED_S = 150.0
"""After this calm nothing that began in the storm ends by itself."""
SETTINGS = CoreSettings(heartbeat_s=15.0, silence_timeout_s=75.0)
CLIMATE = Climate(expendable=("greedy",))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to."""

    seed: int
    faults: tuple[Fault, ...]
    starts: int
    steps: int
    calm_s: float
    """How long after the storm all was as wanted."""


class Failed(AssertionError):
    """A checker objected: the seed, the faults, and the chain of causes."""

    def __init__(self, seed: int, faults: Sequence[Fault], cluster: Cluster, error: BaseException) -> None:
        self.seed = seed
        self.faults = tuple(faults)
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.where = f"{Path(place.filename).name}:{place.lineno}"
        self.what = str(error).splitlines()[0] if str(error) else str(place.line)
        chain = cluster.world.causes(len(cluster.world.trace))
        lines = [f"seed {seed}, {cluster.now - 1_000_000_000:.3f} s: {self.what} ({self.where})", "what led to it:"]
        lines += [f"  {entry}"[:220] for entry in chain]
        super().__init__("\n".join(lines))


class Simulation:
    """A cluster with everything on it."""

    def __init__(self, seed: int, faults: Sequence[Fault] | None = None, agents: int = AGENTS) -> None:
        self.seed = seed
        self.script = Script(seed)
        self.cluster = Cluster(SETTINGS, seed, masters=("master-1", "master-2"))
        if seed % WIRED_EVERY == 0:
            self.cluster.network.codec = WireCodec()
        checker = MasterChecker(SETTINGS)
        for master in self.cluster.masters.values():
            master.watchers.append(checker)
        promises = MasterPromises(checker)
        for master in self.cluster.masters.values():
            master.watchers.append(promises)
        for watcher in (checker, promises):
            watcher.begins(self.cluster.leader)
        cluster = self.cluster
        for agent in cluster.agents(agents, RESOURCES, self.script, rack=["a", "b", "c"]):
            agent.launch_s = 2.0
            AgentChecker(agent)
        self.agents = {each.name: AgentPromises(each, cluster.truth) for each in cluster.all_agents.values()}
        promises.said.append(lambda update: self.agents[update.agent_id].check_said(update))
        self.users = Users(seed, cluster)
        self.heard = {name: FrameworkChecker(each, cluster.truth) for name, each in cluster.frameworks.items()}
        self.promises = {
            name: FrameworkPromises(each, is_raw=name == "greedy") for name, each in cluster.frameworks.items()
        }
        ServicePromises(self.users.service)
        self.faults = tuple(storm(seed, cluster, STORM_S, CLIMATE) if faults is None else faults)
        self.storm = Storm(cluster, self.faults)
        self.hostile = Hostile(seed, cluster)
        self.landlord = Landlord(seed, cluster)

    def run(self) -> Outcome:
        """Let the storm pass and see that all comes to rest."""
        try:
            return self._run()
        except AssertionError as error:
            raise Failed(self.seed, self.faults, self.cluster, error) from error

    def _run(self) -> Outcome:
        cluster = self.cluster
        for act in acts(self.seed, STORM_S * 0.9):
            cluster.after(act.at, lambda act=act: self.users.do(act))  # type: ignore[misc]
        self.storm.begin()
        self.hostile.begin(STORM_S)
        self.landlord.begin(STORM_S)
        cluster.advance(STORM_S)
        self._calm_down()
        took_s = self._wait_until_all_is_well()
        cluster.advance(max(SETTLED_S - took_s, 0.0))
        drills.restart_all(self)
        drills.want_promptly(self)
        drills.limit_a_role(self)
        drills.empty_agents(self)
        drills.lose_agents_and_leave(self)
        check_books(cluster.master.cluster)
        return Outcome(self.seed, self.faults, len(cluster.starts), len(cluster.world.trace), took_s)

    def check_all_is_well(self) -> None:
        """Assert that all is as wanted."""
        assert (problem := self.problem()) is None, f"it was well, and is no more: {problem}"

    def _calm_down(self) -> None:
        cluster = self.cluster
        cluster.world.note("storm", "is over")
        self.script.is_calm = True
        self.hostile.end()
        self.storm.end()
        cluster.advance(1.0)
        self.users.insist()
        self.landlord.give_back()

    def _wait_until_all_is_well(self) -> float:
        cluster, waited = self.cluster, 0.0
        while (problem := self.problem()) is not None:
            assert waited < CALM_S, f"{CALM_S:.0f} s after the storm: {problem}"
            cluster.advance(10.0)
            waited += 10.0
            self.users.insist()
            self.landlord.give_back()
        return waited

    # What should be so in the end

    def problem(self) -> str | None:
        """Return what is not yet as it should be."""
        return (
            self._problem_of_processes()
            or self._problem_of_apps()
            or self._problem_of_jobs()
            or self._problem_of_tasks()
            or self.landlord.problem(self.storm.gone | self.storm.lost)
        )

    def _problem_of_processes(self) -> str | None:
        for name, agent in self.cluster.all_agents.items():
            if name in self.storm.gone | self.storm.lost:
                continue
            if agent.stopped is not None:
                return f"{name} stopped for good: {agent.stopped.why}"
            if not agent.is_up or not agent.core.is_registered:
                return f"{name} is not registered"
            if agent.core.count_unacknowledged():
                return f"{name} waits for acknowledgements"
            if (problem := self.agents[name].problem()) is not None:
                return problem
        for name, framework in self.cluster.frameworks.items():
            if name in self.storm.torn_down:
                continue
            if framework.error is not None:
                return f"{name} ended: {framework.error}"
            if framework.scheduler is None or not framework.scheduler.is_connected:
                return f"{name} is not connected"
            if (problem := self.heard[name].unheard(self.storm.gone | self.storm.lost)) is not None:
                return problem
        return None

    def _problem_of_apps(self) -> str | None:
        running = Counter(
            self.users.service.tasks[task.key[1]].group
            for task in self.cluster.truth.running()
            if task.key[0] == "service" and task.key[1] in self.users.service.tasks
        )
        for name, wanted in self.users.apps.items():
            if running[name] != (wanted or 0):
                return f"{name}: {running[name]} run of {wanted}"
            if wanted is not None:
                app = self.users.service.ask(ShowApp(name))
                assert isinstance(app, dict)
                if app["deployments"] or app["tasksRunning"] != wanted:
                    return f"{name}: {app['tasksRunning']} said to run of {wanted}"
        return None

    def _problem_of_jobs(self) -> str | None:
        ended = [task for task in self.cluster.truth.tasks.values() if task.ended and task.ended.exit_code == 0]
        finished = {parts[:2] for task in ended if (parts := parts_of(task.key[1])) is not None}
        for key, job_id in self.users.jobs.items():
            if job_id is None:
                return f"job {key} is not confirmed"
            summary = self.users.batch.ask(ShowJob(job_id))
            assert isinstance(summary, JobSummary)
            if not summary.state.has_ended:
                return f"job {key}: {summary.counts}"
            page = self.users.batch.ask(ListIndices(job_id, limit=1000))
            assert isinstance(page, IndexPage)
            if is_gang(key) and any(is_cursed(self.seed, row.index) for row in page.rows):
                self._check_cursed_gang(key, summary, page)
                continue
            for row in page.rows:
                expected = IndexState.FAILED if is_cursed(self.seed, row.index) else IndexState.SUCCEEDED
                assert row.state is expected, f"job {key}, index {row.index} should be {expected}: {row}"
                failures = self.promises["batch"].failures.get((str(job_id), row.index), 0)
                is_tried = expected is IndexState.SUCCEEDED or failures > RETRIES
                assert is_tried, f"job {key}, index {row.index} was given up after {failures} failures"
                has_run = (job_id, row.index) in finished or expected is IndexState.FAILED
                assert has_run, f"job {key}, index {row.index} is said to have succeeded, and never did"
        jobs = self.users.batch.ask(ListJobs(limit=1000))
        assert isinstance(jobs, JobPage)
        assert len(jobs.jobs) == len(self.users.jobs), f"{len(self.users.jobs)} submissions are {len(jobs.jobs)} jobs"
        return None

    def _check_cursed_gang(self, key: str, summary: JobSummary, page: IndexPage) -> None:
        """Assert that a gang with an index that always fails was tried as often as it may be, all of it."""
        assert summary.state is JobState.FAILED, f"job {key} should have failed: {summary}"
        [failed] = [row for row in page.rows if row.state is IndexState.FAILED]
        assert is_cursed(self.seed, failed.index), f"job {key}, index {failed.index} should not be to blame"
        failures = self.promises["batch"].failures
        tried = sum(failures.get((str(summary.job.job_id), row.index), 0) for row in page.rows)
        assert tried > RETRIES, f"job {key} was given up after {tried} failures"

    def _problem_of_tasks(self) -> str | None:
        known = {("service", task_id) for task_id, view in self.users.service.tasks.items() if _runs(view.state)}
        known |= {("batch", task_id) for task_id, view in self.users.batch.tasks.items() if _runs(view.state)}
        for task in self.cluster.truth.running():
            framework_id, task_id = str(task.key[0]), TaskId(task.key[1])
            if framework_id != "greedy" and (framework_id, task_id) not in known:
                return f"{task_id} of {framework_id} runs on {task.agent_id}, and nobody knows"
            if framework_id == "greedy":
                return "greedy's tasks have not ended"
        return None


def _runs(state: TaskState | None) -> bool:
    return state in (TaskState.TASK_RUNNING, TaskState.TASK_KILLING)


def simulate(seed: int, faults: Sequence[Fault] | None = None) -> Outcome:
    """Run one simulation; raise `Failed`."""
    return Simulation(seed, faults).run()

"""What every simulation goes through once all is well, so that no rare storm is needed for it.

All processes restart and hear what was said long ago; the leader's host goes out without a word; something is wanted
while something else fits nowhere; a role has a limit while masters change and an agent is missing; agents are drained
while masters change and one of them is down, and another is away for a planned time; agents are lost, and come back
when their framework is no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runrig.ids import AgentId, FrameworkId, Role
from runrig.reservations import Unavailability
from runrig_master.core.events import DeactivationAsked, DrainAsked, QuotasAsked, TeardownAsked, UnavailabilityAsked
from runrig_master.core.quotas import Quota, RoleQuota
from runrig_service.core.questions import ChangeApps, RemoveApp, ShowApp
from tests.master.core.books import check_books
from tests.sim.workload import Act

if TYPE_CHECKING:
    from tests.sim.run import Simulation

RECOVERED_S = 20.0
"""Until agents that were started again have found their tasks, registered, and done what they then were told."""
SILENT_S = 130.0
"""Until all have left a master of which they hear nothing, and are with the next."""
UNREACHABLE_S = 85.0
"""Until agents are given up, and what ran there runs elsewhere."""
NOTICE_MS, GRACE_MS = 20_000, 2_000
"""Of a drain."""
PROMPT_S = 8.0
"""Until a task runs that was wanted now: two waits of the runtime and some more."""


def restart_all(simulation: Simulation) -> None:
    """Restart what there is, and let it hear what was said long ago: nothing that runs may be disturbed."""
    cluster, users = simulation.cluster, simulation.users
    simulation.check_all_is_well()
    running, starts = set(cluster.running), len(cluster.starts)
    for framework in (users.service, users.batch):
        framework.restart()
    for agent in cluster.all_agents.values():
        if agent.name not in simulation.storm.gone | simulation.storm.lost:
            agent.restart()
    cluster.advance(RECOVERED_S)
    users.repeat()
    for agent in cluster.all_agents.values():
        agent.repeat_launch()
    for master in cluster.masters.values():
        master.kill()
    cluster.masters["master-2"].start()
    cluster.advance(RECOVERED_S)
    cluster.network.speak_of_old()
    cluster.advance(RECOVERED_S)
    _lose_master(simulation, "master-2", "master-1")
    simulation.check_all_is_well()
    assert set(cluster.running) == running, "restarts have ended tasks"
    assert len(cluster.starts) == starts, "restarts have started tasks"


def _lose_master(simulation: Simulation, lost: str, next_one: str) -> None:
    """Cut the power of the leader's host: nobody is told that its streams are no more."""
    cluster = simulation.cluster
    for name in (*cluster.all_agents, *cluster.frameworks):
        cluster.network.cut(name, lost)
        cluster.network.cut(lost, name)
    cluster.masters[lost].kill()
    cluster.masters[next_one].start()
    cluster.advance(SILENT_S)


def want_promptly(simulation: Simulation) -> None:
    """Want something while something else fits nowhere: it must not wait for that."""
    service, cluster = simulation.users.service, simulation.cluster
    for app in ({"id": "/huge", "cpus": 99}, {"id": "/prompt", "cpus": 0.1}):
        service.ask(ChangeApps(({"cmd": "serve", "mem": 32, "instances": 1, **app},), str(app["id"])))
        cluster.advance(PROMPT_S)
    prompt = service.ask(ShowApp("/prompt"))
    assert isinstance(prompt, dict)
    assert prompt["tasksRunning"] == 1, f"what fits was not launched within {PROMPT_S:g} s"
    for name in ("/huge", "/prompt"):
        service.ask(RemoveApp(name))
    cluster.advance(PROMPT_S)


def limit_a_role(simulation: Simulation) -> None:
    """Want more than the limit of a role leaves, over a failover after which an agent is missing for a while."""
    cluster, service = simulation.cluster, simulation.users.service
    role = Role("service")
    busy = [task.agent_id for task in cluster.truth.running() if task.key[0] == "service"]
    node = cluster.master.cluster.tree.get(role)
    most = node.holding.cpu_millis + 500 if node is not None else 500
    quota = RoleQuota(role, Quota(cpu_millis=most))
    cluster.leader.ask(lambda question: QuotasAsked(question, (quota,)))
    cluster.advance(1.0)
    app = {"id": "/limited", "cmd": "serve", "cpus": 0.5, "mem": 32, "instances": 3}
    service.ask(ChangeApps((app,), "/limited"))
    _pass(simulation, PROMPT_S, most)
    for master in cluster.masters.values():
        master.kill()
    for name in busy[:1]:
        cluster.agent(name).kill()
    cluster.masters["master-1"].start()
    _pass(simulation, RECOVERED_S, most)
    for name in busy[:1]:
        cluster.agent(name).start()
    _pass(simulation, RECOVERED_S, most)
    shown = service.ask(ShowApp("/limited"))
    assert isinstance(shown, dict)
    assert shown["tasksRunning"] == 1, "of what is wanted just one fits the limit"
    cluster.leader.ask(lambda question: QuotasAsked(question, (RoleQuota(role),)))
    cluster.advance(RECOVERED_S)
    shown = service.ask(ShowApp("/limited"))
    assert isinstance(shown, dict)
    assert shown["tasksRunning"] == 3, "the limit is gone, and what it kept back does not run"
    service.ask(RemoveApp("/limited"))
    cluster.advance(PROMPT_S)
    simulation.check_all_is_well()


def _pass(simulation: Simulation, seconds: float, most_cpu_millis: int) -> None:
    """Let time pass; at no moment may the service framework run more than its role's limit (rule 18)."""
    cluster = simulation.cluster
    for _ in range(int(seconds)):
        cluster.advance(1.0)
        mine = [task.spec.resources.cpu_millis for task in cluster.truth.running() if task.key[0] == "service"]
        assert sum(mine) <= most_cpu_millis, f"{sum(mine)} thousandths of a cpu run, the limit is {most_cpu_millis}"


def empty_agents(simulation: Simulation) -> None:
    """Drain two agents over a failover, one of them down at the deadline, and plan the absence of a third."""
    cluster = simulation.cluster
    busy = dict.fromkeys(task.agent_id for task in cluster.truth.running())
    names = [*busy, *(name for name in cluster.all_agents if name not in busy)]
    names = [name for name in names if name not in simulation.storm.gone | simulation.storm.lost][:3]
    if len(names) < 3:
        return  # the storm has left too few
    now_ms = int(cluster.leader.now * 1000)
    away = Unavailability(now_ms + 5_000, 10_000)
    starts = len(cluster.starts)
    cluster.leader.ask(lambda question: UnavailabilityAsked(question, (AgentId(names[2]),), away))
    for name in names[:2]:
        cluster.leader.ask(lambda question, name=name: DrainAsked(question, AgentId(name), NOTICE_MS, GRACE_MS))  # type: ignore[misc]
    cluster.advance(1.0)
    for master in cluster.masters.values():
        master.kill()
    cluster.agent(names[1]).kill()
    cluster.masters["master-1"].start()
    cluster.advance(NOTICE_MS / 1000 + GRACE_MS / 1000)
    cluster.agent(names[1]).start()
    cluster.advance(RECOVERED_S)
    left = [task.key for task in cluster.truth.running() if task.agent_id in names[:2]]
    assert not left, f"{left} run on, and their agent is drained (rule 17)"
    started = [key for key in cluster.starts[starts:] if cluster.truth.tasks[key].agent_id in names[:2]]
    assert not started, f"{started} were started on an agent that is drained (rule 17)"
    agents = cluster.master.cluster.agents
    assert all(agents[AgentId(name)].is_drained for name in names[:2]), "an agent is empty, and not drained"
    assert agents[AgentId(names[2])].unavailability is None, "an absence that is over stands"
    for name in names[:2]:
        cluster.leader.ask(lambda question, name=name: DeactivationAsked(question, AgentId(name), False))  # type: ignore[misc]
    cluster.advance(RECOVERED_S)
    simulation.check_all_is_well()


def lose_agents_and_leave(simulation: Simulation) -> None:
    """Lose agents, let tasks end of which nobody hears, remove a framework, and bring the agents back."""
    cluster, users = simulation.cluster, simulation.users
    users.do(Act(0.0, ("job", "late", 6)))
    cluster.advance(3.0)
    mine = [task for task in cluster.truth.running() if task.key[0] == "service"]
    late = [task for task in cluster.truth.running() if task.key[0] == "batch"]
    hosts = [host for tasks in (mine, late) for host in list(dict.fromkeys(task.agent_id for task in tasks))[:2]]
    users.service.freeze()
    if mine:
        cluster.agent(mine[0].agent_id).end_task(mine[0].key)
    cluster.advance(1.0)
    for host in hosts:
        cluster.agent(host).kill()
    cluster.advance(UNREACHABLE_S)
    check_books(cluster.master.cluster)
    cluster.leader.ask(lambda question: TeardownAsked(question, FrameworkId("service")))
    cluster.advance(1.0)
    for host in hosts:
        cluster.agent(host).start()
    cluster.advance(RECOVERED_S)
    left = [task.key for task in cluster.truth.running() if task.key[0] == "service"]
    assert not left, f"{left[0]} runs on, and its framework was removed"

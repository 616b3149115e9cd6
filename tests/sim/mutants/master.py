"""Bugs in the master's offers, agents, tasks and frameworks."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_mutant = partial(Mutant, part=Part.MASTER)
_CORE = "master/runrig_master/core"
_agents = partial(_mutant, file=f"{_CORE}/agents.py")
_cluster = partial(_mutant, file=f"{_CORE}/cluster.py")
_frameworks = partial(_mutant, file=f"{_CORE}/frameworks.py")
_inverse_offers = partial(_mutant, file=f"{_CORE}/inverse_offers.py")
_launching = partial(_mutant, file=f"{_CORE}/launching.py")
_maintenance = partial(_mutant, file=f"{_CORE}/maintenance.py")
_master = partial(_mutant, file=f"{_CORE}/master.py")
_passes = partial(_mutant, file=f"{_CORE}/allocation/passes.py")
_records = partial(_mutant, file="master/runrig_master/records_grpc.py")
_statuses = partial(_mutant, file=f"{_CORE}/statuses.py")

MUTANTS = (
    # Resources and offers
    _cluster(
        name="an ended task gives its resources back twice",
        old="            pool.free = pool.free + task.resources\n",
        new="            pool.free = pool.free + task.resources + task.resources\n",
    ),
    _statuses(
        name="resources return when the end is acknowledged, not when it comes",
        old="    task.learn(update)\n    if update.state.is_terminal:\n        cluster.end_task(task)\n"
        '    cluster.touch("task", task.id, task.framework.id)\n',
        new='    task.learn(update)\n    cluster.touch("task", task.id, task.framework.id)\n',
        also=(
            (
                "        cluster.forget_task(task)\n\n\ndef kill(",
                "        cluster.end_task(task)\n        cluster.forget_task(task)\n\n\ndef kill(",
            ),
        ),
    ),
    _launching(
        name="an offer that was accepted can be accepted again",
        old="not plan.problem for offer in plan.offers]:\n        cluster.close_offer(offer)\n",
        new="not plan.problem for offer in plan.offers]:\n        pass\n",
    ),
    _launching(
        name="an offer of another framework is accepted",
        old="(offer := framework.offers.get(id_)) is not None])",
        new="(offer := cluster.offers.get(id_)) is not None])",
    ),
    _launching(
        name="an offer of another agent is accepted",
        old="    if stray is not None:\n",
        new="    if stray is not None and len(plan.offers) > 2:\n",
    ),
    _launching(
        name="half of an atomic accept is launched",
        old="    if call.atomic and any(plan.why_not_whole for plan in plans):\n",
        new="    if call.atomic and all(plan.problem or plan.refused for plan in plans):\n",
    ),
    _launching(
        name="tasks may take more than the offers have left",
        old="    if not has.contains(task.resources):\n",
        new="    if has.is_empty:\n",
    ),
    _passes(
        name="filters are ignored",
        old=" or self.cluster.filters.hide(pool, client, resources, self.now):\n",
        new=":\n",
        also=((" & self.open_to(client) & ~client.hidden\n", " & self.open_to(client)\n"),),
    ),
    _launching(
        name="the milliseconds of a filter are taken for seconds",
        old="        until = now + filter_.refuse_ms / 1000\n",
        new="        until = now + filter_.refuse_ms\n",
    ),
    _frameworks(
        name="revive does not clear filters",
        old="        cluster.filters.clear_client(client)\n        client.idle_until",
        new="        client.idle_until",
    ),
    _cluster(
        name="what a framework declines is offered to nobody else",
        old="            pool.free = pool.free + offer.resources\n            self._free_changed(pool)\n"
        "        self.mark_dirty(pool.agent)\n",
        new="            pool.free = pool.free + offer.resources\n            self._free_changed(pool)\n",
    ),
    _cluster(
        name="what an ended task used waits for something else to happen",
        old="            pool.free = pool.free + task.resources\n            self._free_changed(pool)\n"
        "        self.mark_dirty(task.agent)\n",
        new="            pool.free = pool.free + task.resources\n            self._free_changed(pool)\n",
    ),
    _mutant(
        name="suppressed roles are offered to",
        file=f"{_CORE}/state.py",
        old=" and not self.is_completed and role not in self.suppressed\n",
        new=" and not self.is_completed\n",
    ),
    _mutant(
        name="deactivated agents are offered",
        file=f"{_CORE}/state.py",
        old="return not self.is_deactivated and self.drain is None",
        new="return self.drain is None",
    ),
    _master(
        name="offers never expire",
        old="            if offer.expires_at > now:\n                break\n",
        new="            break\n",
    ),
    # Agents
    _agents(
        name="offers of an agent whose stream broke stand",
        old="    cluster.silent[agent.id] = agent\n    cluster.withdraw(agent, RescindReason.AGENT_LEFT)\n",
        new="    cluster.silent[agent.id] = agent\n",
    ),
    _agents(
        name="unreachable is said before it is durable",
        old="    _clear_filters(cluster, agent)\n    cluster.persist_agent(agent)\n"
        '    cluster.note("agent unreachable"',
        new='    _clear_filters(cluster, agent)\n    cluster.note("agent unreachable"',
        also=(
            (
                "Reason.AGENT_UNREACHABLE, text, now)\n",
                "Reason.AGENT_UNREACHABLE, text, now)\n    cluster.persist_agent(agent)\n",
            ),
        ),
    ),
    _agents(
        name="unreachable overwrites how tasks ended",
        old="        if not task.state.is_terminal:\n            cluster.say(task, TaskState.TASK_UNREACHABLE,",
        new="        if task.state:\n            cluster.say(task, TaskState.TASK_UNREACHABLE,",
    ),
    _agents(
        name="tasks of an agent that returns are not taken up",
        old="        cluster.add_task(task)\n        if is_alive and was is",
        new="        if is_alive and was is",
    ),
    _agents(
        name="tasks of an agent that was unreachable are killed when it returns",
        old="        _tell_returned(cluster, task)\n\n\ndef _tell_returned(",
        new="        cluster.order(task.agent, KillTask(task.framework.id, task.id))\n\n\ndef _tell_returned(",
    ),
    _agents(
        name="a framework is not told that its tasks are reachable again",
        within=150,
        old="        _tell_returned(cluster, task)\n\n\ndef _tell_returned(",
        new="        pass\n\n\ndef _tell_returned(",
    ),
    _agents(
        name="tasks that an agent came back without stay for ever",
        old="        if not task.state.is_terminal:\n            statuses.lose(cluster, task, now)\n        elif",
        new="        if not task.state.is_terminal:\n            continue\n        elif",
    ),
    _agents(
        name="a kill that was asked while the agent was away is forgotten",
        old="    if task.kill_reason is not None and not task.state.is_terminal:\n",
        new="    if task.kill_reason is not None and task.state.is_terminal:\n",
    ),
    _agents(
        name="an overtaken session of an agent is taken up",
        old="    if report.session <= agent.session:\n",
        new="    if report.session < 0:\n",
    ),
    _agents(
        name="a master takes an agent that has seen a later epoch",
        old="    if report.epoch > cluster.epoch:\n",
        new="    if report.epoch > cluster.epoch + 100:\n",
    ),
    _agents(
        name="an agent that was marked gone is taken back",
        within=150,
        old="    if agent.presence is Presence.GONE:\n        text = ",
        new="    if agent.presence is Presence.GONE and agent.is_deactivated:\n        text = ",
    ),
    _agents(
        name="tasks of removed frameworks go on when their agent returns",
        old="    for framework_id in removed:\n        cluster.order(agent, ShutdownFramework(framework_id))\n",
        new="",
    ),
    # Maintenance
    _mutant(
        name="drained agents are offered",
        file=f"{_CORE}/state.py",
        old="return not self.is_deactivated and self.drain is None",
        new="return not self.is_deactivated",
    ),
    _maintenance(
        name="what runs at the deadline of a drain runs on",
        old="        _kill_what_is_left(cluster, cluster.agents[agent_id])\n",
        new="        pass\n",
    ),
    _maintenance(
        name="what an agent brings back after the deadline of its drain runs on",
        old="    if agent.drain.deadline <= now:\n        _kill_what_is_left(cluster, agent)\n    else:\n",
        new="    if agent.drain.deadline > now:\n",
    ),
    _maintenance(
        name="a failover forgets the deadline of a drain",
        old="        cluster.departures.drain_deadlines.set(agent.id, agent.drain.deadline)\n    _set_end",
        new="        pass\n    _set_end",
    ),
    _maintenance(
        name="a drain is not written down",
        old="    agent.is_drained = False\n    cluster.persist_agent(agent)\n",
        new="    agent.is_drained = False\n",
    ),
    _maintenance(
        name="an agent is drained while tasks run there",
        old="or agent.tasks or agent.id in cluster.unseen or",
        new="or agent.id in cluster.unseen or",
    ),
    _maintenance(
        name="an absence that is over stands",
        old="        _change_window(cluster, cluster.agents[agent_id], None, now)\n",
        new="        pass\n",
    ),
    _inverse_offers(
        name="an inverse offer stands when all its tasks have ended",
        old="            if not inverse.tasks:\n                self.end(inverse)\n",
        new="",
    ),
    # Tasks
    _statuses(
        name="an update is acknowledged before its framework has it",
        old="    else:\n        _apply(cluster, task, update)\n        cluster.tell_update(framework, update)\n",
        new="    else:\n        _apply(cluster, task, update)\n        cluster.tell_update(framework, update)\n"
        "        _acknowledge_again(cluster, task, update.number)\n",
    ),
    _statuses(
        name="a receipt counts for updates that were never sent",
        old="    task.acknowledged = receipt.number\n",
        new="    task.acknowledged = task.latest\n",
        also=(
            (
                "AcknowledgeUpdate(framework.id, task.id, receipt.number))\n    if task.is_settled",
                "AcknowledgeUpdate(framework.id, task.id, task.latest))\n    if task.is_settled",
            ),
        ),
    ),
    _statuses(
        name="receipts are not passed on to agents",
        old="AcknowledgeUpdate(framework.id, task.id, receipt.number))\n    if task.is_settled",
        new="AcknowledgeUpdate(framework.id, task.id, 0))\n    if task.is_settled",
    ),
    _statuses(
        name="a task is said to be unknown while its agent is not back yet",
        old="        return agent is not None and agent.presence is Presence.RECOVERING\n",
        new="        return False\n",
    ),
    _statuses(
        name="a kill is not passed on",
        old="        cluster.order(task.agent, kill_order(task))\n",
        new="",
    ),
    # Frameworks
    _frameworks(
        name="tasks of a removed framework are not killed",
        old="        cluster.order(agent, ShutdownFramework(framework.id))\n",
        new="        pass\n",
    ),
    _frameworks(
        name="an overtaken session of a framework is taken up",
        old="    if call.session <= framework.session:\n",
        new="    if call.session < 0:\n",
    ),
    _frameworks(
        name="a removed framework is admitted again",
        old="    if info.framework_id in cluster.completed:\n        return StreamRefused(",
        new="    if info.framework_id in cluster.completed and info.labels:\n        return StreamRefused(",
    ),
    _frameworks(
        name="offers of an overtaken scheduler stand",
        within=150,
        old="        framework.stream = None\n    _release_offers(cluster, framework)\n\n\ndef _release_offers",
        new="        framework.stream = None\n\n\ndef _release_offers",
    ),
    _master(
        name="a failover starts the countdown of absent frameworks again",
        old="                framework.failover_deadline = record.failover_deadline\n",
        new="                framework.failover_deadline = now + record.framework.failover_timeout_ms / 1000\n",
    ),
    _frameworks(
        name="a scheduler that reconnects is removed at the deadline of its absence",
        old="    framework.failover_deadline = None\n    cluster.absent.pop(framework.id, None)\n"
        "    framework.suppressed =",
        new="    framework.suppressed =",
    ),
    # Limits
    _mutant(
        name="a limit is not kept while agents are still to come back",
        file=f"{_CORE}/allocation/predicates.py",
        old="(cluster.recovering or not node.limit.admits(node.holding, more))",
        new="not node.limit.admits(node.holding, more)",
    ),
    _mutant(
        name="limits are not kept",
        file=f"{_CORE}/allocation/predicates.py",
        old="(cluster.recovering or not node.limit.admits(node.holding, more))",
        new="node.limit == more",
    ),
    _records(
        name="the limit of a role is not stored",
        old="        limit=quota_to_wire(item.limit),\n",
        new="",
    ),
)

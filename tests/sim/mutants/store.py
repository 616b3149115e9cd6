"""Bugs in what the master writes down and reads again."""

from __future__ import annotations

from functools import partial

from tests.sim.mutants.mutant import Mutant, Part

_registrar = partial(Mutant, part=Part.STORE, file="master/runrig_master/registrar.py")
_records = partial(Mutant, part=Part.STORE, file="master/runrig_master/records_grpc.py")
_master = partial(Mutant, part=Part.STORE, file="master/runrig_master/core/master.py")

MUTANTS = (
    _registrar(
        name="of several words on one key the first is written",
        old="                puts[key] = value\n",
        new="                puts.setdefault(key, value)\n",
    ),
    _registrar(
        name="only the first record of a turn is written",
        old="        for record in command.records:\n",
        new="        if puts:\n            break\n        for record in command.records:\n",
    ),
    _records(
        name="deactivation is not stored",
        old="        is_deactivated=item.is_deactivated,\n",
        new="",
    ),
    _records(
        name="drains are not stored",
        old="    if item.drain is not None:\n",
        new="    if item.drain is not None and item.is_gone:\n",
    ),
    _records(
        name="the grace of a drain is not read again",
        old='message.grace_ms if message.HasField("grace_ms") else None',
        new="None",
    ),
    _records(
        name="that an agent will be away is not read again",
        old='message.HasField("unavailability") else None',
        new="message.since_unix_ms < 0 else None",
    ),
    _records(
        name="that an agent is gone is not read again",
        old="        is_gone=message.state == state_pb2.ADMISSION_STATE_GONE,\n",
        new="",
    ),
    _records(
        name="that an agent is unreachable is not stored",
        old="        state=_STATE_TO_WIRE[item.is_unreachable and not item.is_gone, item.is_gone],\n",
        new="        state=_STATE_TO_WIRE[False, item.is_gone],\n",
    ),
    _records(
        name="the session of a framework is not stored",
        old="        session=item.session,\n",
        new="",
    ),
    _records(
        name="the failover deadline is not stored",
        old="        failover_deadline_unix_ms=int((item.failover_deadline or 0) * 1000),\n",
        new="",
    ),
    _records(
        name="that a framework was removed is not read again",
        old="        deadline_ms / 1000 if deadline_ms else None,\n        message.is_completed,\n",
        new="        deadline_ms / 1000 if deadline_ms else None,\n",
    ),
    _records(
        name="weights of roles are not read again",
        within=150,
        old="        Role(message.role),\n        message.weight_millis,\n",
        new="        Role(message.role),\n        1000,\n",
    ),
    _master(
        name="agents of the store are not expected back",
        old="                    cluster.silent[agent.id] = agent\n",
        new="",
    ),
)

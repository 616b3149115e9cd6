"""The core's records as entries of the store, and back: the promises of proto/runrig/v1/state.proto."""

from __future__ import annotations

from runrig._wire import (
    agent_from_wire,
    agent_to_wire,
    fill_unavailability,
    framework_from_wire,
    framework_to_wire,
    unavailability_from_wire,
)
from runrig.errors import Conflict
from runrig.ids import Role
from runrig.v1 import state_pb2
from runrig_master.core.commands import AgentRecord, Drain, Forget, FrameworkRecord, Record, RoleRecord
from runrig_master.quotas_grpc import quota_from_wire, quota_to_wire

SCHEMA_VERSION = 1
CLUSTER_KEY = "cluster"


def entry(record: Record) -> tuple[str, bytes]:
    """Return a record's key and value."""
    match record:
        case AgentRecord():
            return f"agents/{record.agent.agent_id}", _agent(record).SerializeToString()
        case FrameworkRecord():
            return f"frameworks/{record.framework.framework_id}", _framework(record).SerializeToString()
        case RoleRecord():
            return f"roles/{record.role}", _role(record).SerializeToString()


def forgotten_key(forget: Forget) -> str:
    """Return the key that `forget` removes."""
    if forget.agent_id is not None:
        return f"agents/{forget.agent_id}"
    return f"frameworks/{forget.framework_id}" if forget.framework_id is not None else f"roles/{forget.role}"


def record(key: str, value: bytes) -> Record | None:
    """Read an entry; None: it is none of the core's records."""
    kind = key.partition("/")[0]
    if kind == "agents":
        return _read_agent(state_pb2.StoredAgent.FromString(value))
    if kind == "frameworks":
        return _read_framework(state_pb2.StoredFramework.FromString(value))
    if kind == "roles":
        return _read_role(state_pb2.StoredRole.FromString(value))
    return None


def cluster_entry(cluster_id: str) -> bytes:
    """Return the value of `CLUSTER_KEY`."""
    return state_pb2.StoredCluster(cluster_id=cluster_id, schema_version=SCHEMA_VERSION).SerializeToString()


def read_cluster(value: bytes) -> str:
    """Return the cluster's id; raise Conflict when a newer Runrig wrote the store."""
    message = state_pb2.StoredCluster.FromString(value)
    if message.schema_version > SCHEMA_VERSION:
        text = f"the store has schema {message.schema_version}, this Runrig knows {SCHEMA_VERSION}: upgrade the master"
        raise Conflict(text)
    return message.cluster_id


_STATE_TO_WIRE = {
    (False, False): state_pb2.ADMISSION_STATE_ADMITTED,
    (True, False): state_pb2.ADMISSION_STATE_UNREACHABLE,
    (False, True): state_pb2.ADMISSION_STATE_GONE,
}


def _agent(item: AgentRecord) -> state_pb2.StoredAgent:
    message = state_pb2.StoredAgent(
        agent=agent_to_wire(item.agent),
        state=_STATE_TO_WIRE[item.is_unreachable and not item.is_gone, item.is_gone],
        is_deactivated=item.is_deactivated,
        since_unix_ms=int(item.since * 1000),
    )
    if item.drain is not None:
        message.drain.SetInParent()
        message.drain.deadline_unix_ms = item.drain.deadline_unix_ms
        message.drain.then_gone = item.drain.then_gone
        if item.drain.grace_ms is not None:
            message.drain.grace_ms = item.drain.grace_ms
    if item.unavailability is not None:
        fill_unavailability(message.unavailability, item.unavailability)
    return message


def _read_drain(message: state_pb2.StoredDrain) -> Drain:
    grace_ms = message.grace_ms if message.HasField("grace_ms") else None
    return Drain(message.deadline_unix_ms, grace_ms, message.then_gone)


def _read_agent(message: state_pb2.StoredAgent) -> AgentRecord:
    return AgentRecord(
        agent_from_wire(message.agent),
        is_unreachable=message.state == state_pb2.ADMISSION_STATE_UNREACHABLE,
        is_gone=message.state == state_pb2.ADMISSION_STATE_GONE,
        is_deactivated=message.is_deactivated,
        since=message.since_unix_ms / 1000,
        drain=_read_drain(message.drain) if message.HasField("drain") else None,
        unavailability=unavailability_from_wire(message.unavailability) if message.HasField("unavailability") else None,
    )


def _framework(item: FrameworkRecord) -> state_pb2.StoredFramework:
    return state_pb2.StoredFramework(
        framework=framework_to_wire(item.framework),
        session=item.session,
        failover_deadline_unix_ms=int((item.failover_deadline or 0) * 1000),
        is_completed=item.is_completed,
    )


def _read_framework(message: state_pb2.StoredFramework) -> FrameworkRecord:
    deadline_ms = message.failover_deadline_unix_ms
    return FrameworkRecord(
        framework_from_wire(message.framework),
        message.session,
        deadline_ms / 1000 if deadline_ms else None,
        message.is_completed,
    )


def _role(item: RoleRecord) -> state_pb2.StoredRole:
    return state_pb2.StoredRole(
        role=item.role,
        weight_millis=item.weight_millis,
        limit=quota_to_wire(item.limit),
        guarantee=quota_to_wire(item.guarantee),
        is_optimistic=item.is_optimistic,
    )


def _read_role(message: state_pb2.StoredRole) -> RoleRecord:
    return RoleRecord(
        Role(message.role),
        message.weight_millis,
        quota_from_wire(message.limit) if message.HasField("limit") else None,
        quota_from_wire(message.guarantee) if message.HasField("guarantee") else None,
        message.is_optimistic,
    )

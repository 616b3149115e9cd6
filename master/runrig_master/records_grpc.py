"""The core's records as entries of the store, and back: the promises of proto/runrig/v1/state.proto."""

from __future__ import annotations

from typing import Any

from runrig._wire import (
    agent_from_wire,
    agent_to_wire,
    fill_unavailability,
    framework_from_wire,
    framework_to_wire,
    unavailability_from_wire,
)
from runrig._wire.common import fill_reservation, fill_volume, reservation_from_wire, volume_from_wire
from runrig.errors import Conflict
from runrig.ids import AgentId, Role
from runrig.v1 import state_pb2
from runrig_master.core.commands import (
    AgentRecord,
    Drain,
    Forget,
    FrameworkRecord,
    Record,
    ReservationRecord,
    RoleRecord,
    VolumeRecord,
)
from runrig_master.quotas_grpc import quota_from_wire, quota_to_wire

SCHEMA_VERSION = 1
CLUSTER_KEY = "cluster"


def entry(record: Record) -> tuple[str, bytes]:
    """Return a record's key and value."""
    return key_of(record), _message(record).SerializeToString()


def _message(record: Record) -> Any:
    match record:
        case AgentRecord():
            return _agent(record)
        case FrameworkRecord():
            return _framework(record)
        case RoleRecord():
            return _role(record)
        case ReservationRecord():
            return _reservation(record)
        case VolumeRecord():
            return _volume(record)


def key_of(record: Record | Forget) -> str:
    """Return the key that a record has, or that `Forget` removes."""
    match record:
        case AgentRecord():
            return f"agents/{record.agent.agent_id}"
        case FrameworkRecord():
            return f"frameworks/{record.framework.framework_id}"
        case RoleRecord():
            return f"roles/{record.role}"
        case ReservationRecord():
            return f"reservations/{record.agent_id}/{record.reservation.reservation_id}"
        case VolumeRecord():
            return f"volumes/{record.agent_id}/{record.volume.volume_id}"
        case Forget():
            return _forgotten_key(record)


def _forgotten_key(forget: Forget) -> str:
    if forget.reservation_id is not None:
        return f"reservations/{forget.agent_id}/{forget.reservation_id}"
    if forget.volume_id is not None:
        return f"volumes/{forget.agent_id}/{forget.volume_id}"
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
    if kind == "reservations":
        return _read_reservation(state_pb2.StoredReservation.FromString(value))
    if kind == "volumes":
        return _read_volume(state_pb2.StoredVolume.FromString(value))
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


def _reservation(item: ReservationRecord) -> state_pb2.StoredReservation:
    message = state_pb2.StoredReservation(agent_id=item.agent_id, from_reservation_id=item.source_id)
    fill_reservation(message.reservation, item.reservation)
    return message


def _read_reservation(message: state_pb2.StoredReservation) -> ReservationRecord:
    reservation = reservation_from_wire(message.reservation)
    return ReservationRecord(AgentId(message.agent_id), reservation, message.from_reservation_id)


def _volume(item: VolumeRecord) -> state_pb2.StoredVolume:
    message = state_pb2.StoredVolume(agent_id=item.agent_id, is_doomed=item.is_doomed)
    fill_volume(message.volume, item.volume)
    return message


def _read_volume(message: state_pb2.StoredVolume) -> VolumeRecord:
    return VolumeRecord(AgentId(message.agent_id), volume_from_wire(message.volume), message.is_doomed)

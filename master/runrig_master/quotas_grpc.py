"""Quotas on the wire."""

from __future__ import annotations

from runrig.ids import Role
from runrig.v1 import operator_pb2, resources_pb2
from runrig_master.core.quotas import Quota, RoleQuota


def quota_to_wire(quota: Quota | None) -> resources_pb2.Quota | None:
    """Build the message of a quota; what it does not name is not set."""
    return resources_pb2.Quota(**quota.amounts()) if quota is not None else None


def quota_from_wire(message: resources_pb2.Quota) -> Quota:
    """Read a quota, unchecked."""
    return Quota(
        message.cpu_millis if message.HasField("cpu_millis") else None,
        message.mem_mib if message.HasField("mem_mib") else None,
        message.disk_mib if message.HasField("disk_mib") else None,
        message.gpus if message.HasField("gpus") else None,
    )


def role_quota_from_wire(message: operator_pb2.RoleQuota) -> RoleQuota:
    """Read what a role is to have, unchecked."""
    return RoleQuota(
        Role(message.role),
        quota_from_wire(message.limit) if message.HasField("limit") else None,
        quota_from_wire(message.guarantee) if message.HasField("guarantee") else None,
    )

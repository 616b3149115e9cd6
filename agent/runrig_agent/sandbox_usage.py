"""How much disk sandboxes take, and how full the disk is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ENTRIES_MAX = 200_000
"""Files looked at for one measurement, about a second's work."""


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """What a sandbox takes on disk, counted in blocks, as quotas do; `is_partial`: at least that."""

    disk_bytes: int
    files: int
    is_partial: bool = False


def measure(sandbox: Path, entries_max: int = ENTRIES_MAX) -> SandboxUsage:
    """Count what lies in `sandbox`; links are not followed, a file with several names counts once. Blocks."""
    pending, seen = [str(sandbox)], set[tuple[int, int]]()
    used = files = 0
    is_partial = False
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    files += 1
                    if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                        used += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif status.st_nlink > 1:
                        seen.add((status.st_dev, status.st_ino))
                    if files >= entries_max:
                        return SandboxUsage(used, files, is_partial=True)
        except OSError:  # it lives: files vanish; or nested deeper than a path is long
            is_partial = True
    return SandboxUsage(used, files, is_partial)


def disk_used_fraction(path: Path) -> float:
    """Return which part of the disk, or of its inodes, is used: the larger; what is root's alone counts."""
    status = os.statvfs(path)
    blocks = 1 - status.f_bavail / status.f_blocks if status.f_blocks else 0.0
    inodes = 1 - status.f_favail / status.f_files if status.f_files else 0.0
    return min(1.0, max(blocks, inodes))

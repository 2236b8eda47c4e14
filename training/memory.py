"""What memory this process may take: the machine's, or less where it is limited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

if sys.platform != "win32":
    import resource


@dataclass(frozen=True)
class MemoryLimit:
    """One of several that hold at once.

    Attributes:
        where: What sets it.
        total: Bytes that may be taken altogether.
        free: Bytes of them that are left.
        remedy: How to get more.
    """

    where: str
    total: int
    free: int
    remedy: str


def memory_limits() -> tuple[MemoryLimit, ...]:
    """Of the machine, of the process's address space, and of the control groups that it is in."""
    machine = psutil.virtual_memory()
    remedy = "End other programs, or take a machine with more."
    return (
        MemoryLimit("on this machine", machine.total, machine.available, remedy),
        *_of_address_space(),
        *_of_control_groups(),
    )


def is_shortage(error: Exception) -> bool:
    """Whether memory could not be had; PyTorch has no class of its own for that on a CPU."""
    told = ("DefaultCPUAllocator", "std::bad_alloc")
    return isinstance(error, MemoryError) or any(words in str(error) for words in told)


def _of_address_space() -> Iterator[MemoryLimit]:
    if sys.platform == "win32":
        return
    total, _ = resource.getrlimit(resource.RLIMIT_AS)
    if total != resource.RLIM_INFINITY:
        free = max(total - psutil.Process().memory_info().vms, 0)
        yield MemoryLimit("under `ulimit -v`", total, free, "Raise that limit.")


@dataclass(frozen=True)
class _Files:
    """How a version of control groups tells its figures; a cache of files gives way to programs."""

    folder: str
    total: str
    taken: str
    cached: str


_VERSION_1 = _Files(
    "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_VERSION_2 = _Files("", "memory.max", "memory.current", "inactive_file")


def _of_control_groups(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[MemoryLimit]:
    """Of this process's group and all groups around it; none but Linux has them.

    In a container the path of the group may be that outside of it; its own is the root then.
    """
    if not membership.exists():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        files = _VERSION_1 if controllers else _VERSION_2
        outermost = root / files.folder
        own = outermost / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(outermost):
                yield from _of_control_group(group, files)


def _of_control_group(group: Path, files: _Files) -> Iterator[MemoryLimit]:
    try:
        total = int((group / files.total).read_text())
        taken = int((group / files.taken).read_text())
        told = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(told.get(files.cached, 0))
    except (OSError, ValueError):  # no such group here, or "max", which is no limit
        return
    free = min(max(total - taken + cached, 0), total)
    yield MemoryLimit(f"in the control group {group}", total, free, "Give the group more.")

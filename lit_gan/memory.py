"""Memory of the machine and of a network: what is free, what an image takes, and the most that was held."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if sys.platform != "win32":
    import resource

_earlier = {"cpu": 0, "cuda": 0}  # the highest peaks in bytes that `memory_of` had counted anew


def peak_memory(device: torch.device) -> str:
    """In words, the most memory that this process has held so far, and of a GPU the most that tensors have had there."""
    said = []
    if device.type == "cuda":
        most = max(torch.cuda.max_memory_allocated(device), _earlier["cuda"])
        said.append(f"{most / 2**30:.2f} GiB on the GPU")
    if sys.platform != "win32":
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        most = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, _earlier["cpu"])
        said.append(f"{most / 2**30:.2f} GiB of the process")
    return f"peak memory {', '.join(said)}" if said else "peak memory unknown here"


def memory_of(network: Callable[[Tensor], Tensor], image: Tensor) -> int | None:
    """Bytes that `network` takes at most for `image`, or None where this cannot be told."""
    if image.device.type == "cuda":
        _earlier["cuda"] = max(_earlier["cuda"], torch.cuda.max_memory_allocated(image.device))
        torch.cuda.reset_peak_memory_stats(image.device)
        before = torch.cuda.memory_allocated(image.device)
        network(image)
        return torch.cuda.max_memory_allocated(image.device) - before
    if image.device.type != "cpu" or not _forget_peak():
        return None
    resident = _status("VmRSS")
    network(image)
    peak = _status("VmHWM")
    return None if resident is None or peak is None else max(peak - resident, 0)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory could not be had; torch says it of the processor by a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on `device`, within the limit of a container; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return min(free, max(limit - used, 0))


def _forget_peak() -> bool:
    """Let Linux count this process's peak of memory anew; `peak_memory` still knows it."""
    _earlier["cpu"] = max(_earlier["cpu"], _status("VmHWM") or 0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)

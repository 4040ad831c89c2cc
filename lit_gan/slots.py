"""What a machine has for the runs of a sweep: its GPUs, or its cores, as environment variables for each run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from lit_gan.config import Config
from lit_gan.errors import UserError


def slots_for(gpus: str | None, jobs: int | None, configs: Sequence[Config]) -> list[dict[str, str]]:
    """One set of environment variables for each run that may go at a time.

    `gpus` names GPUs as CUDA_VISIBLE_DEVICES does; None: all there are. With `trainer.devices=n` a run gets n of them.
    `jobs` is how many runs go at a time: one on each GPU, or a single one on a CPU, if None.
    """
    on_cpu = all(config.get("trainer.accelerator") in ("cpu", "mps") for config in configs)
    if gpus is not None and on_cpu:
        raise UserError(
            f"--gpus {gpus}: trainer.accelerator={configs[0].get('trainer.accelerator')} uses none"
        )
    names = _named(gpus) if gpus is not None else [] if on_cpu else visible_gpus()
    if not names:
        return [_cores(jobs or 1) for _ in range(jobs or 1)]
    wanted = {config.get("trainer.devices") for config in configs}
    size = len(names) if "auto" in wanted else max(wanted)
    if size > len(names):
        raise UserError(f"trainer.devices={size}, and the sweep has {len(names)} GPU(s): {','.join(names)}")
    groups = [names[i : i + size] for i in range(0, len(names) - size + 1, size)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(groups[i % len(groups)])} for i in range(jobs or len(groups))]


def _named(gpus: str) -> list[str]:
    names = [name.strip() for name in gpus.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise UserError(f"--gpus {gpus}: name each GPU once, such as --gpus 0,1")
    return names


def visible_gpus() -> list[str]:
    """The GPUs that PyTorch would use, asked of the environment and the driver."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [] if chosen.strip() in ("", "-1") else _named(chosen)
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    return [str(number) for number in range(count)]


def _cores(jobs: int) -> dict[str, str]:
    """Several runs share the cores; each would else start as many threads as there are."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}

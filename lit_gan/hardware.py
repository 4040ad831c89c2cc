"""What this machine can do: accelerator, devices and precision, checked before anything long starts."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lit_gan.errors import UserError
from lit_gan.settings import Trainer

PRECISIONS = {"32": "32-true", "32-true": "32-true", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed"}
FP16 = ("16", "16-mixed", "16-true", "fp16", "half")


def resolve_accelerator(settings: Trainer) -> tuple[str, int]:
    """("cpu" | "cuda" | "mps", devices), or a `UserError` if the machine has not got what is asked for."""
    cuda, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    kind = {"gpu": "mps" if mps and not cuda else "cuda", "auto": "cuda" if cuda else "cpu"}.get(
        settings.accelerator, settings.accelerator
    )
    if kind == "cuda" and not cuda:
        raise UserError(
            f"trainer.accelerator={settings.accelerator}: PyTorch {torch.__version__} sees no GPU here; "
            "use trainer.accelerator=cpu, or check the driver with nvidia-smi"
        )
    if kind == "mps" and not mps:
        raise UserError("trainer.accelerator=mps: this machine has no Metal GPU; use trainer.accelerator=cpu")
    available = {"cuda": cuda, "mps": 1}.get(kind)
    devices = (available or 1) if settings.devices == "auto" else int(settings.devices)
    if devices < 1 or (available is not None and devices > available):
        raise UserError(
            f"trainer.devices={settings.devices}: there are {available or 'at least 1'} on this machine ({kind})"
        )
    return kind, devices


def resolve_precision(precision: str, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` takes bf16-mixed where the hardware multiplies bfloat16 itself."""
    if precision in FP16:
        raise UserError(
            f"trainer.precision={precision}: fp16 overflows in gradient penalties, and its loss scale couples the two "
            "players; use bf16-mixed or 32"
        )
    if precision == "auto":
        return "bf16-mixed" if _has_bf16(accelerator) else "32-true"
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision} is not one of 32, bf16-mixed, auto")
    return PRECISIONS[precision]


def prepare_machine(accelerator: str, devices: int = 1, *, tf32: bool = False) -> None:
    """TF32 only where it is asked for; on a CPU, no more threads than cores for the ranks together."""
    if accelerator == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
    elif accelerator == "cpu" and devices > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))


def inference_device(settings: Trainer) -> torch.device:
    """The device of `lit-gan eval` and `sample`: the run's kind, or the CPU where this machine has not got it."""
    try:
        kind, _ = resolve_accelerator(replace(settings, devices=1))
    except UserError:
        kind = "cpu"
    prepare_machine(kind, tf32=settings.tf32)
    return torch.device(kind)


def check_launcher(world: int, devices: int) -> None:
    """Raise a `UserError` if torchrun or SLURM started another number of processes than the run is for."""
    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect() and (started := environment().world_size()) != world:
            raise UserError(
                f"the launcher started {started} processes, trainer.devices x trainer.nodes is {world} ({devices} per "
                "node): start one process per device and set both to match"
            )


def _has_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if accelerator == "cpu":
        flags = _cpu_info().get("flags", "").split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def _cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def describe_hardware(device: torch.device, world: int) -> dict[str, Any]:
    """What `results.json` says of the machine."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else _cpu_info().get("model name", platform.machine())
    )
    return {
        "device": name,
        "accelerator": device.type,
        "devices": world,
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
    }

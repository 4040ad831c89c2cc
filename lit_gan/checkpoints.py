"""Find the newest whole checkpoint of a run; a torn or foreign file is named and the one before it taken."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_gan.errors import UserError
from lit_gan.run import RunFolder


def candidates(run: RunFolder) -> list[Path]:
    """The checkpoints of a run, the newest first by the images in their names."""
    numbered = sorted(run.checkpoints.glob("images-*.ckpt"), key=lambda p: p.name, reverse=True)
    last, best = run.checkpoints / "last.ckpt", run.checkpoints / "best.ckpt"
    return [
        *numbered[:1],
        *([last] if last.exists() else []),
        *numbered[1:],
        *([best] if best.exists() else []),
    ]


def defect(path: Path) -> str | None:
    """What is wrong with a checkpoint file, or None if it is whole and ours. Reads every byte of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                return f"torn: {bad} does not match its checksum"
        record = load(path).get("lit_gan")
    except FileNotFoundError:
        return "not there"
    except (zipfile.BadZipFile, OSError, EOFError):
        return "torn: its end is missing"
    except Exception as error:  # whatever unpickling foreign bytes may raise
        return f"foreign: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return None if isinstance(record, dict) else "foreign: not a checkpoint of lit-gan"


def load(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint on the CPU; `weights_only`, so that it runs no code."""
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return loaded if isinstance(loaded, dict) else {}


def check_fits(path: Path, module: nn.Module) -> dict[str, Any]:
    """The checkpoint's contents, or a `UserError` where its networks are not those of `module`."""
    checkpoint = load(path)
    theirs = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    differ = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differ:
        name = differ[0]
        raise UserError(
            f"{path} has other networks than the configuration ({name}: {theirs.get(name, 'none')}, now "
            f"{ours.get(name, 'none')}): leave model.* and optim.ema_* as the run has them, or start a new run"
        )
    return checkpoint


def newest_whole(run: RunFolder, named: Path | None = None) -> Path:
    """The checkpoint to go on from: `named` if whole, else the newest whole one; says on stderr what it passes over."""
    order = candidates(run)
    if named is not None:
        order = [named, *(c for c in order if c != named)]
    passed_over: list[str] = []
    for path in order:
        reason = defect(path)
        if reason is None:
            for line in passed_over:
                print(f"{line}; taking the one before it", file=sys.stderr)
            return path
        passed_over.append(f"{path} is {reason}")
    raise UserError(
        f"{run.path}: no whole checkpoint to go on from ({'; '.join(passed_over) or 'none was written'}); "
        "start anew with another run.name"
    )


def best_or_last(run: RunFolder, named: Path | None = None) -> Path:
    """The checkpoint to evaluate and sample: `named`, else the best, else the newest whole one."""
    best = run.checkpoints / "best.ckpt"
    if named is None and best.exists() and defect(best) is None:
        return best
    return newest_whole(run, named)

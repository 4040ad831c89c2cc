"""`lit-gan blend`: a generator between two, weight by weight (Wang et al. 2018, arXiv:1809.00219, section 3.4).

Between one that was trained for PSNR and the one that its adversarial stage made of it there are all degrees of detail and
of artefacts. The two must have begun with the same weights, or what lies between them is none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_gan.checkpoints import best_or_last, load
from lit_gan.errors import UserError
from lit_gan.resume import named_run
from lit_gan.run import RunFolder, replace

AVERAGED, OWN = "ema.network.", "generator."  # where a checkpoint has the network that it samples by


def blend(first: str | Path, second: str | Path, alpha: float) -> dict[str, Any]:
    """The checkpoint of `second` whose generator is (1 - alpha) of the first's and alpha of its own.

    Each is a run, of which the best checkpoint counts, or a checkpoint; of a generator with an average that is meant. To
    sample and to evaluate, not to train on. Raises a `UserError` where the networks differ.
    """
    return blended(_checkpoint(first)[0], _checkpoint(second)[0], alpha)


def blend_runs(first: str, second: str, *, alpha: float, out: str | None) -> int:
    """Write it to `out`, or beside the checkpoints of `second`, and say where; returns the exit code."""
    (a, _), (b, run) = _checkpoint(first), _checkpoint(second)
    path = run.checkpoints / f"blend-{alpha:.3f}.ckpt" if out is None else Path(out)
    if path.resolve() in (a.resolve(), b.resolve()):
        raise UserError(f"--out {path} is one of the two checkpoints: give another name")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    replace(path, partial(torch.save, blended(a, b, alpha)))
    print(f"{1 - alpha:g} of {a} and {alpha:g} of {b}: {path}")
    if path.resolve().parent != run.checkpoints.resolve():
        print(f"a checkpoint is read from within its run's folder: move it to {run.checkpoints} to use it")
    return 0


def blended(first: Path, second: Path, alpha: float) -> dict[str, Any]:
    """As `blend`, of two checkpoint files; alpha may lie outside [0, 1], beyond the two."""
    a, b = load(first), load(second)
    theirs, (prefix, own) = _sampler(a)[1], _sampler(b)
    shapes = [{name: tuple(value.shape) for name, value in side.items()} for side in (theirs, own)]
    differ = sorted(n for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n))
    if differ:
        name = differ[0]
        raise UserError(
            f"{first} and {second} have other generators ({name}: {shapes[0].get(name, 'none')} and "
            f"{shapes[1].get(name, 'none')}): blend two stages of one"
        )
    state = dict(b["state_dict"])
    for name, value in own.items():
        if value.is_floating_point():
            mixed = theirs[name].double() * (1 - alpha) + value.double() * alpha
            state[prefix + name] = mixed.to(value.dtype)
    record = {**b["lit_gan"], "blend": {"of": str(first), "with": str(second), "alpha": alpha}}
    kept = {key: value for key, value in b.items() if key not in ("optimizer_states", "lr_schedulers")}
    return {**kept, "state_dict": state, "lit_gan": record}


def _sampler(checkpoint: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """The prefix and the tensors of the network that it samples by."""
    state: dict[str, Tensor] = checkpoint["state_dict"]
    prefix = AVERAGED if any(name.startswith(AVERAGED) for name in state) else OWN
    return prefix, {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _checkpoint(name: str | Path) -> tuple[Path, RunFolder]:
    """The checkpoint that is meant, and its run."""
    run, named = named_run(str(name), Path("runs"))
    return best_or_last(run, named), run

"""A run that begins with the weights of another one (`run.start_from`): for data too few to learn from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_gan.checkpoints import best_or_last, candidates, defect, load
from lit_gan.config import Config
from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule
from lit_gan.resume import named_run

NAMED = 3  # of the tensors that were not taken, in the line about them


@dataclass(frozen=True)
class Start:
    """Where the weights of a new run came from, and which of its tensors found none there."""

    path: Path
    images_seen: int  # by that checkpoint
    tensors: int  # of the new run, its average included
    fresh: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What the run's `results.json` and checkpoints keep of it."""
        return {
            "checkpoint": str(self.path.absolute()),
            "images_seen": self.images_seen,
            "taken": self.tensors - len(self.fresh),
            "fresh": list(self.fresh),
        }

    def __str__(self) -> str:
        taken = f"took {self.tensors - len(self.fresh)} of {self.tensors} tensors"
        more = len(self.fresh) - NAMED
        names = ", ".join(self.fresh[:NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"begins with {self.path} at {self.images_seen / 1000:g} kimg: {taken}"
            + (f"; fresh: {names}" if self.fresh else "")
        )  # fmt: skip


def origin_of(config: Config) -> Path | None:
    """The whole checkpoint that `run.start_from` means, of a run the best; None where it is null.

    Reads every byte of it; raises a `UserError` where there is none or it is torn or foreign.
    """
    name = config.get("run.start_from")
    if name is None:
        return None
    try:
        run, named = named_run(str(name), Path(config.get("run.dir")))
        if named is None:
            if not candidates(run):
                raise UserError(f"{run.path} has no checkpoint; give a run that came to one")
            return best_or_last(run)
        if (reason := defect(named)) is not None:
            raise UserError(f"{named} is {reason}; give another checkpoint, or its run")
    except UserError as error:
        raise UserError(f"run.start_from={name}: {error}") from None
    return named


def begin(module: AdversarialModule, path: Path) -> Start:
    """Give `module` what fits by name and shape of the checkpoint at `path`, of the same variant; the rest stays fresh.

    An average that the other run did not keep begins as its generator. Counters and optimisers are those of a new run.
    """
    checkpoint = load(path)
    record, theirs = checkpoint["lit_gan"], checkpoint["state_dict"]
    if record.get("variant") != type(module).__name__:
        raise UserError(
            f"run.start_from: {path} is of {record.get('variant')}, not of {type(module).__name__}: give a run of the "
            "same variant"
        )
    ours = module.state_dict()
    taken = {}
    for name, tensor in ours.items():
        found = next((theirs[n] for n in _sources(name) if n in theirs), None)
        if found is not None and found.shape == tensor.shape:
            taken[name] = found
    weights = {name for name, parameter in module.named_parameters() if parameter.ndim >= 2}
    if not weights & taken.keys():  # a bias or a counter fits anywhere
        name = next(name for name in ours if name in weights)
        was = tuple(theirs[name].shape) if name in theirs else "not there"
        raise UserError(
            f"run.start_from: no weights of {path} fit ({name}: {was}, here {tuple(ours[name].shape)}): give model.* as "
            "that run has them"
        )
    module.load_state_dict({**ours, **taken})
    fresh = tuple(name for name in ours if name not in taken)
    return Start(path, int(record["images_seen"]), len(ours), fresh)


def _sources(name: str) -> tuple[str, ...]:
    """Names under which another run may have the tensor called `name`, the best first."""
    for average in ("ema_wide.network.", "ema.network."):
        if name.startswith(average):
            rest = name.removeprefix(average)
            return name, f"ema.network.{rest}", f"generator.{rest}"
    return (name,)

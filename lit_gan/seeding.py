"""The random stream of a training step: a function of where the run is, so that resuming needs no RNG state."""

from __future__ import annotations

from hashlib import blake2b

import torch


def seed_step(seed: int, images_seen: int, rank: int, device: torch.device) -> None:
    """Seed torch's generator of the processor, and that of `device`, from (seed, images seen, rank)."""
    message = f"{seed}/{images_seen}/{rank}".encode()
    number = int.from_bytes(blake2b(message, digest_size=7).digest(), "big")
    # not torch.manual_seed: without a GPU it formats a stack trace in every call: 0.6 ms at a depth of 40 frames
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)

"""Samples by index: fake number i is a pure function of (seed, i), whatever the batch size or the number of
ranks.

Evaluation, sample grids and `lit-gan sample` all draw their latents and labels here. Nothing touches a global
random stream, so looking at samples never changes the training that goes on around it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import accumulate
from math import sqrt
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_gan.conditions import Conditions
from lit_gan.errors import UserError
from lit_gan.tiles import pad_to

if TYPE_CHECKING:
    from lit_gan.autoencoder import Decoder

Batch = dict[str, Tensor]

STANDING = 64  # fakes in a batch of those that make standing statistics
STANDING_SEED = -1  # of them; scores and pictures have seeds from 0 on
_GOLDEN = 0x9E3779B1  # odd, so that multiplying by it permutes the 32-bit numbers


class Sampleable(Protocol):
    """What sampling needs of a module; every `AdversarialModule` has it."""

    latent_dim: int

    @property
    def device(self) -> torch.device: ...

    @property
    def real_key(self) -> str: ...

    def generate(self, batch: Batch) -> Tensor: ...

    def modules(self) -> Iterator[nn.Module]: ...


def latents(seed: int, indices: Sequence[int], latent_dim: int) -> Tensor:
    """Standard normal z [B, Z] on the CPU, row b a function of (seed, indices[b]) alone.

    torch's CPU generator keeps 32 bits of a seed. Stepping through them by an odd number gives every index
    below 2**32 a stream of its own, where hashing would repeat one of 50,000 fakes in every third evaluation
    or so.
    """
    start = int.from_bytes(_digest(seed, "latent"), "little")
    generator = torch.Generator()
    z = torch.empty(len(indices), latent_dim)
    for row, index in zip(z, indices, strict=True):
        torch.randn(latent_dim, generator=generator.manual_seed((start + index * _GOLDEN) % 2**32), out=row)
    return z


def labels(
    seed: int, indices: Sequence[int], num_classes: int, class_weights: Sequence[float] | None = None
) -> Tensor:
    """Labels [B] int64 on the CPU by (seed, index), drawn with `class_weights` (any scale; None: evenly)."""
    weights = [1.0] * num_classes if class_weights is None else [float(weight) for weight in class_weights]
    if len(weights) != num_classes or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"class_weights must be {num_classes} numbers >= 0 and not all 0, got {weights}")
    edges = list(accumulate(weights))
    last = max(
        label for label, weight in enumerate(weights) if weight > 0
    )  # rounding must not reach an empty class
    uniform = (int.from_bytes(_digest(seed, f"label {index}"), "little") / 2**64 for index in indices)
    drawn = [min(bisect_right(edges, share * edges[-1]), last) for share in uniform]
    return torch.tensor(drawn, dtype=torch.int64)


def truncated(z: Tensor, threshold: Tensor) -> Tensor:
    """z [B, Z] of a normal distribution as numbers of the same one cut off at ±`threshold` []; monotonous in each.

    Each has the quantile there that it had before, which is the distribution of drawing again whatever lies beyond
    (Brock et al. 2019, section 3.1) and remains a function of z: erf(z' / sqrt 2) = erf(t / sqrt 2) erf(z / sqrt 2).
    """
    wide = z.to(torch.float64 if z.device.type != "mps" else torch.float32)
    t = threshold.to(wide.dtype)
    inner = torch.erfinv(torch.erf(t / sqrt(2)) * torch.erf(wide / sqrt(2))) * sqrt(2)
    return inner.clamp(-t, t).to(z.dtype)  # erfinv(1) is infinite


def sampling_batch(
    module: Sampleable,
    seed: int,
    indices: Sequence[int],
    num_classes: int = 0,
    class_weights: Sequence[float] | None = None,
    label: int | Sequence[float] | None = None,
    truncation: float | None = None,
) -> Batch:
    """What `module.generate` reads, on its device: "z" [B, Z], "index" [B], "label" [B] if there are classes,
    "truncation" [], "source" [B, Cs, Hs, Ws] of a translator, by number, and "style" [B, C, H, W] where it takes one.

    `label` gives all samples one class; otherwise they follow `class_weights`. Where the module has `conditions`, labels
    are vectors [B, K]: `label`, in the data's own units, or drawn from those that it was trained on.
    """
    batch = {"z": latents(seed, indices, module.latent_dim), "index": torch.tensor(indices)}
    conditions: Conditions | None = getattr(module, "conditions", None)
    if conditions is not None:
        if label is None:
            batch["label"] = conditions.drawn(seed, indices)
        else:
            values = label if isinstance(label, Sequence) else [label]
            batch["label"] = conditions.encoded(values).expand(len(indices), -1)
    elif label is not None:
        if isinstance(label, Sequence) or not 0 <= label < num_classes:
            what = f"labels are 0 to {num_classes - 1}" if num_classes else "the generator takes no label"
            shown = ",".join(f"{value:g}" for value in label) if isinstance(label, Sequence) else label
            raise UserError(f"label {shown} cannot be sampled: {what}")
        batch["label"] = torch.full((len(indices),), label, dtype=torch.int64)
    elif num_classes:
        batch["label"] = labels(seed, indices, num_classes, class_weights)
    if (sources := getattr(module, "sources", None)) is not None:
        batch["source"] = sources.of(indices)
        if getattr(module, "takes_style", False):
            batch["style"] = sources.images_at(indices)
    if truncation is not None:
        if not getattr(module, "truncates", False):
            raise UserError(f"{type(module).__name__} has no truncation: leave truncation={truncation} out")
        batch["truncation"] = torch.tensor(float(truncation))
    return {key: value.to(module.device) for key, value in batch.items()}


def render(module: Sampleable, batch: Batch) -> Tensor:
    """Images [B, C, H, W] in [-1, 1] of `batch`: what `module.generate` makes, decoded where that are latents."""
    source = batch.get("source")
    if source is None:
        return decoded(module, module.generate(batch))

    stride, least, scale = (getattr(module, name, 1) for name in ("stride", "least_side", "scale"))
    made = module.generate(batch | {"source": pad_to(source, stride, least)})  # sides that the networks take
    return made[:, :, : source.shape[2] * scale, : source.shape[3] * scale]


def decoded(module: Sampleable, made: Tensor) -> Tensor:
    """What the variant made, [B, C, H, W], as images."""
    decoder: Decoder | None = getattr(module, "decoder", None)
    return made if decoder is None else decoder(made)


@contextmanager
def inference(module: Sampleable, *, truncation: float | None = None) -> Iterator[None]:
    """Eval mode, no gradients and float32 (no autocast) within; each submodule's own mode restored after.

    Where the module has `standing_batches`, batch norm has standing statistics, at the `truncation` of what is made.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        with (
            torch.no_grad(),
            torch.autocast(module.device.type, enabled=False),
            _standing_statistics(module, truncation),
        ):
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _standing_statistics(module: Sampleable, truncation: float | None) -> Iterator[None]:
    """Within, batch norm uses means over batches of the module's own fakes (Brock et al. 2019, appendix F).

    Running averages are of the weights of many steps, and not of an averaged or truncated generator. The fakes are the
    same each time and on all ranks, all classes alike; the running averages are back after.
    """
    batches = getattr(module, "standing_batches", 0)
    sampler = getattr(module, "sampler", None)
    if not batches or sampler is None:
        yield
        return
    norms = [part for part in sampler.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    kept = [(norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(norm, name, torch.zeros_like(getattr(norm, name)))
            norm.momentum, norm.training = None, True  # None: the plain mean over all batches
        for first in range(0, batches * STANDING, STANDING):
            indices = range(first, first + STANDING)
            classes = getattr(module, "num_classes", 0)
            module.generate(sampling_batch(module, STANDING_SEED, indices, classes, truncation=truncation))
        for norm in norms:
            norm.training = False
        yield
    finally:
        for norm, (mean, var, count, momentum) in zip(norms, kept, strict=True):
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, var, count
            norm.momentum, norm.training = momentum, False


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded and clamped, from float32: bfloat16 misses 63 of 256 levels."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def _digest(seed: int, what: str) -> bytes:
    return blake2b(f"lit-gan {seed} {what}".encode(), digest_size=8).digest()

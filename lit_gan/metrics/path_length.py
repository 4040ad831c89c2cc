"""Perceptual path length, how far an image moves for a small step of its latent (Karras et al. 2019, arXiv:1812.04948).

As StyleGAN2 reports it ("ppl2_wend", Karras et al. 2020, arXiv:1912.04958): a step of 1e-4 from w of a random latent
towards w of another, constant noise, images averaged down to at most 256 pixels, LPIPS over the step squared, without
the lowest and the highest 1 %. Its crop for faces is left out. A generator without a style space walks in z, along the
great circle (White 2016, arXiv:1609.04468), which is another scale: the protocol says which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.metrics.extractors import exact_float32
from lit_gan.metrics.paired import plain
from lit_gan.metrics.pixels import pooled
from lit_gan.metrics.sums import EvaluationMetric
from lit_gan.sampling import Batch, Sampleable, decoded, inference, latents, render, sampling_batch

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source
    from lit_gan.metrics.lpips import Distance, PerceptualNetwork
    from lit_gan.metrics.reference import Pass

EPSILON = 1e-4
LARGEST = 256  # side of an image that LPIPS is shown
TRIMMED = 100  # one part in so many is left out at either end


class Styled(Protocol):
    """A generator with a style space; `generate` is both in turn, and clamped."""

    def styles(self, batch: Batch) -> Tensor: ...  # w [B, W]

    def synthesise(self, w: Tensor, batch: Batch) -> Tensor: ...  # [B, C, H, W] around [-1, 1]


class PerceptualPathLength(EvaluationMetric):
    """`update(near, far)`, images [B, C, H, W] a step of `epsilon` apart; `compute()` the trimmed mean, float64.

    Lower is smoother (torchmetrics' has it the other way round). `distance(near, far)` gives [B] for floats in about
    [-1, 1], as a `PerceptualNetwork` does. In `evaluate` there are `samples` steps, of two images each.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    takes = "generator"
    network = "lpips"
    uses_reals = False
    smallest = 2
    parts: ClassVar = ("value", "error")

    lengths: list[Tensor]

    def __init__(
        self, distance: Distance, samples: int | None = None, epsilon: float = EPSILON, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.distance, self.samples, self.epsilon = plain(distance), samples, epsilon
        self.space = ""  # where the steps were made, once they are
        self.add_state("lengths", [], dist_reduce_fx="cat")

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(cast("Distance", network), samples, sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        return cast("PerceptualNetwork", network).lacks(data)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"epsilon={EPSILON:g} at the ends, area to at most {LARGEST}, {1 / TRIMMED:.0%} trimmed at either end"

    def described(self, samples: int) -> str:
        return f"path in {self.space}, {self.settings(samples)}"

    def empty_rows(self, name: str) -> Tensor:
        return torch.zeros(0, dtype=torch.float64, device=self.device)

    def update(self, near: Tensor, far: Tensor) -> None:
        """Adds steps; B may be 0."""
        if not len(near):
            return
        size = pooled(near.shape[2], LARGEST), pooled(near.shape[3], LARGEST)
        distances = self.distance(*(F.adaptive_avg_pool2d(images.float(), size) for images in (near, far)))
        self.lengths.append(distances.detach().to(self.device, torch.float64) / self.epsilon**2)

    def fill(
        self, module: Sampleable, data: Source, how: Pass, *, seed: int, truncation: float | None
    ) -> Tensor:
        assert self.samples is not None
        self.space = "w" if hasattr(module, "styles") else "z"
        broken = torch.zeros((), dtype=torch.int64, device=how.device)
        half = replace(how, batch_size=max(1, how.batch_size // 2))  # each step is two images
        with inference(module), exact_float32(module.device):
            for steps in half.share(self.samples):
                # ends of step i are latents 2i and 2i + 1, both of the label that 2i has
                batch = sampling_batch(
                    module,
                    seed,
                    [2 * i for i in steps],
                    data.num_classes,
                    data.class_weights,
                    truncation=truncation,
                )
                target = latents(seed, [2 * i + 1 for i in steps], module.latent_dim).to(batch["z"])
                images = walk(module, batch, target, self.epsilon).to(how.device).float()
                broken += (~images.flatten(1).isfinite().all(1)).sum()
                self.update(*images.nan_to_num().chunk(2))
        return broken

    def compute(self) -> Tensor:
        kept, _ = self._kept()
        return kept.mean()

    def values(self) -> dict[str, float]:
        kept, n = self._kept()
        found = {"value": float(kept.mean())}
        if self.errors:
            # of a trimmed mean (Tukey & McLaughlin 1963): what is left out counts as the nearest that is kept
            out = (n - len(kept)) // 2
            winsorised = torch.cat([kept[:1].expand(out), kept, kept[-1:].expand(out)])
            found["error"] = float(winsorised.std() * n**0.5 / len(kept))
        return found

    def _kept(self) -> tuple[Tensor, int]:
        """The lengths in order without the lowest and highest 1 %, and how many there were."""
        lengths = self.rows("lengths").sort().values
        n = len(lengths)
        if n < self.smallest:
            raise ValueError(f"{type(self).__name__} needs {self.smallest} samples, got {n}")
        out = (n - 1) // TRIMMED  # numpy's percentiles, the 1st taken "lower" and the 99th "higher"
        return lengths[out : n - out], n


def walk(module: Sampleable, batch: Batch, target: Tensor, epsilon: float) -> Tensor:
    """Images [2B, C, H, W]: of the batch, and of it a step of `epsilon` towards `target` [B, Z]."""
    doubled = {key: torch.cat([value, value]) if value.ndim else value for key, value in batch.items()}
    if hasattr(module, "styles"):
        styled = cast("Styled", module)
        w, other = styled.styles(batch), styled.styles({**batch, "z": target})
        return decoded(module, styled.synthesise(torch.cat([w, torch.lerp(w, other, epsilon)]), doubled))
    doubled["z"] = torch.cat([batch["z"], slerp(batch["z"], target, epsilon)])
    return render(module, doubled)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Rows [B, Z] that lie `share` of the way from `start` to `end` on the arc between them; straight where both point
    one way, or opposite ways."""
    a, b = start.double(), end.double()
    cosine = F.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    arc = ((1 - share) * angle).sin() / angle.sin() * a + (share * angle).sin() / angle.sin() * b
    return torch.where(angle.sin() > 1e-6, arc, torch.lerp(a, b, share)).to(start)

"""What a variant is: losses, networks and a generate function on the alternation of `lit_gan.alternation`.

`AdversarialModule` has what a variant gives, and what it uses: noise, fakes, verdicts, penalties and optimisers. See
docs/architecture.md.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_gan.alternation import Alternation
from lit_gan.conditions import Conditions, Kind
from lit_gan.data.base import dequantised
from lit_gan.ema import EMA
from lit_gan.errors import UserError
from lit_gan.freezing import freeze_first
from lit_gan.optimisers import build_optimizer
from lit_gan.penalties import Penalty, squared_norm, squared_slope
from lit_gan.players import Batch, Losses, Player
from lit_gan.power_ema import gamma_of

if TYPE_CHECKING:
    from lit_gan.autoencoder import Decoder
    from lit_gan.sources import Sources

__all__ = ["AdversarialModule", "Batch", "Losses", "Player"]


class AdversarialModule(Alternation):
    """Two players that take turns; `discriminator_loss` and `generator_loss` make it a variant.

    The hooks work on a bare instance, without a Trainer. The attributes `generator` and `discriminator` are set by the
    variant's `__init__`, which ends with `self.finish()`.
    """

    truncates: ClassVar[bool] = False  # whether generate() reads batch["truncation"]
    bounded: ClassVar[bool] = (
        True  # whether what it makes ends at -1 and 1, as latents of unit variance do not
    )
    relative: ClassVar[bool] = (
        False  # whether logits mean something in their differences alone, as a critic's
    )
    mixes_samples: ClassVar[bool] = (
        True  # whether a layer of the discriminator does, as batch norm: reals and fakes then go through apart
    )
    dequantises: ClassVar[bool] = (
        False  # whether the discriminator sees reals with noise within their 8-bit level
    )

    translates: ClassVar[bool] = False  # whether generate() makes an image of batch["source"]
    needs_pairs: ClassVar[bool] = (
        False  # of a translator: whether batch["image"] must show what the source does
    )
    reads_indices: bool = False  # of a translator: whether the values of batch["source"] are class indices
    takes_style: ClassVar[bool] = (
        False  # of a translator: whether it reads batch["style"] too, an image of any size
    )

    # keys of `regularise` that make no sense here, and what it is: why; a run may refuse more than its class
    refuses: Mapping[str, str] = {}

    latent_dim: int
    num_classes: int = 0  # that the networks are built for; of labels that are vectors, their width
    conditions: Conditions | None = None  # of labels that are vectors; set by the run
    grows: bool = False  # whether layers of the discriminator come to life while it trains
    stride: int = 1  # of a translator: the sides of its input are multiples of it
    least_side: int = 1  # of a translator: no side of its input is smaller
    sample_dropout: bool = False  # of a translator: whether generate() drops, by masks as large as its input
    scale: int = 1  # of a translator: its output's sides over its input's
    reach: int | None = (
        None  # of a translator: pixels of the input around a place that matter there; None: all
    )
    clips: bool = (
        True  # of a translator: whether generate() may cut at -1 and 1, where images end too; set by the run
    )
    standing_batches: int = 0  # of fakes, for batch norm's statistics in inference; 0: its running averages

    def __init__(self, optim: Mapping[str, Any] | None = None) -> None:
        super().__init__(optim)
        self.conditional = False
        self.sources: Sources | None = None  # of a translator's numbered fakes; set by the run
        self.decoder: Decoder | None = None  # of the latents that it is trained on; set by the run

    # -- what a variant gives ---------------------------------------------------------------------------------------

    @abstractmethod
    def discriminator_loss(self, batch: Batch) -> Losses:
        """The discriminator's weighted terms; draws its own noise and makes fakes under no_grad."""

    @abstractmethod
    def generator_loss(self, batch: Batch) -> Losses:
        """The generator's weighted terms, through a discriminator that is frozen meanwhile."""

    def fakes(self, batch: Batch) -> Tensor:
        """Fakes for training, one for each real of the batch, by the generator itself and noise of its own."""
        return self._made_by(self.generator, self.latents(batch), batch)

    def generate(self, batch: Batch) -> Tensor:
        """Fakes [B, C, H, W] in [-1, 1] from `batch["z"]` (and label), by the averaged weights, without the global RNG.

        Like the reals of training they are latents where there is a `decoder`; `sampling.render` makes images of them.

        Called within `lit_gan.sampling.inference`: in eval mode, without gradients, in float32.
        """
        return self._made_by(self.sampler, batch["z"], batch)

    def _made_by(self, generator: nn.Module, z: Tensor, batch: Batch) -> Tensor:
        label = self.label(batch)
        fake: Tensor = generator(z) if label is None else generator(z, label)
        return fake

    # -- what a variant uses ----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Make the average of the generator and freeze what `optim.freeze_d` says, once both players exist."""
        if self.optim.freeze_d and self.grows:
            raise UserError(
                f"optim.freeze_d={self.optim.freeze_d}: the layer nearest to the image changes while the discriminator "
                "grows; start grown up by model.stable_images=0 model.fade_images=0, or leave freeze_d at 0"
            )
        freeze_first(self.discriminator, self.optim.freeze_d)
        width = self.optim.ema_width
        if width is not None:
            gamma_of(2 * width)  # raises where it is none
            self.ema, self.ema_wide = EMA(self.generator), EMA(self.generator)
        elif self.optim.ema_half_life > 0:
            self.ema = EMA(self.generator)

    def condition(self, conditional: bool, num_classes: int) -> int:
        """The width of the condition that the networks are built for, such as the number of classes: 0 unless
        `conditional`, which needs labelled data."""
        if conditional and num_classes == 0:
            raise UserError(
                "model.conditional=true needs labels and the data have none: use labelled data, or false"
            )
        self.conditional = conditional
        self.num_classes = num_classes if conditional else 0
        if conditional:
            self.needs = (self.real_key, "label")
        return self.num_classes

    @property
    def condition_kind(self) -> Kind:
        """What the labels are: classes [B], or vectors [B, K]."""
        return "class" if self.conditions is None else self.conditions.kind

    def label(self, batch: Batch) -> Tensor | None:
        """The labels, classes [B] or vectors [B, K], where the networks read them."""
        return batch["label"] if self.conditional else None

    def reals(self, batch: Batch) -> Tensor:
        """The batch's reals as the discriminator is to know them, [B, C, H, W]; augmentation comes after it."""
        return batch[self.real_key]

    def latents(self, batch: Batch) -> Tensor:
        """Noise [B, Z] for training: `batch["z"]`, or drawn; the spine seeds torch's global stream in every step."""
        if "z" in batch:
            return batch["z"]
        return torch.randn(len(batch[self.real_key]), self.latent_dim, device=self.device)

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """The discriminator's verdict on `images` [B, C, H, W]: adversarial logits, one or more a sample."""
        verdict: Tensor = (
            self.discriminator(images, label) if self.conditional else self.discriminator(images)
        )
        return verdict

    def judge(self, real: Tensor, fake: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of reals and of fakes [B, C, H, W] with the same labels, as D is shown them, told to who observes.

        In one pass, unless `mixes_samples`: statistics over both would tell D which is which.
        """
        if self.mixes_samples:
            real_logits, fake_logits = (
                self.logits(self.shown(real), label),
                self.logits(self.shown(fake), label),
            )
        else:
            both = self.shown(torch.cat([real, fake.to(real.dtype)]))
            labels = None if label is None else torch.cat([label, label])
            real_logits, fake_logits = self.logits(both, labels).chunk(2)
        self.observe(real_logits, fake_logits)
        return real_logits, fake_logits

    def shown(self, images: Tensor) -> Tensor:
        """What the discriminator is to see of `images` [B, C, H, W], reals or fakes, in either player's step.

        Gradients go through; a penalty is taken at the images themselves.
        """
        (seen,) = self.shown_alike(images)
        return seen

    def shown_alike(self, *images: Tensor) -> tuple[Tensor, ...]:
        """As `shown`, of several batches of one shape whose samples at one place stay comparable: pairs, or replays."""
        if self.augment is None:
            return images
        transform = self.augment.draw(images[0], images_seen=self.images_seen)
        return tuple(transform(batch) for batch in images)

    def sloped(
        self,
        *batches: Tensor,
        label: Tensor | None = None,
        penalty: Penalty = "exact",
        sigma: float = 0.01,
    ) -> tuple[Tensor, Tensor]:
        """Logits of what is shown of `batches`, all of one shape and by one transform, in one pass, and squared slopes.

        The slopes [N] are of each sample's logit at its image: the gradient's squared norm, to be differentiated again, or
        with `penalty="approx"` one difference along N(0, sigma^2), of first order only. Both in float32: bfloat16 would
        round logits by more than they differ.
        """
        if penalty == "exact":
            with self.exact():
                images = torch.cat([batch.detach().float() for batch in batches]).requires_grad_()
                logits = self.logits(torch.cat(self.shown_alike(*images.chunk(len(batches)))), label)
                return logits, squared_norm(logits, images)
        with torch.autocast(self.device.type, enabled=False):
            still = [batch.detach().float() for batch in batches]
            moved = [batch + sigma * torch.randn_like(batch) for batch in still]
            seen = torch.cat(self.shown_alike(*still, *moved))
            if self.mixes_samples:
                logits, moved_logits = (self.logits(part, label) for part in seen.chunk(2))
            else:  # in one pass: the power iteration of a spectral norm moves with each
                labels = None if label is None else torch.cat([label, label])
                logits, moved_logits = self.logits(seen, labels).chunk(2)
            return logits, squared_slope(moved_logits, logits, sigma)

    def observe(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Tell who listens how D judged; every `discriminator_loss` calls it once. Costs nothing where nobody does."""
        if self.augment is not None:
            self.augment.observe(real_logits - fake_logits if self.relative else real_logits)
        if self.regularise is not None:
            self.regularise.observe(real_logits, fake_logits)

    def kept(self, fake_logits: Tensor) -> Tensor:
        """The logits that G's adversarial loss is taken of: all, or with `regularise.top_k` the highest."""
        if self.regularise is None:
            return fake_logits
        return self.regularise.kept(fake_logits, self.images_seen)

    @property
    def slope_interval(self) -> int:
        """Discriminator updates from one penalty of `regularise.*` on its slopes to the next."""
        return 1 if self.regularise is None else self.regularise.slope_interval

    def losses(self, player: Player, batch: Batch) -> Losses:
        """All terms of `player`'s loss: the variant's own and those of `regularise.*`."""
        if player == "d" and self.dequantises and self.decoder is None:
            batch = {**batch, self.real_key: dequantised(batch[self.real_key])}  # once, for all terms
        terms = self.discriminator_loss(batch) if player == "d" else self.generator_loss(batch)
        return terms if self.regularise is None else {**terms, **self.regularise.terms(player, self, batch)}

    def look_at(self, data: Mapping[str, Any]) -> None:
        """Take in what a checkpoint says of the data: whether images can hold values beyond those that are -1 and 1."""
        if (side := data.get("image")) is not None:  # of a translator
            dtype = np.dtype(side["dtype"])
            self.clips = dtype.kind == "u" and list(side["range"]) == [0, np.iinfo(dtype).max]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.look_at(checkpoint["lit_gan"].get("data", {}))

    @property
    def notes(self) -> list[str]:
        """What a reader of the results has to know: what a loss is made with, and what was missing."""
        return []

    @property
    def sampler(self) -> nn.Module:
        """The network that `generate` uses: the average, or the generator itself where none is kept."""
        return self.ema.network if self.ema is not None else self.generator

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Float32 and eager: for penalties, whose second backward torch.compile cannot do and bfloat16 would blur."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            if getattr(self.discriminator, "_compiled_call_impl", None) is not None:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    def make_optimizer(
        self, parameters: Iterable[nn.Parameter], lr: float, *, lazy_interval: int | None = None
    ) -> Optimizer:
        """The optimiser that `self.optim` names, of those `parameters` that are not frozen; see `build_optimizer`."""
        return build_optimizer(self.optim, parameters, lr, lazy_interval=lazy_interval)

    def configure_optimizers(self) -> list[Optimizer]:
        """`[discriminator, generator]`: disjoint, and together all trainable parameters."""
        return [
            self.make_optimizer(
                self.discriminator.parameters(),
                self.optim.d_lr or self.optim.lr,
                lazy_interval=self.slope_interval,
            ),
            self.make_optimizer(self.generator.parameters(), self.optim.lr),
        ]

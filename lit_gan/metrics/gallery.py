"""Images that lie in a folder, in the place of a generator: other people's models are scored like our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Source
from lit_gan.sampling import Batch

if TYPE_CHECKING:
    from lit_gan.autoencoder import Decoder
    from lit_gan.data.latents import Latents


class Gallery(nn.Module):
    """A `Sampleable` whose fake i is an image of `data`: all of them, or `number` chosen by `seed`.

    They are shuffled: files are sorted by class as a rule, and errors come from groups of consecutive fakes.

    `evaluate` gives every batch the numbers of its samples as "index"; pixels pass through it unchanged.
    """

    real_key = "image"
    truncates = False
    latent_dim = 0  # there are no latents

    def __init__(self, data: Source, number: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if number is not None and number > data.size:
            raise UserError(
                f"{number:,} fakes are asked for and the folder holds {data.size:,} images: leave eval.images out to take "
                "all, or make more"
            )
        self.data = data
        self.seeded = number is not None and number < data.size  # whether the score depends on the seed
        order = np.random.default_rng(seed if self.seeded else 0).permutation(data.size)
        self.chosen = order[:number]
        self.register_buffer("place", torch.zeros(()), persistent=False)

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def device(self) -> torch.device:
        return self.get_buffer("place").device

    def generate(self, batch: Batch) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] (float points as they are) numbered `batch["index"]` [B]."""
        images = self.data.real_batch(self.chosen[batch["index"].cpu().numpy()].tolist())[self.real_key]
        images = images.to(self.device)
        return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


class PairedGallery(Gallery):
    """A gallery whose fakes have each a real that they should be: `reals` [N] are those of the images of `data`, as
    positions in other data (see `lit_gan.metrics.pairs`)."""

    def __init__(
        self, data: Source, reals: NDArray[np.int64], number: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(data, number, seed)
        self.reals = reals

    def partners(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """The positions [B] of the reals that fakes `numbers` should be."""
        return self.reals[self.chosen[np.asarray(numbers, dtype=np.int64)]]


class Reconstructions(Gallery):
    """A gallery of latents decoded, each beside the image that it was made of: the score that no generator on these
    latents can be expected to beat."""

    def __init__(self, data: Latents, decoder: Decoder, number: int | None = None, seed: int = 0) -> None:
        super().__init__(data, number, seed)
        self.latents, self.decoder = data, decoder

    def generate(self, batch: Batch) -> Tensor:
        return self.latents.latent_batch(self.chosen[batch["index"].cpu().numpy()]).to(self.device)

    def partners(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        return self.chosen[np.asarray(numbers, dtype=np.int64)]

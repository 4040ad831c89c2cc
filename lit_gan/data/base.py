"""What all sources of images share: shapes, batches in a reproducible order, conversion on the device.

A source implements `_load`. Images stay uint8 [N, H, W, C] in a memory-mapped array; a batch is gathered at
once, turned into [B, C, H, W] (channels last in memory) without a copy, and becomes float in [-1, 1] on the
device.
"""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_gan.conditions import Conditions, Kind
from lit_gan.data.decoded import Images, Labels
from lit_gan.data.order import Integers, Order, StepBatches
from lit_gan.errors import UserError

if TYPE_CHECKING:
    from lit_gan.autoencoder import Decoder

Batch = dict[str, Tensor]


def normalize(images: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1], 0 to -1 and 255 to 1 exactly; floats (toy points) as they are."""
    if images.dtype != torch.uint8:
        return images
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def dequantised(real: Tensor) -> Tensor:
    """Images of 256 levels in [-1, 1] plus uniform noise one level wide, still in [-1, 1]."""
    return (real * 255 - 1) / 256 + torch.rand_like(real) / 128


class Gather(Dataset[Batch]):
    """Whole batches by stream position, as DataLoader's `__getitems__` protocol asks for them."""

    def __init__(self, content: Images, order: Order, *, flip: bool) -> None:
        self.images, self.labels = content.images, content.labels
        self.order = order
        self.flip = flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__(np.array([position], dtype=np.int64))

    def __getitems__(self, positions: Integers) -> Batch:
        indices, flips = self.order(positions)
        batch = gather(self.images, self.labels, indices)
        if self.flip:
            batch["flip"] = torch.from_numpy(flips)
        return batch

    def __getstate__(self) -> dict[str, Any]:
        """A spawned worker maps the file itself: a pickled memmap would be a copy in its memory."""
        state = dict(self.__dict__)
        if isinstance(self.images, np.memmap):
            state["images"] = (str(self.images.filename), self.images.dtype.str, self.images.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["images"], tuple):
            path, dtype, shape = state["images"]
            state["images"] = np.memmap(path, dtype=dtype, mode="r", shape=shape)
        self.__dict__.update(state)


def gather(images: NDArray[Any], labels: Labels | None, indices: Integers) -> Batch:
    """Images [B, C, H, W], a view of freshly gathered [B, H, W, C], and their labels [B] or [B, K]."""
    batch = {"image": torch.from_numpy(np.take(images, indices, axis=0)).permute(0, 3, 1, 2)}
    if labels is not None:
        batch["label"] = torch.from_numpy(labels[indices])
    return batch


def _leave_signals_to_the_run(worker: int) -> None:
    """A scheduler signals the whole process group; a worker that dies of it would take the last checkpoint along."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _identity(batch: Any) -> Any:
    return batch


class ImageData(L.LightningDataModule):
    """A source of images: shapes and labels after `prepare`, batches in the run's order after `configure`.

    `batch_size` is global: images per discriminator update over all processes and micro-batches.
    """

    border: int = 0  # pixels at each side of an image that scores of the luminance leave out; set by the run

    def __init__(self, *, source_name: str, batch_size: int, flip: bool, workers: int) -> None:
        super().__init__()
        self.source_name = source_name  # in messages
        self.batch_size = batch_size
        self.flip = flip
        self.workers = workers
        self.condition: Kind = "class"  # what labels are
        self.conditions: Conditions | None = None  # of labels that are vectors, once prepared
        self._content: Images | None = None
        self._seed: int | None = None
        self._d_steps = self._draws = 1

    def _load(self) -> Images:
        raise NotImplementedError(f"{type(self).__name__} does not say where its images come from")

    def prepare(self) -> None:
        """Find, decode and map the images; nothing the second time; many processes may do it at once."""
        if self._content is None:
            content = self._load()
            if content.labels is not None and content.labels.ndim == 2:
                self.conditions, labels = Conditions.of(
                    self.condition, content.class_names, content.labels, where=self.source_name
                )
                content = dataclasses.replace(content, labels=labels)
            self._content = content

    @property
    def content(self) -> Images:
        if self._content is None:
            raise RuntimeError(f"{type(self).__name__}.prepare() has not been called")
        return self._content

    @property
    def images(self) -> NDArray[Any]:
        """All images, uint8 (toy: float32) [N, H, W, C]; memory-mapped, so take parts of it."""
        return self.content.images

    @property
    def labels(self) -> Labels | None:
        """Class indices [N], vectors [N, K] as networks read them (see `Conditions`), or None for unlabelled data."""
        return self.content.labels

    @property
    def held_out(self) -> ImageData:
        """What grids and scores read: the data themselves, unless a part of them is held out."""
        return self

    @property
    def source_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of what a translator is given; None where there are no sources."""
        return None

    @property
    def size(self) -> int:
        return len(self.content.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, height, width, channels = self.content.images.shape
        return channels, height, width

    @property
    def train_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what training sees: of the images, or of their latents."""
        return self.image_shape

    def decoder(self, *, bounded: bool) -> Decoder | None:
        """What makes images of what a variant makes, within [-1, 1] if `bounded`; None where that are images."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes, or of what the numbers of a vector are."""
        return self.content.class_names

    @property
    def num_classes(self) -> int:
        """0 for unlabelled data; of labels that are vectors, their width."""
        labels = self.content.labels
        return len(self.content.class_names) if labels is None or labels.ndim == 1 else int(labels.shape[1])

    @property
    def class_weights(self) -> list[float] | None:
        """The share of each class, for drawing labels of fakes as the data have them; None without classes."""
        if self.content.labels is None or self.conditions is not None:
            return None
        counts = np.bincount(self.content.labels, minlength=self.num_classes)
        return [float(share) for share in counts / counts.sum()]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a batch that a variant may read."""
        return ("image",) if self.content.labels is None else ("image", "label")

    @property
    def fingerprint(self) -> str:
        """A hash of pixels, labels, size, crop and channels; independent of paths and machines."""
        return self.content.fingerprint

    @property
    def skipped(self) -> list[str]:
        """ "name: reason" of the images that do not decode."""
        return self.content.skipped

    @property
    def names(self) -> list[str] | None:
        """The images' files, as paths below the source, in their order; None where images are no files."""
        file = self.content.names_file
        return None if file is None else list(json.loads(file.read_text(encoding="utf-8")))

    def configure(self, *, seed: int, d_steps: int = 1, draws: int = 1) -> None:
        """Fix the order: a trainer step shows D `d_steps` global batches, and reads `draws`."""
        if d_steps < 1 or draws < 1:
            raise ValueError(f"d_steps and draws must be at least 1, got {d_steps} and {draws}")
        self._seed, self._d_steps, self._draws = seed, d_steps, draws
        self.prepare()
        self._check_batch_size()

    def _check_batch_size(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"data.batch_size={self.batch_size} is not a number of images; use at least 1")
        if self.batch_size > self.size:
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than the {self.size} images of "
                f"{self.source_name}; use at most {self.size}"
            )

    def setup(self, stage: str) -> None:
        self.prepare()

    def train_dataloader(self) -> DataLoader[Batch]:
        """An endless loader that continues after the images that the module has seen."""
        if self._seed is None:
            raise RuntimeError("configure(seed=...) has not been called")
        trainer = self.trainer
        rank, world, seen, on_cuda = 0, 1, 0, False
        if trainer is not None:
            rank, world = trainer.global_rank, trainer.world_size
            seen = int(cast("int", getattr(trainer.lightning_module, "images_seen", 0)))
            on_cuda = trainer.strategy.root_device.type == "cuda"
        batches = StepBatches(
            batch_size=self.batch_size,
            draws=self._draws,
            rank=rank,
            world=world,
            start_step=seen // (self._d_steps * self.batch_size),
        )
        return DataLoader(
            self._gather(Order(self.size, self._seed)),
            batch_sampler=cast("Any", batches),  # typed for lists; ours are arrays
            collate_fn=_identity,
            num_workers=self.workers,
            worker_init_fn=_leave_signals_to_the_run,
            pin_memory=on_cuda,
            persistent_workers=self.workers > 0,
        )

    def _gather(self, order: Order) -> Dataset[Batch]:
        """What turns stream positions into batches, in this process or a worker."""
        return Gather(self.content, order, flip=self.flip)

    def real_batch(self, indices: Sequence[int] | Integers | Tensor) -> Batch:
        """Images `indices` as stored: [B, C, H, W] uint8 (toy: float) on the CPU, with labels, unflipped."""
        return gather(self.content.images, self.content.labels, np.asarray(indices, dtype=np.int64))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """uint8 to float32 in [-1, 1], and the flips that the order asks for, on the device."""
        batch = dict(batch)
        images, flip = batch["image"], batch.pop("flip", None)
        if flip is not None:
            # before the conversion: bytes are a quarter of the traffic
            images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        batch["image"] = normalize(images)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Which data a checkpoint was trained on; the position follows from the module's `images_seen`."""
        return {
            "name": self.source_name,
            "fingerprint": self.fingerprint,
            "seed": self._seed,
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with other images than those of the checkpoint."""
        self.prepare()
        if state_dict["fingerprint"] != self.fingerprint:
            raise UserError(
                f"the checkpoint was trained on {state_dict['name']} "
                f"(fingerprint {state_dict['fingerprint'][:12]}), "
                f"these data are {self.source_name} (fingerprint {self.fingerprint[:12]}): other images, or "
                "another size, crop or number of channels; resume with the same data, or start a new run"
            )

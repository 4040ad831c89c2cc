"""The order of the images as a pure function of (seed, stream position): endless, sharded, exactly resumable.

Position p of the stream is image p of an endless sequence of cycles, each of which holds every image once.
Nothing is drawn from a generator with a state, so any rank, worker or resumed run finds the same image at the
same position. The hash is our own, rather than numpy's generators, whose streams may change between versions
of numpy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lit_gan.errors import UserError

Integers = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FLIPS = 1  # separates the stream of flips from the streams of the cycles


def splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): a random-looking bijection of 64-bit words."""
    with np.errstate(over="ignore"):
        mixed: NDArray[np.uint64] = state + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def words(seed: int, stream: int, counters: Integers) -> NDArray[np.uint64]:
    """Random words [n] at `counters` of a stream of a seed; distinct counters give distinct words.

    Of a run's seed stream 1 is of the flips and those above it are of the cycles.
    """
    state = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64)
    state = splitmix64(splitmix64(state) ^ np.uint64(stream))
    with np.errstate(over="ignore"):
        return splitmix64(state + counters.astype(np.uint64) * _GOLDEN)


def derived(seed: int, number: int) -> int:
    """A seed of its own for purpose `number` of a run's seed, whose stream 0 it comes from."""
    return int(words(seed, 0, np.array([number], dtype=np.int64))[0])


def shares(drawn: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Random words as evenly distributed numbers in [0, 1)."""
    evenly: NDArray[np.float64] = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return evenly


class Order:
    """Which image stands at a position of the endless stream, and whether it is flipped there."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size = size
        self.seed = seed
        self._permutations: dict[int, Integers] = {}  # of the newest cycles, oldest first

    def __call__(self, positions: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Image indices [n] and flip bits [n] at stream `positions` [n], which may be in any order."""
        cycles, places = np.divmod(positions, self.size)
        indices = np.empty_like(positions)
        for cycle in np.unique(cycles):
            here = cycles == cycle
            indices[here] = self._permutation(int(cycle))[places[here]]
        flips = (words(self.seed, _FLIPS, positions) >> np.uint64(63)).astype(np.bool_)
        return indices, flips

    def _permutation(self, cycle: int) -> Integers:
        if cycle not in self._permutations:
            while len(self._permutations) >= 2:  # a batch seldom touches more than two cycles
                self._permutations.pop(next(iter(self._permutations)))
            keys = words(self.seed, cycle + _FLIPS + 1, np.arange(self.size, dtype=np.int64))
            self._permutations[cycle] = np.argsort(keys)  # keys are distinct, so every algorithm agrees
        return self._permutations[cycle]


class StepBatches(Sampler[Integers]):
    """The stream positions that one rank reads in each trainer step from `start_step` on; endless, no length.

    A step reads `draws` global batches of `batch_size`; of each, rank r of w takes the slice [r B/w, (r + 1)
    B/w). One item is [draws * batch_size / world], chunk j of it belonging to global batch j. So the union
    over the ranks does not depend on their number.
    """

    def __init__(
        self, *, batch_size: int, draws: int = 1, rank: int = 0, world: int = 1, start_step: int = 0
    ) -> None:
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size} is not a number of images; use at least 1")
        if batch_size % world:
            nearest = max(batch_size // world, 1) * world
            raise UserError(
                f"data.batch_size={batch_size} (images per update over all processes) cannot be divided "
                f"among {world} processes; use data.batch_size={nearest}"
            )
        if draws < 1 or not 0 <= rank < world or start_step < 0:
            raise ValueError(f"invalid {draws=}, {rank=}, {world=} or {start_step=}")
        self.start_step = start_step
        share = batch_size // world
        first = np.arange(draws, dtype=np.int64)[:, None] * batch_size + rank * share
        self._offsets = (first + np.arange(share, dtype=np.int64)).reshape(-1)  # [draws * B / w]
        self._stride = draws * batch_size

    def __iter__(self) -> Iterator[Integers]:
        step = self.start_step
        while True:
            yield step * self._stride + self._offsets
            step += 1

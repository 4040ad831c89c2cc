"""The scores of images are the same for one, two and three ranks, one of them without any sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.metrics import LPIPS, PSNR, LPIPSDiversity, PerceptualPathLength
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import PairedGallery
from metrics_helpers import Fake, SquaredDistance, noise, processes

SHARES = {1: [(0, 40)], 2: [(0, 33), (33, 40)], 3: [(0, 29), (29, 40), (40, 40)]}  # the third has none
PLACES = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


class Styled(Fake):
    """A generator with a style space, in which it is linear: rounding does not grow."""

    def styles(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["z"]

    def synthesise(self, w: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (w @ self.weight).unflatten(1, self.shape)


def scores(rank: int, world: int) -> dict[str, dict]:
    data = noise(60, (1, 12, 12))
    paired = PairedGallery(noise(60, (1, 12, 12), seed=4), np.random.default_rng(0).permutation(60))
    how = {"extractor": None, "lpips": SquaredDistance(), "rank": rank, "world": world, "batch_size": 8}
    found = {}
    for module, metrics, fakes in (
        (Styled((1, 12, 12)), ("lpips-diversity", "ppl"), 31),
        (Styled((1, 12, 12)), ("lpips-diversity", "ppl"), 2),
        (paired, ("psnr", "ssim", "lpips"), 60),
        (paired, ("psnr",), 1),
    ):
        made = evaluate(module, data, metrics=metrics, fakes=fakes, **how)
        found.update({f"{name} of {fakes}": score.to_dict() for name, score in made.items()})
    return found


def unequal_updates(rank: int, world: int) -> dict[str, float]:
    first, second = (
        torch.from_numpy(noise(40, (1, 4, 4), seed).images).permute(0, 3, 1, 2) for seed in (0, 1)
    )
    metrics = {
        "psnr": PSNR(),
        "lpips": LPIPS(SquaredDistance()),
        "diversity": LPIPSDiversity(SquaredDistance()),
        "ppl": PerceptualPathLength(SquaredDistance()),
    }
    begin, end = SHARES[world][rank]
    for start in range(begin, end, 9):
        rows = slice(start, min(start + 9, end))
        for metric in metrics.values():
            metric.update(first[rows], second[rows])
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def unequal_weights(rank: int, world: int) -> str:
    network = SquaredDistance()
    network.weights_hash = f"of rank {rank}"
    how = {"extractor": None, "lpips": network, "rank": rank, "world": world}
    with pytest.raises(UserError) as error:
        evaluate(Fake(), noise(), metrics=["lpips-diversity"], fakes=6, **how)
    return str(error.value)


def unequal_metrics(rank: int, world: int) -> str:
    """What a rank hears that has the weights of LPIPS where another has not, or the other way round."""
    chosen = ["psnr", "lpips-diversity"][: 1 + rank % 2]
    how = {"extractor": None, "lpips": SquaredDistance() if rank % 2 else None, "rank": rank, "world": world}
    with pytest.raises(UserError) as error:
        evaluate(Fake(), noise(), metrics=chosen, fakes=6, **how)
    return str(error.value)


def _rank(job: tuple[int, Path]) -> dict[int, tuple[dict, dict]]:
    rank, folder = job
    torch.set_num_threads(1)
    found = {}
    for world in (2, 3):
        if rank < world:
            os.environ["LIT_GAN_CACHE"] = str(folder / str(world))
            dist.init_process_group(
                "gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world
            )
            found[world] = (scores(rank, world), unequal_updates(rank, world))
            assert "the ranks have different weights" in (said := unequal_weights(rank, world))
            assert "metrics.lpips_weights=PATH" in said
            assert "some of the ranks have the weights of LPIPS" in unequal_metrics(rank, world)
            dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], tuple[dict, dict]]:
    """By (world, rank); the single process stands under (1, 0)."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_GAN_CACHE", str(folder / "1"))
        found = {(1, 0): (scores(0, 1), unequal_updates(0, 1))}
        with processes(3) as pool:
            for rank, by_world in enumerate(pool.map(_rank, [(rank, folder) for rank in range(3)])):
                found.update({(world, rank): result for world, result in by_world.items()})
    return found


def test_scores_of_images_of_two_and_three_ranks_are_those_of_one(ranks: dict):
    single = ranks[1, 0][0]

    assert len(single) == 8
    for place in PLACES:
        several = ranks[place][0]
        assert several.keys() == single.keys()
        for name, score in several.items():
            assert score["protocol"] == single[name]["protocol"]
            for part in ("value", "error", "floor"):
                expected = single[name][part]
                if expected is not None:  # a pair alone has no error, and pairs have no floor
                    expected = pytest.approx(expected, rel=5e-3 if "ppl" in name else 1e-9)
                assert score[part] == expected, (name, part)


def test_every_rank_returns_the_very_same_scores_of_images(ranks: dict):
    assert ranks[2, 0][0] == ranks[2, 1][0]
    assert ranks[3, 0][0] == ranks[3, 1][0] == ranks[3, 2][0]


def test_metrics_of_images_are_right_for_unequal_numbers_of_updates_and_for_none(ranks: dict):
    for place in PLACES:
        assert ranks[place][1] == pytest.approx(ranks[1, 0][1], rel=1e-9)


def test_fakes_in_pairs_do_not_depend_on_the_batch():
    data = noise(60, (1, 12, 12))
    how = {"metrics": ["lpips-diversity"], "extractor": None, "lpips": SquaredDistance(), "fakes": 31}

    values = [
        evaluate(Fake((1, 12, 12)), data, batch_size=size, **how)["lpips-diversity"].value
        for size in (1, 7, 64)
    ]

    assert values == pytest.approx([values[0]] * 3, rel=1e-9)

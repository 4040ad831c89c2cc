"""The further scores are the same for one, two and three ranks, one of them without any sample."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lit_gan.data.toy import Toy
from lit_gan.metrics import CMMD, BinDistance, ClassFID, InfiniteFID, ModeQuality, build_extractor
from lit_gan.metrics.evaluate import evaluate
from metrics_helpers import Fake, noise, processes

MORE = ("cmmd", "fid-infinity", "class-fid", "ndb")
SHARES = {1: [(0, 120)], 2: [(0, 93), (93, 120)], 3: [(0, 81), (81, 120), (120, 120)]}  # the third has none
PLACES = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


class Plane(Fake):
    """Points about the origin."""

    def __init__(self) -> None:
        super().__init__((2, 1, 1), latent_dim=2)


def scores(rank: int, world: int) -> dict[str, dict]:
    data, toy = noise(200), Toy(count=500)
    toy.prepare()
    how = {"rank": rank, "world": world, "batch_size": 8}
    found = {}
    for module, source, metrics, fakes in (
        (Fake(), data, MORE, 101),
        (Fake(), data, ("cmmd",), 2),
        (Plane(), toy, ("toy-modes",), 161),
    ):
        extractor = build_extractor("pixels", data=source)
        made = evaluate(module, source, metrics=metrics, extractor=extractor, fakes=fakes, **how)
        found.update({f"{name} of {fakes}": score.to_dict() for name, score in made.items()})
    return found


def unequal_updates(rank: int, world: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(5)
    real, fake = torch.randn(120, 6, generator=generator), 1.3 * torch.randn(120, 6, generator=generator)
    metrics = {
        "cmmd": CMMD(6),
        "fid-infinity": InfiniteFID(6, 120),
        "class-fid": ClassFID(6, 3),
        "ndb": BinDistance(6),
        "toy-modes": ModeQuality(torch.eye(6), 1.0),
    }
    first, last = SHARES[world][rank]
    for start in range(first, last, 9):
        rows = torch.arange(start, min(start + 9, last))
        for metric in metrics.values():
            for features, side in ((real[rows], True), (fake[rows], False)):
                add = metric.add_labelled if metric.needs_labels else metric.add
                what = (features, rows % 3, rows) if metric.needs_labels else (features, None, rows)
                add(*what, real=side)
    values = {}
    for name, metric in metrics.items():
        computed = metric.compute()
        for number, value in enumerate(computed if isinstance(computed, tuple) else (computed,)):
            values[f"{name} {number}"] = float(value.mean())
    assert len(metrics["cmmd"].rows("fake")) == last - first  # the own share again, after compute()
    return values


def _rank(job: tuple[int, Path]) -> dict[int, tuple[dict, dict]]:
    rank, folder = job
    torch.set_num_threads(1)
    found = {}
    for world in (2, 3):
        if rank < world:
            os.environ["LIT_GAN_CACHE"] = str(folder / str(world))
            store = f"file://{folder}/store{world}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
            found[world] = (scores(rank, world), unequal_updates(rank, world))
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


def test_the_further_scores_of_two_and_three_ranks_are_those_of_one(ranks: dict):
    single = ranks[1, 0][0]

    assert len(single) == 6
    assert all(score["error"] is not None for name, score in single.items() if name != "cmmd of 2")
    for place in PLACES:
        several = ranks[place][0]
        assert several.keys() == single.keys()
        for name, score in several.items():
            assert score["protocol"] == single[name]["protocol"]
            for part in ("value", "floor", "parts", "floor_parts", "part_errors"):
                assert score[part] == pytest.approx(single[name][part], rel=1e-6, abs=1e-9), (name, part)
            assert (score["error"] or 0) == pytest.approx(single[name]["error"] or 0, rel=1e-6, abs=1e-9), (
                name
            )


def test_every_rank_returns_the_very_same_further_scores(ranks: dict):
    assert ranks[2, 0][0] == ranks[2, 1][0]
    assert ranks[3, 0][0] == ranks[3, 1][0] == ranks[3, 2][0]


def test_the_further_metrics_are_right_for_unequal_numbers_of_updates_and_for_none(ranks: dict):
    for place in PLACES:
        assert ranks[place][1] == pytest.approx(ranks[1, 0][1], rel=1e-9)

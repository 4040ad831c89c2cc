"""One, two and three ranks give equal scores, whatever the ranks' shares are: gloo processes, started
once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.metrics import (
    Authenticity,
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    MemorisationFID,
    PrecisionRecall,
    build_extractor,
)
from lit_gan.metrics.collectives import gather_rows
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.features import FeatureMetric
from metrics_helpers import Fake, digits, processes

# by the number of fakes: neither is a multiple of 3, and with 2 one of three ranks has none
ALWAYS = ("fid", "kid", "is", "modes", "authenticity", "mifid")  # the others: test_metrics_more_ranks.py
NAMES = {53: (*ALWAYS, "pr", "dc"), 2: ALWAYS}
SHARES = {1: [(0, 60)], 2: [(0, 53), (53, 60)], 3: [(0, 41), (41, 60), (60, 60)]}  # the third has no sample


def scores(rank: int, world: int) -> dict[str, dict]:
    data = digits(8)
    extractor = build_extractor("classifier", data=data)
    found = {}
    for count, names in NAMES.items():
        settings = {"metrics": names, "extractor": extractor, "fakes": count, "rank": rank, "world": world}
        for name, score in evaluate(Fake(), data, batch_size=8, **settings).items():
            found[f"{name} of {count}"] = score.to_dict()
    return found


def unequal_updates(rank: int, world: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(5)
    real, fake = torch.randn(60, 12, generator=generator), 1.3 * torch.randn(60, 12, generator=generator)
    kinds = (FrechetDistance, KernelDistance, PrecisionRecall, DensityCoverage, Authenticity, MemorisationFID)
    metrics, score = [kind(12) for kind in kinds], InceptionScore(12, 60)
    first, last = SHARES[world][rank]
    for start in range(first, last, 9):
        rows = torch.arange(start, min(start + 9, last))
        for metric in metrics:
            metric.update(real[rows], real=True)
            metric.update(fake[rows], real=False)
        score.update(fake[rows], rows)
    values = {"is": float(score.compute()[0])}
    for metric in metrics:
        found = torch.atleast_1d(torch.as_tensor(metric.compute())).tolist()
        values.update({f"{type(metric).__name__} {i}": value for i, value in enumerate(found)})
        assert torch.atleast_1d(torch.as_tensor(metric.compute())).tolist() == found
        if isinstance(metric, FeatureMetric):
            assert len(metric.rows("fake")) == last - first  # the own share again, after compute()
    return values


def unequal_weights(rank: int, world: int) -> str:
    data = digits(8)
    extractor = build_extractor("pixels", data=data)
    extractor.weights_hash = f"of rank {rank}"
    with pytest.raises(UserError) as error:
        evaluate(Fake(), data, metrics=["fid"], extractor=extractor, fakes=6, rank=rank, world=world)
    return str(error.value)


def gathered(rank: int, world: int) -> Tensor:
    return gather_rows(torch.full((rank, 2), float(rank)))


def _rank(job: tuple[int, Path]) -> dict[int, tuple[dict, dict, Tensor]]:
    rank, folder = job
    torch.set_num_threads(1)
    found = {}
    for world in (2, 3):
        if rank < world:
            os.environ["LIT_GAN_CACHE"] = str(folder / str(world))
            store = f"file://{folder}/store{world}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
            found[world] = (scores(rank, world), unequal_updates(rank, world), gathered(rank, world))
            assert "the ranks have different weights" in unequal_weights(rank, world)
            dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], tuple[dict, dict, Tensor]]:
    """By (world, rank); the single process stands under (1, 0)."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_GAN_CACHE", str(folder / "1"))
        found = {(1, 0): (scores(0, 1), unequal_updates(0, 1), torch.empty(0, 2))}
        with processes(3) as pool:
            for rank, by_world in enumerate(pool.map(_rank, [(rank, folder) for rank in range(3)])):
                found.update({(world, rank): result for world, result in by_world.items()})
    return found


PLACES = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


def test_scores_of_two_and_three_ranks_are_those_of_one(ranks: dict):
    single = ranks[1, 0][0]

    for place in PLACES:
        several = ranks[place][0]
        assert several.keys() == single.keys()
        for name, score in several.items():
            assert score["protocol"] == single[name]["protocol"]
            for part in ("value", "floor", "std", "error", "parts", "floor_parts", "part_errors"):
                assert (score[part] is None) == (single[name][part] is None)
                if score[part] is not None:
                    assert score[part] == pytest.approx(single[name][part], rel=1e-6, abs=1e-9), (name, part)


def without_findings(scores: dict[str, dict]) -> dict[str, dict]:
    return {name: {**score, "findings": []} for name, score in scores.items()}


def test_every_rank_returns_the_very_same_scores(ranks: dict):
    found = {place: without_findings(scores) for place, (scores, _, _) in ranks.items()}

    assert found[2, 0] == found[2, 1]
    assert found[3, 0] == found[3, 1] == found[3, 2]


def test_rank_zero_finds_what_a_single_process_finds(ranks: dict):
    single = ranks[1, 0][0]["authenticity of 53"]["findings"]

    assert len(single) == 8
    for world in (2, 3):
        found = ranks[world, 0][0]["authenticity of 53"]["findings"]
        assert [(one["fake"], one["reals"]) for one in found] == [
            (one["fake"], one["reals"]) for one in single
        ]
        for one, other in zip(found, single, strict=True):
            assert one["distances"] == pytest.approx(other["distances"], rel=1e-5)
        assert [ranks[world, rank][0]["authenticity of 53"]["findings"] for rank in range(1, world)] == [
            []
        ] * (world - 1)


def test_metrics_are_right_when_ranks_have_made_unequal_numbers_of_updates_or_none(ranks: dict):
    for place in PLACES:
        assert ranks[place][1] == pytest.approx(ranks[1, 0][1], rel=1e-9)


def test_gathered_rows_are_exact_in_rank_order(ranks: dict):
    for rank in range(3):
        assert ranks[3, rank][2].tolist() == [[1, 1], [2, 2], [2, 2]]

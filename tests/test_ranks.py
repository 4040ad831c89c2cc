"""Several ranks on gloo: the same numbers as one process that averages by hand, and ranks that never disagree."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed as dist

import processes
from lit_gan.build import data_of, module_of
from lit_gan.callbacks.evaluation import FEWEST
from lit_gan.config import compose
from lit_gan.data.base import ImageData
from lit_gan.data.order import Order
from lit_gan.module import AdversarialModule, Batch
from lit_gan.players import frozen, split, total
from lit_gan.resume import compose_run
from lit_gan.run import RunFolder
from lit_gan.seeding import seed_step
from lit_gan.strategy import assert_ranks_equal
from lit_gan.train import train
from tiny import ARCHS, arguments, largest_difference, state

TWO = [
    "trainer.devices=2",
    "run.images=48",
    "checkpoint.every_images=16",
    "optim.ema_half_life=20",
    "optim.clip_norm=null",  # not by hand; test_spine.py has it
    "optim.lr_schedule=constant",  # a schedule would stretch with the budget
    "optim.eps=0.01",  # with 1e-8 Adam makes a whole step of a rounding error in a gradient near zero
]
MORE = {
    "cyclegan": ["model.pool_size=0"]
}  # pools hold the fakes of all ranks: tests/test_variant_cyclegan.py


def _train_all(rank: int, folder: str) -> None:
    for arch in ARCHS:
        run = ["run.name=run", f"run.dir={folder}/{arch}"]
        assert train(compose_run(arguments(arch, *TWO, *MORE.get(arch, []), *run))) == 0


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    processes.on_ranks(2, _train_all, str(folder), timeout=600)  # every arch, on a busy machine
    return folder


def averaged_by_hand(arch: str, steps: int) -> AdversarialModule:
    """What `steps` steps on two ranks must give: two replicas in one process, gradients and buffers averaged by hand."""
    config = compose(arguments(arch, *TWO, *MORE.get(arch, [])))
    data = data_of(config)
    L.seed_everything(0, verbose=False)
    lead = module_of(config, data.image_shape, data.num_classes, source_shape=data.source_shape)
    lead.to(memory_format=torch.channels_last)  # as a run does: it rounds otherwise, which AdaIN magnifies
    replicas = [lead, copy.deepcopy(lead)]
    optimizers = dict(zip("dg", lead.configure_optimizers(), strict=True))
    d_steps = lead.optim.d_steps_per_g_step
    for step in range(steps):
        chunks = [share(data, lead, step, rank) for rank in (0, 1)]
        streams = [stream(lead, rank) for rank in (0, 1)]
        for player, index in [*(("d", i) for i in range(d_steps)), ("g", lead.draws_per_step - 1)]:
            for rank, replica in enumerate(replicas):
                torch.set_rng_state(streams[rank])
                replica.zero_grad(set_to_none=True)
                backward(replica, player, chunks[rank][index])
                streams[rank] = torch.get_rng_state()
            for mine, other in zip(*(r.parameters() for r in replicas), strict=True):
                if mine.grad is not None:
                    mine.grad = (mine.grad + other.grad) / 2
            lead.schedule(player, optimizers[player])
            optimizers[player].step()
            lead.after_step(player)
            follow(replicas)
            for replica in replicas:
                replica.d_updates += player == "d"
                replica.images_seen += data.batch_size * (player == "d")
        average_buffers(replicas)
    return lead


def share(data: ImageData, module: AdversarialModule, step: int, rank: int) -> list[Batch]:
    """The real images of a rank in a step, by position: its half of each global batch."""
    size, draws = data.batch_size, module.draws_per_step
    first = np.arange(draws)[:, None] * size + np.arange(size // 2) + rank * size // 2
    gathered: Any = data._gather(Order(data.size, 0))
    real = data.on_after_batch_transfer(gathered.__getitems__(step * draws * size + first.reshape(-1)))
    return split({key: real[key] for key in module.needs}, draws)


def stream(module: AdversarialModule, rank: int) -> torch.Tensor:
    """The random state at the start of a step on a rank."""
    seed_step(module.seed, module.images_seen, rank, module.device)
    return torch.get_rng_state()


def backward(module: AdversarialModule, player: str, batch: Batch) -> None:
    other = module.generator if player == "d" else module.discriminator
    with frozen(other.parameters()):
        total(module.losses(player, batch)).backward()


@torch.no_grad()
def follow(replicas: list[AdversarialModule]) -> None:
    for mine, other in zip(*(r.parameters() for r in replicas), strict=True):
        other.copy_(mine)


@torch.no_grad()
def average_buffers(replicas: list[AdversarialModule]) -> None:
    for mine, other in zip(*(r.buffers() for r in replicas), strict=True):
        if mine.is_floating_point():
            mine.copy_((mine + other) / 2)
            other.copy_(mine)


@pytest.mark.parametrize("arch", ARCHS)
def test_two_ranks_train_as_one_process_that_averages_by_hand(arch, two_ranks):
    record = state(two_ranks / arch / "run")
    steps = record["global_step"]
    reference = averaged_by_hand(arch, steps).state_dict()
    trained = {k: v for k, v in record["state_dict"].items() if not k.startswith("ema.")}
    reference = {k: v for k, v in reference.items() if not k.startswith("ema.")}

    assert record["lit_gan"]["images_seen"] == steps * 8 * (record["lit_gan"]["d_updates"] // steps)
    assert largest_difference(trained, reference) < 1e-4  # without the average it is some 1e-3


def test_signal_to_one_rank_stops_all_of_them_after_a_checkpoint(tmp_path):
    args = arguments("gan", "trainer.devices=2", "run.images=400000", f"run.dir={tmp_path}", "run.name=run",
                     "checkpoint.every_images=1000")  # fmt: skip
    port = processes.free_port()
    ranks = [processes.start(args, rank=r, world=2, port=port, log=tmp_path / f"log{r}") for r in (0, 1)]
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGTERM)
    for process in ranks:
        process.join(60)

    assert [process.exitcode for process in ranks] == [143, 0]
    stopped = state(tmp_path / "run")["lit_gan"]["images_seen"]
    assert 0 < stopped < 400000
    assert f"Stopped by SIGTERM at {stopped / 1000:g} kimg" in (tmp_path / "log0").read_text()


def _resume(rank: int, run: str) -> None:
    assert train(compose_run([f"resume={run}", "run.images=96"])) == 0


def test_two_ranks_resume_exactly(tmp_path, two_ranks, cache):
    arch = "stylegan-lite"
    straight = tmp_path / "straight"
    processes.on_ranks(2, _straight, arch, str(straight))
    broken = tmp_path / "broken"
    shutil.copytree(two_ranks / arch / "run", broken)

    processes.on_ranks(2, _resume, str(broken))

    a, b = state(straight / "run"), state(broken)
    assert a["lit_gan"]["images_seen"] == b["lit_gan"]["images_seen"] == 96
    assert largest_difference(a["state_dict"], b["state_dict"]) == 0


def _straight(rank: int, arch: str, folder: str) -> None:
    run = ["run.name=run", f"run.dir={folder}"]
    assert train(compose_run(arguments(arch, *TWO, *run, "run.images=96"))) == 0


def _scored(rank: int, folder: str) -> None:
    scored = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=601", "eval.every_images=16",
              "eval.max_share=1e-9"]  # fmt: skip
    run = ["run.name=run", f"run.dir={folder}", "run.images=32"]
    assert train(compose_run(arguments("dcgan", *TWO, *run, *scored))) == 0


def test_ranks_agree_on_how_many_fakes_an_evaluation_may_have(tmp_path):
    processes.on_ranks(2, _scored, str(tmp_path))

    made = [(e["images_seen"], e["source"], e["scores"]["fid"]["protocol"]["fakes"])
            for e in RunFolder(tmp_path / "run").read_results()["evaluations"]]  # fmt: skip
    assert made == [(16, "training", FEWEST), (32, "final", 601), (32, "training", FEWEST)]


def _disagree(rank: int) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    network = torch.nn.Linear(2, 2)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.zeros_(network.bias)
    assert_ranks_equal(network)
    if rank == 1:
        with torch.no_grad():
            network.weight[0, 0] += 1e-6
    with pytest.raises(RuntimeError, match="ranks disagree on weight"):
        assert_ranks_equal(network)


def test_ranks_that_differ_by_a_bit_are_found():
    processes.on_ranks(2, _disagree)

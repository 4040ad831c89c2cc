"""Lightning's overhead: the same networks, data and updates in lit-gan's run and in a bare PyTorch loop.

One process, both sides alternating in short blocks, one thread, the median of the ratios. The bare loop does what a careful
person writes by hand: freezing, zero_grad, two fused Adams, the average; no logging, no check for finite numbers.

    python benchmarks/overhead.py [--width 16] [--batch 32] [--rounds 50] [--steps 20] [--threads 1]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lit_gan.build import data_of, module_of
from lit_gan.callbacks.clock import Clock
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.signals import StopOnSignal
from lit_gan.config import compose
from lit_gan.loggers import MetricsCSV
from lit_gan.module import AdversarialModule
from lit_gan.players import total
from lit_gan.train import quiet


class BareLoop:
    """The alternation by hand, on a copy of the same players and the same stream of batches."""

    def __init__(self, module: AdversarialModule, data: Any) -> None:
        self.module = module
        self.data = data
        self.batches = iter(data.train_dataloader())
        self.opt_d, self.opt_g = module.configure_optimizers()

    def step(self) -> None:
        m = self.module
        batch = self.data.on_after_batch_transfer(next(self.batches), 0)
        m.generator.requires_grad_(False)
        self.opt_d.zero_grad()
        total(m.losses("d", batch)).backward()
        self.opt_d.step()
        m.generator.requires_grad_(True)

        m.discriminator.requires_grad_(False)
        self.opt_g.zero_grad()
        total(m.losses("g", batch)).backward()
        self.opt_g.step()
        m.discriminator.requires_grad_(True)

        m.images_seen += len(batch["image"])
        assert m.ema is not None
        with torch.no_grad():
            weight = 1 - 0.5 ** (len(batch["image"]) / m.half_life())
            torch._foreach_lerp_(list(m.ema.network.parameters()), list(m.generator.parameters()), weight)
            torch._foreach_copy_(list(m.ema.network.buffers()), list(m.generator.buffers()))


class Alternate(L.Callback):
    """Every `steps` trainer steps, times them and then lets the bare loop do as many."""

    def __init__(self, bare: BareLoop, steps: int) -> None:
        self.bare, self.steps = bare, steps
        self.pairs: list[tuple[float, float]] = []
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step % self.steps:
            return
        ours = time.perf_counter() - self._since
        started = time.perf_counter()
        for _ in range(self.steps):
            self.bare.step()
        self.pairs.append((ours, time.perf_counter() - started))
        self._since = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("width", 16), ("batch", 32), ("rounds", 50), ("steps", 20), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    quiet()
    torch.set_num_threads(chosen.threads)
    config = compose([f"model.width={chosen.width}", f"data.batch_size={chosen.batch}", "logger=csv"])
    data = data_of(config)
    module = module_of(config, data.image_shape, data.num_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.images_per_step = data.batch_size
    twin = copy.deepcopy(module)
    data.configure(seed=0, d_steps=1, draws=1)
    bare_data = data_of(config)
    bare_data.configure(seed=0, d_steps=1, draws=1)
    alternate = Alternate(BareLoop(twin, bare_data), chosen.steps)
    clock = Clock()
    numbers = Numbers(clock, config.get("logger.every"))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu", max_steps=chosen.steps * (chosen.rounds + 1), max_epochs=-1, default_root_dir=folder,
            logger=[MetricsCSV(Path(folder) / "metrics.csv")], callbacks=[alternate, clock, StopOnSignal(), numbers],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            num_sanity_val_steps=0, use_distributed_sampler=False, log_every_n_steps=1_000_000,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    pairs = alternate.pairs[1:]  # the first round warms up
    ratios = sorted(ours / bare for ours, bare in pairs)
    ours_ms, bare_ms = (statistics.median(p[i] for p in pairs) / chosen.steps * 1000 for i in (0, 1))
    what = f"dcgan width {chosen.width}, batch {chosen.batch}, {len(pairs)} rounds of {chosen.steps} steps, alternating"
    print(f"{what}, {chosen.threads} thread(s), torch {torch.__version__}, lightning {L.__version__}")
    median, low, high = statistics.median(ratios), ratios[0], ratios[-1]
    print(f"bare loop {bare_ms:.2f} ms/step, lit-gan {ours_ms:.2f} ms/step")
    print(f"ratio: median {median:.4f}, min {low:.4f}, max {high:.4f}")


if __name__ == "__main__":
    main()

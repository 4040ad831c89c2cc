"""The alternation itself, on two linear players whose every number can be worked out."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_gan.ema import EMA, ramped_half_life
from lit_gan.errors import NonFiniteError, UserError
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.monitor import PACK_AT, Monitor
from lit_gan.optimisers import build_optimizer, follow_schedule
from lit_gan.players import frozen
from lit_gan.settings import Optim


class Linear(AdversarialModule):
    """D(x) = w x, G = v: the losses are linear, so the gradients are means of what was shown."""

    optim_defaults = Optim(name="sgd", lr=1.0, beta1=0.0)

    def __init__(self, optim=None, *, poison_at: int | None = None, fresh: bool = False) -> None:
        super().__init__(optim)
        self.latent_dim = 1
        self.generator = nn.Linear(1, 1, bias=False)
        self.discriminator = nn.Linear(1, 1, bias=False)
        self.poison_at = poison_at
        self.shown: list[tuple[str, list[float]]] = []
        nn.init.ones_(self.generator.weight)
        nn.init.ones_(self.discriminator.weight)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        assert not any(p.requires_grad for p in self.generator.parameters())
        self.shown.append(("d", batch["image"].flatten().tolist()))
        loss = -self.discriminator(batch["image"]).mean()
        if self.poison_at is not None and self.images_seen >= self.poison_at:
            loss = loss * float("nan")
        return {"adversarial": loss, "tiny": 0 * loss.detach()}

    def generator_loss(self, batch: Batch) -> Losses:
        assert not any(p.requires_grad for p in self.discriminator.parameters())
        self.shown.append(("g", batch["image"].flatten().tolist()))
        return {"adversarial": -self.generator(torch.ones(len(batch["image"]), 1)).mean()}

    def generate(self, batch: Batch) -> Tensor:
        return self.sampler(batch["z"])


class Counting(L.LightningDataModule):
    """Images 0, 1, 2, ... in order."""

    keys = ("image",)

    def __init__(self, batch: int, steps: int) -> None:
        super().__init__()
        self.batch, self.steps = batch, steps

    def train_dataloader(self):
        return DataLoader(
            [{"image": torch.tensor([float(i)])} for i in range(self.batch * self.steps)], self.batch
        )


def fit(module: Linear, *callbacks: L.Callback, batch: int = 4, steps: int = 3) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, datamodule=Counting(batch * module.draws_per_step, steps))
    return trainer


def test_players_alternate_and_one_trainer_step_is_one_generator_update():
    module = Linear()
    trainer = fit(module)

    assert [who for who, _ in module.shown] == ["d", "g"] * 3
    assert trainer.global_step == 3
    assert (module.d_updates, module.images_seen) == (3, 12)


def test_several_discriminator_steps_each_see_images_of_their_own():
    module = Linear({"d_steps_per_g_step": 2})
    trainer = fit(module, steps=2)

    assert module.shown[:3] == [("d", [0.0, 1, 2, 3]), ("d", [4.0, 5, 6, 7]), ("g", [4.0, 5, 6, 7])]
    assert trainer.global_step == 2
    assert (module.d_updates, module.images_seen) == (4, 16)


def test_generator_gets_real_images_of_its_own_where_the_variant_asks():
    class Fresh(Linear):
        fresh_reals_for_generator = True

    module = Fresh()
    fit(module, steps=1)

    assert module.shown == [("d", [0.0, 1, 2, 3]), ("g", [4.0, 5, 6, 7])]
    assert module.images_seen == 4


def test_accumulation_gives_the_update_of_the_whole_batch():
    whole, parts = Linear(), Linear({"accumulate": 2})
    fit(whole)
    fit(parts)

    assert torch.equal(whole.discriminator.weight, parts.discriminator.weight)
    assert whole.images_seen == parts.images_seen
    assert len(parts.shown) == 2 * len(whole.shown)


def test_clipping_bounds_the_norm_of_each_players_update():
    module = Linear({"clip_norm": 0.5})
    fit(module, steps=1)

    assert module.discriminator.weight.item() == pytest.approx(1 + 0.5, rel=1e-5)


def test_callback_that_listens_to_the_step_is_called_and_changes_nothing():
    class Listener(L.Callback):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_after_backward(self, trainer, pl_module) -> None:
            self.heard.append("backward")

        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            self.heard.append("step")

    alone, overheard, listener = Linear({"clip_norm": 0.5}), Linear({"clip_norm": 0.5}), Listener()
    trainers = fit(alone), fit(overheard, listener)

    assert listener.heard == ["backward", "step"] * 6
    assert [trainer.global_step for trainer in trainers] == [3, 3]
    assert torch.equal(alone.discriminator.weight, overheard.discriminator.weight)
    assert torch.equal(alone.generator.weight, overheard.generator.weight)
    assert alone.monitor.flush() == overheard.monitor.flush()


def test_variant_that_overrides_a_hook_of_the_step_is_called():
    class Doubling(Linear):
        def on_after_backward(self) -> None:
            for p in self.discriminator.parameters():
                if p.grad is not None:
                    p.grad *= 2

    plain, doubled = Linear(), Doubling()
    fit(plain, steps=1)
    fit(doubled, steps=1)

    assert doubled.discriminator.weight.item() - 1 == 2 * (plain.discriminator.weight.item() - 1)


def test_learning_rate_follows_the_images_seen():
    module = Linear({"lr_schedule": "linear", "decay_images": 8, "lr_end": 0.0})
    rates = []
    original = module.on_before_optimizer_step
    module.on_before_optimizer_step = lambda o: (rates.append(o.param_groups[0]["lr"]), original(o))[1]
    fit(module)

    assert rates == [1.0, 0.5, 0.5, 0.0, 0.0, 0.0]  # the generator steps after the images were shown


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_learning_rate_stays_until_its_schedule_starts(name):
    optim = Optim(lr=2.0, lr_schedule=name, decay_start_images=100, decay_images=50)
    optimizer = build_optimizer(optim, [nn.Parameter(torch.zeros(1))], optim.lr)

    def rate(images_seen: int) -> float:
        follow_schedule(optimizer, optim, images_seen)
        return optimizer.param_groups[0]["lr"]

    assert [rate(n) for n in (0, 99, 100)] == [2.0] * 3
    assert rate(125) == pytest.approx(1.0)
    assert [rate(n) for n in (150, 1000)] == [0.0] * 2


def test_frozen_keeps_what_was_frozen_before_and_survives_an_error():
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)

    def fail() -> None:
        with frozen(network.parameters()):
            assert not network.weight.requires_grad
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_average_is_half_way_after_one_half_life_whatever_the_batch_size():
    for batch in (1, 10, 100):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        ema = EMA(network)
        nn.init.ones_(network.weight)
        for _ in range(1000 // batch):
            ema.update(network, images=batch, half_life=1000)
        assert ema.network.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_average_copies_buffers_stays_in_eval_mode_and_is_never_trained():
    network = nn.BatchNorm1d(2)
    ema = EMA(network)
    network(torch.randn(8, 2))
    ema.update(network, images=1, half_life=1e9)
    ema.train()

    assert torch.equal(ema.network.running_mean, network.running_mean)
    assert not ema.network.training
    assert not any(p.requires_grad for p in ema.parameters())


def test_average_counts_a_tied_weight_once_and_finds_a_replaced_buffer():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    network[1].weight = network[0].weight
    nn.init.zeros_(network[0].weight)
    ema = EMA(network)
    nn.init.ones_(network[0].weight)
    ema.update(network, images=1, half_life=1.0)
    network[2].running_mean = torch.tensor([7.0])
    ema.update(network, images=1, half_life=1.0)

    assert ema.network[0].weight.item() == pytest.approx(0.75)
    assert ema.network[2].running_mean.item() == 7.0


def test_half_life_ramps_up_with_the_images_seen():
    assert ramped_half_life(1000, 2000, 0.05) == 100
    assert ramped_half_life(1000, 1e9, 0.05) == 1000
    assert ramped_half_life(1000, 0, None) == 1000


def test_monitor_averages_each_term_over_the_steps_that_had_it():
    monitor = Monitor()
    monitor.add("d", {"adversarial": torch.tensor(1.0)}, images_seen=0)
    monitor.add("d", {"adversarial": torch.tensor(3.0), "r1": torch.tensor(5.0)}, images_seen=8)

    assert monitor.flush() == {"d/adversarial": 2.0, "d/r1": 5.0}
    assert monitor.flush() == {}


def test_monitor_keeps_means_and_the_first_bad_step_however_long_it_is_not_read():
    monitor = Monitor()
    steps = 3 * PACK_AT + 7
    for step in range(steps):
        monitor.add("d", {"adversarial": torch.tensor(float(step))}, images_seen=step)

    assert monitor.flush() == {"d/adversarial": (steps - 1) / 2}

    for step in range(steps):
        value = float("inf") if step >= 5 else 0.0
        monitor.add("g", {"adversarial": torch.tensor(value)}, images_seen=step)
    with pytest.raises(NonFiniteError, match=r"^g/adversarial became NaN or infinite after 5 images"):
        monitor.flush()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_monitor_names_the_term_and_the_images_when_it_first_was_not_finite(bad):
    monitor = Monitor()
    for images, value in ((0, 1.0), (64, bad), (128, bad)):
        monitor.add("d", {"adversarial": torch.tensor(1.0), "r1": torch.tensor(value)}, images_seen=images)

    with pytest.raises(NonFiniteError, match=r"^d/r1 became NaN or infinite after 64 images"):
        monitor.flush()


def test_training_notices_a_loss_that_is_not_finite():
    module = Linear(poison_at=8)
    fit(module, steps=4)

    with pytest.raises(NonFiniteError, match=r"d/adversarial.* after 8 images"):
        module.monitor.flush()


def test_missing_batch_key_is_refused_before_training():
    module = Linear()
    module.needs = ("image", "label")

    with pytest.raises(UserError, match="needs batch keys"):
        fit(module)


def test_a_discriminator_without_its_turn_rests_while_its_images_count():
    class Late(Linear):
        def discriminator_turn(self) -> bool:
            return self.images_seen >= 8

    module = Late()
    fit(module)

    assert [player for player, _ in module.shown] == ["g", "g", "d", "g"]
    assert (module.images_seen, module.d_updates) == (12, 3)
    assert module.discriminator.weight.item() == pytest.approx(1 + 9.5)  # images 8 to 11
    assert module.generator.weight.item() == pytest.approx(1 + 3)

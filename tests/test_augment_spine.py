"""Augmentation in the spine: how strong it is, which images see it, and that no run forgets it."""

from __future__ import annotations

import csv
import shutil
from math import log
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import processes
from lit_gan.augment import build_augmenter
from lit_gan.augment.strength import Adaptive, Scheduled
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.players import frozen, total
from lit_gan.resume import compose_run
from lit_gan.sample import load
from lit_gan.settings import Augment
from lit_gan.train import train
from tiny import (
    ARCHS,
    STAGES,
    TRAINED,
    arguments,
    largest_difference,
    state,
    tiny_batch,
    tiny_module,
    tiny_run,
)

CPU = torch.device("cpu")
RISING = ["augment=ada", "augment.target=-1", "augment.images=80"]  # some real is always taken for real


def advanced(control: Adaptive, logits: list[float], updates: int, batch: int = 10) -> list[float]:
    """p after each of `updates` discriminator updates that judged the reals so."""
    path = []
    for _ in range(updates):
        control.observe(torch.tensor(logits))
        control.advance(batch, 0, CPU)
        path.append(control.p(0).item())
    return path


def test_p_rises_while_most_reals_are_known_and_goes_from_0_to_1_in_its_images():
    control = Adaptive(target=0.6, duration=80, interval=4)

    rises = advanced(control, [1.0, 2, 3, 4, 5, 6, 7, 8, 9, -1], 12)  # r_t = 0.8

    assert rises == pytest.approx([0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1])
    falls = advanced(
        control, [1.0, 2, 3, 4, 5, 6, 7, -8, -9, -1], 12
    )  # r_t = 0.4, whatever the size of the logits
    assert falls == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0])


def test_r_t_is_over_all_updates_since_p_moved():
    control = Adaptive(target=0.6, duration=100, interval=2)
    control.observe(torch.ones(6))
    assert control.advance(6, 0, CPU) == {}
    control.observe(-torch.ones(2, 1))

    numbers = control.advance(2, 0, CPU)

    assert numbers["r_t"].item() == pytest.approx(0.5)
    control.observe(torch.zeros(3))
    control.advance(3, 0, CPU)
    assert control.advance(3, 0, CPU)["r_t"].item() == 0


def test_scheduled_p_follows_half_a_cosine_and_stays():
    curve = Scheduled(0.0, 0.55, 100)

    assert [curve.p(n) for n in (0, 50, 100, 300)] == pytest.approx([0, 0.275, 0.55, 0.55])
    assert Scheduled(0.3, 0.3, 0).p(7) == 0.3


def _observe_half(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    control = Adaptive(target=0.5, duration=64, interval=3)
    for number, logits in enumerate(updates()):
        control.observe(logits[4 * rank :][:4])
        numbers = control.advance(8, 0, CPU)
        if number == 3:
            torch.save(control.state(), f"{folder}/state{rank}")
            control = Adaptive(target=0.5, duration=64, interval=3)
            control.restore(torch.load(f"{folder}/state{rank}"))
        torch.save({**numbers, "now": control.p(0)}, f"{folder}/{number}-{rank}")
    dist.destroy_process_group()


def updates() -> torch.Tensor:
    """The logits of 8 reals in each of 6 discriminator updates."""
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) + 0.8


def test_two_ranks_have_the_p_of_one_process_with_the_whole_batch(tmp_path):
    processes.on_ranks(2, _observe_half, str(tmp_path))

    control = Adaptive(target=0.5, duration=64, interval=3)
    for number, logits in enumerate(updates()):
        control.observe(logits)
        alone = {**control.advance(8, 0, CPU), "now": control.p(0)}
        for rank in (0, 1):
            assert torch.load(tmp_path / f"{number}-{rank}") == alone
        if number == 3:
            assert torch.load(tmp_path / "state1") == control.state()
    assert "r_t" in alone


# -- with the variants --------------------------------------------------------------------------------------------------

arch = pytest.mark.parametrize("arch", ARCHS)


@arch
def test_variant_tells_its_real_logits_once(arch):
    module = tiny_module(arch, "augment=ada")
    batch = tiny_batch(module)

    module.discriminator_loss(batch)

    assert isinstance(module.augment.strength, Adaptive)
    told = int(module.augment.strength.count)
    assert told == 4 or (module.translates and told > 4 and told % 4 == 0), (
        "patches have verdicts of their own"
    )
    module.generator_loss(batch)
    assert module.augment.strength.count == told


@arch
@pytest.mark.parametrize("name", ["ada", "diffaugment"])
def test_both_players_see_augmented_images_and_gradients_reach_the_generator(arch, name):
    module = tiny_module(arch, f"augment={name}", "augment.p=1")
    batch = tiny_batch(module)
    shapes = []
    transform = module.augment.pipeline.draw
    module.augment.pipeline.draw = lambda shape, p, device: (
        shapes.append(shape) or transform(shape, p, device)
    )

    d = total(module.discriminator_loss(batch))
    assert sum(shape[0] for shape in shapes) >= (4 if module.fresh_reals_for_generator else 8)
    d.backward()
    reached = [p.grad for p in module.discriminator.parameters() if p.grad is not None]
    assert reached
    assert all(gradient.isfinite().all() for gradient in reached)
    shapes.clear()
    module.zero_grad(set_to_none=True)
    with frozen(module.discriminator.parameters()):
        total(module.generator_loss(batch)).backward()
    assert shapes
    reached = [p.grad for p in module.generator.parameters() if p.grad is not None]
    assert len(reached) == len(list(module.generator.parameters())) or arch in STAGES, (
        "some still have to grow"
    )
    assert reached
    assert all(gradient.isfinite().all() for gradient in reached)


@arch
def test_probability_zero_trains_as_without(arch):
    def losses(*more: str) -> dict[str, float]:
        module = tiny_module(arch, *more)
        batch = tiny_batch(module)
        torch.manual_seed(0)
        return {k: v.item() for k, v in module.discriminator_loss(batch).items()}

    assert losses("augment=ada", "augment.p=0") == losses()


def test_penalty_is_taken_at_the_images_before_the_transform(monkeypatch):
    shape = (1, 8, 8)
    module = tiny_module(
        "r3gan", "augment=ada", "augment.p=1", "augment.policy=[bgcfnc]", image_shape=shape
    ).double()
    batch = {"image": tiny_batch(module, shape, size=2)["image"].double()}
    for parameter in module.discriminator.parameters():  # what starts at zero would hide the branches
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    transform = module.augment.draw(batch["image"], images_seen=0)
    monkeypatch.setattr(module.augment, "draw", lambda images, images_seen: transform)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)

    r1 = module.discriminator_loss(batch)["r1"].item() / (module.now(module.gamma, module.gamma_end) / 2)

    gradient = []
    for step in torch.eye(2 * 64).view(-1, 2, *shape) * 1e-5:
        up, down = (module.logits(transform(batch["image"] + s)).sum().item() for s in (step, -step))
        gradient.append((up - down) / 2e-5)
    assert r1 == pytest.approx(sum(g**2 for g in gradient) / 2, rel=1e-4)


def test_pair_is_shown_through_one_transform_and_two_calls_through_two():
    module = tiny_module("r3gan", "augment=ada", "augment.p=1")
    real = tiny_batch(module)["image"]

    a, b = module.shown_alike(real, real.clone())

    assert torch.equal(a, b)
    assert not torch.equal(module.shown(real), module.shown(real))


@pytest.mark.parametrize(
    ("arch", "player"),
    [
        *((arch, player) for arch in ("r3gan", "pix2pix", "pix2pixhd", "srgan") for player in "dg"),
        ("cut", "d"),
        ("adain", "d"),
    ],
)
def test_relativistic_players_show_a_pair_through_one_transform(arch, player, monkeypatch):
    """A fake that is its real cannot be told from it, unless each is shown in a way of its own."""
    asked = [] if arch == "r3gan" else ["model.adversarial=relativistic"]
    module = tiny_module(arch, "augment=ada", "augment.p=1", *asked)
    batch = tiny_batch(module)
    batch["image"].requires_grad_(player == "g")  # it stands for what the generator made
    monkeypatch.setattr(module, "fakes", lambda batch: batch["image"])

    found = module.losses(player, batch)["adversarial"].item()

    weight = getattr(module, "adversarial_weight", 1.0) if player == "g" else 1.0
    scales = 2 if arch == "pix2pixhd" else 1
    assert found == pytest.approx(scales * log(2) * weight, rel=1e-5)


def test_relative_variant_is_judged_by_the_difference_of_its_logits():
    module = tiny_module("wgan-gp", "augment=ada")
    module.observe(torch.tensor([5.0, 5, 5]), torch.tensor([6.0, 7, 4]))
    assert module.augment.strength.signs.item() == -1

    module = tiny_module("dcgan", "augment=ada")
    module.observe(torch.tensor([5.0, 5, -5]), torch.tensor([6.0, 7, 4]))
    assert module.augment.strength.signs.item() == 1


def test_apa_shows_fakes_among_the_reals_of_the_discriminator_alone(monkeypatch, tmp_path):
    seen: dict[str, list[float]] = {"d": [], "g": []}
    kind = type(tiny_module("dcgan"))

    def recording(player, method):
        def loss(self, batch):
            seen[player].append((batch["image"] > 9).float().mean().item())
            return method(self, batch)

        return loss

    monkeypatch.setattr(kind, "fakes", lambda self, batch: 10 + 0 * self.generator(self.latents(batch)))
    monkeypatch.setattr(kind, "discriminator_loss", recording("d", kind.discriminator_loss))
    monkeypatch.setattr(kind, "generator_loss", recording("g", kind.generator_loss))
    tiny_run("dcgan", tmp_path, "augment=apa", "augment.p=0.3", "data.batch_size=400", "run.images=1200")

    assert sum(seen["d"]) / len(seen["d"]) == pytest.approx(0.3, abs=0.05)
    assert set(seen["d"]) - {0.0}
    assert set(seen["g"]) == {0.0}


# -- runs ---------------------------------------------------------------------------------------------------------------


def columns(run: Path) -> dict[str, list[float]]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return {key: [float(row[key]) for row in rows if row.get(key)] for key in rows[0]}


def test_adapted_p_is_logged_and_in_the_checkpoint_which_samples_without_it(tmp_path):
    run = tiny_run("dcgan", tmp_path, *RISING, "run.images=80", "data.batch_size=8")

    record = state(run)["lit_gan"]["augment"]
    assert record["p"] == pytest.approx(8 * 8 / 80)  # at the 4th and the 8th of 10 updates
    assert (record["images"], record["updates"], record["count"]) == (16, 2, 16)
    logged = columns(run)
    assert logged["augment/p"][-1] == pytest.approx(0.8)
    assert all(-1 < r <= 1 for r in logged["augment/r_t"])
    assert not [name for name in state(run)["state_dict"] if "augment" in name]
    assert load(run).sample(2).shape == (2, 1, 16, 16)


def test_scheduled_p_is_logged(tmp_path):
    run = tiny_run(
        "dcgan", tmp_path, "augment=ada", "augment.p=0", "augment.p_end=0.5", "optim.decay_images=48",
        "run.images=96", "logger.every=1",
    )  # fmt: skip

    logged = columns(run)["augment/p"]
    assert logged == sorted(logged)
    assert logged[-6:] == pytest.approx([0.5] * 6)
    assert 0 < logged[0] < 0.1


@pytest.mark.parametrize("name", ["ada", "apa"])
def test_resumed_run_ends_where_the_unbroken_one_does(name, tmp_path):
    settings = ["run.images=96", "checkpoint.every_images=8", "checkpoint.keep=99", "augment.images=64"]
    straight = tiny_run("dcgan", tmp_path, f"augment={name}", "augment.target=-0.5", *settings)
    for images in (40, 48):  # in the middle of an interval
        broken = tmp_path / f"broken{images}"
        shutil.copytree(straight, broken)
        for path in (broken / "checkpoints").glob("*.ckpt"):
            if path.name != f"images-{images:012d}.ckpt":
                path.unlink()

        assert train(compose_run([f"resume={broken}"])) == 0

        a, b = state(straight), state(broken)
        assert a["lit_gan"]["augment"] == b["lit_gan"]["augment"]
        assert a["lit_gan"]["augment"]["p"] > 0
        assert largest_difference(*({key: c[key] for key in TRAINED} for c in (a, b))) == 0


def _run_on_two(rank: int, folder: str) -> None:
    args = arguments("dcgan", *RISING, "augment.images=200", "trainer.devices=2", f"run.dir={folder}")
    assert train(compose_run([*args, "run.name=straight", "run.images=96"])) == 0


def _run_in_two_parts(rank: int, folder: str) -> None:
    args = arguments("dcgan", *RISING, "augment.images=200", "trainer.devices=2", f"run.dir={folder}")
    assert train(compose_run([*args, "run.name=broken", "run.images=48"])) == 0


def _go_on(rank: int, folder: str) -> None:
    assert train(compose_run([f"resume={folder}/broken", "run.images=96"])) == 0


def test_two_ranks_move_p_by_the_images_of_both_and_resume_exactly(tmp_path):
    for part in (_run_on_two, _run_in_two_parts, _go_on):
        processes.on_ranks(2, part, str(tmp_path))

    a, b = state(tmp_path / "straight"), state(tmp_path / "broken")
    assert a["lit_gan"]["augment"]["p"] == pytest.approx(96 / 200)
    assert a["lit_gan"]["augment"] == b["lit_gan"]["augment"]
    assert largest_difference(a["state_dict"], b["state_dict"]) == 0


# -- settings -----------------------------------------------------------------------------------------------------------


def build(chosen: Augment, shape: tuple[int, int, int] = (3, 32, 32)):
    return build_augmenter(chosen, image_shape=shape, duration=None)


def test_policies_are_groups_bundles_and_shares():
    assert build(Augment("none")) is None
    assert build(Augment("ada")).pipeline.policy == {"blit": 1, "geom": 1, "color": 1}
    mixed = build(Augment("ada", policy=["bg", "color:0.5", "cutout"])).pipeline.policy
    assert mixed == {"blit": 1, "geom": 1, "color": 0.5, "cutout": 1}
    assert set(build(Augment("diffaugment")).pipeline.policy) == {"color", "translation", "cutout"}
    assert build(Augment("diffaugment")).strength.p(0) == 1
    assert isinstance(build(Augment("apa")).strength, Adaptive)


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        (Augment("ada", policy=["translation"]), "augment.policy: ada has no 'translation'; there are blit"),
        (Augment("diffaugment", policy=["bgc"]), "diffaugment has no 'bgc'; there are color, translation"),
        (Augment("ada", policy=["color:2"]), "color:2 must be color or color:SHARE, a share from 0 to 1"),
        (Augment("ada", policy=["color:x"]), "color:x must be color or color:SHARE"),
        (Augment("apa", policy=["color"]), "apa has no transforms"),
        (Augment("ada", p_end=0.5), "augment.p_end=0.5 needs the p to start from"),
    ],
)
def test_what_cannot_be_is_a_line(chosen, line):
    with pytest.raises(UserError, match=line):
        build(chosen)


def test_points_and_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"augment\.name=ada is for images"):
        build(Augment("ada"), (2, 1, 1))
    with pytest.raises(UserError, match=r"augment\.p = 1\.5 must be at most 1"):
        compose(["augment.p=1.5"])
    with pytest.raises(UserError, match=r"augment\.name = 'adda' is not .*ada"):
        compose(["augment=adda"])


def test_variant_that_keeps_its_logits_to_itself_is_told_so():
    control = Adaptive(target=0.6, duration=100, interval=1)

    with pytest.raises(UserError, match=r"give augment\.p"):
        control.advance(8, 0, CPU)


def test_r3gan_experiment_has_the_augmentation_of_its_paper():
    config = compose(["experiment=r3gan-cifar10"])
    augmenter = build_augmenter(
        Augment(**config["augment"]), image_shape=(3, 32, 32), duration=config.get("optim.decay_images")
    )

    assert augmenter.pipeline.policy == {"blit": 1, "geom": 1, "color": 0.5, "cutout": 1}
    assert [augmenter.strength.p(n) for n in (0, 10_000_000, 20_000_000)] == pytest.approx([0, 0.275, 0.55])

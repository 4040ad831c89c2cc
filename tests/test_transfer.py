"""Runs that begin with the weights of another one, and discriminators whose first layers keep theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import processes
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.freezing import layers_in_order, modules_in_order
from lit_gan.penalties import squared_norm
from lit_gan.players import frozen, total
from lit_gan.preflight import check
from lit_gan.resume import compose_run
from lit_gan.run import RunFolder
from lit_gan.train import train
from lit_gan.transfer import begin, origin_of
from tiny import ARCHS, STAGES, arguments, largest_difference, state, tiny_batch, tiny_module, tiny_run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return tiny_run("dcgan", folder, "run.images=32", "optim.ema_half_life=20", "checkpoint.every_images=16")


def of_source(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def test_run_begins_with_the_weights_of_another_and_a_budget_of_its_own(source, tmp_path, capsys):
    still = [f"run.start_from={source}", "run.images=8", "optim.lr=0", "optim.ema_half_life=20"]

    run = tiny_run("dcgan", tmp_path, *still, "seed=5")

    before, after = state(source)["state_dict"], state(run)["state_dict"]
    weights = [n for n in before if n.endswith("weight") and before[n].ndim >= 2]
    assert weights
    assert all(torch.equal(before[n], after[n]) for n in weights if not n.startswith("ema."))
    assert state(run)["lit_gan"]["images_seen"] == 8
    assert f"took {len(before)} of {len(before)} tensors" in capsys.readouterr().out
    record = json.loads((run / "results.json").read_text())["started_from"]
    assert record == state(run)["lit_gan"]["started_from"]
    assert (Path(record["checkpoint"]).parent.parent, record["images_seen"]) == (source, 32)
    assert f"start_from: {source}" in (run / "config.yaml").read_text()


def test_resumed_run_does_not_begin_again(source, tmp_path):
    begun = f"run.start_from={source}"
    straight = tiny_run("dcgan", tmp_path / "a", begun, "run.images=32", "optim.ema_half_life=20")
    run = tiny_run("dcgan", tmp_path / "b", begun, "run.images=16", "optim.ema_half_life=20")

    config = run / "config.yaml"  # nor does it look for what it began with
    config.write_text(config.read_text().replace(f"start_from: {source}", "start_from: gone"))
    assert train(compose_run([f"resume={run}", "run.images=32"])) == 0

    assert largest_difference(state(straight)["state_dict"], state(run)["state_dict"]) == 0
    assert state(run)["lit_gan"]["started_from"]["images_seen"] == 32


def test_what_does_not_fit_stays_fresh_and_is_named(source):
    grey, colour = tiny_module("dcgan"), tiny_module("dcgan", image_shape=(3, 16, 16))
    untrained = {name: tensor.clone() for name, tensor in colour.state_dict().items()}

    assert begin(grey, of_source(source)).fresh == ()
    start = begin(colour, of_source(source))

    theirs, ours = state(source)["state_dict"], colour.state_dict()
    assert set(start.fresh) == {n for n in ours if ours[n].shape != theirs[n].shape}
    assert all(torch.equal(ours[n], untrained[n] if n in start.fresh else theirs[n]) for n in ours)
    assert f"took {len(ours) - len(start.fresh)} of {len(ours)} tensors; fresh: generator." in str(start)


@pytest.mark.parametrize("width", ["null", "0.1"])
def test_average_that_was_not_kept_begins_as_the_generator(width, tmp_path):
    run = tiny_run("dcgan", tmp_path, "run.images=16", "optim.ema_half_life=0")
    module = tiny_module("dcgan", "optim.ema_half_life=20", f"optim.ema_width={width}")

    assert begin(module, of_source(run)).fresh == ()

    for ema in (module.ema, module.ema_wide if width != "null" else module.ema):
        assert largest_difference(ema.network.state_dict(), module.generator.state_dict()) == 0


@pytest.mark.parametrize(
    ("arch", "more", "message"),
    [
        ("gan", [], "is of DCGAN, not of"),
        ("dcgan", ["model.width=6"], r"no weights of .* fit"),
    ],
)
def test_run_that_gives_nothing_is_refused_before_a_sweep_starts(arch, more, message, source):
    with pytest.raises(UserError, match=message):
        check(compose(arguments(arch, *more, f"run.start_from={source}")))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("runs/gone", "run.start_from=runs/gone: no run or checkpoint"),
        ("torn.ckpt", "is torn"),
        ("foreign.ckpt", "is foreign"),
        ("empty", "has no checkpoint"),
    ],
)
def test_wrong_path_is_one_clear_line(what, message, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for folder in ("run", "empty"):
        (tmp_path / folder / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
    content = of_source(source).read_bytes()
    (tmp_path / "run" / "checkpoints" / "torn.ckpt").write_bytes(content[: len(content) // 2])
    torch.save({"state_dict": {}}, tmp_path / "run" / "checkpoints" / "foreign.ckpt")
    name = f"run/checkpoints/{what}" if what.endswith(".ckpt") else what

    with pytest.raises(UserError, match=message):
        check(compose(arguments("dcgan", f"run.start_from={name}")))


def test_best_checkpoint_of_a_run_is_taken_unless_one_is_named(source, tmp_path):
    best = source / "checkpoints" / "best.ckpt"
    first = source / "checkpoints" / "images-000000000016.ckpt"
    best.write_bytes(first.read_bytes())
    try:
        assert origin_of(compose(arguments("dcgan", f"run.start_from={source}"))) == best
        named = origin_of(compose(arguments("dcgan", f"run.start_from={first}")))
    finally:
        best.unlink()

    assert named == first
    assert origin_of(compose(arguments("dcgan"))) is None
    assert RunFolder(source).read_results() == {"evaluations": []}


def _start(rank: int, source: str, folder: str) -> None:
    more = [f"run.start_from={source}", f"run.dir={folder}", "run.name=run", "run.images=8", "optim.lr=0"]
    assert train(compose_run(arguments("dcgan", "trainer.devices=2", *more))) == 0


def test_two_ranks_begin_alike(source, tmp_path):
    processes.on_ranks(2, _start, str(source), str(tmp_path))

    before, after = state(source)["state_dict"], state(tmp_path / "run")["state_dict"]
    names = [n for n in before if before[n].ndim >= 2 and not n.startswith("ema.")]
    assert all(torch.equal(before[n], after[n]) for n in names)


@pytest.mark.parametrize("arch", ARCHS)
def test_order_of_the_layers_is_that_in_which_an_image_passes(arch):
    module = tiny_module(arch)
    module.images_seen = STAGES.get(arch, (0,))[-1]
    passed: list[torch.nn.Module] = []
    for part in module.discriminator.modules():
        part.register_forward_hook(lambda part, *_: passed.append(part))

    module.discriminator_loss(tiny_batch(module))

    names = {part: name for name, part in module.discriminator.named_modules()}
    order = [part for part in modules_in_order(module.discriminator) if [*part.parameters(recurse=False)]]
    met = [names[part] for part in dict.fromkeys(passed) if part in order]
    mine = [names[part] for part in order]
    if arch == "cyclegan":  # its two discriminators stand side by side: layer by layer of both
        for side in ("image.", "source."):
            assert [n for n in mine if n.startswith(side)] == [n for n in met if n.startswith(side)]
    else:
        assert mine == met
    # nothing is lost, but for the lower entrances of what has grown up
    listed = {id(p) for layer in layers_in_order(module.discriminator) for p in layer}
    left = [n for n, p in module.discriminator.named_parameters() if id(p) not in listed]
    assert all(n.startswith("from_images.") for n in left)


@pytest.mark.parametrize("arch", ["dcgan", "wgan", "sagan", "r3gan", "stylegan2"])
def test_frozen_layers_keep_their_weights_while_the_others_move(arch, tmp_path):
    run = tiny_run(arch, tmp_path, "run.images=160", "optim.freeze_d=2")

    module = tiny_module(arch, "optim.freeze_d=2")
    before, after = module.discriminator.state_dict(), state(run)["state_dict"]
    names = {id(p): n for n, p in module.discriminator.named_parameters()}
    layers = [[names[id(p)] for p in layer] for layer in layers_in_order(module.discriminator)]
    assert all(torch.equal(before[n], after[f"discriminator.{n}"]) for layer in layers[:2] for n in layer)
    for layer in layers[2:]:
        assert any(not torch.equal(before[n], after[f"discriminator.{n}"]) for n in layer)


def test_gradients_flow_through_frozen_layers_as_through_others():
    gradients = []
    for number in (0, 2):
        module = tiny_module("stylegan2", f"optim.freeze_d={number}")
        images = tiny_batch(module)["image"].requires_grad_()
        penalty = squared_norm(module.logits(images), images).mean()
        torch.manual_seed(0)
        with frozen(module.discriminator.parameters()):
            total(module.generator_loss(tiny_batch(module))).backward()
        of_generator = [p.grad for p in module.generator.parameters() if p.grad is not None]
        penalty.backward()
        of_head = [p.grad for p in layers_in_order(module.discriminator)[-1] if p.grad is not None]
        gradients.append([penalty.detach(), *of_generator, *of_head])

    assert len(gradients[0]) > 2
    assert largest_difference(*gradients) < 1e-5


def test_optimizer_has_what_is_not_frozen():
    module = tiny_module("dcgan", "optim.freeze_d=1")

    d, _ = module.configure_optimizers()

    stepped = {id(p) for group in d.param_groups for p in group["params"]}
    assert stepped == {id(p) for layer in layers_in_order(module.discriminator)[1:] for p in layer}


def test_freezing_all_layers_or_a_growing_discriminator_is_refused():
    number = len(layers_in_order(tiny_module("dcgan").discriminator))
    with pytest.raises(UserError, match=f"has {number} layers with weights; give {number - 1} or fewer"):
        tiny_module("dcgan", f"optim.freeze_d={number}")
    with pytest.raises(UserError, match="start grown up"):
        tiny_module("progan", "optim.freeze_d=1")

    grown = tiny_module("progan", "optim.freeze_d=1", "model.stable_images=0", "model.fade_images=0")

    fixed = [n for n, p in grown.discriminator.named_parameters() if not p.requires_grad]
    last = len(grown.discriminator.from_images) - 1
    assert fixed == [f"from_images.{last}.weight", f"from_images.{last}.bias"]


def test_other_number_of_frozen_layers_is_refused_at_resume(source):
    with pytest.raises(UserError, match=r"trained with .*freeze_d=0, not 1"):
        train(compose_run([f"resume={source}", "run.images=64", "optim.freeze_d=1"]))

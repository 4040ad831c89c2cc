"""The battery: what every variant must do, over every arch that has a YAML."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

from lit_gan import schema
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.players import frozen, split, total
from lit_gan.sampling import inference, sampling_batch
from lit_gan.schema import PACKAGE
from lit_gan.variants import VARIANTS
from tiny import ARCHS, STAGES, TINY, arguments, classes_of, state, tiny_batch, tiny_module, tiny_run

SHAPES = [(1, 16, 16), (3, 16, 16), (4, 16, 16), (3, 16, 24), (1, 12, 20), (3, 28, 28)]
arch = pytest.mark.parametrize("arch", ARCHS)


@arch
def test_has_tiny_settings(arch):
    assert arch in TINY, f"add {arch} to tests/tiny.py"


@arch
def test_wrong_keyword_names_the_nearest_right_one(arch):
    with pytest.raises(UserError, match=r"unknown key 'optim\.d_lrr'.*did you mean optim\.d_lr\?"):
        compose(arguments(arch, "optim.d_lrr=3"))


@arch
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_generates_images_like_the_real_ones(arch, shape):
    module = tiny_module(arch, image_shape=shape)

    with inference(module):
        fake = module.generate(sampling_batch(module, 0, range(3), classes_of(module)))

    assert fake.shape == (3, *shape)
    assert fake.dtype == torch.float32
    assert fake.isfinite().all()


@arch
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 12, 20)], ids=str)
def test_losses_are_named_finite_scalars_with_gradients(arch, shape):
    module = tiny_module(arch, image_shape=shape)
    batch = tiny_batch(module, shape)

    for terms in (module.discriminator_loss(batch), module.generator_loss(batch)):
        assert next(iter(terms)) == "adversarial"
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        assert total(terms).requires_grad


@arch
def test_each_loss_reaches_all_of_its_own_player_and_nothing_of_the_other(arch):
    module = tiny_module(arch)
    batch = tiny_batch(module)
    players = {"d": (module.discriminator, module.generator), "g": (module.generator, module.discriminator)}
    losses = {"d": module.discriminator_loss, "g": module.generator_loss}

    for player, (mine, other) in players.items():
        module.zero_grad(set_to_none=True)
        for module.images_seen in STAGES.get(arch, (0,)):
            module.d_updates = 0  # a step that takes the lazy penalty
            with frozen(other.parameters()):
                total(losses[player](batch)).backward()

        assert all(p.grad is None for p in other.parameters())
        unreached = [n for n, p in mine.named_parameters() if p.grad is None]
        assert not unreached, f"{player}: no gradient for {unreached}"


@arch
def test_optimizers_are_discriminator_then_generator_disjoint_and_complete(arch):
    module = tiny_module(arch)

    d, g = [
        {id(p) for group in o.param_groups for p in group["params"]} for o in module.configure_optimizers()
    ]

    assert not d & g
    assert d == {id(p) for p in module.discriminator.parameters()}
    assert d | g == {id(p) for p in module.parameters() if p.requires_grad}


@arch
def test_needs_is_honest(arch):
    module = tiny_module(arch)
    batch = tiny_batch(module)

    assert set(batch) == set(module.needs)
    module.discriminator_loss(batch)
    module.generator_loss(batch)


@arch
def test_samples_do_not_depend_on_their_batch_mates(arch):
    module = tiny_module(arch)

    with inference(module):
        together = module.generate(sampling_batch(module, 0, range(6), classes_of(module)))
        alone = torch.cat(
            [module.generate(sampling_batch(module, 0, [i], classes_of(module))) for i in range(6)]
        )

    assert torch.allclose(together, alone, atol=1e-5)


@arch
def test_discriminator_mixes_no_samples_where_it_says_so(arch):
    module = tiny_module(arch)
    if module.mixes_samples:
        pytest.skip("reals and fakes go through its discriminator apart")
    batch, label = tiny_batch(module), None
    real = module.reals(batch)
    fake = real.flip(3) / 2
    if module.conditional:
        label = batch["label"]
    module.discriminator.eval()  # the vectors of spectral norm stay
    for layer in module.discriminator.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.train()

    together = module.judge(real, fake, label)
    apart = module.logits(real, label), module.logits(fake, label)

    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert a.std() > 0


@arch
def test_generate_draws_nothing_from_the_global_stream(arch):
    module = tiny_module(arch)
    before = torch.get_rng_state()

    with inference(module):
        module.generate(sampling_batch(module, 0, range(2), classes_of(module)))

    assert torch.equal(before, torch.get_rng_state())


@arch
def test_same_seed_gives_the_same_losses(arch):
    def losses() -> list[float]:
        module = tiny_module(arch)
        batch = tiny_batch(module)
        torch.manual_seed(3)
        return [
            float(v.detach())
            for f in (module.discriminator_loss, module.generator_loss)
            for v in f(batch).values()
        ]

    assert losses() == losses()


@arch
def test_works_at_batch_size_one_or_two(arch):
    module = tiny_module(arch)
    size = (
        2 if any(isinstance(m, torch.nn.BatchNorm1d) for m in module.modules()) else 1
    )  # no variance of one row
    batch = tiny_batch(module, size=size)

    assert total(module.discriminator_loss(batch)).isfinite()
    assert total(module.generator_loss(batch)).isfinite()


@arch
def test_double_backward_is_right_when_compiled(arch):
    module = tiny_module(arch)
    batch = tiny_batch(module)
    torch.manual_seed(0)
    total(module.discriminator_loss(batch)).backward()
    eager = [p.grad for p in module.discriminator.parameters()]

    compiled = tiny_module(arch)
    compiled.generator.compile(backend="aot_eager")
    compiled.discriminator.compile(backend="aot_eager")
    torch.manual_seed(0)
    total(compiled.discriminator_loss(batch)).backward()

    for a, b in zip(eager, (p.grad for p in compiled.discriminator.parameters()), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-3, atol=1e-5)
    assert not [k for k in compiled.state_dict() if "_orig_mod" in k]


@arch
def test_bfloat16_losses_are_near_those_in_float32(arch):
    def loss() -> float:
        module = tiny_module(arch)  # a new one each time: buffers move
        return float(total(module.discriminator_loss(tiny_batch(module))).detach())

    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss()

    assert rounded == pytest.approx(exact, rel=0.05, abs=0.05)


@arch
def test_training_moves_every_parameter_and_the_average(arch, tmp_path):
    run = tiny_run(arch, tmp_path, "run.images=80", "optim.ema_half_life=20")
    torch.manual_seed(0)
    module = tiny_module(arch)
    before = module.state_dict()
    after = state(run)["state_dict"]

    names = [n for n, p in module.named_parameters() if p.requires_grad]
    still = [
        n for n in names if torch.equal(after[n], before[n]) and not torch.equal(before[n], before[n] * 0)
    ]
    assert state(run)["lit_gan"]["images_seen"] >= 80
    assert not still, f"not moved: {still}"
    averaged = [n for n in after if n.startswith("ema.network.")]
    assert averaged
    assert any(
        not torch.equal(after[n], after["generator." + n.removeprefix("ema.network.")]) for n in averaged
    )


@arch
def test_conditional_variants_refuse_unlabelled_data_and_use_the_label(arch):
    if "conditional" not in schema.keywords(VARIANTS[compose(arguments(arch))["variant"]]):
        pytest.skip("unconditional in its paper")
    with pytest.raises(UserError):
        tiny_module(arch, "model.conditional=true", classes=0)

    module = tiny_module(arch, "model.conditional=true")
    for parameter in module.generator.parameters():  # what starts at zero would hide the label
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    module.finish()
    with inference(module):
        one, other = (module.generate(sampling_batch(module, 0, range(2), 10, label=k)) for k in (1, 2))

    assert module.needs == ("image", "label")
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_variant_is_one_file_that_names_its_paper(variant):
    path = PACKAGE.joinpath(*VARIANTS[variant].partition(":")[0].split(".")[1:]).with_suffix(".py")
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 400
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", ast.get_docstring(ast.parse(text)) or "")
    assert "lit_gan.variants" not in text, "a variant never imports from another variant"


def test_batches_are_split_into_equal_parts():
    batch = {"image": torch.arange(6).float(), "label": torch.arange(6)}

    parts = split(batch, 3)

    assert [p["label"].tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]


def test_every_yaml_of_an_arch_says_what_it_is():
    for name in ARCHS:
        first = Path(PACKAGE.parent / "configs" / "arch" / f"{name}.yaml").read_text().splitlines()[0]
        assert re.match(r"# .*\d{4}", first), (
            f"configs/arch/{name}.yaml: the first line names the paper's year"
        )

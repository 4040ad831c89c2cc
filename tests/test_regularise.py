"""Terms beside the variant's own: their arithmetic, who admits them, and that no run forgets them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import processes
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.penalties import SLOPES, interpolate, one_centred
from lit_gan.players import frozen, total
from lit_gan.regularise import KEYS, Anchors
from lit_gan.regularisers import (
    difference,
    filters,
    highest,
    lecam,
    mirrored_at_random,
    orthogonality,
    perturbed,
)
from lit_gan.resume import compose_run
from lit_gan.train import train
from tiny import ARCHS, TRAINED, arguments, largest_difference, state, tiny_batch, tiny_module, tiny_run

arch = pytest.mark.parametrize("arch", ARCHS)
ALIKE = (
    "lsgan",
    "hinge-dcgan",
    "ns-gan",
    "stylegan-lite",
    "stylegan2-ada",
    "esrgan",
    "fastcut",
)  # players of another
APART = [arch for arch in ARCHS if arch not in ALIKE]
ASKED = dict.fromkeys(KEYS, "0.5") | {"top_k": "0.5"}


# -- functions ----------------------------------------------------------------------------------------------------------


def test_lecam_draws_each_side_to_the_others_average():
    real, fake = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([[0.0], [-2.0]])

    term = lecam(real, fake, torch.tensor(2.0), torch.tensor(-1.0))

    assert term.item() == ((1 + 1) ** 2 + (3 + 1) ** 2) / 2 + ((0 - 2) ** 2 + (-2 - 2) ** 2) / 2
    term.backward()
    assert real.grad.tolist() == [2.0, 4.0]


def test_difference_is_a_mean_of_squares_and_of_equal_shapes_alone():
    assert difference(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])).item() == 2.5
    with pytest.raises(ValueError, match="shapes"):
        difference(torch.zeros(4, 1), torch.zeros(4))


def test_highest_logits_are_kept_with_their_gradient():
    logits = torch.tensor([[3.0], [-1.0], [5.0], [0.0], [4.0]], requires_grad=True)

    kept = highest(logits, 0.5)

    assert sorted(kept.flatten().tolist()) == [3, 4, 5]  # 2.5 rounded up
    kept.sum().backward()
    assert logits.grad.flatten().tolist() == [1, 0, 1, 0, 1]
    assert highest(logits, 1.0) is logits
    assert highest(logits, 1e-6).tolist() == [[5.0]]
    assert len(highest(torch.randn(10), 0.7)) == 7  # 0.7 * 10 is a little more than 7
    assert highest(torch.tensor([[1.0, 5.0], [4.0, 4.0]]), 0.5).tolist() == [[4.0, 4.0]]


def test_images_are_mirrored_whole_and_half_of_the_time():
    images = torch.arange(6.0).reshape(1, 1, 2, 3).expand(2000, -1, -1, -1)

    seen = mirrored_at_random(images)

    turned = (seen == images.flip(3)).flatten(1).all(1)
    assert torch.equal(turned, ~(seen == images).flatten(1).all(1))
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_perturbation_has_half_the_deviation_of_the_images():
    images = 3 * torch.rand(50, 1, 20, 20)

    around = perturbed(images)

    assert around.requires_grad
    assert around.is_leaf
    assert (around - images).std().item() == pytest.approx(0.5 * images.std().item(), rel=0.03)


# -- LeCam's averages ---------------------------------------------------------------------------------------------------


def _updates() -> torch.Tensor:
    """Logits of 8 samples, reals then fakes, in each of 5 updates."""
    return torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(0))


def _anchors_on_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    anchors = Anchors(0.9)
    for real, fake in _updates():
        anchors.observe(real[4 * rank :][:4], fake[4 * rank :][:4])
        anchors.advance()
    torch.save(anchors.value, f"{folder}/{rank}")
    dist.destroy_process_group()


def test_averages_of_logits_start_at_the_first_and_move_by_one_minus_decay_on_all_ranks_alike(tmp_path):
    processes.on_ranks(2, _anchors_on_two, str(tmp_path))

    anchors, expected = Anchors(0.9), None
    for logits in _updates():
        for part in (slice(0, 4), slice(4, 8)):  # micro-batches
            anchors.observe(logits[0, part], logits[1, part])
        anchors.advance()
        mean = logits.mean(1)
        expected = mean if expected is None else 0.9 * expected + 0.1 * mean
    torch.testing.assert_close(anchors.value, expected)
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / str(rank)), expected)


# -- with the variants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", APART)
def test_consistency_is_zero_where_nothing_is_moved(arch):
    """Also without augmentation, where the verdict of the variant's own loss is one side of the difference."""
    keys = [key for key in ("consistency", "fake_consistency") if key not in tiny_module(arch).refuses]
    module = tiny_module(arch, *(f"regularise.{key}=1" for key in keys))
    if not keys:
        pytest.skip("admits neither")
    module.regularise.moved = lambda images: images
    module.discriminator.eval()  # no dropout, no power iteration

    with frozen(module.generator.parameters()):
        terms = module.losses("d", tiny_batch(module))

    assert {key: round(terms[key].item(), 9) for key in keys} == dict.fromkeys(keys, 0.0)


def test_cgan_with_dropout_in_its_generator_refuses_what_compares_two_of_its_images():
    for key in ("z_consistency", "z_diversity"):
        assert tiny_module("cgan", f"regularise.{key}=1").regularise is not None  # the preset has none
        with pytest.raises(UserError, match=r"dropout \(model.g_dropout\)"):
            tiny_module("cgan", f"regularise.{key}=1", "model.g_dropout=0.5")


@arch
def test_variant_is_regularised_by_whatever_it_does_not_refuse(arch):
    refused = tiny_module(arch).refuses
    assert set(refused) <= set(KEYS)
    for key in refused:
        with pytest.raises(UserError, match=rf"regularise\.{key} is not for"):
            tiny_module(arch, f"regularise.{key}={ASKED[key]}")
    asked = [key for key in KEYS if key not in refused]
    of_g = {"z_diversity", "orthogonal", "top_k"}
    settings = [f"regularise.{key}={ASKED[key]}" for key in asked]
    module = tiny_module(arch, *settings)
    batch = tiny_batch(module)

    with frozen(module.generator.parameters()):
        first = module.losses("d", batch)
        module.regularise.advance()
        terms = module.losses("d", batch)
        total(terms).backward()

    assert set(terms) - set(first) == {"lecam"}  # nothing to be drawn to before
    of_d = set(asked) - of_g
    assert of_d <= set(terms)
    assert all(terms[key].item() > 0 for key in of_d)
    assert all(p.grad is None for p in module.generator.parameters())
    of_g = {key: term.item() for key, term in module.losses("g", batch).items() if key in of_g & set(asked)}
    assert set(of_g) == {"z_diversity", "orthogonal"} & set(asked)
    assert of_g.get("z_diversity", -1) < 0 < of_g.get("orthogonal", 1)


@arch
def test_generator_learns_from_the_fakes_that_the_discriminator_likes(arch):
    if "top_k" in tiny_module(arch).refuses:
        return
    for images, share in ((0, 1.0), (100, 0.5)):
        module = tiny_module(arch, "regularise.top_k=0.5", "regularise.top_k_images=100")
        module.images_seen = images
        given, kept = [], module.kept

        def spy(logits, given=given, kept=kept):
            given.append((logits, kept(logits)))
            return given[-1][1]

        module.kept = spy
        module.generator_loss(tiny_batch(module))
        assert given
        for logits, best in given:
            assert best.numel() == logits.numel() * share
            of_all, of_best = (
                x.reshape(len(x), -1).mean(1) for x in (logits, best)
            )  # of patches: whole images
            assert of_best.min() >= of_all.sort(descending=True).values[: len(of_best)].min()


SLOPED = [(arch, "exact") for arch in APART] + [
    (arch, "approx") for arch in ("dcgan", "sngan", "biggan", "pix2pixhd", "srgan", "infogan")
]


@pytest.mark.parametrize(("arch", "penalty"), SLOPED)
def test_r1_is_the_squared_slope_at_the_reals(arch, penalty, monkeypatch):
    """By hand: the gradient of all logits together, or of each along the noise that all images were given."""
    if "r1" in tiny_module(arch).refuses:
        pytest.skip("has a penalty of its own")
    calm = ["model.dropout=0"] if arch in ("gan", "ns-gan", "cgan", "acgan") else []  # or two passes differ
    asked = ["regularise.r1=3", f"regularise.penalty={penalty}", "regularise.sigma=1e-4"]
    module = tiny_module(arch, *asked, *calm)
    batch = tiny_batch(module)
    still = module.reals(batch).clone().requires_grad_()
    noise = torch.randn_like(still)
    logits = copy.deepcopy(module).logits(still, module.label(batch))  # a pass moves the power iteration
    sums = logits.reshape(len(logits), -1).sum(1)
    rows = [torch.autograd.grad(s, still, retain_graph=True)[0] for s in sums]  # [B, C, H, W] of each
    exact = sum(rows).square().sum() / len(rows)
    along = sum((row * noise).sum().square() for row in rows) / len(rows)
    module.observe(logits, logits)

    monkeypatch.setattr(torch, "randn_like", lambda images: noise)
    found = module.regularise.terms("d", module, batch)["r1"]

    expected = 3 / 2 * (exact if penalty == "exact" else along) / logits[0].numel()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4 if penalty == "exact" else 0.05)


def test_penalties_of_the_slope_are_taken_lazily_and_as_much_stronger():
    """Adam's rate and moments are corrected for the updates without them (Karras 2020, appendix B)."""
    asked = [f"regularise.{key}=1" for key in SLOPES]
    often, seldom = (tiny_module("ns-gan", *asked, f"regularise.interval={k}") for k in (1, 4))
    seldom.load_state_dict(often.state_dict())
    batch = tiny_batch(often)
    found = []
    for module, updates in ((often, 0), (seldom, 4), (seldom, 5)):
        module.d_updates = updates
        torch.manual_seed(0)
        found.append(module.losses("d", batch))

    for key in SLOPES:
        assert found[1][key].item() == pytest.approx(4 * found[0][key].item(), rel=1e-5)
        assert key not in found[2]
    rates = [module.configure_optimizers() for module in (often, seldom)]
    c = 4 / 5
    assert [d.defaults["lr"] / g.defaults["lr"] for d, g in rates] == pytest.approx(
        [0.2, 0.2 * c]
    )  # the preset: 4e-4 and 2e-3
    assert rates[1][0].defaults["betas"] == pytest.approx([beta**c for beta in rates[0][0].defaults["betas"]])
    assert rates[1][1].defaults["betas"] == rates[0][1].defaults["betas"]


def test_gradient_penalty_is_wgan_gps():
    module = tiny_module("ns-gan", "regularise.gradient_penalty=10")
    batch = tiny_batch(module)
    torch.manual_seed(0)
    found = module.losses("d", batch)["gradient_penalty"]

    torch.manual_seed(0)
    module.discriminator_loss(batch)  # draws what it drew
    fake = module.fakes({**batch, "z": module.latents(batch)}).detach()
    between = interpolate(batch["image"], fake)
    torch.testing.assert_close(found, 10 * one_centred(module.logits(between), between))


def test_orthogonal_term_is_over_all_filters_of_the_generator_but_embeddings():
    layers = nn.ModuleDict(
        {
            "conv": nn.Conv2d(2, 3, 3),
            "up": nn.ConvTranspose2d(4, 5, 3),
            "linear": nn.Linear(6, 7),
            "norm": nn.BatchNorm2d(3),
            "label": nn.Embedding(8, 9),
        }
    )
    assert [tuple(m.shape) for m in filters(layers)] == [(3, 18), (5, 36), (7, 6)]
    module = tiny_module("dcgan", "regularise.orthogonal=0.5")
    expected = sum(orthogonality(matrix) for matrix in filters(module.generator))
    assert len(filters(module.generator)) == 3
    torch.testing.assert_close(module.losses("g", tiny_batch(module))["orthogonal"], 0.5 * expected)


def test_adain_without_an_adversary_refuses_what_its_discriminator_would_learn():
    for key in ("r1", "lecam", "consistency"):
        with pytest.raises(UserError, match="discriminator rests"):
            tiny_module("adain", f"regularise.{key}=1", "model.adversarial_weight=0")


def test_share_of_fakes_may_be_reached_at_once():
    compose(arguments("dcgan", "regularise.top_k=0.5", "regularise.top_k_images=0"))
    with pytest.raises(UserError, match=r"regularise.interval = 0 must be at least 1"):
        compose(arguments("dcgan", "regularise.interval=0"))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (7, 1)])
def test_orthogonality_by_the_smaller_product_is_the_same(shape):
    matrix = torch.randn(*shape, dtype=torch.float64)
    gram = matrix @ matrix.t()
    expected = (gram - torch.diag(gram.diagonal())).square().sum()
    torch.testing.assert_close(orthogonality(matrix), expected)


def test_approximate_slopes_are_refused_where_dropout_would_be_compared():
    with pytest.raises(
        UserError, match=r"discriminator draws dropout in each: use exact, or model.dropout=0"
    ):
        tiny_module("cgan", "regularise.r1=1", "regularise.penalty=approx")
    with pytest.raises(UserError, match="sigma=0 leaves nothing"):
        tiny_module("dcgan", "regularise.r1=1", "regularise.penalty=approx", "regularise.sigma=0")


def test_generator_terms_keep_images_apart_by_the_paper():
    module = tiny_module("dcgan", "regularise.z_diversity=0.5", "regularise.z_sigma=0.05").eval()
    batch = tiny_batch(module)
    torch.manual_seed(7)
    term = module.regularise.terms("g", module, batch)["z_diversity"]

    torch.manual_seed(7)
    z = torch.randn(4, module.latent_dim)
    moved = z + 0.05 * torch.randn_like(z)
    torch.testing.assert_close(term, -0.5 * (module.generator(z) - module.generator(moved)).square().mean())


def test_consistency_sees_the_augmentation_of_the_real_it_is_compared_with(monkeypatch):
    module = tiny_module("hinge-dcgan", "regularise.consistency=10", "augment=ada", "augment.p=1")
    monkeypatch.setattr(
        module.regularise, "moved", lambda images: images
    )  # T is nothing: so must the term be

    terms = module.losses("d", tiny_batch(module))

    assert terms["consistency"].item() == pytest.approx(0, abs=1e-8)


# -- runs and settings --------------------------------------------------------------------------------------------------

ALL = [
    "regularise.lecam=0.3",
    "regularise.z_diversity=0.5",
    "regularise.consistency=10",
    "regularise.dragan=10",
]


def test_resumed_run_has_the_averages_of_the_unbroken_one(tmp_path: Path):
    settings = [*ALL, "regularise.top_k=0.5", "regularise.top_k_images=40"]
    straight = tiny_run("dcgan", tmp_path / "a", *settings, "run.images=64")
    broken = tiny_run("dcgan", tmp_path / "b", *settings, "run.images=32")
    assert train(compose_run([f"resume={broken}", "run.images=64"])) == 0

    a, b = state(straight), state(broken)
    assert a["lit_gan"]["regularise"] == b["lit_gan"]["regularise"]
    assert a["lit_gan"]["regularise"]["updates"] == 8
    assert not [name for name in a["state_dict"] if "regularise" in name]
    assert largest_difference(*({key: c[key] for key in TRAINED} for c in (a, b))) == 0


def test_what_cannot_be_is_a_line():
    with pytest.raises(UserError, match=r"regularise\.consistency shifts images, and the data are points"):
        tiny_module("gan", "regularise.consistency=1", image_shape=(2, 1, 1))
    with pytest.raises(UserError, match=r"regularise\.top_k=0.* must be above 0"):
        tiny_module("dcgan", "regularise.top_k=0")
    with pytest.raises(UserError, match=r"regularise\.top_k = 1\.5 must be at most 1"):
        compose(arguments("dcgan", "regularise.top_k=1.5"))
    assert tiny_module("dcgan").regularise is None

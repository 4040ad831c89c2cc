"""`lit-gan blend`: a generator between two, that is sampled and not trained."""

from __future__ import annotations

import pytest
import torch

from lit_gan import load
from lit_gan.cli import main
from lit_gan.errors import UserError
from lit_gan.interpolation import blend
from tiny import state, tiny_run

ARCH = "dcgan"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("runs")
    plain = tiny_run(ARCH, folder / "a", "run.images=16", "optim.ema_half_life=0")
    averaged = tiny_run(ARCH, folder / "b", "run.images=64", "optim.ema_half_life=20")
    return plain, averaged


def test_a_blend_is_the_weighted_mean_of_what_both_sample_by(runs):
    plain, averaged = (state(run)["state_dict"] for run in runs)

    made = blend(*runs, 0.25)["state_dict"]

    names = [name.removeprefix("generator.") for name in plain if name.startswith("generator.")]
    for name in names:
        a, b = plain["generator." + name], averaged["ema.network." + name]
        if a.is_floating_point():
            assert torch.allclose(made["ema.network." + name], 0.75 * a + 0.25 * b, atol=1e-6), name
        else:
            assert torch.equal(made["ema.network." + name], b)
    rest = [name for name in averaged if not name.startswith("ema.network.")]
    assert all(torch.equal(made[name], averaged[name]) for name in rest)


def test_the_ends_are_the_two_and_images_come_of_what_lies_between(runs, capsys):
    a, b = (load(run).sample(2) for run in runs)
    images = []
    for alpha in ("0", "0.5", "1"):
        assert main(["blend", *map(str, runs), "--alpha", alpha]) == 0
        path = runs[1] / "checkpoints" / f"blend-{float(alpha):.3f}.ckpt"
        assert str(path) in capsys.readouterr().out
        images.append(load(path).sample(2))

    assert torch.allclose(images[0], a, atol=1e-6)
    assert torch.equal(images[2], b)
    assert 0 < (images[1] - b).abs().mean() < (a - b).abs().mean()


def test_a_blend_is_not_trained_and_goes_nowhere_by_mistake(runs, tmp_path, capsys):
    path = runs[1] / "checkpoints" / "blend-0.300.ckpt"
    assert main(["blend", *map(str, runs), "--alpha", "0.3"]) == 0
    assert main(["train", f"resume={path}", "run.images=2000"]) == 2
    assert "made by `lit-gan blend`" in capsys.readouterr().err

    assert main(["blend", str(runs[0]), str(path), "--alpha", "0.3", "--out", str(path)]) == 2
    assert "is one of the two" in capsys.readouterr().err
    assert main(["blend", *map(str, runs), "--alpha", "0.3", "--out", str(tmp_path / "no" / "x.ckpt")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert main(["blend", *map(str, runs), "--alpha", "0.3", "--out", str(tmp_path / "x.ckpt")]) == 0
    assert "move it to" in capsys.readouterr().out


def test_generators_must_be_alike(runs, tmp_path):
    other = tiny_run(ARCH, tmp_path, "run.images=8", "model.width=8")

    with pytest.raises(UserError, match=r"other generators \(.*blend two stages of one"):
        blend(runs[0], other, 0.5)

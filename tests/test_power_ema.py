"""Averages of other lengths after training: profiles, reconstruction, snapshots and the command."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lit_gan.callbacks.averages import snapshots
from lit_gan.cli import main
from lit_gan.ema import EMA
from lit_gan.power_ema import Profile, coefficients, gamma_of, inner_product, weight_of_new, width_of
from lit_gan.resume import compose_run
from lit_gan.run import RunFolder
from lit_gan.sample import load
from lit_gan.train import train
from tiny import state, tiny_run

ARCH = "wgan-gp"  # without batch norm in one player and with it in the other


@pytest.mark.parametrize(("width", "gamma"), [(0.01, 96.99), (0.05, 16.97), (0.10, 6.94), (0.15, 3.56)])
def test_exponents_are_those_of_the_paper(width: float, gamma: float) -> None:
    assert gamma_of(width) == pytest.approx(gamma, abs=0.005)
    assert width_of(gamma_of(width)) == pytest.approx(width)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3])
def test_a_width_that_no_average_has_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="relative width"):
        gamma_of(width)


def averaged(path: torch.Tensor, width: float) -> torch.Tensor:
    """The average of weights [steps, D], tracked step by step, after each of them."""
    network = nn.Linear(path.shape[1], 1, bias=False)
    ema = EMA(network)
    found = []
    for step, weights in enumerate(path, 1):
        network.weight.data = weights[None]
        ema.move(network, weight_of_new(10 * step, 10, gamma_of(width)))
        found.append(ema.network.weight.detach().clone()[0])
    return torch.stack(found)


def test_a_tracked_average_has_the_mean_and_the_width_of_its_profile() -> None:
    time = torch.linspace(1 / 2000, 1, 2000)
    mean, square = averaged(torch.stack([time, time**2], dim=1), 0.08)[-1]
    gamma = gamma_of(0.08)

    assert float(mean) == pytest.approx((gamma + 1) / (gamma + 2), abs=1e-3)
    assert float((square - mean**2).sqrt()) == pytest.approx(0.08, abs=1e-3)


def test_the_first_update_copies() -> None:
    assert weight_of_new(10, 10, 5.0) == 1.0
    assert weight_of_new(0, 0, 5.0) == 1.0


def test_the_inner_product_is_the_integral_of_the_product() -> None:
    a, b = Profile(700.0, 3.0), Profile(1000.0, 8.0)
    tau = torch.linspace(0, 700, 200_001, dtype=torch.float64)
    product = (4 * tau**3 / 700.0**4) * (9 * tau**8 / 1000.0**9)

    assert inner_product(a, b) == pytest.approx(float(torch.trapezoid(product, tau)), rel=1e-6)
    assert inner_product(b, a) == pytest.approx(inner_product(a, b))


def test_a_stored_average_is_made_of_itself() -> None:
    stored = [Profile(t, gamma_of(w)) for t in (250.0, 500.0, 750.0, 1000.0) for w in (0.05, 0.1)]
    shares = coefficients(stored, stored[-1])

    assert shares == pytest.approx([0] * 7 + [1], abs=1e-5)


def test_later_averages_are_of_no_use() -> None:
    with pytest.raises(ValueError, match="times up to 5"):
        coefficients([Profile(10.0, 3.0)], Profile(5.0, 3.0))


@pytest.mark.parametrize("width", [0.04, 0.07, 0.14])
def test_a_reconstructed_average_equals_the_one_tracked_directly(width: float) -> None:
    torch.manual_seed(0)
    path = torch.randn(2000, 50, dtype=torch.float32).cumsum(0) / 2000**0.5  # as weights wander
    narrow, wide, direct = (averaged(path, w) for w in (0.05, 0.1, width))
    taken = range(49, 2000, 50)
    stored = [Profile(10.0 * (i + 1), gamma_of(w)) for i in taken for w in (0.05, 0.1)]
    values = torch.stack([average[i] for i in taken for average in (narrow, wide)]).double()
    shares = torch.tensor(coefficients(stored, Profile(20_000.0, gamma_of(width))), dtype=torch.float64)

    error = (shares @ values - direct[-1]).norm()
    apart = (narrow[-1] - direct[-1]).norm()  # what the nearest tracked average is off by
    assert error < 0.02 * direct[-1].norm()
    assert error < 0.2 * apart


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    return tiny_run(ARCH, tmp_path_factory.mktemp("run"), "run.images=960", "optim.ema_width=0.05")


def test_a_run_keeps_snapshots_and_makes_another_width_of_them(run, tmp_path, capsys) -> None:
    assert list(snapshots(RunFolder(run)))[-1] == 960
    assert len(snapshots(RunFolder(run))) == 40

    assert main(["average", str(run), "--width", "0.05,0.08"]) == 0
    printed = capsys.readouterr().out
    made = sorted(run.glob("checkpoints/average-*.ckpt"))
    assert [path.name for path in made] == [f"average-000000000960-0.0{w}0.ckpt" for w in (5, 8)]
    assert all(str(path) in printed for path in made)

    tracked = state(run)["state_dict"]
    again = state(run, made[0].name)["state_dict"]
    other = tiny_run(ARCH, tmp_path, "run.images=960", "optim.ema_width=0.08")
    direct, found = state(other)["state_dict"], state(run, made[1].name)["state_dict"]
    names = [n for n in tracked if n.startswith("ema.network.") and tracked[n].is_floating_point()]
    for name in names:
        assert torch.allclose(again[name], tracked[name], atol=1e-5), name
    moved = max(float((direct[n] - tracked[n]).abs().max()) for n in names)
    error = max(float((direct[n] - found[n]).abs().max()) for n in names if "running" not in n)
    assert error < 0.2 * moved
    assert load(made[1]).sample(2).shape == (2, 1, 16, 16)


def test_an_average_is_scored_and_not_trained(run, capsys) -> None:
    chosen = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=40"]
    assert main(["average", str(run), *chosen, "--width", "0.1", "--kimg", "0.48", "--eval"]) == 0
    assert "average-000000000480-0.100.ckpt at 0.48 kimg" in capsys.readouterr().out

    path = run / "checkpoints" / "average-000000000480-0.100.ckpt"
    assert main(["train", f"resume={path}", "run.images=2000"]) == 2
    assert "made by `lit-gan average`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--width", "0.5"], "--width 0.5: a relative width is above 0 and at most 0.28"),
        (["--width", "wide"], "'wide' is not a number"),
        (["--width", "0.1", "--kimg", "0.5"], "the nearest is --kimg 0.504"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments: list[str], answer: str) -> None:
    assert main(["average", str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert answer in error
    assert len(error.splitlines()) == 1


def test_a_run_without_snapshots_says_how_to_have_them(tmp_path, capsys) -> None:
    plain = tiny_run(ARCH, tmp_path, "run.images=24")

    assert main(["average", str(plain), "--width", "0.1"]) == 2
    assert "train with optim.ema_width=0.05" in capsys.readouterr().err


def test_both_averages_and_the_snapshots_survive_an_interruption(tmp_path) -> None:
    settings = ("optim.ema_width=0.05", "checkpoint.averages_every=48")
    whole = tiny_run(ARCH, tmp_path / "whole", "run.images=240", *settings)
    broken = tiny_run(ARCH, tmp_path / "broken", "run.images=120", *settings)
    assert train(compose_run([f"resume={broken}", "run.images=240"])) == 0

    one, other = state(whole)["state_dict"], state(broken)["state_dict"]
    assert any(name.startswith("ema_wide.") for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert set(snapshots(RunFolder(whole))) == set(snapshots(RunFolder(broken))) - {120}

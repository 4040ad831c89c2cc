"""The metrics on features: analytic values, and agreement with the reference implementations."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

import lit_gan.metrics
from lit_gan.metrics import ClassCoverage, FrechetDistance, InceptionScore, KernelDistance
from lit_gan.metrics.frechet import Statistics, covariance_root, frechet_distance
from lit_gan.metrics.kernel import kernel_sums, other_sums


def features(n: int, d: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99)) / d**0.5
    return torch.randn(n, d, generator=generator) @ mixing + 0.1 * seed


def _mixed(n: int, d: int, seed: int) -> Tensor:
    """Features of one distribution, a draw for each seed."""
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99)) / d**0.5
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) @ mixing + 0.1


def fid(real: Tensor, fake: Tensor, batch: int = 1000, **settings: Tensor) -> float:
    metric = FrechetDistance(real.shape[1], **settings)
    for side, rows in ((True, real), (False, fake)):
        for part in rows.split(batch):
            metric.update(part, real=side)
    return float(metric.compute())


def test_fid_equals_torch_fidelitys_on_the_same_features():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, fake = features(300), features(251, seed=1)

    ours = fid(real, fake)

    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(real.double()), fid_features_to_statistics(fake.double()), verbose=False
    )
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_fid_equals_torchmetrics_on_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Identity(torch.nn.Module):
        num_features = 24

        def forward(self, rows: Tensor) -> Tensor:
            return rows

    real, fake = features(300), features(251, seed=1)
    theirs = FrechetInceptionDistance(feature=Identity())
    theirs.update(real.double(), real=True)
    theirs.update(fake.double(), real=False)

    assert fid(real, fake) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_fid_of_a_set_with_itself_is_zero():
    assert fid(features(200), features(200)) == pytest.approx(0, abs=1e-9)


def test_fid_of_a_shifted_set_is_the_squared_shift():
    real = features(200).double()
    shift = torch.linspace(-1, 1, 24, dtype=torch.float64)

    assert fid(real, real + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_standard_error_is_the_spread_over_other_fakes_of_the_same_generator():
    real = features(3000, d=8)
    values, errors = [], []
    for seed in range(40):
        fake = _mixed(400, 8, 1000 + seed)
        metric = FrechetDistance(8, groups=10, samples=400)
        metric.update(real, real=True)
        for part in torch.arange(400).split(64):
            metric.update(fake[part], real=False, indices=part)
        values.append(float(metric.compute()))
        errors.append(float(metric.standard_error()))

    assert values[0] == pytest.approx(fid(real, _mixed(400, 8, 1000)), rel=1e-9)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.35)


def test_groups_of_fakes_need_their_numbers_and_two_samples_each():
    with pytest.raises(ValueError, match="at least 2 samples each"):
        FrechetDistance(8, groups=10, samples=19)
    with pytest.raises(ValueError, match="need their numbers"):
        FrechetDistance(8, groups=2, samples=4).update(features(4, d=8), real=False)
    with pytest.raises(ValueError, match="needs groups"):
        FrechetDistance(8).standard_error()


def test_fid_of_fewer_samples_than_features_agrees_with_the_singular_values():
    real, fake = features(15, d=40).double(), features(20, d=40, seed=1).double()

    centred = [(rows - rows.mean(0)) / math.sqrt(len(rows) - 1) for rows in (real, fake)]
    trace = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    spread = sum(rows.square().sum() for rows in centred) - 2 * trace
    expected = float((real.mean(0) - fake.mean(0)).square().sum() + spread)

    assert fid(real, fake) == pytest.approx(expected, rel=1e-6)


def test_fid_does_not_depend_on_the_batch_size():
    real, fake = features(100), features(90, seed=1)

    assert fid(real, fake, batch=7) == pytest.approx(fid(real, fake), rel=1e-10)


def test_fid_keeps_its_digits_far_from_zero_when_shifted():
    real, fake = features(400).double(), features(400, seed=1).double()
    far = torch.full((24,), 1e6, dtype=torch.float64)
    truth = fid(real, fake)

    with_shift = fid(real + far, fake + far, shift=far)

    assert with_shift == pytest.approx(truth, rel=1e-6)
    assert fid(real + far, fake + far) != pytest.approx(truth, rel=1e-6)


def test_fid_from_real_statistics_equals_fid_from_reals():
    real, fake = features(100), features(80, seed=1)
    cov = torch.from_numpy(np.cov(real.double().numpy(), rowvar=False))
    metric = FrechetDistance(24)

    metric.set_real_statistics(Statistics(100, real.double().mean(0), cov, covariance_root(cov)))
    metric.update(fake, real=False)

    assert float(metric.compute()) == pytest.approx(fid(real, fake), rel=1e-9)
    with pytest.raises(ValueError, match="statistics are set"):
        metric.update(real, real=True)


def test_the_frechet_distance_of_one_dimension_is_that_of_two_normals():
    one = torch.ones(1), torch.full((1, 1), 4.0)
    other = torch.full((1,), 3.0), torch.full((1, 1), 9.0)

    assert float(frechet_distance(*one, *other)) == pytest.approx(2**2 + (2 - 3) ** 2)


def test_fid_reports_too_few_samples():
    metric = FrechetDistance(3)
    metric.update(torch.zeros(0, 3), real=True)

    with pytest.raises(ValueError, match="needs 2 real samples, got 0"):
        metric.compute()


def naive_kid(real: np.ndarray, fake: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(real), len(fake)
    xx = sum(kernel(real[i], real[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j)
    xy = sum(kernel(a, b) for a in real for b in fake)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def kid(real: Tensor, fake: Tensor) -> float:
    metric = KernelDistance(real.shape[1])
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def test_kid_equals_a_double_loop():
    real, fake = features(21, d=5), features(17, d=5, seed=1)

    expected = naive_kid(real.double().numpy(), fake.double().numpy())

    assert kid(real, fake) == pytest.approx(expected, rel=1e-10)


def test_kid_equals_torch_fidelitys_over_one_subset_of_everything():
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = features(64), features(64, seed=1)

    theirs = kid_features_to_metric(
        fake.double(),
        real.double(),
        kid_subsets=1,
        kid_subset_size=64,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1.0,
        rng_seed=0,
        verbose=False,
    )

    assert kid(real, fake) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)


def test_kid_does_not_depend_on_the_tiles():
    x, y = features(50), features(41, seed=1)

    assert torch.allclose(kernel_sums(x, y, tile=7), kernel_sums(x, y), rtol=1e-12)
    assert torch.allclose(other_sums(x, tile=7), other_sums(x), rtol=1e-12)


def test_standard_error_of_kid_is_the_spread_over_other_fakes_of_the_same_generator():
    real = features(600, d=8)
    values, errors = [], []
    for seed in range(40):
        metric = KernelDistance(8)
        metric.update(real, real=True)
        metric.update(1.3 * _mixed(200, 8, 1000 + seed), real=False)
        values.append(float(metric.compute()))
        errors.append(float(metric.standard_error()))

    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.35)


def test_kid_of_equal_distributions_is_zero_on_average():
    values = [
        kid(torch.randn(50, 8, generator=g), torch.randn(40, 8, generator=g))
        for g in [torch.Generator().manual_seed(0)]
        for _ in range(200)
    ]

    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def inception_score(logits: Tensor, batch: int = 1000, splits: int = 10) -> tuple[float, float]:
    metric = InceptionScore(logits.shape[1], len(logits), splits)
    for indices in torch.arange(len(logits)).split(batch):
        metric.update(logits[indices], indices)
    mean, std = metric.compute()
    return float(mean), float(std)


def test_the_inception_score_of_uniform_predictions_is_one():
    assert inception_score(torch.zeros(60, 7)) == pytest.approx((1, 0))


def test_the_inception_score_of_sure_and_even_predictions_is_the_number_of_classes():
    logits = 1e4 * torch.eye(5).repeat(20, 1)

    assert inception_score(logits) == pytest.approx((5, 0))


def test_the_inception_score_equals_torch_fidelitys():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * features(127)

    theirs = isc_features_to_metric(logits, splits=10, shuffle=False)

    mean, std = inception_score(logits)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-5)


def test_the_inception_score_does_not_depend_on_batch_size_or_order():
    logits = 3 * features(25)
    metric = InceptionScore(24, 25)
    for indices in torch.arange(25).flip(0).split(4):
        metric.update(logits[indices], indices)

    assert float(metric.compute()[0]) == pytest.approx(inception_score(logits)[0], rel=1e-12)


def test_the_inception_score_refuses_another_number_of_samples():
    metric = InceptionScore(3, 12)
    metric.update(torch.zeros(11, 3), torch.arange(11))

    with pytest.raises(ValueError, match="expected 12 samples, got 11"):
        metric.compute()


def test_coverage_counts_classes_and_their_divergence():
    metric = ClassCoverage(4)
    metric.update(torch.eye(4).repeat(25, 1), real=True)
    metric.update(torch.eye(4)[:1].repeat(50, 1), real=False)

    classes, kl = metric.compute()

    assert (float(classes), float(kl)) == pytest.approx((1, math.log(4)))


def test_coverage_of_equal_histograms_is_all_classes_and_no_divergence():
    metric = ClassCoverage(4)
    metric.update(torch.eye(4).repeat(25, 1), real=True)
    metric.update(torch.eye(4).repeat(10, 1), real=False)

    assert [float(value) for value in metric.compute()] == pytest.approx([4, 0])


@pytest.mark.parametrize("metric", [FrechetDistance(3), KernelDistance(3), ClassCoverage(3)])
def test_an_empty_batch_changes_nothing(metric: FrechetDistance | KernelDistance | ClassCoverage):
    rows = torch.eye(3).repeat(4, 1)
    metric.update(rows, real=True)
    metric.update(rows.flip(1) * 2, real=False)
    metric.update(torch.zeros(0, 3), real=False)
    again = metric.clone()
    again.reset()
    again.update(rows, real=True)
    again.update(rows.flip(1) * 2, real=False)

    assert torch.equal(torch.as_tensor(metric.compute()), torch.as_tensor(again.compute()))


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, lit_gan.metrics as m; assert 'fid' in m.METRICS and 'pixels' in m.EXTRACTORS;"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_imported_from_the_package():
    for name in lit_gan.metrics.__all__:
        assert getattr(lit_gan.metrics, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lit_gan.metrics.nothing  # noqa: B018

"""The scripts in benchmarks/: their tables say pass where values are equal, and the pieces that fill them run."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import pytest
import torch

from lit_gan.config import compose
from lit_gan.metrics import Inception
from lit_gan.metrics.checks import metric_class
from lit_gan.train import assemble

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        from common import random_weights

        random_weights(path)
    return path


@pytest.fixture(scope="module")
def both(weights: Path) -> tuple[Inception, Inception]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        from metric_parity import inceptions

        return inceptions(weights)


@pytest.mark.parametrize(
    ("theirs", "differs", "verdict"),
    [
        (1.0, "", "pass"),
        (1 + 5e-7, "", "pass"),
        (1 + 2e-6, "", "**fail**"),
        (float("nan"), "", "**fail**"),
        (2.0, "no: float32", "no: float32"),
    ],
)
def test_a_row_fails_where_it_claims_the_same_and_is_not(theirs: float, differs: str, verdict: str):
    from parity_rows import Row

    row = Row("FID", "them", 1.0, theirs, differs)

    assert str(row).endswith(f"| {verdict} |")
    assert row.failed == (verdict == "**fail**")


def test_a_network_runs_once_for_a_batch():
    from common import Once, Output

    calls: list[int] = []

    def network(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(images))
        return images.flatten(1).float(), images.flatten(1).float() * 2

    once = Once(network)
    images = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)
    first, second = Output(once, 0, 12), Output(once, 1, 12, torch.float64)

    assert torch.equal(first(images).double() * 2, second(images))
    assert second(images).dtype == torch.float64
    first(images + 1)
    assert calls == [1, 1]


def test_taps_are_those_of_torch_fidelity(weights: Path, both: tuple[Inception, Inception]):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from common import pictures
    from parity_rows import taps

    legacy, _ = both
    images = pictures(2, 32, 4)

    theirs = FeatureExtractorInceptionV3("theirs", ["64", "192"], str(weights))(images)

    assert all(torch.equal(*pair) for pair in zip(taps(legacy.graph, legacy, images), theirs, strict=True))
    assert legacy(images)[0].shape == (2, 2048)  # and the hooks are gone


def test_resizes_hold_at_sizes_that_are_not_square(both: tuple[Inception, Inception]):
    from clean_rows import resize_lines

    table = list(resize_lines(*both, sizes=((48, 80), (28, 28))))

    assert all(holds for _, holds in table)
    assert [line.split("|")[1].strip() for line, _ in table] == ["48 x 80", "28 x 28"]


def test_clean_fid_agrees_on_files(both: tuple[Inception, Inception], tmp_path: Path):
    pytest.importorskip("cleanfid")
    from clean_rows import SINGULAR, clean_fid, clean_tap_rows, written
    from common import pictures

    real, fake = pictures(3, 32, 4), pictures(3, 32, 7)
    folders = written(real, tmp_path / "reals"), written(fake, tmp_path / "fakes")

    rows = list(clean_tap_rows(clean_fid(), *both, folders, real, fake))

    assert [row.relative < 1e-4 for row in rows] == [True] * 4 + [
        False
    ] * 2  # legacy_pytorch is another resize
    assert rows[0].differs == SINGULAR


def test_time_is_in_medians_and_ratios_of_the_same_round():
    from evaluation import lines, measured

    table = lines(
        {"a": [(1.0, 2.0), (10.0, 2.0), (2.0, 2.0)], "b": [(3.0, 1.0), (10.0, 1.0), (6.0, 1.0)]},
        {"a": 1, "b": 2},
    )
    taken, values = measured({"a": (lambda: 1.0, lambda: 5.0)}, 2)

    assert table[2:] == ["| a | 2.00 | 1.00 | 2.00 | 1.00 | 1 |", "| b | 6.00 | 3.00 | 1.00 | 0.50 | 2 |"]
    assert (len(taken["a"]), values) == (2, {"a": 5.0})


@pytest.mark.slow
def test_every_side_of_an_evaluation_gives_the_same_fid(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from common import Pictures, pictures
    from evaluation import measured, sides

    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path))
    real, fake = (Pictures(pictures(12, 32, coarse)) for coarse in (4, 7))

    _, values = measured(sides(weights, real, fake, tmp_path / "fidelity"), 1)

    assert set(values.values()) == {pytest.approx(values["lit-gan"], rel=1e-4)}


def test_sheet_shows_the_last_grid_of_each_first_seed(tmp_path):
    from PIL import Image

    from results import sheet

    for run, grids in {
        "a-seed0": {"kimg1": 0, "kimg2": 200},
        "a-seed1": {"kimg2": 90},
        "b-seed0": {},
    }.items():
        (tmp_path / run / "samples").mkdir(parents=True)
        for name, grey in grids.items():
            Image.new("L", (16, 16), grey).save(tmp_path / run / "samples" / f"{name}.png")

    sheet(tmp_path, tmp_path / "sheet.png")

    made = Image.open(tmp_path / "sheet.png").convert("RGB")
    assert made.size == (24, 48)  # one grid: b has none yet
    assert made.getpixel((12, 36)) == (200, 200, 200)

    drawn = Image.effect_noise((16, 16), 64)
    coloured = Image.merge("RGB", (drawn, drawn.rotate(90), drawn.rotate(180)))
    coloured.save(tmp_path / "b-seed0" / "samples" / "kimg2.png")
    sheet(tmp_path, tmp_path / "sheet.png")

    made = Image.open(tmp_path / "sheet.png").convert("RGB")
    assert made.crop((28, 28, 44, 44)).tobytes() == coloured.tobytes(), "colours of few are other colours"


def test_cost_of_each_arch_is_timed_on_data_that_it_takes(tmp_path: Path) -> None:
    import cost

    cost.draw(tmp_path)
    for arch in ("dcgan", "wgan", "pix2pix", "cyclegan", "esrgan"):
        data, module, _ = assemble(
            compose([f"arch={arch}", "eval.metrics=[]", *cost.data_of(arch, tmp_path)])
        )

        assert cost.images_a_step(arch) == module.images_per_step
        assert data.train_shape == ((3, 64, 64) if cost.kind_of(arch).translates else (1, 32, 32))


def test_results_leave_translators_to_their_own_scripts() -> None:
    import results

    assert [arch for arch in ("gat", "cut", "srgan", "wgan") if not results.translates(arch)] == [
        "gat",
        "wgan",
    ]


def test_translators_need_no_weights_that_are_not_at_hand(tmp_path: Path) -> None:
    from PIL import Image

    translators = runpy.run_path(str(BENCHMARKS / "translators.py"))  # tests/ has a module of that name
    sides = [f"horses/{part}{side}" for part in ("train", "test") for side in "AB"]
    folders = ["facades/train", "facades/val", "set5", *sides]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        for name in "ab":
            Image.new("RGB", (256, 128)).save(tmp_path / folder / f"{name}.png")
    args = argparse.Namespace(
        facades=tmp_path / "facades", unpaired=tmp_path / "horses", photos=tmp_path / "set5", set5=tmp_path / "set5",
        out=tmp_path,
    )  # fmt: skip

    for name, settings in (run for chain in translators["chains"](args) for run in chain):
        config = compose(settings)
        networks = {metric_class(metric).network for metric in config.get("eval.metrics")}

        assert "extractor" not in networks or config.get("metrics.extractor") == "pixels", name
        assert assemble(config)[2].metrics == config.get("eval.metrics"), name

"""The further scores through `evaluate`: any batch size, the cache, labels, toy data, and names with a hyphen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.config import compose
from lit_gan.data.toy import Toy
from lit_gan.errors import UserError
from lit_gan.evaluation import table
from lit_gan.loggers import MetricsCSV
from lit_gan.metrics import (
    CMMD,
    METRICS,
    BinDistance,
    ClassFID,
    InfiniteFID,
    ModeQuality,
    Score,
    build_extractor,
    log_values,
)
from lit_gan.metrics.checks import check_metrics
from lit_gan.metrics.evaluate import evaluate
from metrics_helpers import Fake, Images, digits, noise, normal64

MORE = ("cmmd", "fid-infinity", "class-fid", "ndb")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scores(data: Images, module: Fake | None = None, **settings) -> dict[str, Score]:
    given = {"metrics": MORE, "fakes": 101, "batch_size": 16, **settings}
    extractor = build_extractor("pixels", data=data)
    return evaluate(module or Fake(data.image_shape), data, extractor=extractor, **given)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_the_further_scores_do_not_depend_on_the_batch_size(batch_size: int):
    expected, got = scores(noise(200)), scores(noise(200), batch_size=batch_size)

    for name in MORE:
        assert got[name].protocol == expected[name].protocol
        for have, want in (
            (got[name].parts, expected[name].parts),
            (got[name].floor_parts, expected[name].floor_parts),
        ):
            assert have == pytest.approx(want, rel=1e-6)
        assert (got[name].value, got[name].floor) == pytest.approx(
            (expected[name].value, expected[name].floor), rel=1e-6
        )
        assert np.isfinite(got[name].value)


def test_the_further_scores_cache_their_reals(monkeypatch: pytest.MonkeyPatch):
    data = noise(200)
    first = scores(data)
    reads: list[int] = []
    monkeypatch.setattr(data, "real_batch", lambda indices: reads.append(indices))

    again = scores(data)

    assert not reads
    assert again == first


def test_protocols_name_what_else_decides_the_value():
    found = scores(noise(200))

    assert {name: score.protocol.settings for name, score in found.items()} == {
        "cmmd": "sigma=10, x1000, biased",
        "fid-infinity": "sizes N/4 to N",
        "class-fid": "classes of 10 at least",
        "ndb": "bins of 20 reals, at most 100, alpha=0.05",
    }


def test_names_with_a_hyphen_go_everywhere(tmp_path: Path):
    names = compose(["eval.metrics=fid,fid-infinity,class-fid,toy-modes"]).get("eval.metrics")
    found = scores(noise(200), metrics=names[:3])

    lines = table(found)
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({f"val/{name}": value for name, value in log_values(found).items()})

    assert names == ["fid", "fid-infinity", "class-fid", "toy-modes"]
    assert len({line.index("pixels") for line in lines[1:]}) == 1
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/fid", "val/fid-infinity/limit", "val/class-fid/worst_class"} < set(header)
    assert found["fid-infinity"].value == log_values(found)["fid-infinity/limit"]


class Shown(Fake):
    """Images of the data, of the class that the label says after `change`: a conditional generator."""

    conditional = True

    def __init__(self, data: Images, change: list[int]) -> None:
        super().__init__(data.image_shape, latent_dim=4)
        self.data, self.change = data, torch.tensor(change)
        self.of_class = [np.flatnonzero(data.labels == label) for label in range(data.num_classes)]

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        share = torch.special.ndtr(batch["z"][:, 0].double()).numpy()
        chosen = [
            int(self.of_class[label][int(s * len(self.of_class[label]))])
            for s, label in zip(share, self.change[batch["label"]].tolist(), strict=True)
        ]
        return self.data.real_batch(chosen)["image"].float() / 127.5 - 1


def test_class_fid_sees_labels_that_are_not_obeyed_where_fid_does_not():
    data = digits(8)
    settings = {"metrics": ("fid", "class-fid"), "fakes": 1000, "batch_size": 250}

    right = scores(data, Shown(data, list(range(10))), **settings)
    wrong = scores(data, Shown(data, [1, 0, 3, 2, *range(4, 10)]), **settings)

    assert wrong["fid"].value < 2 * right["fid"].value
    assert wrong["class-fid"].value > 2 * right["class-fid"].value
    assert wrong["class-fid"].parts["worst"] > 4 * right["class-fid"].parts["worst"]
    assert wrong["class-fid"].parts["worst_class"] in (0, 1, 2, 3)
    assert right["class-fid"].parts["skipped"] == right["class-fid"].floor_parts["skipped"] == 0
    assert right["class-fid"].value < right["class-fid"].floor * 1.5


def refused(data: Images, module: Fake | None = None, **settings) -> str:
    with pytest.raises(UserError) as error:
        scores(data, module, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_class_fid_without_labels_is_the_users_error():
    data = noise(200)
    unlabelled = Images(data.images, None, 0, "unlabelled")
    unconditional = Fake()
    unconditional.conditional = False

    assert "the data have no labels; use labelled data" in refused(unlabelled)
    assert "use a variant with model.conditional=true" in refused(data, unconditional)
    extractor = build_extractor("pixels", data=data)
    check_metrics(["class-fid"], extractor, fakes=100)  # nothing known of either


def test_class_fid_of_too_few_samples_is_refused_with_the_number_that_is_needed():
    data = noise(90)
    data.labels = np.arange(90) % 3
    rare = noise(90)
    rare.labels = np.arange(90) % 3 + 3 * (np.arange(90) >= 45)
    rare.num_classes, rare.fingerprint = 6, "rare"

    assert "use at least 60 for all 3 classes" in refused(data, metrics=["class-fid"], fakes=20)
    assert "'class-fid' has too few samples to give a number" in refused(
        data, metrics=["class-fid"], fakes=40, reals=12
    )
    score = scores(rare, metrics=["class-fid"], fakes=300)["class-fid"]
    assert score.parts["skipped"] == 0
    assert score.floor_parts["skipped"] > 0  # of halves of 45


class Points(Fake):
    """The toy data's own distribution, or the modes that `chosen` says."""

    def __init__(self, data: Toy, chosen: list[int] | None = None) -> None:
        super().__init__((2, 1, 1), latent_dim=2)
        self.centres = torch.from_numpy(data.centres).float()
        self.std, self.chosen = data.std, chosen

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        modes = batch["label"] if self.chosen is None else torch.tensor(self.chosen)[batch["label"]]
        return (self.centres[modes] + self.std * batch["z"])[:, :, None, None]


@pytest.mark.parametrize("kind", ["ring", "grid"])
def test_toy_modes_of_a_perfect_and_of_a_collapsed_generator(kind: str):
    data = Toy(kind=kind, count=20_000)  # labels of fakes follow the shares of so many
    data.prepare()
    settings = {"metrics": ["toy-modes"], "fakes": 2000, "batch_size": 500}

    perfect = scores(data, Points(data), **settings)["toy-modes"]
    collapsed = scores(data, Points(data, [0] * data.modes), **settings)["toy-modes"]

    assert perfect.value == perfect.floor == data.modes
    assert perfect.parts["high_quality"] == pytest.approx(0.989, abs=0.008)
    assert perfect.parts["kl"] == pytest.approx((data.modes - 1) / 4000, rel=0.8)
    assert perfect.floor_parts["high_quality"] == pytest.approx(0.989, abs=0.008)
    assert collapsed.value == 1
    assert collapsed.parts["kl"] == pytest.approx(np.log(data.modes))


def test_toy_modes_are_refused_for_other_data_and_features_and_for_too_few_fakes():
    toy = Toy(count=400)
    toy.prepare()

    assert "'toy-modes' needs data whose modes are known, such as data=toy" in refused(
        noise(), metrics=["toy-modes"]
    )
    assert "counts a mode from 20 fakes on: use eval.images=320 for 8 modes" in refused(
        toy, Points(toy), metrics=["toy-modes"], fakes=159
    )
    other = build_extractor("pixels", data=noise())
    with pytest.raises(UserError, match=r"use metrics\.extractor=pixels, or leave 'toy-modes' out"):
        check_metrics(["toy-modes"], other, fakes=500, data=toy)


def test_every_metric_has_a_row_in_the_documentation():
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert [name for name in METRICS if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(
    "metric", [CMMD(3), BinDistance(3), ClassFID(3, 2), InfiniteFID(3, 24), ModeQuality(torch.eye(3), 0.1)]
)
def test_an_empty_batch_changes_nothing(metric: CMMD):
    def add(rows: Tensor, real: bool, first: int = 0) -> None:
        if isinstance(metric, ClassFID):
            metric.update(rows, torch.arange(len(rows)) % 2, real=real)
        elif isinstance(metric, InfiniteFID):
            metric.update(rows, real, torch.arange(first, first + len(rows)))
        elif isinstance(metric, ModeQuality):
            metric.update(rows)
        else:
            metric.update(rows, real=real)

    def values(empty: bool) -> dict[str, float]:
        metric.reset()
        add(normal64(40, 3), True)
        if empty:
            add(torch.zeros(0, 3), False)
        add(normal64(24, 3, seed=1), False)
        if empty:
            add(torch.zeros(0, 3), True)
        return metric.values()

    assert values(empty=True) == values(empty=False)


@pytest.mark.parametrize(
    "metric", [CMMD(3), BinDistance(3), ClassFID(3, 2), InfiniteFID(3, 24), ModeQuality(torch.eye(3), 0.1)]
)
def test_rows_of_another_width_are_refused(metric: CMMD):
    given = {ClassFID: (torch.zeros(2), True), ModeQuality: (), InfiniteFID: (False, torch.arange(2))}

    with pytest.raises(ValueError, match=r"must be \[B, 3\]"):
        metric.update(torch.zeros(2, 4), *given.get(type(metric), (True,)))

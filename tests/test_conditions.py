"""Conditions that are vectors: one-hot ones say what classes say, and whole runs with them."""

from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import lit_gan
import processes
from lit_gan.build import data_of
from lit_gan.cli import main
from lit_gan.conditions import LARGEST, Conditions
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.losses import auxiliary
from lit_gan.networks.condition import as_vector, looked_up, looked_up_around_one
from lit_gan.networks.mapping import Mapping
from lit_gan.networks.norm import ClassNorm
from lit_gan.networks.spectral import Embedding
from lit_gan.pictures import grid_batch
from lit_gan.resume import compose_run
from lit_gan.sampling import inference, sampling_batch
from lit_gan.train import train
from tiny import TRAINED, arguments, largest_difference, state, tiny_batch, tiny_module

CONDITIONAL = [
    "cgan", "acgan", "wgan-gp", "progan", "stylegan", "sngan", "sagan", "biggan", "stylegan2", "r3gan", "gat",
]  # fmt: skip
LABEL = torch.tensor([2, 0, 1, 2])
ONE_HOT = F.one_hot(LABEL, 3).float()


def class_norm() -> ClassNorm:
    norm = ClassNorm(5, 3)
    torch.nn.init.normal_(norm.gain)
    torch.nn.init.normal_(norm.shift)
    return norm


LAYERS = {
    "embedding": lambda: Embedding(3, 5),
    "spectral embedding": lambda: Embedding(3, 5, spectral=True),
    "class norm": lambda: (lambda norm: lambda label: norm(torch.ones(4, 5, 2, 2).cumsum(0), label))(class_norm()),
    "mapping": lambda: (lambda net: lambda label: net(None, label))(Mapping(0, 3, 8, 2, lr_multiplier=0.01)),
    "mapping of both": lambda: (lambda net: lambda label: net(torch.ones(4, 6), label))(
        Mapping(6, 3, 8, 2, lr_multiplier=0.01)
    ),
    "rows": lambda: (lambda table: lambda label: looked_up(label, table))(torch.randn(3, 7)),
    "factors": lambda: (lambda table: lambda label: looked_up_around_one(label, table))(100 * torch.randn(3, 7)),
    "vector": lambda: lambda label: as_vector(label, 3),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_one_hot_vectors_give_a_layer_what_classes_give(layer: str) -> None:
    network = LAYERS[layer]()
    of_vectors = copy.deepcopy(network)

    assert torch.equal(of_vectors(ONE_HOT), network(LABEL))


def test_class_norm_adds_up_shifts_and_what_gains_are_above_one() -> None:
    norm = class_norm().eval()
    images, label = torch.randn(2, 5, 2, 2), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])

    seen = norm(images, label)

    plain = images / math.sqrt(1 + norm.eps)
    gain = 1 + (norm.gain[0] - 1) + (norm.gain[2] - 1)
    both = plain[0] * gain[:, None, None] + (norm.shift[0] + norm.shift[2])[:, None, None]
    torch.testing.assert_close(seen, torch.stack([both, plain[1]]))


@pytest.mark.parametrize("arch", CONDITIONAL)
def test_one_hot_vectors_give_a_variant_what_classes_give(arch: str) -> None:
    module = tiny_module(arch, "model.conditional=true")
    module.images_seen = 20
    batch = tiny_batch(module)
    vectors = {**batch, "label": F.one_hot(batch["label"], 10).float()}
    found = []
    for seen in (batch, vectors):
        torch.manual_seed(0)
        twin = copy.deepcopy(module)
        losses = {f"{player}/{k}": v for player in "dg" for k, v in twin.losses(player, seen).items()}
        with inference(twin):
            images = twin.generate({"z": torch.ones(4, twin.latent_dim), "label": seen["label"]})
        found.append((losses, images))

    (losses, images), (of_vectors, same) = found
    assert torch.equal(images, same)
    assert losses.keys() == of_vectors.keys()
    for name, value in losses.items():
        torch.testing.assert_close(of_vectors[name], value, rtol=1e-6, atol=0)


def test_auxiliary_losses_are_minus_the_log_likelihoods() -> None:
    scores = torch.tensor([[0.3, -1.2, 7.0], [2.0, 0.5, -7.0]])
    label = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])  # the last is the 1 that all have
    p = 1 / (1 + np.exp(-scores[:, :2].double().numpy()))
    bernoulli = -(np.log(p[0, 0]) + np.log(1 - p[0, 1]) + np.log(p[1, 0]) + np.log(p[1, 1])) / 2
    squares = (0.7**2 + 1.2**2 + 1.0**2 + 0.5**2) / 2 / 2

    assert auxiliary(scores, label, "multi-hot").item() == pytest.approx(bernoulli, rel=1e-6)
    assert auxiliary(scores, label, "continuous").item() == pytest.approx(squares, rel=1e-6)
    of_classes = -np.log(np.exp(7.0) / np.exp(scores[0].double().numpy()).sum())
    assert auxiliary(scores[:1], torch.tensor([2])).item() == pytest.approx(of_classes, rel=1e-3)


@pytest.mark.parametrize(("arch", "times"), [("acgan", 2), ("progan", 2), ("wgan-gp", 1)])
@pytest.mark.parametrize("kind", ["multi-hot", "continuous"])
def test_an_auxiliary_classifier_learns_the_kind_of_its_labels(arch: str, times: int, kind: str) -> None:
    values = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    conditions, rows = Conditions.of(kind, ("a", "b"), values, where="test")
    weight = "model.d_class_weight=1" if arch == "wgan-gp" else "model.class_weight=1"
    module = tiny_module(arch, "model.conditional=true", weight, classes=3)
    module.conditions = conditions
    for parameter in module.discriminator.parameters():
        torch.nn.init.zeros_(parameter)  # all scores are 0
    batch = {**tiny_batch(module), "label": torch.from_numpy(rows)}

    found = module.discriminator_loss(batch)["class"].item()

    # ln 2 for each of two coins, or half of the squares of two standardised numbers
    assert found == pytest.approx(times * (2 * math.log(2) if kind == "multi-hot" else 1.0), rel=1e-6)


def test_continuous_values_are_standardised_and_given_in_their_own_units() -> None:
    values = np.array([[10.0, 1e-3], [20.0, 2e-3], [60.0, 6e-3]])

    conditions, rows = Conditions.of("continuous", ("age", "dose"), values, where="test")

    np.testing.assert_allclose(rows[:, :2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(rows[:, :2].std(0), 1, rtol=1e-6)
    assert (rows[:, 2] == 1).all()
    torch.testing.assert_close(conditions.encoded((20.0, 6e-3)), torch.tensor([rows[1, 0], rows[2, 1], 1.0]))
    assert conditions.described(conditions.encoded((20.0, 6e-3))) == "age 20, dose 0.006"
    again = Conditions.restored(conditions.record())
    assert again is not None
    assert largest_difference(again.record(), conditions.record()) == 0
    with pytest.raises(UserError, match="age is 3 in every image"):
        Conditions.of("continuous", ("age",), np.full((4, 1), 3.0), where="test")


def test_drawn_conditions_follow_the_data_jointly_and_by_index_alone() -> None:
    generator = np.random.default_rng(0)
    first = generator.random(20_000) < 0.3
    values = np.stack([first, first | (generator.random(20_000) < 0.1)], 1).astype(np.float64)
    conditions, _ = Conditions.of("multi-hot", ("a", "b"), values, where="test")
    n = 10_000

    drawn = conditions.drawn(3, range(n))

    assert len(conditions.table) == LARGEST
    assert conditions.table.unique(dim=0).tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 1]]  # never a without b
    assert torch.equal(drawn[[17, 4]], conditions.drawn(3, [17, 4]))
    assert not torch.equal(drawn, conditions.drawn(4, range(n)))
    for row, share in (([0, 0, 1], 0.63), ([0, 1, 1], 0.07), ([1, 1, 1], 0.3)):
        found = (drawn == torch.tensor(row)).all(1).double().mean().item()
        # five deviations of both drawings: of the fakes, and of the table from the data
        assert abs(found - share) < 5 * math.sqrt(share * (1 - share) * (1 / n + 1 / LARGEST))


def folder_of(root: Path, table: str, count: int = 24) -> Path:
    """Images 00.png, 01.png, ... of random pixels, and a labels.csv."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    (root / "labels.csv").write_text(table)
    return root


def table_of(kind: str, count: int = 24) -> str:
    rows = [f"{i:02d}.png,{i % 2},{i % 3 == 0:d}" for i in range(count)]
    if kind == "continuous":
        rows = [f"{i:02d}.png,{20 + i},{i**2 / 1000}" for i in range(count)]
    return "\n".join(["file,first,second", *rows])


def data_arguments(kind: str, root: Path) -> list[str]:
    return ["data=folder", f"data.path={root}", f"data.condition={kind}", "data.channels=1"]


SCORED = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=24", "metrics.real_images=24"]


@pytest.mark.parametrize(
    ("arch", "kind"),
    [("acgan", "multi-hot"), ("biggan", "continuous"), ("gat", "continuous"), ("stylegan2", "multi-hot")],
)
def test_a_run_with_vectors_resumes_samples_and_is_scored(
    arch: str, kind: str, tmp_path: Path, capsys
) -> None:
    root = folder_of(tmp_path / "images", table_of(kind))
    whole, halted = ["run.name=whole"], ["run.name=halted", "checkpoint.every_images=16"]
    data = [*data_arguments(kind, root), "model.conditional=true", f"run.dir={tmp_path}", *SCORED]
    data += ["optim.lr_schedule=constant"]  # a schedule would stretch with the budget
    extra = {
        "biggan": ["regularise.z_consistency=1", "regularise.top_k=0.5", "regularise.top_k_images=16"],
        "stylegan2": ["regularise.consistency=1", "augment=apa"],
    }.get(arch, [])

    for run, images in ((whole, 64), (halted, 32)):
        assert train(compose_run(arguments(arch, *data, *extra, *run, f"run.images={images}"))) == 0
    assert main(["train", f"resume={tmp_path}/halted", "run.images=64"]) == 0

    full, resumed = state(tmp_path / "whole"), state(tmp_path / "halted")
    assert largest_difference({k: full[k] for k in TRAINED}, {k: resumed[k] for k in TRAINED}) == 0
    conditions = Conditions.restored(full["lit_gan"]["conditions"])
    assert conditions is not None
    assert conditions.names == ("first", "second")
    assert len(conditions.table) == 24
    assert main(["eval", f"{tmp_path}/whole"]) == 0
    scored = json.loads((tmp_path / "whole" / "results.json").read_text())["evaluations"]
    ours = [e["scores"]["fid"]["value"] for e in scored if e["images_seen"] == full["lit_gan"]["images_seen"]]
    assert len(ours) == 2
    assert ours[0] == pytest.approx(ours[1], rel=1e-4)
    sampler = lit_gan.load(tmp_path / "whole")
    one, other = sampler.sample(3, label=(0, 1)), sampler.sample(3, label=(1, 1))
    assert one.shape == (3, 1, 16, 16)
    assert not torch.equal(one, other)
    assert torch.equal(sampler.sample(2), sampler.sample(5)[:2])
    assert main(["sample", f"{tmp_path}/whole", "-n", "2", "--label", "1,0"]) == 0
    capsys.readouterr()
    assert main(["sample", f"{tmp_path}/whole", "-n", "2", "--label", "1"]) == 2
    assert "label 1 cannot be sampled: give 2 numbers (first, second)" in capsys.readouterr().err


def _train_and_tell(rank: int, folder: str) -> None:
    run = [
        *data_arguments("multi-hot", Path(folder) / "images"),
        f"run.dir={folder}",
        "run.name=run",
        *SCORED,
    ]
    config = arguments("acgan", *run, "run.images=32", "trainer.devices=2")
    data = data_of(compose(config))
    assert data.conditions is not None
    torch.save(data.conditions.drawn(0, range(50)), f"{folder}/drawn{rank}.pt")
    assert train(compose_run(config)) == 0


def test_two_ranks_draw_the_same_conditions_as_one_process(tmp_path: Path) -> None:
    folder_of(tmp_path / "images", table_of("multi-hot"))

    processes.on_ranks(2, _train_and_tell, str(tmp_path))

    record = state(tmp_path / "run")["lit_gan"]["conditions"]
    conditions = Conditions.restored(record)
    assert conditions is not None
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"drawn{rank}.pt"), conditions.drawn(0, range(50)))
    assert main(["eval", f"{tmp_path}/run"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())["evaluations"]
    by_two, by_one = (e["scores"]["fid"]["value"] for e in results[-2:])
    assert by_two == pytest.approx(by_one, rel=1e-4)


def test_grids_show_one_condition_a_row_and_standing_statistics_draw_them() -> None:
    values = np.array([[float(i), float(i % 2)] for i in range(12)])
    module = tiny_module("biggan", classes=3)
    module.conditions, _ = Conditions.of("continuous", ("a", "b"), values, where="test")

    batch = grid_batch(module, 0, 3, 4, 3)

    assert torch.equal(batch["label"], module.conditions.drawn(0, range(3)).repeat_interleave(4, 0))
    drawn = sampling_batch(module, 0, range(4), 3)
    with inference(module):
        images = module.generate(drawn)
    assert images.shape == (4, 1, 16, 16)
    assert images.isfinite().all()


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ("file,a\n00.png,1", "multi-hot", "has no row for 1 of 2 images (01.png)"),
        ("file,a\n00.png,1\n01.png,0\n02.png,1", "multi-hot", "1 rows without an image (02.png)"),
        ("file,a\n00.png,1\n01.png,x", "continuous", "a of 01.png is 'x', not a number"),
        ("file,a\n00.png,1\n01.png,nan", "continuous", "a of 01.png is 'nan', not a number"),
        ("file,a,b\n00.png,1,0\n01.png,0,2", "multi-hot", "b of 01.png is '2', neither 0 nor 1"),
        ("file,a,b\n00.png,1,0\n01.png,0", "multi-hot", "'01.png,0' has 2 cells, the first 3"),
        ("file\n00.png\n01.png", "multi-hot", "a column of files and one of numbers"),
        ("file,a\n00.png,5\n01.png,5", "continuous", "a is 5 in every image"),
    ],
)
def test_a_table_that_is_no_table_of_vectors_is_one_line(
    table: str, kind: str, message: str, tmp_path
) -> None:
    root = folder_of(tmp_path / "images", table, count=2)

    with pytest.raises(UserError) as error:
        data_of(compose(data_arguments(kind, root)))

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_may_lie_elsewhere_without_a_header_or_hold_classes(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "file,a\n00.png,1\n01.png,0", count=2)
    other = tmp_path / "other.csv"
    other.write_text("00.png,0,1\n01.png,1,1")
    numbers = [*data_arguments("multi-hot", root), f"data.labels={other}"]

    data = data_of(compose(numbers))

    assert data.class_names == ("1", "2")
    assert data.num_classes == 3
    assert data.class_weights is None
    assert data.labels is not None
    assert data.labels.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert data.real_batch([1])["label"].tolist() == [[1, 1, 1]]
    other.write_text("00.png,cat\n01.png,dog")
    classes = data_of(compose([*data_arguments("class", root), f"data.labels={other}"]))
    assert classes.class_names == ("cat", "dog")
    assert classes.conditions is None
    with pytest.raises(UserError, match=r"data.labels=nowhere.csv is no file"):
        data_of(compose([*data_arguments("class", root), "data.labels=nowhere.csv"]))


def test_a_checkpoint_of_other_conditions_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", table_of("multi-hot"))
    before, as_numbers = (data_of(compose(data_arguments(k, root))) for k in ("multi-hot", "continuous"))

    with pytest.raises(UserError, match="the checkpoint was trained on"):
        as_numbers.load_state_dict(before.state_dict())


def parquet(path: Path) -> Path:
    buffer = io.BytesIO()
    Image.new("L", (16, 16), 7).save(buffer, "PNG")
    rows = {
        "image": [{"bytes": buffer.getvalue(), "path": None}] * 3,
        "age": [20, 30, 70],
        "smiles": [True, False, True],
        "pose": [[0.1, 0.2], [0.3, 0.5], [0.4, 0.9]],
        "ragged": [[1.0], [2.0, 3.0], [4.0]],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    return path


def test_columns_of_the_hub_or_a_column_of_lists_are_vectors(tmp_path: Path) -> None:
    path = parquet(tmp_path / "data.parquet")
    source = ["data=hub", f"data.path={path}", "data.channels=1"]
    numbers = [*source, "data.condition=continuous"]

    several = data_of(compose([*numbers, "data.label_column=[age,smiles]"]))
    lists = data_of(compose([*numbers, "data.label_column=pose"]))

    assert several.class_names == ("age", "smiles")
    assert lists.class_names == ("pose 0", "pose 1")
    assert several.conditions is not None
    assert several.conditions.mean == pytest.approx((40, 2 / 3))
    assert lists.conditions is not None
    assert lists.conditions.mean == pytest.approx((0.8 / 3, 1.6 / 3))
    for more, message in (
        (["data.label_column=[age,height]"], "height is no column"),
        (["data.label_column=ragged"], "row 1 has 2 values, the first row 1"),
        (["data.label_column=[age]", "data.condition=multi-hot"], "age of row 0 is 20, neither 0 nor 1"),
        ([], "needs data.label_column"),
        (["data.label_column=[age,smiles]", "data.condition=class"], "classes are in one column"),
    ):
        with pytest.raises(UserError, match=message):
            data_of(compose([*numbers, *more]))


def test_what_needs_classes_refuses_vectors(tmp_path: Path, capsys) -> None:
    root = folder_of(tmp_path / "images", table_of("multi-hot"))
    run = arguments("acgan", *data_arguments("multi-hot", root), f"run.dir={tmp_path}")

    assert main(["train", *run, "eval.metrics=[class-fid]", "metrics.extractor=pixels"]) == 2
    assert "'class-fid' compares within classes, and the conditions are vectors" in capsys.readouterr().err
    assert main(["train", *run, "eval.metrics=[fid]", "metrics.extractor=classifier"]) == 2
    assert "labels that are vectors" in capsys.readouterr().err

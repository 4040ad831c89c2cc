"""Configurations: who wins, where each value comes from, and what a mistake is answered with."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lit_gan.build import module_of, settings, variant_of
from lit_gan.config import Config, compose, configs_folder, known_keys, names, parse
from lit_gan.data import DATA
from lit_gan.errors import UserError
from lit_gan.listing import listing, origins
from lit_gan.settings import SECTIONS
from lit_gan.super_resolution import SuperResolver
from lit_gan.variants import VARIANTS

SHAPES = {"toy": (2, 1, 1), "digits": (1, 32, 32)}


def yaml(path: Path, text: str) -> Path:
    path.write_text(inspect.cleandoc(text))
    return path


def mistake(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        compose(arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_later_layers_win_and_every_value_knows_its_origin():
    config = compose(["experiment=wgan-gp-cifar10", "optim.lr=0.125", "data.flip=true"])
    expected = {
        "optim.lr": (0.125, "command line"),
        "data.flip": (True, "command line"),
        "optim.d_steps_per_g_step": (5, "configs/experiment/wgan-gp-cifar10.yaml"),
        "data.path": ("uoft-cs/cifar10", "configs/data/cifar10.yaml"),
        "variant": ("wgan-gp", "configs/arch/wgan-gp.yaml"),
        "samples.rows": (8, "configs/base.yaml"),
        "optim.clip_norm": (None, "default"),
    }
    assert {key: (config.get(key), config.origins[key]) for key in expected} == expected


def test_experiment_of_another_arch_is_refused_by_the_keys_that_arch_has_not():
    with pytest.raises(UserError, match=r"r3gan-cifar10\.yaml: unknown key 'model\..*belongs to arch="):
        compose(["arch=wgan-gp", "experiment=r3gan-cifar10"])


def test_paper_stands_below_the_arch_and_says_so():
    config = compose(["arch=wgan-gp"])

    assert config.origins["optim.beta2"] == "wgan-gp's paper"
    assert config.origins["model.latent_dim"] == "wgan-gp's paper"
    assert config.origins["optim.lr"] == "configs/arch/wgan-gp.yaml"


def test_data_chosen_by_an_experiment_gives_way_to_the_command_line():
    config = compose(["experiment=dcgan-cifar10", "data=digits"])

    assert config.get("data.name") == "digits"
    assert config.get("data.source") == "digits"


def test_later_argument_wins_over_an_earlier_one():
    assert compose(["seed=1", "seed=2"])["seed"] == 2


def test_printed_configuration_shows_every_key_with_its_origin():
    lines = list(origins(compose(["arch=gan", "seed=3"])))

    assert any(line.startswith("seed = 3 ") and line.endswith("# command line") for line in lines)
    assert len(lines) == 1 + len(known_keys("gan", "digits"))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("archh=gan", ("command line", "'archh' (= gan)", "did you mean arch?")),
        ("optim.lrr=1", ("command line", "'optim.lrr' (= 1)", "did you mean optim.lr?")),
        ("batch_size=4", ("did you mean eval.batch_size or data.batch_size?",)),
        ("run.every_images=4", ("checkpoint.every_images", "samples.every_images")),
        ("lerning_rate=4", ("`lit-gan config` shows every key",)),
        ("model.gamma=4", ("model.gamma", "belongs to arch=r3gan")),
        ("data.path=photos", ("data.path", "belongs to data=folder or hub")),
        ("model.num_classes=4", ("unknown key 'model.num_classes'",)),
        ("model=4", ("unknown key 'model'",)),
        ("zzz=4", ("`lit-gan config` shows every key",)),
        ("_target_=os.system", ("unknown key '_target_'",)),
        ("model._target_=os.system", ("unknown key 'model._target_'",)),
        ("run.images=many", ("command line: run.images = 'many' is not an integer",)),
        ("run.images=1.5", ("1.5 is not an integer",)),
        ("run.images=.inf", ("inf is not an integer",)),
        ("run.images=0", ("run.images = 0 must be at least 1",)),
        ("optim.lr=-1", ("optim.lr = -1.0 must be at least 0",)),
        ("optim.lr=.nan", ("optim.lr = nan must be at least 0",)),
        ("optim.beta1=1", ("optim.beta1 = 1.0 must be below 1",)),
        ("eval.every_images=0", ("must be at least 1",)),
        ("seed=", ("seed = None is not an integer",)),
        ("trainer.compile=maybe", ("'maybe' is not true or false",)),
        ("model.loss=hing", ("'hing' is not minimax or non_saturating or hinge or least_squares",)),
        ("data.image_size=[1,2,3]", ("[1, 2, 3] is not an integer or a list of 2 numbers or null",)),
        ("logger=tensorbord", ("logger.names", "wandb or csv or tensorboard")),
        ("logger=null", ("logger.names = None",)),
        ("run.images=${run.imagess}", ("command line: run.images", "'run.imagess' not found")),
        ("arch=dcgann", ("unknown arch 'dcgann'", "did you mean arch=dcgan?", "stylegan-lite")),
        ("arch=xyzzy", ("unknown arch 'xyzzy': there are", "gan, gat")),
        ("data=cifar", ("unknown data 'cifar'", "did you mean data=cifar10?")),
        ("experiment=gan", ("unknown experiment 'gan'", "gan-cifar10")),
        ("arch=nowhere.yaml", ("nowhere.yaml: no such file",)),
        (
            "data.source=cloud",
            ("command line: data.source = 'cloud' is not one of digits, toy, folder, hub",),
        ),
        ("variant=magic", ("command line: variant = 'magic' is not one of gan, dcgan",)),
        ("run.images", ("'run.images' is not of the form key=value",)),
        ("=3", ("'=3' is not of the form key=value",)),
    ],
)
def test_mistake_on_the_command_line_is_one_line_with_place_value_and_remedy(argument, words):
    message = mistake(argument)

    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variant: dcgan\nmodel: {widht: 4}", ("my.yaml: unknown key 'model.widht' (= 4)", "model.width?")),
        ("variant: dcgan\nmodel: {width: wide}", ("my.yaml: model.width = 'wide' is not an integer",)),
        ("variant: dcgan\noptim: {lr: -1}", ("my.yaml: optim.lr = -1.0 must be at least 0",)),
        ("variant: dcgann", ("my.yaml: variant = 'dcgann' is not one of",)),
        ("model: {width: 4}", ("my.yaml: variant = '' is not one of",)),
        ("variant: dcgan\n_target_: os.system", ("my.yaml: unknown key '_target_'",)),
        ("variant: dcgan\nrun: {images: '${nothing}'}", ("my.yaml: run.images", "not found")),
        ("variant: dcgan\njust a text: 1", ("my.yaml: unknown key 'just a text'",)),
        ("[1, 2]", ("my.yaml: must hold keys and values",)),
        ("a: [", ("my.yaml: not a YAML file",)),
    ],
)
def test_mistake_in_a_yaml_is_one_line_with_its_place(text, words, tmp_path):
    message = mistake(f"arch={yaml(tmp_path / 'my.yaml', text)}")

    for word in words:
        assert word in message


def test_own_yamls_are_taken_by_their_path(tmp_path):
    arch = yaml(tmp_path / "mine.yaml", "variant: dcgan\nmodel: {width: 5}")
    data = yaml(tmp_path / "dots.yml", "data: {source: toy, kind: grid}")

    config = compose([f"arch={arch}", f"data={data}"])

    assert config.get("model.width") == 5
    assert config.get("data.kind") == "grid"
    assert config.origins["model.width"] == str(arch)


def test_own_experiment_chooses_arch_and_data(tmp_path):
    path = yaml(tmp_path / "try.yaml", "arch: r3gan\ndata: toy\nlogger: [csv]\nseed: 7")

    config = compose([f"experiment={path}"])

    assert (config["arch"], config["variant"], config.get("data.source")) == ("r3gan", "r3gan", "toy")
    assert (config.get("logger.names"), config["seed"]) == (["csv"], 7)


def test_toy_data_are_scored_by_their_modes_unless_somebody_says_otherwise(tmp_path):
    by_itself = compose(["arch=gan", "data=toy"])
    experiment = yaml(tmp_path / "try.yaml", "arch: gan\ndata: toy\neval: {metrics: [kid]}")

    assert by_itself.get("eval.metrics") == ["fid", "toy-modes"]
    assert by_itself.get("metrics.extractor") == "pixels"
    assert compose([f"experiment={experiment}"]).get("eval.metrics") == ["kid"]
    assert compose(["arch=gan", "data=toy", "eval.metrics=[cmmd]"]).get("eval.metrics") == ["cmmd"]


def test_value_may_refer_to_another_one():
    config = compose(["arch=r3gan", "run.images=5000"])
    later = compose(["run.images=6000", "optim.decay_images=${run.images}", "run.name=n${seed}"])

    assert config.get("optim.decay_images") == 5000
    assert later.get("optim.decay_images") == 6000
    assert later.get("run.name") == "n0"


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("data=cifar10", "data.name", "cifar10"),
        ("data.name=cifar10", "data.path", "uoft-cs/cifar10"),
        ("logger=csv", "logger.names", ["csv"]),
        ("logger=[csv,wandb]", "logger.names", ["csv", "wandb"]),
        ("logger=csv,wandb", "logger.names", ["csv", "wandb"]),
        ("logger=[]", "logger.names", []),
        ("eval.metrics=[]", "eval.metrics", []),
        ("data.image_size=[16,24]", "data.image_size", (16, 24)),
        ("data={name: mnist, flip: true}", "data.flip", True),
        ("optim={lr: 1e-3}", "optim.lr", 1e-3),
        ("run.images=1e5", "run.images", 100_000),
        ("run.images=150_000", "run.images", 150_000),
        ("run.name=007", "run.name", "007"),
        ("run.name=2024_01_02", "run.name", "2024_01_02"),
        ("run.name=on", "run.name", "on"),
        ("run.name=null", "run.name", None),
        ("trainer.precision=32", "trainer.precision", "32"),
        ("metrics.weights=a: b#{.pth", "metrics.weights", "a: b#{.pth"),
        ("run.dir=a=b", "run.dir", "a=b"),
    ],
)
def test_argument_is_read_as_it_is_meant(argument, key, value):
    assert compose([argument]).get(key) == value


def test_parsing_alone_accepts_anything_with_a_key():
    assert parse(["a.b=1", "logger=csv"]).values == {"a.b": 1, "logger.names": "csv"}


ALL = [f"{group}={name}" for group in ("arch", "data", "experiment") for name in names(group)]


@pytest.mark.parametrize("choice", ALL)
def test_every_yaml_composes_and_survives_the_way_through_a_run(choice, tmp_path):
    config = compose([choice])
    saved = tmp_path / "config.yaml"
    saved.write_text(config.yaml())

    again = compose([], saved=saved)

    assert again.values == config.values
    assert set(again.origins.values()) == {str(saved)}


def test_saved_configuration_stands_above_defaults_and_below_the_command_line(tmp_path):
    saved = tmp_path / "config.yaml"
    saved.write_text(compose(["arch=gan", "run.images=5000", "run.name=007", "seed=4"]).yaml())

    config = compose(["run.images=9000"], saved=saved)

    assert (config.get("run.images"), config["seed"], config.get("run.name")) == (9000, 4, "007")
    assert config.get("optim.decay_images") == 9000, "the schedule stretches with the budget"


@pytest.mark.parametrize("arch", names("arch"))
@pytest.mark.parametrize("data", names("data"))
def test_every_arch_fits_every_data_source(arch, data):
    config = compose([f"arch={arch}", f"data={data}"])

    assert config["variant"] in VARIANTS
    assert config.get("data.source") in DATA
    assert config.origins["data.batch_size"] == f"configs/arch/{arch}.yaml", "the arch's, whatever the data"
    for name in SECTIONS:
        settings(config, name)


def built(config: Config, shape: tuple[int, int, int]) -> torch.nn.Module:
    channels, height, width = shape
    scale = config["data"].get("scale", 4) if issubclass(variant_of(config), SuperResolver) else 1
    of_source = config["data"].get("source_channels") or channels
    with torch.device("meta"):
        return module_of(config, shape, 10, source_shape=(of_source, height // scale, width // scale))


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_builds_its_networks(name):
    config = compose([f"experiment={name}"])

    values = config["data"]
    size = values.get("image_size", values.get("crop_size"))
    latents = values["source"] == "latents"
    height, width = size if isinstance(size, list | tuple) else (size, size)
    module = built(config, (4, 32, 32) if latents else (values["channels"] or 3, height, width))

    assert name.startswith(f"{config['arch']}-"), "named after its arch and its data"
    assert config.get("run.images") >= 50_000
    assert sum(p.numel() for p in module.parameters()) > 1e5


@pytest.mark.parametrize("name", names("experiment"))
def test_published_setting_does_not_change_with_the_preset_of_its_arch(name):
    config = compose([f"experiment={name}"])
    inert = {"optim.lr_end", "optim.decay_images"} if config.get("optim.lr_schedule") == "constant" else set()

    inherited = {key for key, origin in config.origins.items() if origin.startswith("configs/arch/")}

    assert {key for key in inherited - inert if key.startswith(("model.", "optim."))} == set()


R3GAN_COUNTS = {  # of the networks that the paper's code makes
    "r3gan-cifar10": (20.78, 21.28),
    "r3gan-ffhq64": (22.43, 22.38),
    "r3gan-ffhq256": (23.06, 23.01),
    "r3gan-imagenet32": (82.91, 86.55),
    "r3gan-imagenet64": (103.57, 107.21),
}


@pytest.mark.parametrize("name", R3GAN_COUNTS)
def test_r3gan_has_the_networks_of_all_five_presets(name):
    config = compose([f"experiment={name}"])
    size = config.get("data.image_size")
    classes = 1000 if "imagenet" in name else 10

    with torch.device("meta"):
        module = module_of(config, (3, size, size), classes)

    counts = [sum(p.numel() for p in n.parameters()) / 1e6 for n in (module.generator, module.discriminator)]
    assert [round(count, 2) for count in counts] == list(R3GAN_COUNTS[name])


@pytest.mark.parametrize("arch", names("arch"))
def test_every_arch_builds_for_digits(arch):
    built(compose([f"arch={arch}"]), (1, 32, 32))


def test_value_that_networks_cannot_have_is_a_line():
    with pytest.raises(UserError, match=r"dcgan for images \(1, 32, 32\): .*check model"):
        module_of(compose(["model.width=-1"]), (1, 32, 32), 0)


def test_list_has_a_line_for_everything():
    lines = list(listing())

    for name in [*names("arch"), *names("data"), *names("experiment"), "fid", "kid", "is", "inception"]:
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in lines), name
    assert next(iter(listing("arch"))) == "archs:"
    with pytest.raises(UserError, match="nothing to list called 'cats'"):
        list(listing("cats"))


def test_no_yaml_names_code():
    for path in configs_folder().rglob("*.yaml"):
        assert "_target_" not in path.read_text()
        assert OmegaConf.load(path)

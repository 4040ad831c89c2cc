"""Extractors on timm's graphs, and the resizes: the same features as the authors' networks, written anew and tiny."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_gan.cli import main
from lit_gan.errors import UserError
from lit_gan.metrics import build_extractor
from lit_gan.metrics.clip import Clip
from lit_gan.metrics.dinov2 import DinoV2, shrunk
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.extractors import Extractor, extractor_class, resized
from lit_gan.metrics.vision import Preparation
from lit_gan.metrics.weights import KNOWN, sha256_of
from metrics_helpers import Fake, Images, noise, random_inception

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def pictures(number: int = 3, height: int = 40, width: int = 40, channels: int = 3) -> Tensor:
    return noise(number, (channels, height, width)).real_batch(range(number))["image"]


class Attention(nn.Module):
    """Of DINOv2, in its names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class DinoBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.rand(width) + 0.5}) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1["gamma"] * self.attn(self.norm1(tokens))
        hidden = F.gelu(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + self.ls2["gamma"] * self.mlp["fc2"](hidden)


class Dino(nn.Module):
    """DINOv2's network, trained at 518 and used at 224: its position embeddings are stretched on the way."""

    def __init__(self, width: int = 32, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + 37 * 37, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 14, 14)})
        self.blocks = nn.Sequential(*(DinoBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images).flatten(2).mT
        grid = self.pos_embed[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
        scale = (224 / 14 + 0.1) / 37
        grid = F.interpolate(grid, mode="bicubic", scale_factor=(scale, scale)).permute(0, 2, 3, 1)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1)
        tokens = tokens + torch.cat([self.pos_embed[:, :1], grid.reshape(1, 256, -1)], 1)
        return self.norm(self.blocks(tokens))[:, 0]


class ClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(tokens))
        return tokens + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class Tower(nn.Module):
    """CLIP's image tower in OpenAI's names."""

    def __init__(self, width: int = 32, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 14, 14, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(1 + 24 * 24, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = nn.Sequential(*(ClipBlock(width, heads) for _ in range(depth)))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.proj = nn.Parameter(torch.randn(width, 768))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).mT
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], 1)
        tokens = self.ln_pre(tokens + self.positional_embedding)
        return self.ln_post(self.transformer["resblocks"](tokens)[:, 0]) @ self.proj


class TinyDinoV2(DinoV2):
    options: ClassVar = {**DinoV2.options, **TINY}


class TinyClip(Clip):
    options: ClassVar = {**Clip.options, **TINY}


def made(kind: type[Extractor], path: Path, data: Images | None = None) -> Extractor:
    """By the way that build_extractor goes, with the hash that somebody names."""
    extractor = kind.build(
        data=data or noise(5, (3, 40, 40)),
        weights=str(path),
        weights_sha256=sha256_of(path),
        device=torch.device("cpu"),
    )
    return extractor.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dino, Path]:
    torch.manual_seed(0)
    network, path = Dino().eval(), tmp_path_factory.mktemp("dino") / "dino.pth"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tower, Path]:
    torch.manual_seed(0)
    network, path = Tower().eval(), tmp_path_factory.mktemp("clip") / "clip.safetensors"
    state = {f"visual.{name}": value.contiguous() for name, value in network.state_dict().items()}
    save_file({**state, "logit_scale": torch.ones(()), "text_projection": torch.ones(2, 2)}, path)
    return network, path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with its head, as timm publishes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "mine.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), path)
    return path


def test_dinov2_is_its_authors_network_at_224(dino: tuple[Dino, Path]):
    network, path = dino
    images = pictures()

    extractor = made(TinyDinoV2, path)
    features, logits = extractor(images)

    with torch.no_grad():
        expected = network(extractor.preparation(images, rounded=True))
    assert (extractor.dim, tuple(features.shape), logits) == (32, (3, 32), None)
    assert torch.allclose(features, expected, atol=1e-5)
    assert extractor.weights_hash == sha256_of(path)


def test_timms_own_position_embeddings_would_be_others(dino: tuple[Dino, Path]):
    class Unconverted(TinyDinoV2):
        def converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return state

    images = pictures()

    difference = made(TinyDinoV2, dino[1])(images)[0] - made(Unconverted, dino[1])(images)[0]

    assert float(difference.abs().max()) > 1e-2


def test_position_embeddings_of_the_right_size_stay():
    positions = torch.randn(1, 1 + 16 * 16, 4)

    assert shrunk(positions, 16) is positions


def test_clip_is_openais_tower(tower: tuple[Tower, Path]):
    network, path = tower
    images = pictures()

    extractor = made(TinyClip, path)
    features, logits = extractor(images)

    with torch.no_grad():
        expected = network(extractor.preparation(images, rounded=True))
    assert (extractor.dim, tuple(features.shape), logits) == (768, (3, 768), None)
    assert torch.allclose(features, expected, atol=1e-4)


@pytest.mark.parametrize(("kind", "dim", "width"), [(DinoV2, 1024, 1024), (Clip, 768, 1024)])
def test_the_large_graphs_exist_and_give_their_features(kind: type[DinoV2 | Clip], dim: int, width: int):
    with torch.device("meta"):
        graph = timm.create_model(kind.architecture, pretrained=False, **kind.options).eval()
        size = kind.preparation_of(None, graph).size

        features = graph(torch.zeros(2, 3, *size))

    assert features.shape == (2, dim)
    assert (len(graph.blocks), graph.embed_dim, graph.patch_embed.patch_size) == (24, width, (14, 14))
    tokens = 1 + (size[0] // 14) ** 2
    assert graph.pos_embed.shape == (1, tokens, width)
    parameters = sum(parameter.numel() for parameter in graph.parameters())
    assert parameters * 4 <= KNOWN[kind.name].size


def test_dinov2_and_clip_need_the_published_file_or_its_hash(
    dino: tuple[Dino, Path], tower: tuple[Tower, Path]
):
    for name, path in (("dinov2", dino[1]), ("clip", tower[1])):
        with pytest.raises(UserError, match=f"is not the standard {KNOWN[name].file}"):
            build_extractor(name, data=noise(5, (3, 8, 8)), weights=str(path))


@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_missing_weights_name_the_file_and_the_ways_out(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)

    with pytest.raises(UserError) as error:
        build_extractor(name, data=noise(5, (3, 8, 8)))

    for part in (
        KNOWN[name].file,
        str(cache / "weights"),
        "metrics.weights=PATH",
        "metrics.extractor=classifier",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (300, 260), (250, 500)])
def test_preparation_is_pillows(height: int, width: int):
    """Of the square in the middle: of other rectangles Pillow 13 may resize the height first, older ones never do."""
    image = pictures(1, height, width)
    prepare = Preparation((224, 224), (0.0, 0.1, 0.2), (0.5, 1.0, 2.0), square=True)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pillow = Image.fromarray(image[0].permute(1, 2, 0).numpy()).crop((left, top, left + side, top + side))
    expected = np.array(pillow.resize((224, 224), Image.Resampling.BICUBIC))

    prepared = prepare(image, rounded=True)[0]

    mean, std = torch.tensor(prepare.mean).view(3, 1, 1), torch.tensor(prepare.std).view(3, 1, 1)
    levels = (prepared * std + mean) * 255
    difference = (levels - torch.from_numpy(expected).permute(2, 0, 1)).abs()
    assert float(difference.max()) < 1.001
    assert float(difference.mean()) < 2e-3
    assert float((levels - levels.round()).abs().max()) < 1e-3


@pytest.mark.parametrize(("height", "width"), [(40, 60), (300, 260)])
def test_preparation_squashes_the_whole_image(height: int, width: int):
    image = pictures(1, height, width)
    prepare = Preparation((224, 224), (0.0,) * 3, (1.0,) * 3)

    levels = prepare(image, rounded=True) * 255

    expected = F.interpolate(
        image, (224, 224), mode="bicubic", antialias=True
    )  # uint8: by Pillow's algorithm, with coarser weights
    assert float((levels - expected).abs().max()) < 2.001
    assert float((levels - expected).abs().mean()) < 0.02


@pytest.mark.parametrize("size", [32, 128, 299, 400])
def test_clean_resize_is_pillows_on_floats(size: int):
    image = pictures(1, size, size)
    channels = [Image.fromarray(channel.numpy().astype(np.float32), mode="F") for channel in image[0]]
    resampled = [np.asarray(c.resize((299, 299), Image.Resampling.BICUBIC)) for c in channels]
    expected = torch.from_numpy(np.stack(resampled)).clamp(0, 255)

    levels = resized(image, (299, 299))

    assert levels.dtype == torch.float32
    assert torch.allclose(levels[0], expected, atol=1e-2)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    return path, random_inception(path)


def test_inceptions_resizes_agree_where_there_is_nothing_to_resize(inception: tuple[Path, str]):
    path, digest = inception
    data, whole, small = noise(4, (3, 299, 299)), pictures(1, 299, 299), pictures(1, 32, 32)

    extractor = build_extractor(
        "inception", data=data, weights=str(path), weights_sha256=digest, resize="clean"
    )
    clean = {"whole": extractor(whole), "small": extractor(small), "name": extractor.resize}
    extractor.choose_resize("legacy")

    for mine, other in zip(extractor(whole), clean["whole"], strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(extractor(small)[0], clean["small"][0])
    assert extractor.resize == "TF1 bilinear to 299"
    assert clean["name"] == "bicubic, antialiased, to 299, not rounded"


def test_a_resize_that_an_extractor_lacks_is_refused(resnet: Path):
    with pytest.raises(
        UserError, match=r"metrics.resize=clean: not with metrics.extractor=pixels; it has one way"
    ):
        build_extractor("pixels", data=noise(), resize="clean")
    with pytest.raises(UserError, match="it has legacy, clean"):
        build_extractor("inception", data=noise(), resize="crisp")
    with pytest.raises(UserError, match=r"metrics.resize=clean"):
        build_extractor("timm:resnet10t", data=noise(), weights=str(resnet), resize="clean")


def test_clean_is_not_rounded(dino: tuple[Dino, Path]):
    extractor, images = made(TinyDinoV2, dino[1]), pictures()
    rounded = extractor(images)[0]

    extractor.choose_resize("clean")

    assert extractor.resize == "bicubic, antialiased, to 224, not rounded"
    expected = extractor.graph(extractor.preparation(images, rounded=False))
    assert torch.equal(extractor(images)[0], expected)
    assert not torch.equal(rounded, expected)


def test_a_timm_model_gives_its_pooled_features(resnet: Path):
    stream = torch.get_rng_state()
    extractor = build_extractor("timm:resnet10t", data=noise(5, (3, 40, 40)), weights=str(resnet))
    assert torch.equal(torch.get_rng_state(), stream)

    features, logits = extractor(pictures())

    whole = timm.create_model("resnet10t").eval()
    whole.load_state_dict(timm.models.load_state_dict(str(resnet)))
    config = timm.data.resolve_model_data_config(whole)
    levels = resized(pictures(), config["input_size"][1:], config["interpolation"]) / 255
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features((levels - mean) / std), pre_logits=True)
    assert (extractor.name, extractor.dim, logits) == ("timm:resnet10t", 512, None)
    assert torch.allclose(features, expected, atol=1e-5)
    assert extractor.weights_hash == sha256_of(resnet)
    height, width = config["input_size"][1:]
    assert f"to {height}x{width}" in extractor.resize
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_grey_and_transparent_images_become_rgb(resnet: Path):
    extractor = build_extractor("timm:resnet10t", data=noise(5, (3, 40, 40)), weights=str(resnet))
    grey, clear = pictures(2, channels=1), pictures(2, channels=4)
    clear[:, 3] = 255

    assert torch.equal(extractor(grey)[0], extractor(grey.repeat(1, 3, 1, 1))[0])
    assert torch.equal(extractor(clear)[0], extractor(clear[:, :3])[0])
    with pytest.raises(UserError, match="timm:resnet10t: reads images of 1, 3 or 4 channels"):
        build_extractor("timm:resnet10t", data=noise(5, (2, 8, 8)), weights=str(resnet))


def test_weights_that_do_not_fill_the_graph_are_refused(resnet: Path, tmp_path: Path):
    state = timm.models.load_state_dict(str(resnet))
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4")}, tmp_path / "part.pth")
    torch.save({k: v[:1] if v.ndim else v for k, v in state.items()}, tmp_path / "shapes.pth")

    with pytest.raises(UserError, match=r"does not fit ResNet: it lacks layer4.* others"):
        build_extractor("timm:resnet10t", data=noise(5, (3, 8, 8)), weights=str(tmp_path / "part.pth"))
    for model, path in (("resnet10t", tmp_path / "shapes.pth"), ("vit_tiny_patch16_224", resnet)):
        with pytest.raises(UserError, match="does not fit") as error:
            build_extractor(f"timm:{model}", data=noise(5, (3, 8, 8)), weights=str(path))
        assert "\n" not in str(error.value)


def test_timm_weights_are_found_in_the_cache_or_named(resnet: Path, cache: Path):
    data = noise(5, (3, 8, 8))
    with pytest.raises(UserError) as error:
        build_extractor("timm:resnet10t", data=data)
    for part in ("resnet10t.safetensors", "timm/resnet10t", str(cache / "weights"), "metrics.weights=PATH"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)

    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "resnet10t.safetensors").symlink_to(resnet)
    assert build_extractor("timm:resnet10t", data=data).weights_hash == sha256_of(resnet)


def test_timm_weights_in_the_hubs_cache_need_no_network(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str, bool]] = []

    def hub(repo: str, file: str, local_files_only: bool = False) -> str:
        asked.append((repo, file, local_files_only))
        return str(resnet)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)

    extractor = build_extractor("timm:resnet10t.c3_in1k", data=noise(5, (3, 8, 8)))

    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors", True)]
    assert (extractor.name, extractor.weights_hash) == ("timm:resnet10t.c3_in1k", sha256_of(resnet))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet10", "did you mean timm:resnet1"),
        ("timm:vit_large_patch14_dinov2.lvd142", "did you mean timm:vit_large_patch14_dinov2.lvd142m?"),
        ("timm:zzzzzz", "timm.list_models"),
        ("timm", "did you mean timm:NAME?"),
        ("tim:resnet10t", "no such extractor"),
        ("dino2", "did you mean dinov2?"),
    ],
)
def test_an_unknown_model_is_told_the_nearest(name: str, words: str):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        extractor_class(name)


def test_scores_by_a_timm_model_say_so(resnet: Path):
    data = noise(40, (3, 8, 8))
    extractor = build_extractor("timm:resnet10t", data=data, weights=str(resnet))

    scores = evaluate(Fake((3, 8, 8)), data, metrics=["fid", "kid"], extractor=extractor, fakes=20)

    protocol = scores["fid"].protocol
    assert (protocol.extractor, protocol.weights) == ("timm:resnet10t", sha256_of(resnet))
    assert protocol.resize == extractor.resize
    assert scores["fid"].value > 0


def test_the_command_line_knows_them(capsys):
    assert main(["list", "extractors"]) == 0
    listed = capsys.readouterr().out
    for name in ("inception", "dinov2", "clip", "timm:NAME"):
        assert f"  {name} " in listed

    assert main(["config", "metrics.extractor=timm:resnet10t", "metrics.resize=clean"]) == 0
    shown = capsys.readouterr().out
    assert "metrics.extractor = timm:resnet10t" in shown
    assert "metrics.resize = clean" in shown

    assert main(["config", "metrics.resize=crisp"]) == 2
    assert "legacy or clean" in capsys.readouterr().err

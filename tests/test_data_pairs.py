"""Pictures to translate: layouts, joint crops, ranges, held-out parts, resume and ranks."""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import zipfile
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.data import build_data
from lit_gan.data.crops import window
from lit_gan.data.files import Picture, read_image, write_image
from lit_gan.data.masks import hole
from lit_gan.data.order import Order
from lit_gan.data.ragged import image_files
from lit_gan.data.super_resolution import smaller
from lit_gan.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(_own_world, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))


def fill(folder, count, *, size=(16, 20), channels=3, dtype="uint8", suffix=".png", seed=0, names="{:02d}"):
    """Pictures of noise, each of `size` or of the next of a list of sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    sizes = itertools.cycle(size if isinstance(size, list) else [size])
    for i in range(count):
        shape = (*next(sizes), channels)
        if np.dtype(dtype).kind == "f":
            pixels = generator.uniform(-3, 5, shape).astype(dtype)
        else:
            pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        write_image(folder / f"{names.format(i)}{suffix}", Picture(pixels))
    return str(folder)


def prepared(name, **keywords):
    data = build_data(name, **keywords)
    data.configure(seed=keywords.pop("seed", 0))
    return data


def batches(data, count, *, images_seen=0, rank=0, world=1, draws=1):
    data.configure(seed=0, draws=draws)
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        lightning_module=SimpleNamespace(images_seen=images_seen),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    loader = iter(data.train_dataloader())
    return [data.on_after_batch_transfer(batch) for batch in itertools.islice(loader, count)]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def every_source(tmp_path):
    """A small instance of each source, with all that is random in it."""
    sizes = [(16, 20), (24, 17), (12, 12), (6, 30)]
    a = fill(tmp_path / "a", 7, size=sizes, channels=1)
    b = fill(tmp_path / "b", 7, size=sizes, seed=1)
    more = fill(tmp_path / "more", 4, size=sizes, seed=2)
    common = {"crop_size": 8, "batch_size": 6, "flip": True}
    return {
        "paired": build_data("paired", sources=a, path=b, **common),
        "unpaired": build_data("unpaired", sources=a, path=more, **common),
        "super-resolution": build_data("super-resolution", path=b, scale=2, turn=True, **common),
        "inpainting": build_data("inpainting", path=b, **common),
        "colorization": build_data("colorization", path=b, **common),
    }


@pytest.mark.parametrize("name", ["paired", "unpaired", "super-resolution", "inpainting", "colorization"])
def test_stream_is_a_function_of_position_and_ranks_share_it(tmp_path, name):
    data = every_source(tmp_path)[name]
    straight = batches(data, 8, draws=2)

    resumed = batches(data, 3, images_seen=5 * 6, draws=2)
    shares = [batches(data, 2, rank=rank, world=2, draws=2) for rank in range(2)]

    assert all(equal(a, b) for a, b in zip(straight[5:], resumed, strict=True))
    for step in range(2):
        for key, value in straight[step].items():
            parts = [share[step][key].unflatten(0, (2, 3)) for share in shares]
            assert torch.equal(torch.cat(parts, dim=1).flatten(0, 1), value), key
    assert tuple(straight[0]["image"].shape[1:]) == data.image_shape
    assert tuple(straight[0]["source"].shape[1:]) == data.source_shape
    assert not equal(straight[0], straight[1])
    for batch in straight:
        assert all(value.dtype == torch.float32 and value.abs().max() <= 1 for value in batch.values())


@pytest.mark.parametrize("name", ["paired", "inpainting"])
def test_workers_give_the_same_batches(tmp_path, name):
    data = every_source(tmp_path)[name]
    alone = batches(data, 3)
    data.workers = 1

    assert all(equal(a, b) for a, b in zip(alone, batches(data, 3), strict=True))


def test_workers_hand_on_16_bits(tmp_path):
    path = fill(tmp_path / "a", 4, dtype="uint16")
    alone, helped = (
        prepared("paired", sources=path, path=path, batch_size=2, workers=workers) for workers in (0, 1)
    )

    assert all(equal(a, b) for a, b in zip(batches(alone, 3), batches(helped, 3), strict=True))


def test_spawned_workers_map_the_file_themselves(tmp_path):
    data = every_source(tmp_path)["paired"]
    data.configure(seed=0)
    gather = data._gather(Order(data.size, 0))

    sent = pickle.dumps(gather)

    assert len(sent) < 10_000
    assert equal(pickle.loads(sent).__getitems__(np.arange(9)), gather.__getitems__(np.arange(9)))


def test_pair_of_equal_images_stays_equal(tmp_path):
    path = fill(tmp_path / "a", 6, size=[(16, 20), (24, 17), (5, 30)])
    data = prepared("paired", sources=path, path=path, crop_size=[8, 12], flip=True, batch_size=50)

    batch = batches(data, 1)[0]

    assert torch.equal(batch["source"], batch["image"])
    assert len({image.numpy().tobytes() for image in batch["image"]}) > 20  # crops and flips are drawn


def test_every_crop_is_a_part_of_its_image(tmp_path):
    path = fill(tmp_path / "a", 1, size=(9, 11), channels=1)
    stored = read_image(tmp_path / "a" / "00.png").pixels
    windows = np.lib.stride_tricks.sliding_window_view(stored[..., 0], (8, 8)).reshape(-1, 8, 8)
    data = prepared("paired", sources=path, path=path, crop_size=8, flip=True, batch_size=400)

    images = ((batches(data, 1)[0]["image"] + 1) * 127.5).round().to(torch.uint8).numpy()[:, 0]

    expected = {w.tobytes() for w in windows} | {np.ascontiguousarray(w[:, ::-1]).tobytes() for w in windows}
    assert {image.tobytes() for image in images} == expected  # 2 x 4 places, each of them mirrored and not


def test_unpaired_orders_are_independent_and_the_smaller_domain_goes_round(tmp_path):
    a, b = fill(tmp_path / "a", 12, size=(4, 4)), fill(tmp_path / "b", 5, size=(4, 4), seed=1)
    data = prepared("unpaired", sources=a, path=b, flip=False, batch_size=60)

    batch = batches(data, 1)[0]

    _, sources = torch.unique(batch["source"].flatten(1), dim=0, return_inverse=True)
    _, images = torch.unique(batch["image"].flatten(1), dim=0, return_inverse=True)
    assert all(len(set(sources[start : start + 12].tolist())) == 12 for start in range(0, 60, 12))
    assert all(len(set(images[start : start + 5].tolist())) == 5 for start in range(0, 60, 5))
    assert len(set(zip(sources.tolist(), images.tolist(), strict=True))) > 30
    assert (data.size, data.source_size) == (5, 12)


def test_bicubic_is_pillows_within_one_level(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).resize((9, 6), Image.Resampling.BICUBIC)).astype(int)

    ours = smaller(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, 4).clamp(0, 1)

    assert np.abs((ours[0] * 255).round().permute(1, 2, 0).numpy() - pillow).max() <= 1


def test_sources_of_super_resolution_are_the_small_images_at_8_bits(tmp_path):
    data = prepared("super-resolution", path=fill(tmp_path / "a", 3), scale=2, crop_size=8, batch_size=12)

    batch = batches(data, 1)[0]

    levels = (batch["source"] + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    exact = smaller(batch["image"], 2).clamp(-1, 1)
    assert (batch["source"] - exact).abs().max() <= 0.5 / 127.5 + 1e-6
    assert data.source_shape == (3, 4, 4)


def test_degradation_draws_by_position_alone(tmp_path, monkeypatch):
    def degrade(images, scale, generator, *, levels):
        noisy = images + torch.rand(images.shape, generator=generator, device=images.device)
        return (noisy / 2)[..., ::scale, ::scale]

    monkeypatch.setitem(sys.modules, "lit_gan.degradation", SimpleNamespace(degrade=degrade))
    path = fill(tmp_path / "a", 4)
    data = prepared(
        "super-resolution", path=path, scale=2, crop_size=8, degradation="real-esrgan", batch_size=4
    )

    whole = batches(data, 1)[0]
    parts = [batches(data, 1, rank=rank, world=2)[0] for rank in range(2)]

    assert torch.equal(torch.cat([part["source"] for part in parts]), whole["source"])
    assert equal(data.held_out.real_batch([2, 1]), data.held_out.real_batch([2, 1]))


def test_degraded_sources_have_the_depth_of_the_images(tmp_path):
    kinds = {}
    for dtype in ("uint8", "uint16", "float32"):
        path = fill(tmp_path / dtype, 6, dtype=dtype, suffix=".tif")
        data = prepared(
            "super-resolution", path=path, scale=2, crop_size=16, degradation="real-esrgan", batch_size=12
        )
        kinds[dtype] = batches(data, 1)[0]["source"].double()

    def whole(images, steps):  # for each image, whether it lies at whole levels
        values = (images + 1) / 2 * steps
        return ((values - values.round()).abs() < 2e-2).flatten(1).all(1)

    assert whole(kinds["uint8"], 255).all()
    assert whole(kinds["uint16"], 65535).all()
    for deep in ("uint16", "float32"):  # of the two ways to end, one ends with a filter and one with JPEG
        assert 0 < whole(kinds[deep], 255).sum() < 12, deep
    assert kinds["uint16"].abs().max() <= 1 + 1e-6


def test_given_small_images_are_cut_with_the_large_ones(tmp_path):
    small = fill(tmp_path / "small", 5, size=[(9, 12), (12, 9), (5, 5)])
    (tmp_path / "large").mkdir()
    for file in sorted((tmp_path / "small").iterdir()):
        pixels = read_image(file).pixels.repeat(3, axis=0).repeat(3, axis=1)
        spare = np.pad(pixels, ((0, 2), (0, 1), (0, 0)))  # what fills no pixel of the source is left out
        write_image(tmp_path / "large" / file.name, Picture(spare))
    data = prepared(
        "super-resolution", sources=small, path=str(tmp_path / "large"), scale=3, crop_size=24, batch_size=40
    )

    batch = batches(data, 1)[0]

    assert torch.equal(batch["source"].repeat_interleave(3, 2).repeat_interleave(3, 3), batch["image"])
    assert data.held_out.whole(0)["image"].shape == (1, 3, 27, 36)


def test_inpainting_shows_the_image_outside_the_hole_alone(tmp_path):
    data = prepared("inpainting", path=fill(tmp_path / "a", 3), batch_size=40)

    batch = batches(data, 1)[0]

    image, mask = batch["source"][:, :3], batch["source"][:, 3:]
    assert set(mask.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(image, torch.where(mask > 0, 0.0, batch["image"]))
    assert ((mask > 0).flatten(1).any(1) & (mask < 0).flatten(1).any(1)).all()
    held = data.held_out
    assert equal(held.real_batch([1]), {key: value[1:2] for key, value in held.real_batch([0, 1]).items()})


@pytest.mark.parametrize("kind", ["boxes", "strokes", "mixed"])
def test_holes_are_a_function_of_their_word(kind):
    first, again = ([hole(word, (48, 64), kind) for word in range(40)] for _ in range(2))

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({mask.tobytes() for mask in first}) > 35
    assert all(0 < mask.mean() < 0.9 for mask in first)
    if kind == "boxes":
        assert all(0.25**2 * 0.9 <= mask.mean() <= 0.25 * 1.1 for mask in first)


def test_colorization_starts_from_pillows_luminance(tmp_path):
    data = prepared("colorization", path=fill(tmp_path / "a", 1), flip=False)

    source = data.held_out.real_batch([0])["source"][0, 0]

    with Image.open(tmp_path / "a" / "00.png") as image:
        pillow = np.asarray(image.convert("L")).astype(int)
    assert np.abs(((source + 1) * 127.5).round().numpy() - pillow).max() <= 1


def test_halves_go_either_way(tmp_path):
    path = fill(tmp_path / "ab", 3, size=(8, 24))
    stored = [read_image(tmp_path / "ab" / f"{i:02d}.png").pixels for i in range(3)]

    there, back = (prepared("paired", path=path, layout="halves", direction=d) for d in ("AtoB", "BtoA"))

    one, other = (data.held_out.real_batch([0, 1, 2]) for data in (there, back))
    assert np.array_equal(one["image"].permute(0, 2, 3, 1).numpy(), np.stack(stored)[:, :, 12:])
    assert torch.equal(one["source"], other["image"].float() / 127.5 - 1)
    assert there.fingerprint != back.fingerprint


def test_parquet_with_two_columns_of_images(tmp_path):
    def encoded(value, mode):
        buffer = io.BytesIO()
        Image.new(mode, (8, 8), value).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {
        "name": ["x", "y", "z"],
        "map": [encoded(i * 10, "L") for i in range(3)],
        "photo": [encoded((i, 2 * i, 3 * i), "RGB") for i in range(3)],
    }
    features = datasets.Features(
        {"name": datasets.Value("string"), "map": datasets.Image(), "photo": datasets.Image()}
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "train.parquet"))
    path = str(tmp_path / "train.parquet")

    found = prepared("paired", path=path, layout="columns")
    named = prepared("paired", path=path, layout="columns", source_column="photo", image_column="map")

    assert (found.source_shape, found.image_shape) == ((1, 8, 8), (3, 8, 8))
    assert (named.source_shape, named.image_shape) == ((3, 8, 8), (1, 8, 8))
    batch = found.held_out.real_batch([2])
    assert batch["image"][0, :, 0, 0].tolist() == [2, 4, 6]
    assert batch["source"][0, 0, 0, 0] == 20 / 127.5 - 1
    with pytest.raises(UserError, match="source_column=maps is no column"):
        prepared("paired", path=path, layout="columns", source_column="maps")


@pytest.mark.parametrize(("source", "image"), [(1, 3), (4, 1), (5, 2)])
def test_channels_may_differ(tmp_path, source, image):
    a = fill(tmp_path / "a", 3, channels=source, dtype="uint16", suffix=".npy")
    b = fill(tmp_path / "b", 3, channels=image, suffix=".npy", seed=1)
    data = prepared("paired", sources=a, path=b, batch_size=3)

    batch = batches(data, 1)[0]

    assert (batch["source"].shape[1], batch["image"].shape[1]) == (source, image)
    assert (data.source_dtype, data.image_dtype) == (np.uint16, np.uint8)
    assert (data.source_range, data.image_range) == ((0, 65535), (0, 255))


def test_16_bits_are_exact_on_the_device(tmp_path):
    a = fill(tmp_path / "a", 2, dtype="uint16")
    stored = np.stack([read_image(tmp_path / "a" / f"{i:02d}.png").pixels for i in range(2)])
    data = prepared("paired", sources=a, path=a, batch_size=2)

    image = data.held_out.real_batch([0, 1])["image"]

    assert image.dtype == torch.float32
    assert np.array_equal(((image.double() + 1) * 32767.5).round().permute(0, 2, 3, 1).numpy(), stored)


def test_float_range_is_measured_over_the_training_images_and_kept(tmp_path, capsys):
    a = fill(tmp_path / "a", 6, dtype="float32", suffix=".npy", channels=1)
    data = prepared("paired", sources=a, path=a, batch_size=4, holdout=2)
    record = data.state_dict()

    values = np.concatenate([read_image(f"{a}/{name}").pixels.ravel() for name in data.names])
    assert record["image"]["range"] == [values.min(), values.max()]
    assert record["image"]["dtype"] == "float32"
    assert "the extremes measured, become -1 and 1" in capsys.readouterr().err
    batch = batches(data, 1)[0]
    assert batch["image"].abs().max() <= 1


def test_values_outside_the_given_range_are_counted_and_kept(tmp_path, capsys):
    pixels = np.zeros((4, 4, 1), np.float32)
    pixels[0, :3] = 2.0
    (tmp_path / "a").mkdir()
    write_image(tmp_path / "a" / "x.npy", Picture(pixels))
    path = str(tmp_path / "a")
    data = prepared("paired", sources=path, path=path, range=(0, 1), source_range=(0, 2))

    said = capsys.readouterr().err

    assert "images of" in said
    assert "3 values in 1 of 1 images lie outside [0, 1]" in said
    assert "sources of" not in said
    assert batches(data, 1)[0]["image"].max() == 3


def test_small_images_are_mirrored_at_their_edges(tmp_path, capsys):
    path = fill(tmp_path / "a", 2, size=(5, 6), channels=1)
    stored = read_image(tmp_path / "a" / "00.png").pixels
    data = prepared("paired", sources=path, path=path, crop_size=8)

    assert "2 images of" in capsys.readouterr().err
    assert np.array_equal(
        window(stored, (8, 8), (0.3, 0.9)), np.pad(stored, ((1, 2), (1, 1), (0, 0)), mode="reflect")
    )
    assert batches(data, 1)[0]["image"].shape == (1, 1, 8, 8)


def test_unequal_pairs_are_named(tmp_path):
    a, b = fill(tmp_path / "a", 5), fill(tmp_path / "b", 6, suffix=".tif")
    (tmp_path / "a" / "03.png").unlink()

    with pytest.raises(UserError, match=r"lacks 03, 05"):
        prepared("paired", sources=a, path=b)


def test_pairs_of_unequal_size_are_named(tmp_path):
    a = fill(tmp_path / "a", 3, size=(8, 8))
    b = fill(tmp_path / "b", 3, size=[(8, 8), (8, 9), (8, 8)])

    with pytest.raises(UserError, match=r"1 of 3 pairs .* 01.png: source 8 x 8, image 8 x 9"):
        prepared("paired", sources=a, path=b)


def test_many_unequal_pairs_are_named_and_the_rest_counted_on_one_line(tmp_path):
    a, b = fill(tmp_path / "a", 14, size=(8, 8)), fill(tmp_path / "b", 14, size=(8, 9))
    fill(tmp_path / "more", 26, size=(8, 8))

    with pytest.raises(UserError) as sizes:
        prepared("paired", sources=a, path=b)
    with pytest.raises(UserError) as names:
        prepared("paired", sources=a, path=str(tmp_path / "more"))
    with pytest.raises(UserError) as small:
        prepared("super-resolution", path=fill(tmp_path / "small", 12, size=(1, 8)), scale=2, crop_size=None)

    ten = "; ".join(f"{i:02d}.png: source 8 x 8, image 8 x 9" for i in range(10))
    assert f"14 of 14 pairs of {b} differ in height x width" in str(sizes.value)
    assert f"{ten} and 4 more; repair them" in str(sizes.value)
    assert f"{', '.join(str(i) for i in range(14, 24))} and 2 more" in str(names.value)
    assert f"{', '.join(f'{i:02d}.png' for i in range(10))} and 2 more" in str(small.value)
    assert not any("\n" in str(error.value) for error in (sizes, names, small))
    assert prepared("paired", sources=a, path=b, load_size=8).image_shape == (3, 8, 8)


def test_pair_with_an_unreadable_side_is_left_out_or_stops_the_run(tmp_path):
    a, b = fill(tmp_path / "a", 4), fill(tmp_path / "b", 4)
    (tmp_path / "b" / "02.png").write_bytes(b"no image")

    with pytest.raises(UserError, match=r"02.png: not an image"):
        prepared("paired", sources=a, path=b)
    data = prepared("paired", sources=a, path=b, max_bad_share=0.3)

    assert data.names == ["00.png", "01.png", "03.png"]
    assert data.skipped == ["02.png: not an image that can be read"]
    batch = data.real_batch([0, 1, 2])
    assert torch.equal(batch["source"], batch["image"] / 127.5 - 1)


def test_mixed_channels_and_depths_are_one_line(tmp_path):
    path = fill(tmp_path / "a", 2)
    fill(tmp_path / "a", 1, channels=1, names="x{}")
    with pytest.raises(UserError, match=r"00.png has 3 and x0.png 1; set data.channels"):
        prepared("inpainting", path=path)
    assert prepared("inpainting", path=path, channels=3).image_shape == (3, 16, 20)

    fill(tmp_path / "a", 1, dtype="uint16", names="y{}")
    with pytest.raises(UserError, match=r"00.png is uint8 and y0.png uint16"):
        prepared("inpainting", path=path, channels=3)


def test_images_of_many_sizes_need_a_crop(tmp_path):
    path = fill(tmp_path / "a", 2, size=[(8, 8), (8, 9)])

    with pytest.raises(UserError, match=r"00.png is 8 x 8, 01.png 8 x 9\): set data.crop_size"):
        prepared("inpainting", path=path)


def test_images_equal_in_pixels_of_their_sources_are_wholes(tmp_path):
    data = prepared(
        "super-resolution", path=fill(tmp_path / "a", 2, size=[(17, 8), (18, 11)]), crop_size=None
    )

    assert data.image_shape == (3, 16, 8)
    assert data.held_out.real_batch([0, 1])["image"].shape == (2, 3, 16, 8)


@pytest.mark.parametrize("name", ["paired", "unpaired", "super-resolution", "inpainting", "colorization"])
def test_fewer_images_are_a_fixed_choice_apart_from_those_held_out(tmp_path, name):
    a, b = fill(tmp_path / "a", 12), fill(tmp_path / "b", 12, seed=1)
    keywords = {"path": b, "crop_size": None} | ({"sources": a} if name in ("paired", "unpaired") else {})
    every, *fewer = (build_data(name, holdout=4, max_images=count, **keywords) for count in (None, 3, 3, 5))
    for seed, data in enumerate((every, *fewer)):
        data.configure(seed=seed)

    assert [data.size for data in fewer] == [3, 3, 5]
    assert fewer[0].names == fewer[1].names, "whatever the seed"
    assert set(fewer[0].names) < set(fewer[2].names) < set(every.names)
    assert {tuple(data.held_out.names) for data in (every, *fewer)} == {tuple(every.held_out.names)}
    assert len({data.fingerprint for data in (every, fewer[0], fewer[2])}) == 3
    for data in fewer:
        expected = np.stack([read_image(tmp_path / "b" / file).pixels for file in data.names])
        assert np.array_equal(data.real_batch(range(data.size))["image"], expected.transpose(0, 3, 1, 2))
        if name == "paired":
            assert data.part.source.names == data.names
        if name == "unpaired":
            assert (len(data.part.source), data.held_out.source_size) == (data.size, 4)


def test_choice_of_a_choice_is_another_where_the_first_was(tmp_path):
    listing = image_files(fill(tmp_path / "a", 6), "data.path")

    one, other = (listing.chosen(first).chosen([2, 0]) for first in ([0, 1, 2], [3, 4, 5]))

    assert (one.names, other.names) == (["02.png", "00.png"], ["05.png", "03.png"])
    assert one.origin == listing.chosen([2, 0]).origin, "the same pictures are the same entry of the cache"
    assert one.origin != other.origin


def test_max_images_of_none_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"data.max_images=0 leaves no image"):
        prepared("inpainting", path=fill(tmp_path / "a", 3), max_images=0)


def zipped(folder, archive, below=""):
    """The files of a folder in a zip, and what a Mac puts beside them."""
    with zipfile.ZipFile(archive, "a") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"{below}{path.name}")
            file.writestr(f"__MACOSX/{below}._{path.name}", b"no image")
        file.writestr(f"{below}.hidden.png", b"no image")
    return str(archive)


def test_zip_stands_for_its_folder_on_either_side(tmp_path):
    a, b = fill(tmp_path / "a", 4, channels=1, dtype="uint16"), fill(tmp_path / "b", 4, suffix=".jpg", seed=1)
    folders = prepared("paired", sources=a, path=b, batch_size=4)
    in_zip = {
        "sources": zipped(tmp_path / "a", tmp_path / "a.zip"),
        "path": zipped(tmp_path / "b", tmp_path / "b.zip"),
    }

    for keywords in (
        {"sources": a, "path": in_zip["path"]},
        {"sources": in_zip["sources"], "path": b},
        in_zip,
    ):
        data = prepared("paired", batch_size=4, **keywords)

        assert data.names == folders.names
        assert data.fingerprint == folders.fingerprint
        assert equal(batches(data, 1)[0], batches(folders, 1)[0])


def test_folders_in_one_zip_are_named_behind_it(tmp_path):
    archive = tmp_path / "horses.zip"
    for folder, count in (("trainA", 3), ("trainB", 2), ("testA", 1), ("testB", 1)):
        fill(tmp_path / folder, count, seed=count)
        zipped(tmp_path / folder, archive, f"./set/{folder}/")

    data = prepared(
        "unpaired",
        sources=f"{archive}/set/trainA", path=f"{archive}/set/trainB/",
        test_sources=f"{archive}/set/testA", test=f"{archive}/set/testB",
    )  # fmt: skip

    assert (data.source_size, data.size, data.held_out.size) == (3, 2, 1)
    assert data.names == ["00.png", "01.png"]
    stored = read_image(tmp_path / "trainB" / "01.png").pixels
    assert np.array_equal(data.real_batch([1])["image"][0].permute(1, 2, 0), stored)


def test_changed_zip_is_decoded_anew_and_a_torn_file_in_it_is_named(tmp_path):
    fill(tmp_path / "a", 3)
    archive = zipped(tmp_path / "a", tmp_path / "a.zip")
    first = prepared("inpainting", path=archive)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("03.png", b"no image")

    with pytest.raises(UserError, match=r"1 of the 4 images of .*a\.zip do not decode.*03.png: not an image"):
        prepared("inpainting", path=archive)
    again = prepared("inpainting", path=archive, max_bad_share=0.5)
    assert (again.names, again.fingerprint) == (first.names, first.fingerprint)


def test_held_out_part_is_fixed_and_apart(tmp_path, capsys):
    path = fill(tmp_path / "a", 10)
    one, other = (prepared("inpainting", path=path, holdout=h) for h in (0.3, 3))
    said = capsys.readouterr().err

    assert one.held_out.names == other.held_out.names
    assert sorted(one.names + one.held_out.names) == [f"{i:02d}.png" for i in range(10)]
    assert one.held_out.size == 3
    assert one.held_out.fingerprint != one.fingerprint
    assert "the images trained on" not in said
    prepared("inpainting", path=path)
    assert "the images trained on" in capsys.readouterr().err


def test_held_out_images_are_whole_where_they_are_equal_and_else_their_centres(tmp_path):
    path = fill(tmp_path / "a", 4)
    even, odd = fill(tmp_path / "even", 2, size=(32, 24)), fill(tmp_path / "odd", 2, size=[(16, 12), (20, 9)])

    whole = prepared("inpainting", path=path, crop_size=8, test=even).held_out
    cut = prepared("inpainting", path=path, crop_size=8, test=odd).held_out

    assert whole.image_shape == tuple(whole.real_batch([0])["image"].shape[1:]) == (3, 32, 24)
    assert cut.image_shape == tuple(cut.real_batch([0, 1])["image"].shape[1:]) == (3, 8, 8)
    centre = read_image(tmp_path / "odd" / "00.png").pixels[4:12, 2:10]
    assert np.array_equal(cut.real_batch([0])["image"][0].permute(1, 2, 0).numpy(), centre)
    assert cut.whole(1)["source"].shape == (1, 4, 20, 9)


def test_test_images_are_loaded_at_the_size_of_the_crop(tmp_path):
    path = fill(tmp_path / "a", 4)
    data = prepared(
        "paired", sources=path, path=path, test=path, test_sources=path, load_size=12, crop_size=8
    )

    assert data.part.image.sizes.tolist() == [[12, 12]] * 4
    assert data.held_out.image_shape == (3, 8, 8)


def test_shorter_side_is_resized_in_proportion(tmp_path):
    path = fill(tmp_path / "a", 3, size=[(16, 24), (40, 20), (12, 12)])
    data = prepared(
        "unpaired", sources=path, path=path, test=path, test_sources=path, load_side=12, crop_size=8
    )

    assert data.part.image.sizes.tolist() == [[12, 18], [24, 12], [12, 12]]
    assert data.held_out.image_shape == (3, 8, 8)
    assert data.held_out.whole(1)["image"].shape == (1, 3, 16, 8), "the shorter side as that of the crop"
    original = read_image(tmp_path / "a" / "02.png").pixels
    assert np.array_equal(data.part.image[2], original), "nothing to do"


def test_class_indices_are_resized_by_the_nearest_pixel(tmp_path):
    a, b = tmp_path / "a", fill(tmp_path / "b", 1, size=(8, 12))
    a.mkdir()
    indices = np.repeat(np.repeat(np.array([[0, 7, 34], [34, 255, 0]], np.uint8), 4, 0), 4, 1)[..., None]
    write_image(a / "00.png", Picture(indices))

    half = prepared("paired", sources=str(a), path=b, load_size=(4, 6), nearest_sources=True)
    odd = prepared("paired", sources=str(a), path=b, load_size=(5, 7), nearest_sources=True)
    mixed = prepared("paired", sources=str(a), path=b, load_size=(5, 7))

    assert np.array_equal(half.part.source[0], indices[::2, ::2])
    assert set(odd.part.source[0].flat) == {0, 7, 34, 255}
    assert len(set(mixed.part.source[0].flat)) > 8, "bicubic makes others"
    assert np.array_equal(odd.part.image[0], mixed.part.image[0]), "only sources are class indices"
    assert odd.fingerprint != mixed.fingerprint
    assert (half.blends_sources, odd.blends_sources, mixed.blends_sources) == (False, False, True)


def test_sources_of_unpaired_scores_go_round(tmp_path):
    a, b = fill(tmp_path / "a", 2), fill(tmp_path / "b", 5, seed=1)
    held = prepared("unpaired", sources=a, path=b).held_out

    batch = held.real_batch([0, 1, 2, 3, 4])

    assert (held.size, held.source_size) == (5, 2)
    assert torch.equal(batch["source"][0], batch["source"][4])


def test_second_preparation_reads_the_cache_and_a_damaged_one_is_made_anew(tmp_path, capsys):
    path = fill(tmp_path / "a", 3)
    first = prepared("inpainting", path=path)
    before = first.real_batch([1])
    file = next((tmp_path / "cache" / "data").glob("*/pixels.bin"))
    written = file.stat().st_mtime_ns

    assert prepared("inpainting", path=path).fingerprint == first.fingerprint
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"torn")
    again = prepared("inpainting", path=path)

    assert "damaged" in capsys.readouterr().err
    assert again.fingerprint == first.fingerprint
    assert equal(again.real_batch([1]), before)


def test_changed_file_is_decoded_anew_and_a_checkpoint_refuses_it(tmp_path):
    path = fill(tmp_path / "a", 3)
    first = prepared("inpainting", path=path)
    record = first.state_dict()
    write_image(tmp_path / "a" / "01.png", Picture(np.zeros((16, 20, 3), np.uint8)))

    with pytest.raises(UserError, match="other images"):
        prepared("inpainting", path=path).load_state_dict(record)
    first.load_state_dict(record)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("super-resolution", {"crop_size": 30, "scale": 4}, r"no multiple of data.scale=4; use 28"),
        ("super-resolution", {"scale": 1}, r"data.scale=1"),
        ("paired", {"crop_size": 9, "load_size": 8}, r"larger than data.load_size"),
        ("paired", {"crop_size": 9, "load_side": 8}, r"larger than data.load_side=8"),
        ("unpaired", {"load_size": 8, "load_side": 8}, r"give a size, or the shorter side"),
        ("inpainting", {"load_side": 0}, r"data.load_side=0"),
        ("paired", {"test": "x"}, r"data.test_sources"),
        ("paired", {"layout": "halves", "sources": "x"}, r"leave data.sources out"),
        ("inpainting", {"test": "x", "holdout": 2}, r"give one of them"),
        ("inpainting", {"holdout": 2.5}, r"data.holdout=2.5"),
        ("inpainting", {"channels": 0}, r"data.channels=0"),
    ],
)
def test_impossible_settings_are_one_line(name, keywords, message):
    with pytest.raises(UserError, match=message):
        build_data(name, **keywords)


def test_impossible_data_are_one_line(tmp_path):
    path = fill(tmp_path / "a", 3)
    (tmp_path / "empty").mkdir()

    for keywords, message in [
        ({"path": ""}, "data.path is not set"),
        ({"path": str(tmp_path / "none")}, "is no folder and no zip"),
        ({"path": str(tmp_path / "a" / "00.png")}, "00.png is no zip file that can be read"),
        (
            {"path": zipped(tmp_path / "a", tmp_path / "a.zip") + "/val"},
            "no files in val; its folders are ., __MACOSX",
        ),
        ({"path": str(tmp_path / "empty")}, "holds no images"),
        ({"path": path, "range": (0, 1)}, "8-bit images; leave it out"),
        ({"path": path, "holdout": 3}, "at least one on each side"),
    ]:
        with pytest.raises(UserError, match=message):
            prepared("inpainting", **keywords)

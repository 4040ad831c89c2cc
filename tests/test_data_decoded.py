"""The cache of decoded images: atomic, resumable, shared between processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_gan.data import decoded
from lit_gan.data.decoded import Encoded, Source, decode, decoding
from lit_gan.errors import UserError

HOW = decoding(8, 1)


@pytest.fixture(autouse=True)
def decoded_folder(_own_world, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def grey(i: int) -> Image.Image:
    return Image.new("L", (8, 8), i % 256)


def broken() -> Image.Image:
    raise OSError("no such luck")


def source(size: int, bad: tuple[int, ...] = (), seen: list[int] | None = None) -> Source:
    def read(start, stop):
        if seen is not None:
            seen.extend(range(start, stop))
        return [Encoded(f"{i}.png", broken if i in bad else partial(grey, i)) for i in range(start, stop)]

    labels = np.arange(size, dtype=np.int64) % 3
    return Source(size, read, labels, ("a", "b", "c"))


def build(size: int, bad: tuple[int, ...] = (), share: float = 0.01, **settings) -> decoded.Images:
    how = settings.pop("how", HOW)
    return decode("tests", {"size": size, **settings}, partial(source, size, bad), how, share)


def never() -> Source:
    raise AssertionError("decoded again")


def test_images_and_labels_come_back_in_order(decoded_folder):
    found = build(600)

    assert found.images.shape == (600, 8, 8, 1)
    assert isinstance(found.images, np.memmap)
    assert found.images[:, 3, 4, 0].tolist() == [i % 256 for i in range(600)]
    assert found.labels.tolist() == [i % 3 for i in range(600)]
    assert found.class_names == ("a", "b", "c")
    assert [path.suffix for path in decoded_folder.iterdir() if path.is_dir()] == [""]


def test_second_time_nothing_is_decoded():
    first = build(10)

    again = decode("tests", {"size": 10}, never, HOW)

    assert (again.images == first.images).all()
    assert again.fingerprint == first.fingerprint


def test_fingerprint_changes_with_data_size_crop_and_channels_but_not_with_the_origin():
    reference = build(10).fingerprint

    others = [
        build(11).fingerprint,
        build(10, how=decoding(12, 1)).fingerprint,
        build(10, how=decoding(8, 3)).fingerprint,
        build(10, how=decoding(8, 1, "none")).fingerprint,
        build(10, bad=(1,), share=0.5, other="place").fingerprint,
    ]

    assert len({reference, *others}) == 6
    assert build(10, copied="elsewhere").fingerprint == reference


def test_interrupted_build_resumes_and_equals_the_straight_one(monkeypatch):
    straight = build(1000, bad=(3, 700), origin="straight")
    monkeypatch.setattr(decoded, "FLUSH_SECONDS", 0.0)
    seen: list[int] = []

    def interrupted():
        whole = source(1000, (3, 700))

        def read(start, stop):
            if start >= 512:
                raise KeyboardInterrupt
            return whole.read(start, stop)

        return Source(1000, read, whole.labels, whole.class_names)

    with pytest.raises(KeyboardInterrupt):
        decode("tests", {}, interrupted, HOW)
    resumed = decode("tests", {}, lambda: source(1000, (3, 700), seen), HOW)

    assert seen[0] == 512
    assert (resumed.images == straight.images).all()
    assert (resumed.labels == straight.labels).all()
    assert resumed.skipped == straight.skipped
    assert resumed.fingerprint == straight.fingerprint


KILLED = """
import sys
from tests_data_killed import slow
from lit_gan.data import decoded
decoded.FLUSH_SECONDS = 0.0
decoded.decode("tests", {}, slow, decoded.decoding(8, 1))
"""
SLOW = """
import time
import numpy as np
from PIL import Image
from lit_gan.data.decoded import Encoded, Source

def slow():
    def read(start, stop):
        time.sleep(0.05)
        return [Encoded(str(i), lambda i=i: Image.new("L", (8, 8), i % 256)) for i in range(start, stop)]
    return Source(20_000, read)
"""


def test_build_killed_by_sigkill_resumes(tmp_path, decoded_folder):
    (tmp_path / "tests_data_killed.py").write_text(SLOW)
    root = str(Path(decoded.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment)
    deadline = time.monotonic() + 60
    while not list(decoded_folder.glob("*.partial/progress.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen: list[int] = []

    found = decode("tests", {}, lambda: source(20_000, (), seen), HOW)

    assert process.returncode == -signal.SIGKILL
    assert 0 < seen[0] < 20_000
    assert (found.images[:, 0, 0, 0] == np.arange(20_000) % 256).all()


def _build_and_count(started, opened, results):
    def open_source():
        with opened.get_lock():
            opened.value += 1
        time.sleep(0.3)
        return source(300)

    started.wait()
    results.put(decode("tests", {}, open_source, HOW).fingerprint)


def test_two_processes_at_once_build_once():
    context = multiprocessing.get_context("fork")
    started, opened, results = context.Event(), context.Value("i", 0), context.Queue()
    processes = [context.Process(target=_build_and_count, args=(started, opened, results)) for _ in range(2)]
    for process in processes:
        process.start()
    started.set()

    fingerprints = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(timeout=30)

    assert opened.value == 1
    assert len(fingerprints) == 1


@pytest.mark.parametrize("name", ["images.u8", "labels.i8", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damaged_cache_is_built_again(decoded_folder, name, damage, capsys):
    reference = np.array(build(10).images)
    file = next(decoded_folder.glob(f"*/{name}"))
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-8])

    again = build(10)

    assert (again.images == reference).all()
    assert "damaged" in capsys.readouterr().err


def test_images_that_do_not_decode_are_listed_and_skipped(capsys):
    found = build(300, bad=(0, 299))

    assert found.skipped == ["0.png: no such luck", "299.png: no such luck"]
    assert found.images[:, 0, 0, 0].tolist() == [i % 256 for i in range(1, 299)]
    assert found.labels.tolist() == [i % 3 for i in range(1, 299)]
    assert "2 skipped" in capsys.readouterr().err


def test_too_many_bad_images_stop_it_and_the_message_says_how_to_go_on():
    with pytest.raises(
        UserError, match=r"4 of the 300 .* 7.png: no such luck.*data\.max_bad_share=0\.015$"
    ) as error:
        build(300, bad=(7, 8, 9, 10))
    allowed = float(str(error.value).rpartition("=")[2])

    assert len(build(300, bad=(7, 8, 9, 10), share=allowed).images) == 296
    with pytest.raises(UserError, match="4 of the 300"):
        build(300, bad=(7, 8, 9, 10))


def test_data_without_one_good_image_are_refused():
    with pytest.raises(UserError, match="none of the 3 images"):
        build(3, bad=(0, 1, 2), share=1.0)


def test_natural_size_is_that_of_the_first_image_that_decodes():
    found = build(20, bad=(0,), share=0.5, how=decoding(None, 3))

    assert found.images.shape == (19, 8, 8, 3)


def test_natural_size_that_networks_cannot_take_is_refused():
    odd = Source(1, lambda start, stop: [Encoded("a.png", lambda: Image.new("L", (10, 8)))])

    with pytest.raises(UserError, match=r"10 x 8 \(a\.png\).*data\.image_size=64"):
        decode("tests", {}, lambda: odd, decoding(None, 3))


@pytest.mark.parametrize(
    ("size", "channels", "message"),
    [
        (30, 3, r"data\.image_size=30: .* data\.image_size=32"),
        ((64, 97), 3, r"data\.image_size=\[64,97\]: .* data\.image_size=\[64,96\]"),
        (0, 3, r"data\.image_size=4"),
        (32, 2, r"data\.channels=2 .* 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"),
    ],
)
def test_impossible_decodings_are_refused(size, channels, message):
    with pytest.raises(UserError, match=message):
        decoding(size, channels)


def test_full_disk_is_the_users_error(monkeypatch):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(UserError, match="LIT_GAN_CACHE"):
        build(10)


def test_cache_that_cannot_be_written_is_the_users_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "file"))

    with pytest.raises(UserError, match="LIT_GAN_CACHE"):
        build(10)

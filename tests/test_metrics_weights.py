"""Weight files: found where the docs say, right by their hash, fetched whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lit_gan.cli import main
from lit_gan.errors import UserError
from lit_gan.metrics import weights as weights_module
from lit_gan.metrics.weights import KNOWN, find_weights, hub_folder, read_tensors, sha256_of, verified

CONTENT = b"weights, more or less"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is "published" on this disk and the only known one, as `small`."""
    path = tmp_path / "net" / "published.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    small = replace(
        KNOWN["inception"],
        file="small.pth",
        url=path.as_uri(),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=21,
    )
    monkeypatch.setattr(weights_module, "KNOWN", {"small": small})
    monkeypatch.setattr("lit_gan.weights.KNOWN", {"small": small})
    return path


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in (cache / "weights").glob("*") if path.suffix not in {".lock", ".pth"}]


def test_known_files_are_described_whole():
    for name, wanted in KNOWN.items():
        assert wanted.address().startswith("https://"), name
        assert wanted.file in wanted.address() or name == "clip", name  # ours has everybody's name
        assert wanted.sha256 is not None, name
        assert len(wanted.sha256) == 64, name
        assert set(wanted.sha256) <= set("0123456789abcdef"), name
        assert wanted.size > 1e7, name
        assert any(licence in wanted.about for licence in ("Apache", "MIT", "BSD")), name
    assert KNOWN["inception"].sha256.startswith("6726825d")
    for name in ("inception", "lpips-vgg", "lpips-alex", "vgg19"):  # as torch.hub names them
        assert f"-{KNOWN[name].sha256[:8]}." in KNOWN[name].file


def test_the_hub_folder_is_that_of_torch(monkeypatch: pytest.MonkeyPatch):
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"

    monkeypatch.delenv("TORCH_HOME")
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"

    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def test_a_file_is_looked_for_in_order(cache: Path, tmp_path: Path, published: Path):
    own, hub = cache / "weights" / "small.pth", tmp_path / "torch" / "hub" / "checkpoints" / "small.pth"
    for path in (own, hub):
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_weights("small", None) == path

    assert find_weights("small", str(published)) == published
    with pytest.raises(UserError, match=r"metrics.weights=nowhere.pth: no such file"):
        find_weights("small", "nowhere.pth")


def test_a_missing_file_is_downloaded_once(cache: Path, published: Path):
    path = find_weights("small", None)

    assert path == cache / "weights" / "small.pth"
    assert path.read_bytes() == CONTENT
    assert leftovers(cache) == []
    published.unlink()
    assert find_weights("small", None) == path


def test_a_download_of_something_else_is_thrown_away(cache: Path, published: Path):
    published.write_text("please log in")

    with pytest.raises(UserError, match="sent something else") as error:
        find_weights("small", None)

    assert "\n" not in str(error.value)
    assert leftovers(cache) == []
    assert not (cache / "weights" / "small.pth").exists()


def test_without_a_network_both_ways_out_are_named(cache: Path, published: Path):
    published.unlink()

    with pytest.raises(UserError) as error:
        find_weights("small", None)

    for part in (
        str(cache / "weights"),
        "small.pth",
        "metrics.weights=PATH",
        "metrics.extractor=classifier",
        "metrics.extractor=small",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hash_is_the_standard_one_or_the_one_that_is_named(tmp_path: Path):
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    found, standard = sha256_of(path), KNOWN["dinov2"]

    assert found == hashlib.sha256(CONTENT).hexdigest()
    assert verified(path, found.upper(), standard) == found
    assert verified(path, None, replace(standard, sha256=None)) == found
    assert verified(path, None) == found
    with pytest.raises(UserError, match=f"not the standard {standard.file}.*weights_sha256={found}"):
        verified(path, None, standard)
    with pytest.raises(UserError, match=r"metrics.weights_sha256 says 00"):
        verified(path, "00", standard)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_tensors_are_read_from_either_format(tmp_path: Path, wrapper: str | None):
    tensors = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, tmp_path / "x.pth")

    for path in tmp_path.glob("x.*"):
        read = read_tensors(path)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path):
    for name in ("x.safetensors", "x.pth"):
        (tmp_path / name).write_bytes(CONTENT)
    torch.save({"harmless": Path("/")}, tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")

    for name in ("x.safetensors", "x.pth", "code.pth"):
        with pytest.raises(UserError, match="is not a file of tensors") as error:
            read_tensors(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="holds a list"):
        read_tensors(tmp_path / "list.pth")


def test_list_shows_sizes_hashes_and_places_without_torch(cache: Path, tmp_path: Path):
    work = (
        "import sys; from lit_gan.cli import main; assert main(['weights', 'list']) == 0; "
        "assert 'torch' not in sys.modules"
    )

    done = subprocess.run(
        [sys.executable, "-c", work], capture_output=True, text=True, check=True, env=dict(os.environ)
    )

    for part in ("95.6 MB", "1.22 GB", "1.71 GB", "6726825d", "no ", str(cache / "weights"), "MIT"):
        assert part in done.stdout
    assert len(done.stdout.splitlines()) == 1 + 2 * len(KNOWN)


def test_check_tells_right_wrong_missing_and_unknown(cache: Path, published: Path, capsys):
    own = cache / "weights" / "small.pth"
    assert main(["weights", "check"]) == 0
    assert "missing" in capsys.readouterr().out

    own.parent.mkdir(parents=True)
    own.write_bytes(CONTENT)
    (own.parent / "resnet50.safetensors").write_bytes(b"mine")
    assert main(["weights", "check"]) == 0
    out = capsys.readouterr().out
    assert "small      ok" in out
    assert f"unknown  {own.parent / 'resnet50.safetensors'}" in out
    assert hashlib.sha256(b"mine").hexdigest() in out

    own.write_bytes(b"cut off")
    assert main(["weights", "check", "small"]) == 2
    assert "WRONG" in capsys.readouterr().out


def test_fetch_takes_from_the_net_what_is_missing(cache: Path, published: Path, capsys):
    assert main(["weights", "fetch"]) == 0
    assert hashlib.sha256(CONTENT).hexdigest() in capsys.readouterr().out
    assert (cache / "weights" / "small.pth").read_bytes() == CONTENT

    published.unlink()
    assert main(["weights", "fetch", "small"]) == 0
    assert "is here" in capsys.readouterr().out

    (cache / "weights" / "small.pth").write_bytes(b"cut off")
    assert main(["weights", "fetch", "small"]) == 2
    assert "remove it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["small.pth", "published.pth"])
def test_fetch_copies_from_a_folder_and_checks(
    cache: Path, published: Path, tmp_path: Path, name: str, capsys
):
    stick = tmp_path / "stick"
    stick.mkdir()
    published.unlink()
    command = ["weights", "fetch", "small", "--from", str(stick)]

    assert main(command) == 2
    assert "has no small.pth or published.pth" in capsys.readouterr().err
    (stick / name).write_bytes(b"something else")
    assert main(command) == 2
    assert "is not the standard small.pth" in capsys.readouterr().err
    assert leftovers(cache) == []
    (stick / name).write_bytes(CONTENT)
    assert main(command) == 0
    assert (cache / "weights" / "small.pth").read_bytes() == CONTENT


def test_fetch_without_a_network_says_what_to_do(cache: Path, published: Path, capsys):
    published.unlink()

    assert main(["weights", "fetch", "small"]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    for part in (published.as_uri(), "--from FOLDER", "small.pth", str(cache / "weights")):
        assert part in line


def test_a_file_of_unknown_hash_is_taken_and_its_hash_said(
    cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    unknown = {"small": replace(weights_module.KNOWN["small"], sha256=None, size=0)}
    monkeypatch.setattr(weights_module, "KNOWN", unknown)
    monkeypatch.setattr("lit_gan.weights.KNOWN", unknown)

    assert main(["weights", "list"]) == 0
    assert "unknown" in capsys.readouterr().out
    assert main(["weights", "fetch"]) == 0
    assert hashlib.sha256(CONTENT).hexdigest() in capsys.readouterr().out
    assert main(["weights", "check"]) == 0
    assert "unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["weights", "fetch", "dinov3"], "did you mean dinov2?"),
        (["weights", "fetsh"], "did you mean `lit-gan weights fetch`?"),
        (["weights", "fetch", "--from", "nowhere"], "nowhere"),
    ],
)
def test_typos_are_told_the_nearest(arguments: list[str], words: str, capsys):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_weights_alone_shows_its_commands(capsys):
    assert main(["weights"]) == 0
    assert "fetch" in capsys.readouterr().out

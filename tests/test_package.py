"""The wheel alone, in an environment without the checkout and from an empty folder, does what the checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from lit_gan import __version__
from tiny import arguments

ROOT = Path(__file__).parent.parent


def output(command: list[str | Path], cwd: Path, **environment: str) -> str:
    """What a command prints; fails with both its streams."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    output(build, folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel, whose dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # a path in a .pth is searched last, and the .pth files in it, such as that of the checkout, are not read
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    output([sys.executable, *install], folder)
    return interpreter


def test_wheel_holds_the_code_the_yamls_and_the_licence(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())

    yamls = {f"lit_gan/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("configs/**/*.yaml")}
    code = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("lit_gan/**/*.py")}
    assert len(yamls) > 20
    assert yamls | code <= files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert not [name for name in files if name.startswith("tests") or "__pycache__" in name]


def test_wheel_does_the_whole_job_from_an_empty_folder(python, tmp_path, cache):
    work = """if True:
        import sys, lit_gan
        from lit_gan.cli import main
        arguments = sys.argv[1:]
        assert main(["list"]) == main(["config"]) == main(["train", *arguments]) == 0
        assert main(["sample", "runs/dcgan-digits-1", "-n", "4"]) == 0
        assert main(["eval", "runs/dcgan-digits-1", "eval.metrics=[fid]"]) == 0
        assert main(["compare"]) == main(["compare", "--out", "runs/compare.html"]) == 0
        print(lit_gan.__file__)
        """
    scored = ["metrics.extractor=pixels", "eval.images=20", "run.images=16"]

    printed = output([python, "-c", work, *arguments("dcgan", *scored)], tmp_path, LIT_GAN_CACHE=str(cache))

    installed = python.parent.parent
    assert Path(printed.splitlines()[-1]).is_relative_to(installed), "not the checkout's"
    assert f"# {installed}" in printed, "the YAMLs of the wheel"
    assert "| dcgan |" in printed
    assert "data:image/png" in (tmp_path / "runs" / "compare.html").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    run = tmp_path / "runs" / "dcgan-digits-1"
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert len(list((run / "samples" / "seed0").glob("0*.png"))) == 4


def test_wheel_has_a_command_and_a_module_that_answer(python, tmp_path):
    assert output([python, "-m", "lit_gan", "--version"], tmp_path).split()[-1] == __version__
    script = (
        "from importlib.metadata import entry_points as e; print(e(group='console_scripts')['lit-gan'].value)"
    )
    assert output([python, "-c", script], tmp_path).strip() == "lit_gan.cli:run"

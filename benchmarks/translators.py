"""The trainings of "Image to image" in docs/results.md, tables and pictures, in a command that goes on where it stopped.

Labels to facades at 64 and 128 pixels, horses to deer, and super-resolution x4 in two stages: by default two runs at a time
with one thread each (70 minutes or more on two cores), each in OUT/<name>, where OUT/<name>.log has what it printed. Then
`super_resolution.py` and `unpaired.py` make their tables, and the last grids and some crops become the pictures.

    python benchmarks/translators.py --facades F --unpaired U --photos P --set5 S --cifar10 C [--out FOLDER] [--jobs 2]

F has `train/` and `val/` with photograph and labels side by side; U has `trainA/`, `trainB/`, `testA/`, `testB/`; P and
S are folders of photographs, to train on and to test with; C is a labelled parquet file, for the distance of features.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import lit_gan
from lit_gan.config import compose
from lit_gan.run import RunFolder
from lit_gan.sweep import has_finished
from results import last_grid
from super_resolution import enlarged, whole_multiple

SCALE = 4
FACADES = [
    "arch=pix2pix", "data=paired", "data.layout=halves", "data.direction=BtoA", "data.flip=true",
    "eval.metrics=[psnr,ssim,fid,kid]", "metrics.extractor=pixels",
]  # fmt: skip
DEER = ["data=unpaired", "data.crop_size=32", "run.images=8000"]
LARGER = [
    "data=super-resolution", f"data.scale={SCALE}", "data.crop_size=64", "data.batch_size=4", "model.pretrain_lr=1e-3",
    "eval.metrics=[psnr-y,ssim-y]",
]  # fmt: skip
STAGES = {"SRResNet": "srresnet", "SRGAN": "srgan", "RRDB": "rrdb", "ESRGAN": "esrgan"}
# two crops of Set5 that tell the methods apart, each with the corner of 128 pixels of it
CROPS = {"baby.png": (200, 280), "butterfly.png": (60, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("facades", "unpaired", "photos", "set5"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cifar10", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/translators"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="names of runs; a second stage comes with its first")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    wanted = [c for c in chains(args) if not args.only or any(name in args.only for name, _ in c)]
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda chain: train(chain, args.out, args.jobs), wanted))

    horses = [run for name in ("cyclegan", "cut") if (run := args.out / name).exists()]
    last = {
        title: path
        for title, name in STAGES.items()
        if (path := args.out / name / "checkpoints" / "last.ckpt").exists()
    }
    folders = {part: [args.unpaired / f"{part}{domain}" for domain in "AB"] for part in ("train", "test")}
    if horses:
        script("unpaired.py", *horses, "--train", *folders["train"], "--test", *folders["test"])
        beside([grid for run in horses if (grid := last_grid(run))], args.out / "horse2deer.png")
    if last:
        script("super_resolution.py", *last.values(), "--images", args.set5, "--features", args.cifar10)
        crops(last, args.set5, args.out)
    for size in (64, 128):
        grid = last_grid(args.out / f"facades-{size}")
        if grid:
            Image.open(grid).save(args.out / f"facades-{size}.png")
    sys.exit(0 if all(done) else 1)


def chains(args: argparse.Namespace) -> list[list[tuple[str, list[str]]]]:
    """Runs by name and settings; those of one list start from one another. The longest are first."""
    facades = [*FACADES, f"data.path={args.facades / 'train'}", f"data.test={args.facades / 'val'}"]
    deer = [
        *DEER,
        f"data.sources={args.unpaired / 'trainA'}",
        f"data.path={args.unpaired / 'trainB'}",
        f"data.test_sources={args.unpaired / 'testA'}",
        f"data.test={args.unpaired / 'testB'}",
    ]
    larger = [*LARGER, f"data.path={args.photos}", f"data.test={args.set5}"]

    def two_stages(
        arch: str, first: str, images: int, more: int, *settings: str
    ) -> list[tuple[str, list[str]]]:
        alone = [f"run.images={images}", f"model.pretrain_images={images}", "optim.ema_half_life=2000"]
        game = [f"run.images={more}", "model.pretrain_images=0", "optim.ema_half_life=1000", *settings]
        start = f"run.start_from={args.out / first}"
        return [
            (first, [f"arch={arch}", *larger, *alone]),
            (arch, [f"arch={arch}", *larger, *game, start]),
        ]

    small = [
        "data.load_size=72",
        "data.crop_size=64",
        "data.batch_size=4",
        "model.field=34",
        "run.images=16000",
    ]
    large = [
        "data.load_size=143",
        "data.crop_size=128",
        "data.batch_size=1",
        "model.field=70",
        "run.images=5000",
    ]
    cycles = ["eval.metrics=[cycle]", "eval.every_images=2000"]
    return [
        two_stages("srgan", "srresnet", 48_000, 10_000, "model.adversarial_weight=1e-2"),
        two_stages("esrgan", "rrdb", 24_000, 8_000),
        [("facades-64", [*facades, *small])],
        [("facades-128", [*facades, *large])],
        [("cut", ["arch=cut", *deer, "eval.metrics=[]"])],
        [("cyclegan", ["arch=cyclegan", *deer, *cycles])],
    ]


def train(chain: list[tuple[str, list[str]]], out: Path, jobs: int) -> bool:
    """Whether every run of the chain has come to its end; what follows a failure is not started."""
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} if jobs > 1 else {}
    for name, settings in chain:
        place = [f"run.dir={out}", f"run.name={name}", "resume=auto", "logger=csv", "trainer.accelerator=cpu"]
        if has_finished(RunFolder(out / name), compose([*settings, *place])):
            continue
        start = time.monotonic()
        with (out / f"{name}.log").open("a") as log:
            command = [sys.executable, "-m", "lit_gan", "train", *settings, *place]
            code = subprocess.run(
                command, stdout=log, stderr=log, env=os.environ | threads, check=False
            ).returncode
        if code:
            print(f"{name} ended with exit code {code}: see {out / name}.log", flush=True)
            return False
        print(f"{name}: {(time.monotonic() - start) / 60:.1f} minutes in this sitting", flush=True)
    return True


def script(name: str, *arguments: object) -> None:
    subprocess.run([sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)], check=False)
    print(flush=True)


def beside(grids: list[Path], path: Path) -> None:
    images = [Image.open(grid).convert("RGB") for grid in grids]
    width = max(image.width for image in images) + 24
    made = Image.new("RGB", (len(images) * width - 24, max(image.height for image in images)), "white")
    for i, image in enumerate(images):
        made.paste(image, (i * width, 0))
    made.save(path)


def crops(runs: dict[str, Path], images: Path, out: Path) -> None:
    """Crops of what bicubic and each run make of Set5's small images, and of the large ones, in a row an image."""
    side, line = 128, 16
    loaded = {name: lit_gan.load(run) for name, run in runs.items()}
    titles = ["bicubic", *loaded, "original"]
    made = Image.new("RGB", (len(titles) * (side + 4), line + len(CROPS) * (side + 4)), "white")
    draw = ImageDraw.Draw(made)
    for column, title in enumerate(titles):
        draw.text((column * (side + 4) + 4, 1), title, fill="black", font=ImageFont.load_default(11))
    for row, (name, (x, y)) in enumerate(CROPS.items()):
        large = Image.open(images / name).convert("RGB")
        large = whole_multiple(large, SCALE)
        small = large.resize((large.width // SCALE, large.height // SCALE), Image.Resampling.BICUBIC)
        results = [enlarged(small, SCALE), *(run.translate(small) for run in loaded.values()), large]
        for column, image in enumerate(results):
            made.paste(image.crop((x, y, x + side, y + side)), (column * (side + 4), line + row * (side + 4)))
    made.save(out / "super-resolution.png")


if __name__ == "__main__":
    main()

"""Every arch that needs no sources on MNIST and six on CIFAR-10, at one equal budget of images: tables of docs/results.md.

Sweeps of `lit-gan sweep`, so that the same command again does what is left, then for each data set OUT/<name>-table.md (the
table of docs/results.md), the page of `lit-gan compare` and a sheet of the last sample grids. Data are parquet files in
the hub's schema; the extractor is `classifier`, which the first run trains.

    python benchmarks/results.py --mnist MNIST.parquet --cifar10 CIFAR10.parquet [--images N] [--out FOLDER] [--jobs 2]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lit_gan.build import variant_of
from lit_gan.compare.records import read_records
from lit_gan.compare.tables import Quantity, compare
from lit_gan.compare.text import columns
from lit_gan.config import compose, names
from lit_gan.ledger import Ledger

# the slowest first, so that no core is idle at the end
MAIN = ("r3gan", "wgan-gp", "stylegan2", "biggan", "sngan", "dcgan")
IMAGES = 40_000  # of each run: the slowest then took eight minutes, on two cores with AVX-512 and bfloat16
SHARED = [
    "data=hub", "data.image_size=32", "eval.images=2000",
    "eval.metrics=[fid,kid,pr,dc,modes]", "eval.max_share=1", "metrics.extractor=classifier", "metrics.real_images=10000",
    "trainer.accelerator=cpu", "logger=csv",
]  # fmt: skip
WIDE = 5  # grids in a row of the sheet
SCORES = ("fid_best", "kid", "pr_precision", "pr_recall", "dc_coverage")
MEANS = {
    "modes_classes": ".3g", "kimg": ".0f", "minutes": ".1f", "images_per_second": ",.0f",
    "generator_millions": ".3f", "discriminator_millions": ".3f",
}  # fmt: skip
HEAD = (
    "| arch | seeds | FID | KID | precision | recall | coverage | classes | kimg | minutes | images/s | G (M) | D (M) |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", required=True)
    parser.add_argument("--cifar10", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of each run, {IMAGES:,} unless given")
    args = parser.parse_args()
    others = [arch for arch in names("arch") if arch not in MAIN and not translates(arch)]
    shared = [*SHARED, f"run.images={args.images}", f"eval.every_images={args.images // 4}"]
    mnist = [*shared, f"data.path={args.mnist}", "data.channels=1"]
    cifar10 = [*shared, f"data.path={args.cifar10}", "data.channels=3", "data.flip=true"]
    swept = [
        sweep("mnist", mnist, MAIN, (0, 1, 2), args.out, args.jobs),
        sweep("mnist", mnist, others, (0,), args.out, args.jobs),
        sweep("cifar10", cifar10, MAIN, (0,), args.out, args.jobs),
    ]
    for name in ("mnist", "cifar10"):
        runs = args.out / name
        lit_gan("compare", str(runs), "--out", str(args.out / f"{name}.html"))
        (args.out / f"{name}-table.md").write_text(markdown(runs), encoding="utf-8")
        sheet(runs, args.out / f"{name}.png")
    sys.exit(max(swept))


def translates(arch: str) -> bool:
    """Whether it makes images of images: those have benchmarks of their own."""
    return variant_of(compose([f"arch={arch}"])).translates


def sweep(
    name: str,
    base: list[str],
    archs: list[str] | tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    jobs: int,
) -> int:
    """The exit code; a folder is shared by the sweeps of one name."""
    grid = [f"arch={','.join(archs)}", f"seed={','.join(map(str, seeds))}"]
    return lit_gan("sweep", *base, f"run.dir={out}", "--name", name, "--jobs", str(jobs), "--grid", *grid)


def lit_gan(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "lit_gan", *arguments], check=False).returncode


def markdown(runs: Path) -> str:
    """A row for each arch, the best FID first; what has standing statistics stands among the others."""
    minutes = {entry.name: entry.minutes for entry in Ledger.read(runs).entries.values()}
    rows = []
    for table in compare(read_records([str(runs)])).tables:
        found = {column.key: column.cells for column in columns(table)}
        for number, row in enumerate(table.rows):
            cells = {key: of[number] for key, of in found.items()}
            cells["minutes"] = Quantity.of([minutes[run.folder.path.name] for run in row.records])
            rows.append((row.best.mean, f"| `{row.label}` | {len(row.records)} | {line(cells)} |\n"))
    return HEAD + "".join(text for _, text in sorted(rows))


def line(cells: Mapping[str, Quantity | None]) -> str:
    """Scores at the best FID of each seed with their deviations; means over the seeds of kimg there and of the costs."""
    means = [f"{cell.mean:{digits}}" if (cell := cells[key]) else "-" for key, digits in MEANS.items()]
    return " | ".join([*(shown(cells[key]) for key in SCORES), *means])


def shown(cell: Quantity | None) -> str:
    if cell is None:
        return "-"
    return f"{cell.mean:.2f}" + ("" if cell.spread is None else f" ± {cell.spread:.2f}")


def sheet(runs: Path, path: Path) -> None:
    """The last grid of each arch's first seed, named, in rows."""
    grids = {run.name.removesuffix("-seed0"): last_grid(run) for run in sorted(runs.glob("*-seed0"))}
    found = {name: Image.open(grid) for name, grid in grids.items() if grid is not None}
    if not found:
        return
    grey = all(image.mode == "L" for image in found.values())
    font = ImageFont.load_default(16)
    width = max(image.width for image in found.values()) + 8
    height = max(image.height for image in found.values()) + 32
    rows = -(-len(found) // WIDE)
    made = Image.new("L" if grey else "RGB", (min(len(found), WIDE) * width, rows * height), "white")
    draw = ImageDraw.Draw(made)
    for i, (name, image) in enumerate(found.items()):
        x, y = i % WIDE * width, i // WIDE * height
        draw.text((x + 4, y + 4), name, fill="black", font=font)
        made.paste(image, (x + 4, y + 28))
    if grey:  # noise is most of the bytes, and shows as well in few greys; a palette of colours shows others
        made = made.quantize(32)
    made.save(path, optimize=True)


def last_grid(run: Path) -> Path | None:
    grids = sorted((run / "samples").glob("kimg*.png"))
    return grids[-1] if grids else None


if __name__ == "__main__":
    main()

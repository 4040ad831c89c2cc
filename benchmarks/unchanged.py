"""Which archs a change left as they were, bit for bit: says which rows of a table of an earlier commit still hold.

    python benchmarks/unchanged.py COMMIT [--archs dcgan r3gan ...] [--images 640] [--out FOLDER]

Trains each arch on the digits, by its preset, on one thread, for so few images twice: by the code of COMMIT, checked out
beside this one, and by the code here; then compares what the two last checkpoints hold of the module. A change of rounding
shows as tensors that differ, as a change of a preset does; what comes into play only after these images (growth, schedules)
does not show.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from lit_gan.config import names
from results import translates

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("--archs", nargs="+")
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--out", type=Path, help="keeps the runs; nothing may lie there")
    args = parser.parse_args()
    archs = args.archs or [arch for arch in names("arch") if not translates(arch)]
    with tempfile.TemporaryDirectory() as temporary:
        out, before = args.out or Path(temporary) / "runs", Path(temporary) / "code"
        subprocess.run(
            ["git", "-C", HERE, "worktree", "add", "--quiet", "--detach", before, args.commit], check=True
        )
        try:
            same = [
                compared(arch, {"before": before, "now": HERE}, out.resolve(), args.images) for arch in archs
            ]
        finally:
            subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", before], check=True)
    print(f"{sum(same)} of {len(same)} equal to the last bit after {args.images} images")
    sys.exit(0 if all(same) else 1)


def compared(arch: str, codes: dict[str, Path], out: Path, images: int) -> bool:
    states = []
    for name, code in codes.items():
        settings = [
            f"arch={arch}", "data=digits", "data.image_size=32", f"run.images={images}", "eval.metrics=[]", "logger=csv",
            "trainer.accelerator=cpu", f"run.dir={out / name}", f"run.name={arch}",
        ]  # fmt: skip
        surroundings = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-m", "lit_gan", "train", *settings],
            cwd=code,
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            print(
                f"{arch:14} does not train ({name}): {(run.stderr.strip().splitlines() or ['?'])[-1]}",
                flush=True,
            )
            return False
        path = out / name / arch / "checkpoints" / "last.ckpt"
        states.append(torch.load(path, map_location="cpu", weights_only=False)["state_dict"])
    differs = difference(*states)
    print(f"{arch:14} {differs or 'equal'}", flush=True)
    return not differs


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    """Empty where the two are equal bit for bit."""
    if one.keys() != other.keys():
        return f"other names: {', '.join(sorted(one.keys() ^ other.keys())[:3])}"
    unequal = [key for key in one if not torch.equal(one[key], other[key])]
    if not unequal:
        return ""
    if any(one[key].shape != other[key].shape for key in unequal):
        return "other shapes"
    largest = max(float((one[key].double() - other[key].double()).abs().max()) for key in unequal)
    return f"{len(unequal)} of {len(one)} tensors differ, by at most {largest:.2g}"


if __name__ == "__main__":
    main()

"""For the night (`make test-all`): every arch, from its own YAML, learns the digits in a third of its budget."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lit_gan.config import compose, names
from lit_gan.resume import compose_run
from lit_gan.train import train
from tiny import translates

LEARNED = 40.0  # FID; a share of the untrained one's would not do: the noise of `stylegan`'s has 20
CLASSES = 8  # of ten that must be there; on 26 November 2026 the least were nine, of `biggan` and `wgan`
GROWING = ["model.stable_images=1700", "model.fade_images=1700"]  # or a third of the budget ends half grown
MORE = {"progan": GROWING, "stylegan": GROWING}


@pytest.mark.slow
@pytest.mark.parametrize("arch", [arch for arch in names("arch") if not translates(arch)])
def test_arch_learns_the_digits(arch, tmp_path: Path, cache: Path):
    budget = compose([f"arch={arch}"]).get("run.images") // 3
    settings = [
        f"run.images={budget}", f"run.dir={tmp_path}", "run.name=run", "eval.metrics=[fid,modes]",
        "eval.images=2000", "logger=csv", "trainer.accelerator=cpu", "trainer.progress=false",
    ]  # fmt: skip

    # a number that is not finite would end it with an error
    assert train(compose_run([f"arch={arch}", *settings, *MORE.get(arch, [])])) == 0

    evaluations = json.loads((tmp_path / "run" / "results.json").read_text())["evaluations"]
    untrained, trained = (evaluations[i]["scores"] for i in (0, -1))
    assert evaluations[0]["images_seen"] == 0 < budget <= evaluations[-1]["images_seen"]
    assert trained["fid"]["protocol"]["extractor"] == "classifier"
    assert math.isfinite(trained["fid"]["value"])
    assert trained["fid"]["value"] < min(LEARNED, untrained["fid"]["value"])
    assert trained["modes"]["value"] >= CLASSES

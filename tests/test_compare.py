"""`lit-gan compare` on made-up runs: what is merged, what is kept apart, and what comes out in each format."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lit_gan.cli import main
from lit_gan.compare.curves import plot, spread, ticks
from lit_gan.compare.grids import LARGEST, bands, marks, png
from lit_gan.compare.page import page
from lit_gan.compare.records import read_records
from lit_gan.compare.tables import Comparison, Quantity, compare
from lit_gan.compare.text import comma_separated, markdown
from lit_gan.compare.words import decimals, number
from lit_gan.run import RunFolder
from tiny import tiny_run

HOW = {
    "metric": "fid", "settings": "", "extractor": "pixels", "weights": "a" * 64, "resize": "none", "quantisation": "uint8",
    "data": "d" * 64, "reference": "all", "reals": 1797, "fakes": 5000, "seed": 0, "ema": True, "truncation": None,
    "version": "1",
}  # fmt: skip


def score(value: float, how: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A score as results.json has it; `how` are the parts of its protocol that are not `HOW`'s."""
    return {"value": value, "floor": 0.5, "floor_images": 599, "protocol": {**HOW, **(how or {})}, **more}


def made(
    folder: Path, name: str, values: dict[int, Any], *, config: dict[str, Any] | None = None, **more: Any
) -> Path:
    """A run that was evaluated at the images of `values`: a FID, or a score for each metric."""
    run = RunFolder(folder / name)
    run.samples.mkdir(parents=True)
    given = {"arch": "dcgan", "seed": 0, "data": {"name": "digits"}, "run": {"name": name, "images": 2000}}
    run.config.write_text(yaml.safe_dump({**given, **(config or {})}))
    evaluations = []
    for seen, scores in values.items():
        scores = scores if isinstance(scores, dict) else {"fid": score(scores)}
        evaluations.append({
            "images_seen": seen, "source": "training", "scores": scores, "training_seconds": seen * 3.6,
            "hardware": {"device": "NVIDIA H100", "accelerator": "cuda", "devices": 2},
        })  # fmt: skip
        Image.new("L", (8, 8), seen % 251).save(run.samples / f"kimg{seen / 1000:010.3f}.png")
    results = {"evaluations": evaluations, "parameters": {"generator": 2_000_000, "discriminator": 1_500_000}}
    run.results.write_text(json.dumps({**results, **more}))
    return run.path


def compared(folder: Path, *metrics: str, each: bool = False) -> Comparison:
    return compare(read_records([str(folder)]), metrics, each=each)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table, by their column."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(cells(lines[0]), cells(line), strict=True)) for line in lines[2:]]


@pytest.fixture
def three_seeds(tmp_path) -> Path:
    """DCGAN of three seeds, and another width of one."""
    for seed, best in enumerate((3.0, 4.0, 8.0)):
        config = {"seed": seed, "logger": {"every": seed}, "model": {"width": 32}}
        made(tmp_path, f"dcgan-{seed}", {0: 90.0, 1000: best, 2000: best + 1}, config=config)
    made(tmp_path, "wide", {0: 90.0, 1000: 3.5, 2000: 2.5}, config={"model": {"width": 64}})
    return tmp_path


def test_seeds_merge_to_their_mean_and_standard_deviation(three_seeds):
    (table,) = compared(three_seeds).tables

    wide, merged = table.rows
    assert [len(wide.curves), len(merged.curves)] == [1, 3]
    assert merged.best == Quantity(5.0, statistics.stdev([3.0, 4.0, 8.0]))
    assert merged.final == Quantity(6.0, pytest.approx(7.0**0.5))
    assert wide.best == Quantity(2.5, None)


def test_rows_of_one_arch_are_told_apart_by_the_settings_that_differ(three_seeds):
    (table,) = compared(three_seeds).tables

    assert [row.label for row in table.rows] == ["dcgan · model.width=64", "dcgan · model.width=32"]


def test_at_most_three_differing_settings_are_shown(tmp_path):
    for i in range(2):
        config = {
            "model": {"a": i, "b": [i, "x"]},
            "optim": {"lr": i, "beta": None if i else 1},
            "trainer": {"devices": i},
        }
        made(tmp_path, f"{i}", {1000: 3.0 + i}, config=config)

    (table,) = compared(tmp_path).tables

    assert table.rows[1].label == "dcgan · model.a=1 model.b=[1,x] optim.beta=null (+2)"


def test_rows_that_would_be_called_the_same_have_their_runs_in_the_name(tmp_path):
    for i in range(4):
        a, b = divmod(i, 2)
        config = {"model": {"a": a, "b": a, "c": a, "d": b}}
        made(tmp_path, f"run-{i}", {1000: 3.0 + i}, config=config)

    (table,) = compared(tmp_path).tables

    assert [row.label for row in table.rows][:2] == [
        "dcgan · model.a=0 model.b=0 model.c=0 (+1) (run-0)",
        "dcgan · model.a=0 model.b=0 model.c=0 (+1) (run-1)",
    ]


def test_one_arch_on_two_data_sets_has_one_name(tmp_path):
    made(tmp_path, "a", {1000: 3.0})
    hub = {"name": "hub", "source": "hub", "path": "/data/mnist/train.parquet"}
    made(tmp_path, "b", {1000: {"fid": score(4.0, {"data": "e" * 64})}}, config={"data": hub})

    tables = compared(tmp_path).tables

    assert [(table.title, table.rows[0].label) for table in tables] == [
        ("FID on digits", "dcgan"),
        ("FID on mnist/train.parquet", "dcgan"),
    ]


def test_own_arch_by_path_is_called_by_its_file(tmp_path):
    made(tmp_path, "a", {1000: 3.0}, config={"arch": "configs/mine.yaml"})
    made(tmp_path, "b", {1000: 4.0}, config={"arch": "gan/2.5"})

    (table,) = compared(tmp_path).tables

    assert [row.label for row in table.rows] == ["mine", "gan/2.5"]


def test_same_seed_again_is_a_row_of_its_own(tmp_path):
    made(tmp_path, "a", {1000: 3.0})
    made(tmp_path, "b", {1000: 2.0})

    (table,) = compared(tmp_path).tables

    assert [(row.label, row.best.spread) for row in table.rows] == [("dcgan (b)", None), ("dcgan (a)", None)]


def test_each_lists_every_run_with_its_seed(three_seeds):
    shown = rows(markdown(compared(three_seeds, each=True)))

    assert [row["run"] for row in shown] == ["wide", "dcgan-0", "dcgan-1", "dcgan-2"]
    assert [row["seed"] for row in shown] == ["0", "0", "1", "2"]


def test_markdown_shows_scores_costs_and_sizes(three_seeds):
    shown = rows(markdown(compared(three_seeds)))

    assert [row["arch"] for row in shown] == ["dcgan · model.width=64", "dcgan · model.width=32"]
    assert shown[1] == {
        "arch": "dcgan · model.width=32", "seeds": "3", "best FID": "5.00 ± 2.65", "final FID": "6.00 ± 2.65",
        "floor": "0.50", "kimg": "1", "images/s": "0.28", "GPU-hours": "4", "G (M)": "2.00", "D (M)": "1.50",
    }  # fmt: skip
    assert shown[0]["best FID"] == "2.50"
    assert shown[0]["kimg"] == "2"


def test_heading_says_how_the_scores_were_made(three_seeds):
    text = markdown(compared(three_seeds))

    assert "### FID on digits" in text
    for part in ("FID by pixels (aaaaaaaa..)", "resize none", "5,000 fakes of seed 0", "uint8", "averaged generator",
                 "1,797 reals of digits (dddddddd..): all",
                 "real against real 0.5 at 599 images", "protocol version 1"):  # fmt: skip
        assert part in text


def test_higher_is_better_where_it_is(tmp_path):
    for name, values in (
        ("low", {0: 0.9, 1000: 0.5, 2000: 0.4}),
        ("high", {0: 0.0, 1000: 0.6, 2000: 0.7, 3000: 0.7}),
    ):
        scores = {
            seen: {"dc": score(value, {"metric": "dc"}, parts={"coverage": value})}
            for seen, value in values.items()
        }
        made(tmp_path, name, scores, config={"arch": name})

    (table,) = compared(tmp_path).tables

    shown = rows(markdown(compared(tmp_path)))
    assert [(row["arch"], row["best DC"], row["kimg"]) for row in shown] == [
        ("high", "0.700", "3"),
        ("low", "0.500", "1"),
    ]
    assert [row.curves[0].best.images for row in table.rows] == [3000, 1000], "of equal scores the later"
    assert "lead-score>0.700<" in page(compared(tmp_path))


def test_ranks_by_the_metric_that_chose_the_checkpoints(tmp_path):
    scores = {metric: score(1.0, {"metric": metric}) for metric in ("is", "authenticity", "ndb", "cmmd")}
    made(tmp_path, "a", {1000: scores})

    assert compared(tmp_path).tables[0].metric == "cmmd"


def test_runs_in_the_folders_of_sweeps_are_found_and_counted_once(tmp_path):
    made(tmp_path, "alone", {1000: 1.0}, config={"seed": 3})
    for sweep in ("by-seed", "by-lr"):
        (tmp_path / sweep).mkdir()
        made(tmp_path / sweep, "dcgan-seed0", {1000: 2.0 if sweep == "by-lr" else 3.0})
    made(tmp_path / "alone", "wandb", {1000: 9.0})
    made(tmp_path / "by-lr" / "deep", "run", {1000: 9.0})
    made(tmp_path / ".trash", "run", {1000: 9.0})

    comparison = compare(read_records([str(tmp_path), str(tmp_path / "by-lr" / "dcgan-seed0")]))

    assert [Path(record.path).relative_to(tmp_path).as_posix() for record in comparison.records] == [
        "alone", "by-lr/dcgan-seed0", "by-seed/dcgan-seed0",
    ]  # fmt: skip
    assert [row.label for row in comparison.tables[0].rows] == [
        "dcgan (alone, by-lr/dcgan-seed0)",
        "dcgan (by-seed/dcgan-seed0)",
    ]


def test_parts_have_their_own_error_of_a_single_run(tmp_path):
    for seed, name in ((0, "alone"), (0, "first"), (1, "second")):
        pr = score(
            0.7,
            {"metric": "pr"},
            error=0.5,
            parts={"precision": 0.7 + seed / 10, "recall": 0.25},
            part_errors={"precision": 0.03},
        )
        arch = "one" if name == "alone" else "two"
        made(tmp_path, name, {1000: {"fid": score(3.0), "pr": pr}}, config={"arch": arch, "seed": seed})

    shown = {row["arch"]: row for row in rows(markdown(compared(tmp_path)))}

    assert (shown["one"]["precision"], shown["one"]["recall"]) == ("0.700 ± 0.030", "0.250")
    assert shown["two"]["precision"] == "0.750 ± 0.071"


def test_untrained_generator_is_the_best_of_no_run(tmp_path):
    made(tmp_path, "a", {0: 1.0, 1000: 3.0})

    assert rows(markdown(compared(tmp_path)))[0]["best FID"] == "3.00"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"fakes": 10_000}, "fakes 5,000 / 10,000"),
        ({"seed": 1}, "seed 0 / 1"),
        ({"weights": "b" * 64}, "weights aaaaaaaa.. / bbbbbbbb.."),
        ({"truncation": 0.5}, "truncation none / 0.5"),
        ({"ema": False}, "ema yes / no"),
        ({"reference": "some", "reals": 9}, "reference all / some; reals 1,797 / 9"),
        ({"of_a_later_version": 3}, "of_a_later_version none / 3"),
    ],
)
def test_unequal_protocols_are_kept_apart_and_the_parts_that_differ_are_named(difference, words, tmp_path):
    made(tmp_path, "a", {1000: 3.0}, config={"seed": 0})
    made(tmp_path, "b", {1000: 3.0}, config={"seed": 1})
    made(tmp_path, "c", {1000: {"fid": score(4.0, difference)}}, config={"seed": 2})

    comparison = compared(tmp_path)

    assert [[len(row.curves) for row in table.rows] for table in comparison.tables] == [[2], [1]]
    assert [table.title for table in comparison.tables] == [
        "FID on digits, protocol A",
        "FID on digits, protocol B",
    ]
    assert comparison.notes[0].startswith("FID on digits appears under 2 protocols")
    assert comparison.notes[0].endswith(f": {words}")


def test_part_that_is_null_is_one_that_an_older_version_did_not_have(tmp_path):
    made(tmp_path, "a", {1000: 3.0})
    old = {key: value for key, value in HOW.items() if key != "truncation"}
    made(tmp_path, "b", {1000: {"fid": {"value": 4.0, "protocol": old}}}, config={"seed": 1})

    assert len(compared(tmp_path).tables) == 1


def test_other_data_are_called_other_data_not_another_protocol(tmp_path):
    made(tmp_path, "a", {1000: 3.0})
    other = {"data": "e" * 64, "reals": 60_000, "weights": "b" * 64}
    made(tmp_path, "b", {1000: {"fid": score(4.0, other)}}, config={"data": {"name": "mnist"}})

    comparison = compared(tmp_path)

    assert [table.title for table in comparison.tables] == ["FID on digits", "FID on mnist"]
    (note,) = comparison.notes
    assert note == "2 data sets, a table for each, not to be compared with one another: digits, mnist"


def test_two_data_sets_of_one_name_are_told_apart_by_their_fingerprints(tmp_path):
    made(tmp_path, "a", {1000: 3.0})
    made(tmp_path, "b", {1000: {"fid": score(4.0, {"data": "e" * 64})}}, config={"seed": 1})

    titles = [table.title for table in compared(tmp_path).tables]

    assert titles == ["FID on digits (dddddddd..)", "FID on digits (eeeeeeee..)"]


def test_other_metrics_stand_beside_at_the_best_of_the_first(tmp_path):
    def scores(fid: float, kid: float) -> dict[str, Any]:
        return {
            "fid": score(fid),
            "kid": score(kid, {"metric": "kid", "settings": "degree 3"}, error=0.001),
            "pr": score(0.7, {"metric": "pr"}, parts={"precision": 0.7, "recall": 0.25}),
            "dc": score(0.8, {"metric": "dc"}, parts={"density": 0.8, "coverage": 0.5}),
            "modes": score(9.0, {"metric": "modes"}, parts={"classes": 9.0, "kl": 0.1}),
        }

    made(tmp_path, "a", {1000: scores(3.0, 0.012), 2000: scores(4.0, 0.5)})
    made(tmp_path, "b", {1000: 5.0}, config={"arch": "gan"})

    first, second = rows(markdown(compared(tmp_path)))

    found = [first[title] for title in ("KID ×1000", "precision", "recall", "coverage", "classes")]
    assert found == ["12.00 ± 1.00", "0.700", "0.250", "0.500", "9"]
    assert (second["KID ×1000"], second["recall"], second["classes"]) == ("-", "-", "-")


def test_companions_of_unequal_protocol_never_share_a_column(tmp_path):
    for i, settings in enumerate(("degree 3", "degree 4")):
        kid = score(0.1 + i, {"metric": "kid", "settings": settings})
        made(tmp_path, f"{i}", {1000: {"fid": score(3.0 + i), "kid": kid}}, config={"arch": f"gan{i}"})

    comparison = compared(tmp_path)

    first, second = rows(markdown(comparison))
    assert (first["KID (1) ×1000"], first["KID (2) ×1000"]) == ("100.00", "-")
    assert (second["KID (1) ×1000"], second["KID (2) ×1000"]) == ("-", "1,100.00")
    assert (
        "KID is under 2 protocols, a column for each: settings degree 3 / degree 4"
        in comparison.tables[0].notes
    )


def test_companion_of_other_fakes_is_not_shown(tmp_path):
    kid = score(0.1, {"metric": "kid", "fakes": 50})
    made(tmp_path, "a", {1000: {"fid": score(3.0), "kid": kid}})

    assert "KID ×1000" not in rows(markdown(compared(tmp_path)))[0]


def test_more_is_better_for_the_inception_score(tmp_path):
    def is_(value: float) -> dict[str, Any]:
        return {"is": score(value, {"metric": "is"}, error=0.2)}

    made(tmp_path, "low", {1000: is_(2.0), 2000: is_(1.0)}, config={"arch": "gan"})
    made(tmp_path, "high", {1000: is_(3.0)})

    first, second = rows(markdown(compared(tmp_path)))

    assert [first["best IS"], second["best IS"], second["final IS"]] == [
        "3.00 ± 0.20",
        "2.00 ± 0.20",
        "1.00 ± 0.20",
    ]


def test_final_is_of_the_last_checkpoint_that_was_measured(tmp_path):
    path = made(tmp_path, "a", {1000: 3.0, 2000: 4.0})
    results = json.loads((path / "results.json").read_text())
    more = {
        "images_seen": 1000,
        "source": "eval of best.ckpt",
        "scores": {"fid": score(2.5, {"fakes": 50_000})},
    }
    (path / "results.json").write_text(
        json.dumps({**results, "evaluations": [*results["evaluations"], more]})
    )

    finals = {t.protocol["fakes"]: t.rows[0].final for t in compared(tmp_path).tables}

    assert finals == {5000: Quantity(4.0), 50_000: None}


def test_mean_over_some_of_the_seeds_is_not_shown(tmp_path):
    made(tmp_path, "a", {1000: {"fid": score(3.0), "kid": score(0.1, {"metric": "kid"})}})
    made(tmp_path, "b", {1000: 4.0}, config={"seed": 1})

    assert "KID ×1000" not in rows(markdown(compared(tmp_path)))[0]


def test_seeds_that_end_at_different_kimg_are_named(tmp_path):
    made(tmp_path, "a", {1000: 3.0, 2000: 4.0})
    made(tmp_path, "b", {1000: 4.0}, config={"seed": 1})

    assert compared(tmp_path).tables[0].notes == ("the runs of dcgan end at different kimg, 1 to 2",)


def test_device_hours_count_the_devices_of_each_sitting(tmp_path):
    path = made(tmp_path, "a", {1000: 3.0, 2000: 4.0})
    results = json.loads((path / "results.json").read_text())
    results["evaluations"][1]["hardware"]["devices"] = 8
    (path / "results.json").write_text(json.dumps(results))

    (record,) = read_records([str(path)])

    assert record.device_hours == pytest.approx(1 * 2 + 1 * 8)


def test_old_records_have_a_dash_for_what_they_do_not_know(tmp_path):
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    run.config.write_text("arch: gan\nseed: 3\ndata: {name: digits}\n")
    evaluation = {
        "images_seen": 1000,
        "source": "training",
        "scores": {"fid": {"value": 3.0, "protocol": HOW}},
    }
    run.results.write_text(json.dumps({"evaluations": [evaluation]}))

    (row,) = rows(markdown(compared(tmp_path)))

    assert [row[name] for name in ("floor", "images/s", "device-hours", "G (M)", "D (M)")] == ["-"] * 5
    assert "<td>–</td>" in html_of(tmp_path)


def test_old_records_with_seconds_give_the_speed(tmp_path):
    evaluation = {
        "images_seen": 1000,
        "source": "training",
        "training_seconds": 50.0,
        "scores": {"fid": score(3.0)},
    }
    path = made(tmp_path, "old", {}, evaluations=[evaluation], hardware={"device": "CPU", "devices": 4})

    (record,) = read_records([str(path)])

    assert (record.images_per_second, record.device_hours, record.is_gpu) == (
        20.0,
        pytest.approx(200 / 3600),
        False,
    )


def test_csv_holds_the_numbers_in_full_and_a_column_for_each_protocol(tmp_path):
    for seed, best in enumerate((1 / 3, 2 / 3)):
        made(tmp_path, f"a, {seed}", {1000: best}, config={"seed": seed})
    made(tmp_path, "b", {1000: {"fid": score(4.0, {"fakes": 10_000})}}, config={"arch": 'g"an'})

    first, second = csv.DictReader(io.StringIO(comma_separated(compared(tmp_path))))

    assert float(first["fid_best#1"]) == statistics.fmean([1 / 3, 2 / 3])
    assert float(first["fid_best_error#1"]) == statistics.stdev([1 / 3, 2 / 3])
    assert (first["fid_best#2"], second["fid_best#1"], second["fid_best#2"]) == ("", "", "4.0")
    assert (first["seeds"], second["label"]) == ("0 1", 'g"an')
    assert float(first["device_hours"]) == 2.0
    assert json.loads(second["protocol"])["fakes"] == 10_000


def test_csv_of_one_table_has_plain_names(three_seeds):
    found = list(csv.DictReader(io.StringIO(comma_separated(compared(three_seeds)))))

    assert [float(row["fid_best"]) for row in found] == [2.5, 5.0]


class Tags(HTMLParser):
    """What a page asks for, and whether its tags are in order."""

    VOID = ("meta", "img", "source", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on"), "no code in attributes"
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.links.append(value or "")
                self.images += [value or ""] if tag == "img" else []
        assert tag not in ("link", "iframe", "object", "embed", "base")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def html_of(folder: Path, *more: str) -> str:
    target = folder.parent / f"{folder.name}.html"
    assert main(["compare", str(folder), "--out", str(target), *more]) == 0
    return target.read_text(encoding="utf-8")


def test_page_holds_everything_itself(three_seeds):
    text = html_of(three_seeds)

    tags = Tags(text)
    assert not tags.open
    assert len(tags.images) == 2 + 2 * 2, "two charts, and the grids of two rows at two marks"
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert not re.search(r"https?://|file:", text)


def test_page_escapes_what_comes_from_files(tmp_path):
    bad = "<script>alert('x')</script>\"&"
    made(
        tmp_path,
        "<b>run",
        {1000: 3.0},
        config={"experiment": bad, "data": {"name": f"data{bad}"}, "seed": "<i>"},
    )
    made(
        tmp_path,
        "two",
        {1000: 3.0},
        config={"experiment": bad, "data": {"name": f"data{bad}"}, "model": {bad: bad}},
    )

    text = html_of(tmp_path)

    tags = Tags(text)
    assert not tags.open
    assert "<b>run" not in text
    assert "<i>" not in text
    assert text.count("<script>") == 1, "the page's own"
    assert any("script>alert" in part for part in tags.text)


def test_page_shows_runs_without_pictures_or_with_torn_ones(tmp_path):
    for path in (made(tmp_path, "a", {1000: 3.0}) / "samples").iterdir():
        path.write_bytes(b"torn")

    assert "no grid near" in html_of(tmp_path)

    for path in (tmp_path / "a" / "samples").iterdir():
        path.unlink()
    assert 'class="grids"' not in html_of(tmp_path)


def test_charts_are_pictures_with_something_in_them(three_seeds, tmp_path, capsys):
    folder = tmp_path.parent / f"{tmp_path.name}-charts"

    assert main(["compare", str(three_seeds), "--charts", str(folder)]) == 0

    assert sorted(path.name for path in folder.iterdir()) == ["fid-digits-kimg.png", "fid-digits-time.png"]
    for path in folder.iterdir():
        image = Image.open(path).convert("RGB")
        colours = image.getcolors(1_000_000)
        assert colours is not None
        assert image.width > 1000
        assert len(colours) > 50
    captured = capsys.readouterr()
    assert captured.out.count("wrote") == 0
    assert captured.err.count("wrote") == 2


def test_chart_survives_many_rows_long_names_and_odd_values(tmp_path):
    for i in range(20):
        name = f"$\\bad{{{i} 字 " + "long " * 10
        made(tmp_path, f"{i}", {0: 0.0, 1000: -1.0 * i, 2000: 1.0}, config={"arch": name})

    assert main(["compare", str(tmp_path), "--out", f"{tmp_path}-out"]) == 0

    assert Image.open(Path(f"{tmp_path}-out") / "fid-digits-kimg.png").height > 1000


def test_line_is_the_mean_of_seeds_between_the_lowest_and_the_highest(three_seeds):
    (table,) = compared(three_seeds).tables

    over_kimg, over_time = plot(table, "kimg"), plot(table, "time")

    assert over_kimg is not None
    assert over_time is not None
    line = over_kimg.lines[1]
    assert (line.x, line.mean, line.low, line.high) == ((1.0, 2.0), (5.0, 6.0), (3.0, 4.0), (8.0, 9.0))
    assert [y for _, y in line.seeds] == [(3.0, 4.0), (4.0, 5.0), (8.0, 9.0)]
    assert over_time.lines[1].x == (1.0, 2.0)
    assert over_time.x_label == "hours of training"
    assert (over_kimg.floor, over_kimg.log) == (0.5, False)


def test_mean_ends_with_the_first_seed_and_the_others_go_on_alone(tmp_path):
    made(tmp_path, "a", {1000: 3.0, 2000: 4.0})
    made(tmp_path, "b", {1000: 5.0, 2000: 6.0, 3000: 1.0}, config={"seed": 1})

    found = plot(compared(tmp_path).tables[0], "kimg")

    assert found is not None
    assert (found.lines[0].x, found.lines[0].mean) == ((1.0, 2.0), (4.0, 5.0))
    assert found.lines[0].seeds[1] == ((1.0, 2.0, 3.0), (5.0, 6.0, 1.0))


def test_axis_is_logarithmic_when_scores_span_more_than_ten_times(tmp_path):
    made(tmp_path, "a", {0: 300.0, 2000: 4.0})

    (table,) = compared(tmp_path).tables
    found = plot(table, "kimg")

    assert found is not None
    assert found.log
    assert found.lines[0].x == (0.0, 2.0), "with one score after the start, the start makes the line"


def test_labels_are_moved_apart_as_little_as_needed():
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.52, 0.5], 0.1) == pytest.approx([0.56, 0.46])
    assert spread([0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1])
    assert spread([1.0, 1.0, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert spread([0.5] * 21, 0.1)[-1] == pytest.approx(1.0), "closer, where there is no room"
    assert spread([], 0.1) == []


def test_ticks_of_a_logarithmic_axis_are_round_and_enough():
    assert ticks(0.9, 1100) == [1, 10, 100, 1000]
    assert len(ticks(3, 40)) >= 3
    assert all(2 <= tick <= 25 for tick in ticks(2, 25))


def test_grids_stand_side_by_side_at_equal_kimg(tmp_path):
    made(tmp_path, "a", dict.fromkeys((0, 15000, 30000, 60000, 300032), 3.0), config={"arch": "gan"})
    made(tmp_path, "b", dict.fromkeys((0, 14976, 30016, 60000), 4.0))

    (table,) = compared(tmp_path).tables
    found = bands(table)

    shown = [[grid.kimg for _, grid in band.grids if grid is not None] for band in found]
    assert shown == [[15.0, 14.976], [30.0, 30.016], [60.0, 60.0], [300.032, 60.0]]
    assert [band.title for band in found][2:] == ["Samples at 60 kimg", "The last samples of each"]


def test_marks_are_where_all_or_else_most_have_a_grid():
    assert marks([[0, 10, 20, 40], [0, 10.2, 41]]) == [10.2, 41]
    assert marks([[100], [102], [5]]) == [102]
    assert marks([[100], [50]]) == []
    assert marks([[1, 2, 4, 8, 16]]) == [4, 8, 16]


def test_large_grids_are_made_smaller(tmp_path):
    Image.new("RGB", (3 * LARGEST, LARGEST)).save(tmp_path / "large.png")

    small = png(tmp_path / "large.png")

    assert small is not None
    assert Image.open(io.BytesIO(small)).size == (LARGEST, LARGEST // 3)
    assert png(tmp_path / "none.png") is None


def test_numbers_have_the_decimals_that_the_smallest_needs():
    assert decimals([3.2137, 12.0, 384.9]) == 1
    assert decimals([0.0123]) == 3
    assert decimals([1.0, 2.0]) == 0
    assert decimals([], 2) == 2
    assert number(1234.5, 1) == "1,234.5"
    assert number(-0.0001, 2) == "0.00"
    assert number(-1.0, 2) == "-1.00"


def test_out_takes_a_file_or_a_folder(three_seeds, tmp_path, capsys):
    out = tmp_path.parent / f"{tmp_path.name}-out"

    for name, first in (("a.md", "### FID"), ("a.csv", "table,data,label"), ("a.html", "<!doctype html>")):
        assert main(["compare", str(three_seeds), "--out", str(out / name)]) == 0
        assert (out / name).read_text(encoding="utf-8").startswith(first)
    assert main(["compare", str(three_seeds), "--out", str(out / "all")]) == 0

    assert {path.name for path in (out / "all").iterdir()} == {
        "compare.md", "compare.csv", "compare.html", "fid-digits-kimg.png", "fid-digits-time.png"
    }  # fmt: skip
    assert not capsys.readouterr().out


def test_csv_to_the_terminal_is_nothing_but_csv(three_seeds, capsys):
    assert main(["compare", str(three_seeds), "--format", "csv"]) == 0

    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--format", "pdf"), ("'pdf' is not one of", "html")),
        (("--out", "x.txt"), ("--out x.txt", ".txt is none of md, csv, html")),
        (("--metric", "fidd"), ("called 'fidd'", "did you mean fid?")),
        (("--metric", "kid"), ("called 'kid'", "there are fid")),
        (("--charts", __file__), ("is a file",)),
    ],
)
def test_mistakes_are_one_line(more, words, three_seeds, capsys):
    assert main(["compare", str(three_seeds), *more]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"evaluations": [1]}', '{"evaluations": [{"images_seen": 1}]}', '{"evaluations": [{"scores": {}}]}',
        '{"evaluations": [{"images_seen": 1, "scores": {"fid": {"value": 1}}}]}',
        '{"evaluations": [{"images_seen": 1, "scores": {"fid": {"value": "x", "protocol": {}}}}]}',
        '{"evaluations": [], "parameters": 3}',
    ],
)  # fmt: skip
def test_damaged_results_are_one_line_that_names_the_file(text, tmp_path, capsys):
    made(tmp_path, "a", {1000: 3.0}).joinpath("results.json").write_text(text)

    assert main(["compare", str(tmp_path)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "results.json" in line


@pytest.mark.parametrize("text", ["{", "- 1"])
def test_damaged_config_is_one_line_that_names_the_file(text, tmp_path, capsys):
    made(tmp_path, "a", {1000: 3.0}).joinpath("config.yaml").write_text(text)

    assert main(["compare", str(tmp_path)]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_scores_that_are_not_finite_count_as_none(tmp_path):
    made(tmp_path, "a", {1000: float("nan"), 2000: 3.0})

    assert rows(markdown(compared(tmp_path)))[0]["best FID"] == "3.00"


def test_runs_without_scores_are_named(tmp_path, capsys):
    made(tmp_path, "none", {})
    made(tmp_path, "other", {1000: {"kid": score(0.1, {"metric": "kid"})}})
    made(tmp_path, "a", {1000: 3.0})

    assert main(["compare", str(tmp_path), str(tmp_path / "a")]) == 0

    out = capsys.readouterr().out
    assert f"without a score: {tmp_path / 'none'}" in out
    assert f"without a score by fid, but by others (see --metric): {tmp_path / 'other'}" in out
    assert len(rows(out)) == 1, "named twice, counted once"


def test_only_a_chart_imports_matplotlib_and_nothing_imports_torch(three_seeds, tmp_path):
    code = f"""if True:
        import sys
        from lit_gan.cli import main
        main(["compare", {str(three_seeds)!r}])
        print({{"torch", "lightning", "numpy", "matplotlib", "PIL"}} & set(sys.modules), file=sys.stderr)
        main(["compare", {str(three_seeds)!r}, "--out", {str(tmp_path.parent / "light.html")!r}])
        print({{"torch", "lightning"}} & set(sys.modules), file=sys.stderr)
        """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stderr.splitlines()[0] == "set()"
    assert answer.stderr.splitlines()[-1] == "set()"


def test_training_writes_what_the_table_needs(cache, tmp_path):
    scored = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=40", "eval.at_start=true"]
    path = tiny_run("dcgan", tmp_path, "run.images=16", *scored)

    (row,) = rows(markdown(compared(tmp_path)))

    last = RunFolder(path).read_results()["evaluations"][-1]
    assert last["images_per_second"] > 0
    assert last["hardware"]["accelerator"] == "cpu"
    assert row["arch"] == "dcgan"
    assert "-" not in [row[name] for name in ("floor", "images/s", "device-hours", "G (M)", "D (M)")]

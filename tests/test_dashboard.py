"""The dashboard shows what runs have logged, all of it and nothing else, and needs no server to be tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_gan.cli import main
from lit_gan.dashboard import names_logged, panels_for, view
from lit_gan.run import RunFolder
from lit_gan.wandb_file import names as in_wandb
from tiny import said, tiny_run
from wandb_records import records

SCORED = [
    "eval.metrics=[fid,kid,modes]",
    "metrics.extractor=classifier",
    "eval.images=40",
    "eval.at_start=true",
]


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory) -> Path:
    """A run that has logged to W&B offline, and to a CSV."""
    folder = tmp_path_factory.mktemp("dashboard") / "runs"
    path = tiny_run(
        "wgan-gp", folder, "run.images=160", "logger=[csv,wandb]", "eval.every_images=80", *SCORED
    )
    records(path / "wandb")  # waits until all is written
    return path


def test_names_of_a_run_are_those_that_wandb_has(run):
    assert names_logged(RunFolder(run)) == in_wandb(run / "wandb")


def test_run_without_a_csv_is_asked_for_what_wandb_keeps(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))
    (copy / "metrics.csv").unlink()

    assert names_logged(RunFolder(copy)) == names_logged(RunFolder(run))


def test_every_panel_shows_something_and_everything_is_shown(run):
    names = in_wandb(run / "wandb")

    sections = panels_for(names)

    shown = [panel.metric for section in sections for panel in section.panels]
    assert len(shown) == len(set(shown))
    assert set(shown) == names - {"kimg", "best/kimg"}
    assert [section.name for section in sections] == ["Scores", "Samples", "Losses", "Health", "Speed"]
    assert shown[:3] == ["best/fid", "val/fid", "val/kid"]


def metrics_of(spec: Any) -> set[str]:
    """Whatever a panel of a view reads: W&B's own keys for it."""
    found: set[str] = set()
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in ("metrics", "mediaKeys"):
                found |= set(value)
            if key == "fromOp" and value["name"] == "pick":  # of a query
                found.add(value["inputs"]["key"]["val"])
            found |= metrics_of(value)
    if isinstance(spec, list):
        for value in spec:
            found |= metrics_of(value)
    return found


def test_view_reads_names_that_wandb_has_over_kimg(run):
    names = in_wandb(run / "wandb")

    spec = view(panels_for(names), names, "lit-gan", "us")._spec["spec"]

    bank = spec["section"]["panelBankConfig"]["sections"]
    lines = [
        panel["config"]
        for section in bank
        for panel in section["panels"]
        if panel["viewType"] == "Run History Line Plot"
    ]
    assert metrics_of(bank) == names - {"kimg", "best/kimg"}
    assert {line["xAxis"] for line in lines} == {"kimg"}
    assert [line["groupBy"] for line in lines if line["metrics"] == ["val/fid"]] == ["arch.value"]


@pytest.mark.parametrize(("metric", "ascending"), [("fid", True), ("dc", False)])
def test_table_of_runs_begins_with_the_best(metric: str, ascending: bool):
    names = {f"best/{metric}", "best/kimg", "val/is"}

    spec = view(panels_for(names), names, "lit-gan", "us")._spec["spec"]

    (key,) = spec["section"]["runSets"][0]["sort"]["keys"]
    assert (key["key"]["name"], key["ascending"]) == (f"best/{metric}", ascending)


def test_dry_run_prints_the_view_of_a_run_or_a_folder(run, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    printed = []
    for path in (run, run.parent, run.parent.parent):
        assert main(["dashboard", str(path), "--dry-run"]) == 0
        printed.append(metrics_of(json.loads(capsys.readouterr().out)))

    assert printed[0] == printed[1] == printed[2] >= {"val/fid", "samples", "d/adversarial"}


@pytest.fixture
def refuses(capsys):
    def call(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["dashboard", *map(str, arguments)]) == 2
        lines = said(capsys.readouterr().err)
        assert len(lines) == 1, lines
        return lines[0]

    return call


def test_what_is_missing_is_one_line(run, refuses, tmp_path, monkeypatch):
    assert "nowhere does not exist" in refuses("nowhere")
    assert "is no run and holds none" in refuses(tmp_path)
    (tmp_path / "config.yaml").write_text("arch: gan\n")
    assert "none has logged to W&B" in refuses(tmp_path)
    assert "W&B is offline (WANDB_MODE)" in refuses(run)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "127.0.0.1 cannot be reached" in refuses(run)


def test_what_the_server_says_is_one_line(run, refuses, monkeypatch):
    def api(**_: object) -> None:
        raise RuntimeError("the key is not valid\nand more")

    monkeypatch.setattr("lit_gan.loggers.offline_reason", lambda: None)
    monkeypatch.setattr("wandb.Api", api)

    assert refuses(run).endswith("no view was made in lit-gan: the key is not valid")


def test_view_is_saved_in_the_project_of_the_runs(run, monkeypatch, capsys):
    from wandb_workspaces.workspaces import Workspace

    saved = []
    monkeypatch.setattr("lit_gan.dashboard._known_view", lambda *_: "")
    monkeypatch.setattr("lit_gan.loggers.offline_reason", lambda: None)
    monkeypatch.setattr(Workspace, "save", lambda self: saved.append(self))
    monkeypatch.setattr(Workspace, "url", "https://wandb/us/lit-gan?nw=1")

    assert main(["dashboard", str(run), "--entity", "us"]) == 0

    assert [(view.entity, view.project, view.name) for view in saved] == [("us", "lit-gan", "lit-gan")]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "view: https://wandb/us/lit-gan?nw=1"
    assert out[1].startswith("not uploaded yet: 1 runs; `wandb sync ")


class Server:
    """What the library asks of W&B's server about views."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {}  # by id

    def execute(self, api: object, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "mutation" in query:
            assert (variables["entityName"], variables["projectName"]) == ("us", "lit-gan")
            key = variables.get("id", f"id-{len(self.views)}")
            inserted = key not in self.views
            self.views[key] = {"id": key, **variables}
            return {"upsertView": {"view": {"id": key, "name": variables["name"]}, "inserted": inserted}}
        found = [view for view in self.views.values() if view["name"] == variables["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}


def test_second_call_replaces_the_view_of_the_first(run, monkeypatch, capsys):
    from wandb_workspaces.workspaces import internal

    server = Server()
    monkeypatch.setattr(internal, "execute_graphql", server.execute)
    monkeypatch.setattr(
        internal.wandb, "Api", lambda **_: SimpleNamespace(client=SimpleNamespace(app_url="https://w"))
    )
    monkeypatch.setattr("lit_gan.loggers.offline_reason", lambda: None)

    printed = []
    for _ in range(2):
        assert main(["dashboard", str(run), "--entity", "us"]) == 0
        printed.append(capsys.readouterr().out.splitlines()[0])

    assert list(server.views) == ["id-0"]
    assert printed[0] == printed[1]
    assert printed[0].endswith("/us/lit-gan?nw=litgan")


def test_runs_of_several_projects_need_a_choice(refuses, tmp_path, capsys):
    for name in ("a", "b"):
        place = tmp_path / name
        (place / "wandb" / "offline-run-1").mkdir(parents=True)
        (place / "metrics.csv").write_text("kimg,d/adversarial,g/adversarial\n1.0,0.5,\n")
        (place / "config.yaml").write_text(f"logger: {{wandb: {{project: {name}, entity: us}}}}\n")

    assert "several projects (us/a, us/b)" in refuses(tmp_path, "--dry-run")
    assert main(["dashboard", str(tmp_path), "--dry-run", "--project", "c"]) == 0
    assert metrics_of(json.loads(capsys.readouterr().out)) == {"d/adversarial"}, "g has no number"

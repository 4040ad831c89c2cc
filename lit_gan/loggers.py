"""Weights & Biases, CSV and TensorBoard with one x axis (kimg) and one set of names; none of them can stop a run."""

from __future__ import annotations

import contextlib
import csv
import netrc
import os
import secrets
import socket
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from lit_gan.best import BETTER, LOGGED
from lit_gan.config import Config
from lit_gan.run import RunFolder, replace

WANDB_HOST = "https://api.wandb.ai"


class MetricsCSV(Logger):
    """`metrics.csv`: a row per flush. It grows by appending; a resumed run goes on below the rows it resumes from."""

    def __init__(self, path: Path, *, resumed_at: int = 0) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = ["kimg"]
        if path.exists():
            rows = _whole_rows(path)
            self.columns = list(rows[0]) if rows else self.columns
            self._rewrite([row for row in rows if _images(row) <= resumed_at])

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        new = [name for name in metrics if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite(_whole_rows(self.path) if self.path.exists() else [])
        with self.path.open("a", newline="", encoding="utf-8") as handle:
            csv.DictWriter(handle, self.columns, lineterminator="\n").writerow(dict(metrics))

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        def write(partial: Path) -> None:
            with partial.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, self.columns, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        replace(self.path, write)


class TensorBoard(TensorBoardLogger):
    """Lightning itself calls these two."""

    def save(self) -> None:
        with _never_fatal(self):
            super().save()

    def finalize(self, status: str) -> None:
        with _never_fatal(self):
            super().finalize(status)


def _whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV, without a last line that a crash has torn."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n") and "\0" not in line]
    return [{k: v for k, v in row.items() if k is not None} for row in csv.DictReader(whole)]


def _images(row: Mapping[str, str]) -> float:
    """The images seen of a row: whole, though kimg times 1000 may not be; infinite where it says nothing."""
    try:
        return round(float(row["kimg"]) * 1000)
    except (KeyError, TypeError, ValueError, OverflowError):
        return float("inf")


def build_loggers(config: Config, run: RunFolder, *, resumed_at: int = 0) -> list[Logger]:
    """The loggers that `logger=` names, for rank 0."""
    loggers: list[Logger] = []
    for name in config.get("logger.names"):
        if name == "csv":
            loggers.append(MetricsCSV(run.metrics, resumed_at=resumed_at))
        elif name == "tensorboard":
            loggers.append(TensorBoard(str(run.path), name="", version="tensorboard"))
        elif (wandb_logger := build_wandb(config, run)) is not None:
            loggers.append(wandb_logger)
    return loggers


def build_wandb(config: Config, run: RunFolder) -> WandbLogger | None:
    """A W&B run in the run's folder: online with a key and a network, else offline with one line; None if it cannot
    start, or is not to.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    reason = offline_reason()
    if reason is None:
        try:
            return _start_wandb(config, run, offline=False)
        except Exception as error:  # W&B must never stop a run
            reason = f"it did not start: {_first_line(error)}"
    try:
        logger = _start_wandb(config, run, offline=True)
    except Exception as error:
        print(f"W&B is off: {_first_line(error)}", file=sys.stderr)
        return None
    folder = run.path / "wandb" / Path(logger.experiment.dir).parent.name
    print(f"W&B is offline ({reason}); `wandb sync {folder}` uploads the run later")
    return logger


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def offline_reason() -> str | None:
    """Why W&B cannot be online: asked for, no key, or no network; never asks anybody."""
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return "WANDB_MODE"
    base = os.environ.get("WANDB_BASE_URL", WANDB_HOST)
    host = urlparse(base).hostname or ""
    if not os.environ.get("WANDB_API_KEY") and not _in_netrc(host):
        return "no API key; `wandb login` or WANDB_API_KEY sets one"
    scheme = urlparse(base).scheme
    if scheme in getproxies():  # the way leads over the proxy, and names need not resolve here
        return None
    port = urlparse(base).port or (80 if scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return f"{host} cannot be reached"
    return None


def _in_netrc(host: str) -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_wandb(config: Config, run: RunFolder, *, offline: bool) -> WandbLogger:
    import wandb

    settings = config.get("logger.wandb")
    arch, data = Path(config["arch"]).stem, Path(config.get("data.name")).stem  # they may be paths of YAMLs
    id_file = run.path / "wandb" / "run-id"
    run_id = id_file.read_text().strip() if id_file.exists() else secrets.token_hex(4)
    id_file.parent.mkdir(parents=True, exist_ok=True)
    id_file.write_text(run_id)
    experiment = (
        wandb.init(  # not by the logger: it would set WANDB_MODE for all that follows in this process
            name=run.path.name,
            dir=run.path,
            id=run_id,
            resume="allow",
            project=settings["project"],
            entity=settings["entity"],
            group=f"{arch}-{data}",
            job_type="train",
            tags=[arch, data, f"seed{config['seed']}"],
            config=config.values,
            mode="offline" if offline else "online",
            settings=wandb.Settings(init_timeout=20, console="off", silent=True),
        )
    )
    id_file.write_text(experiment.id)  # the agent of a W&B sweep has one of its own
    if not offline:
        print(f"W&B: {experiment.url}")
    experiment.define_metric("kimg")
    experiment.define_metric("*", step_metric="kimg")
    for metric, better in BETTER.items():
        name = f"val/{metric}/{LOGGED[metric]}" if metric in LOGGED else f"val/{metric}"
        experiment.define_metric(name, step_metric="kimg", summary="min" if better == "lower" else "max")
    return WandbLogger(save_dir=run.path, experiment=experiment)


def log_everywhere(loggers: Iterable[Logger], numbers: Mapping[str, float], images_seen: int) -> None:
    """Log `numbers` at `images_seen`, with kimg as the x axis in every logger."""
    kimg = images_seen / 1000
    for logger in loggers:
        with _never_fatal(logger):
            if isinstance(logger, WandbLogger):
                logger.experiment.log({**numbers, "kimg": kimg})
            elif isinstance(logger, TensorBoardLogger):
                logger.log_metrics(dict(numbers), step=round(kimg))
            else:
                logger.log_metrics({"kimg": kimg, **numbers})


def show_everywhere(loggers: Iterable[Logger], name: str, picture: Any, images_seen: int) -> None:
    """Log a PIL image at `images_seen`."""
    import numpy as np

    for logger in loggers:
        with _never_fatal(logger):
            if isinstance(logger, WandbLogger):
                import wandb

                logger.experiment.log({name: wandb.Image(picture), "kimg": images_seen / 1000})
            elif isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(picture.convert("RGB"))
                logger.experiment.add_image(name, pixels, round(images_seen / 1000), dataformats="HWC")


def tabulate_everywhere(
    loggers: Iterable[Logger], name: str, columns: Mapping[str, Sequence[Any]], images_seen: int
) -> None:
    """Log a table at `images_seen`, by equally long columns of numbers, texts or PIL images; only W&B has tables."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with _never_fatal(logger):
                import wandb
                from PIL import Image

                def cell(value: Any) -> Any:
                    return wandb.Image(value) if isinstance(value, Image.Image) else value

                rows = [[cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
                table = wandb.Table(columns=list(columns), data=rows)
                with _staged_in(Path(logger.save_dir or ".") / "wandb"):
                    logger.experiment.log({name: table, "kimg": images_seen / 1000})


@contextlib.contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """W&B keeps a table's images until they are uploaded in the user's home, unless it is told another place: a run
    that is offline is then whole in its own folder.
    """
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def summarise(loggers: Iterable[Logger], numbers: Mapping[str, float]) -> None:
    """Put `numbers` into the summary of a W&B run, for its columns and bar charts; the other loggers have none."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with _never_fatal(logger):
                logger.experiment.summary.update(dict(numbers))


def finish(loggers: Iterable[Logger], config: Config, run: RunFolder) -> None:
    """End what a logger leaves open: the next run of this process is then not logged into this one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with _never_fatal(logger):
                if config.get("logger.wandb.log_model"):
                    _upload_checkpoints(logger.experiment, run)
                logger.experiment.finish()


def _upload_checkpoints(experiment: Any, run: RunFolder) -> None:
    import wandb

    artifact = wandb.Artifact(f"{run.path.name}-checkpoints", type="model")
    for path in (run.config, run.checkpoints / "best.ckpt", run.checkpoints / "last.ckpt"):
        if path.exists():
            artifact.add_file(str(path))
    experiment.log_artifact(artifact)


@contextlib.contextmanager
def _never_fatal(logger: Logger) -> Iterator[None]:
    """A logger that fails says so once; training goes on."""
    try:
        yield
    except Exception as error:
        if logger not in _broken:
            _broken.add(logger)
            print(f"{type(logger).__name__} failed, training goes on: {error}", file=sys.stderr)


_broken: weakref.WeakSet[Logger] = weakref.WeakSet()

"""Train a run: build everything, check what can be checked before the first step, fit, and say where the results lie."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from lit_gan import __version__
from lit_gan.build import Judges, data_of, judges_of, module_of, set_border, settings
from lit_gan.callbacks.averages import AverageSnapshots
from lit_gan.callbacks.averages import forget_after as forget_averages_after
from lit_gan.callbacks.checkpoint import CheckpointWriter, set_aside
from lit_gan.callbacks.clock import Clock
from lit_gan.callbacks.evaluation import Evaluation
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.progress import KimgProgress
from lit_gan.callbacks.samples import SampleGrid
from lit_gan.callbacks.signals import StopOnSignal
from lit_gan.checkpoints import check_fits, load, newest_whole
from lit_gan.cli import RANKS
from lit_gan.closing import closing
from lit_gan.config import Config
from lit_gan.data.base import ImageData
from lit_gan.data.progress import say
from lit_gan.errors import UserError
from lit_gan.evaluation import evaluate_run
from lit_gan.hardware import check_launcher, prepare_machine, resolve_accelerator, resolve_precision
from lit_gan.loggers import build_loggers, finish
from lit_gan.metrics.checks import check_metrics, metric_class
from lit_gan.module import AdversarialModule
from lit_gan.resume import Plan
from lit_gan.run import RunFolder, check_free, new_run, write_text
from lit_gan.settings import Trainer
from lit_gan.sources import check_sources, fakes_of, sources_of
from lit_gan.strategy import FlatReduceStrategy
from lit_gan.transfer import Start, begin, origin_of


def train(plan: Plan) -> int:
    """Run `plan` to its end; returns the exit code: 0, or 143 or 130 after SIGTERM or SIGINT and a checkpoint."""
    quiet()
    config = plan.config
    machine: Trainer = settings(config, "trainer")
    accelerator, devices, precision = resolve_machine(config)
    world = devices * machine.nodes
    check_launcher(world, devices)
    if plan.run is None and _rank() == 0:
        check_free(Path(config.get("run.dir")), config.get("run.name"), reuse=plan.restart)
    prepare_machine(accelerator, devices, tf32=machine.tf32)

    L.seed_everything(config["seed"], workers=True, verbose=False)
    origin = origin_of(config) if plan.run is None else None  # a run that goes on has its own weights
    data, module, judges = assemble(config)
    start = begin(module, origin) if origin is not None else None
    checkpoint = newest_whole(plan.run, plan.checkpoint) if plan.run is not None else None
    saved = load(checkpoint) if checkpoint is not None else {}
    record = saved.get("lit_gan", {})
    resumed_at = int(record.get("images_seen", 0))
    if record:
        data.load_state_dict(record["data"])  # Lightning asks only a data source of the same class
    if checkpoint is not None:
        for key, maker in (("average_width", "average"), ("blend", "blend")):
            if key in record:
                raise UserError(
                    f"{checkpoint} is made by `lit-gan {maker}` and cannot be trained: resume its run"
                )
        check_fits(checkpoint, module)
        _check_frozen(checkpoint, record, config)
    budget = _budget(config, module)
    if resumed_at >= budget:
        assert plan.run is not None
        if config.get("eval.metrics") and not plan.run.was_evaluated(
            resumed_at
        ):  # stopped during its last evaluation
            return evaluate_run(dataclasses.replace(plan, checkpoint=checkpoint), source="training")
        print(
            f"{checkpoint} has seen {resumed_at:,} of {budget:,} images: nothing left to do; raise run.images to go on"
        )
        return 0
    run = _folder(plan, config)
    leader = _rank() == 0
    if leader:
        write_text(
            run.config,
            f"# lit-gan {__version__}: the resolved configuration of this run\n{config.yaml()}",
        )
        lock = _lock(run)
        if start is not None:
            run.note(started_from=start.record())
        notes = [*module.notes, *judges.notes]
        if notes or "notes" in run.read_results():  # of a run that goes on, what is so now
            run.note(notes=notes)
        if checkpoint is not None:
            run.forget_after(resumed_at)
            set_aside(run, resumed_at)
            forget_averages_after(run, resumed_at)
    _arrange_layout(module, machine)
    module.run_record = {
        "format": 1,
        "version": __version__,
        "config": config.values,
        "data": data.state_dict(),
        "image_shape": list(data.train_shape),
        "source_shape": None if data.source_shape is None else list(data.source_shape),
        "latents": module.decoder.record if module.decoder is not None else None,
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "conditions": data.conditions.record() if data.conditions is not None else None,
        "started_from": start.record() if start is not None else record.get("started_from"),
    }

    signals = StopOnSignal()
    callbacks = _callbacks(config, module, run, judges, budget, signals)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=machine.nodes,
        strategy=FlatReduceStrategy() if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
        max_steps=int(saved.get("global_step", 0))
        + math.ceil((budget - resumed_at) / module.images_per_step),
        max_epochs=-1,
        logger=build_loggers(config, run, resumed_at=resumed_at) if leader else False,
        callbacks=callbacks,
        # a run goes on by resume=auto; Lightning's own requeueing would write a checkpoint in the middle of a step
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
        default_root_dir=run.path,
        deterministic=machine.deterministic or None,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1_000_000,
    )
    if leader:
        print(
            _opening(config, module, data, run, start, resumed_at, budget, accelerator, precision, world),
            flush=True,
        )
    signals.install()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{accelerator} memory is too small for data.batch_size={data.batch_size} on {world} device(s): "
            f"use optim.accumulate={2 * module.optim.accumulate} (the same batch per update, in parts), or a smaller batch"
        ) from None
    finally:
        finish(trainer.loggers, config, run)
        signals.restore()
    stopped_by = signals.agreed or signals.received
    if leader:
        lock.release()
        print(closing(run, module.images_seen, stopped_by, translates=module.translates), flush=True)
    # a rank that is not the first must not look failed to the launcher, which would kill the others
    return 128 + stopped_by if stopped_by and leader else 0


def _callbacks(
    config: Config,
    module: AdversarialModule,
    run: RunFolder,
    judges: Judges,
    budget: int,
    signals: StopOnSignal,
) -> list[L.Callback]:
    """In the order in which they act at the end of a step."""
    clock = Clock()
    numbers = Numbers(clock, config.get("logger.every"))
    chosen = settings(config, "checkpoint")
    writer = CheckpointWriter(
        run,
        numbers,
        signals,
        every_images=chosen.every_images or max(budget // 10, 1),
        every_minutes=chosen.every_minutes,
        keep=chosen.keep,
    )
    grid = SampleGrid(run, numbers, settings(config, "samples"))
    evaluation = Evaluation(
        run,
        judges.extractor,
        dataclasses.replace(
            settings(config, "eval"),
            metrics=judges.metrics,
            images=fakes_of(module, config.get("eval.images")),
        ),
        lpips=judges.lpips,
        reals=config.get("metrics.real_images"),
        budget=budget,
        numbers=numbers,
        writer=writer,
        grid=grid,
        signals=signals,
    )
    snapshots = AverageSnapshots(run, numbers, chosen.averages_every or max(budget // 40, 1))
    bar: list[L.Callback] = [KimgProgress(numbers, budget)] if config.get("trainer.progress") else []
    return [clock, signals, numbers, grid, evaluation, writer, snapshots, *bar]


def quiet() -> None:
    """Silence the hints of Lightning that do not apply to how it is used here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for about in (".*does not have many workers.*", ".*`log_every_n_steps`.*", ".*GPU available but not used.*",
                  ".*torch.distributed.*barrier.*", ".*Checkpoint directory.*", ".*isinstance.treespec.*",
                  ".*in eval mode at the start of training.*"):  # fmt: skip
        warnings.filterwarnings("ignore", about)


def resolve_machine(config: Config) -> tuple[str, int, str]:
    """Accelerator, devices a node and precision of a run, or a `UserError` where this machine cannot run it."""
    machine: Trainer = settings(config, "trainer")
    accelerator, devices = resolve_accelerator(machine)
    precision = resolve_precision(machine.precision, accelerator)
    _check(config, devices * machine.nodes)
    return accelerator, devices, precision


def assemble(config: Config) -> tuple[ImageData, AdversarialModule, Judges]:
    """Data, module and what a run is scored by, with everything checked that can be known before its first step."""
    data = data_of(config)
    shape = data.train_shape
    module = module_of(
        config,
        shape,
        data.num_classes,
        data.conditions,
        latents=shape != data.image_shape,
        source_shape=data.source_shape,
    )
    check_sources(module, data)
    module.sources = sources_of(module, data)
    module.decoder = data.decoder(bounded=module.bounded)
    if module.decoder is not None:
        module.decoder.load()  # a missing one is not found out at the first evaluation
    module.check_needs(data.keys)
    module.images_per_step = data.batch_size * module.optim.d_steps_per_g_step
    data.configure(seed=config["seed"], d_steps=module.optim.d_steps_per_g_step, draws=module.draws_per_step)
    module.look_at(data.state_dict())
    scored = data.held_out
    set_border(config, scored)
    judges = judges_of(config, scored, "cpu")
    if _rank() == 0:
        for note in judges.notes:
            say(note)
    if judges.metrics:
        check_metrics(
            judges.metrics,
            judges.extractor,
            lpips=judges.lpips,
            fakes=fakes_of(module, config.get("eval.images")),
            reals=config.get("metrics.real_images"),
            data=scored,
            module=module,
        )
    return data, module, judges


def _check(config: Config, world: int) -> None:
    parts = world * config.get("optim.accumulate")
    batch = config.get("data.batch_size")
    if batch % parts:
        raise UserError(
            f"data.batch_size={batch} cannot be shared by {world} devices x optim.accumulate="
            f"{config.get('optim.accumulate')}: it is the batch of all of them together; use a multiple of {parts}"
        )
    for name in config.get("eval.metrics"):
        metric_class(name)


def _check_frozen(checkpoint: Path, record: dict[str, Any], config: Config) -> None:
    """The moments in a checkpoint are of the layers that its run did not freeze."""
    before, now = record["config"]["optim"].get("freeze_d", 0), config.get("optim.freeze_d")
    if before != now:
        raise UserError(
            f"{checkpoint} was trained with optim.freeze_d={before}, not {now}: leave it as the run has it, or begin a "
            f"new run by run.start_from={checkpoint}"
        )


def _budget(config: Config, module: AdversarialModule) -> int:
    """`run.images`, rounded up to whole steps."""
    images: int = config.get("run.images")
    return math.ceil(images / module.images_per_step) * module.images_per_step


def _rank() -> int:
    """The global rank as the launcher says it: Lightning's own, torchrun or SLURM."""
    return next((int(os.environ[k]) for k in RANKS if k in os.environ), 0)


def _folder(plan: Plan, config: Config) -> RunFolder:
    """The run's folder. Rank 0 alone makes it and writes there; the others never look."""
    if plan.run is not None:
        return plan.run
    parent = Path(config.get("run.dir"))
    if _rank() != 0:
        return RunFolder(parent / "of-rank-0")
    prefix = "-".join(
        Path(config.get(key)).stem for key in ("arch", "data.name")
    )  # they may be paths of YAMLs
    return new_run(parent, config.get("run.name"), prefix, reuse=plan.restart)


def _lock(run: RunFolder) -> FileLock:
    """Keep a second process from training the same run; the system gives the lock back if this one is killed."""
    lock = FileLock(run.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{run.path} is being trained by another process: wait for it, or choose another run"
        ) from None
    return lock


def _arrange_layout(module: AdversarialModule, machine: Trainer) -> None:
    if machine.channels_last:
        module.to(memory_format=torch.channels_last)
    if machine.compile:  # in place: the names in a checkpoint stay the same
        module.generator.compile()
        module.discriminator.compile()


def _opening(
    config: Config, module: AdversarialModule, data: ImageData, run: RunFolder, start: Start | None, resumed_at: int,
    budget: int, accelerator: str, precision: str, world: int,
) -> str:  # fmt: skip
    def millions(network: torch.nn.Module) -> str:
        return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"

    c, h, w = data.image_shape
    what = f"{config['arch']} on {config.get('data.name')}: {data.size:,} images {w}x{h}x{c}"
    if data.conditions is not None:
        what += f", {data.conditions.kind} conditions of {len(data.class_names)} numbers"
    elif data.num_classes:
        what += f", {data.num_classes} classes"
    if module.decoder is not None:
        c, h, w = data.train_shape
        what += f", as latents {w}x{h}x{c} of {module.decoder.place}"
    lines = [
        f"{what}; generator {millions(module.generator)}, discriminator {millions(module.discriminator)}",
        f"{accelerator} x{world}, {precision}, torch {torch.__version__}, Python {platform.python_version()}",
        f"run {run.path}: {f'goes on at {resumed_at / 1000:g} of ' if resumed_at else ''}{budget / 1000:g} kimg",
    ]
    if start is not None:
        lines.append(str(start))
    lines += module.notes
    if data.skipped:
        lines.append(f"{len(data.skipped)} images did not decode and were skipped, such as {data.skipped[0]}")
    return "\n".join(lines)

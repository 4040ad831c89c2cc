"""The settings every run shares, as frozen dataclasses: the schema of the configuration, without importing torch.

What a variant or a data source adds are the keyword arguments of its own class, see `lit_gan.schema`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal


@dataclass(frozen=True)
class Optim:
    """How the two players are updated. Every count is in images shown to the discriminator."""

    name: Literal["adam", "rmsprop", "sgd"] = "adam"
    lr: float = 2e-4  # of both players, unless d_lr is given
    d_lr: float | None = None
    beta1: float = 0.5  # sgd: the momentum
    beta2: float = 0.999  # rmsprop: the smoothing constant
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None  # largest total gradient norm of a player
    accumulate: int = 1  # micro-batches per update, for batches that do not fit into memory
    d_steps_per_g_step: int = 1
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    lr_end: float = 0.0  # last learning rate as a share of the first
    decay_images: int | None = None  # length of lr_schedule; constant afterwards
    decay_start_images: int = 0  # images at the full rate, before lr_schedule begins
    ema_half_life: float = 0.0  # images; 0: the generator is not averaged
    ema_ramp: float | None = 0.05  # half-life at most this share of the images seen
    ema_start: int = 0  # images up to which the average is a copy
    freeze_d: int = (
        0  # layers of the discriminator, from the image on, that keep their weights: docs/small-data.md
    )
    ema_width: float | None = None  # relative width of power-function averages, instead: see docs/averages.md


@dataclass(frozen=True)
class Augment:
    """What the discriminator sees of reals and fakes, for small data; see docs/augmentation.md."""

    name: Literal["none", "diffaugment", "ada", "apa"] = "none"
    policy: list[str] | None = None  # groups of transforms, group:share for a share of p; null: the paper's
    p: float | None = None  # how often each acts; null: adapted to the discriminator (diffaugment: 1)
    p_end: float | None = None  # p follows half a cosine to it over optim.decay_images
    target: float = 0.6  # of an adapted p: where it holds r_t, the mean sign of D(real)
    images: int = 500_000  # in which an adapted p can go from 0 to 1
    interval: int = 4  # discriminator updates from one change of an adapted p to the next


@dataclass(frozen=True)
class Regularise:
    """Terms beside the variant's own, by their weights, 0: without; see docs/regularisation.md."""

    lecam: float = 0.0  # draws the logits of reals and fakes to each other's average; paper: 0.3 (BigGAN), 3e-7 (StyleGAN2)
    lecam_decay: float = 0.99  # of these averages, in a discriminator update
    consistency: float = 0.0  # of D at a real and at the real shifted; CR: 10
    fake_consistency: float = 0.0  # of D at a fake and at the fake shifted; bCR: 10, with consistency 10
    mirror: bool = True  # what is shifted is mirrored too, every second time; false for digits and letters
    z_consistency: float = 0.0  # of D at G(z) and at G(z + dz); zCR: 20
    z_diversity: float = 0.0  # in G: keeps G(z) and G(z + dz) apart; zCR: 0.5
    z_sigma: float = 0.05  # of dz
    r1: float = 0.0  # gamma: D's squared slope at reals, times gamma / 2
    r2: float = 0.0  # the same at fakes
    penalty: Literal["exact", "approx"] = (
        "exact"  # r1 and r2 by the gradient itself, or by finite differences
    )
    sigma: float = 0.01  # noise of the finite differences
    gradient_penalty: float = 0.0  # D's slope between reals and fakes held to 1; WGAN-GP: 10
    dragan: float = 0.0  # D's slope at noisy reals held to 1; DRAGAN: 10
    interval: int = 1  # discriminator updates from one penalty of its slopes to the next, then times it
    orthogonal: float = 0.0  # products of G's different filters, squared; BigGAN: 1e-4
    top_k: float = 1.0  # share of fakes, those that D likes best, that G learns from at last; paper: 0.5
    top_k_images: int | None = None  # over which the share falls from 1 to it; null: half of run.images


@dataclass(frozen=True)
class Run:
    """Where a run lies and how long it trains."""

    name: str | None = None  # null: <arch>-<data>-<first free number>
    dir: str = "runs"
    images: int = 100_000  # the budget, in images shown to the discriminator
    start_from: str | None = None  # a run or checkpoint whose weights it begins with: docs/small-data.md


@dataclass(frozen=True)
class Eval:
    """Which scores, when, and on how many samples."""

    metrics: list[str] = field(default_factory=lambda: ["fid"])
    every_images: int | None = None  # null: before the first step and at the end only
    images: int = 10_000  # fakes per evaluation
    batch_size: int = 256
    seed: int = 0
    at_start: bool = True  # the untrained generator too: what the last score is compared with
    standing_batches: int | None = (
        None  # of 64 fakes, for batch norm's statistics in inference; null: the paper's; 0: running averages
    )
    max_share: float = (
        0.05  # of the training time, for evaluations on the way: with fewer fakes rather than longer
    )


@dataclass(frozen=True)
class Metrics:
    """The extractor of the features that scores are made of, its weights and its resize; the network of LPIPS."""

    extractor: str = "inception"
    weights: str | None = None  # a file; null: the documented places, see docs/metrics.md
    weights_sha256: str | None = None  # accept this other hash instead of the standard one
    resize: Literal["legacy", "clean"] | None = (
        None  # of inception, dinov2 and clip; null: legacy, as their codes do
    )
    real_images: int | None = None  # use at most so many reals; null: all
    border: int | None = None  # pixels that psnr-y and ssim-y cut off at each side; null: the data's scale
    lpips: Literal["vgg", "alex"] = "vgg"  # the network of lpips, lpips-diversity and ppl
    lpips_weights: str | None = None  # its file; null: the documented places
    lpips_weights_sha256: str | None = None  # accept this other hash instead of the standard one


@dataclass(frozen=True)
class Checkpoint:
    """How often the state of a run is written, and how many states are kept."""

    every_images: int | None = None  # null: a tenth of run.images
    every_minutes: float | None = 10.0
    keep: int = 2  # the newest so many, beside `last` and `best`
    averages_every: int | None = (
        None  # images from one snapshot of them to the next, with optim.ema_width; null: a fortieth
    )


@dataclass(frozen=True)
class Samples:
    """The grid of samples, from the same latents every time."""

    rows: int = 8
    columns: int = 8
    every_images: int | None = None  # null: with every evaluation
    seed: int = 0


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases; without a key or a network the run is logged offline."""

    project: str = "lit-gan"
    entity: str | None = None
    log_model: bool = False


@dataclass(frozen=True)
class Logger:
    """Where numbers go; `logger=[csv,wandb]` on the command line sets `names`."""

    names: list[Literal["wandb", "csv", "tensorboard"]] = field(default_factory=lambda: ["csv"])
    every: int = 50  # trainer steps between two flushes
    wandb: Wandb = field(default_factory=Wandb)


@dataclass(frozen=True)
class Trainer:
    """The machine: what Lightning's Trainer is told, and how the networks run on it."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = 1
    nodes: int = 1
    precision: str = "auto"  # 32, bf16-mixed, or auto: bf16-mixed where the hardware has it
    tf32: bool = False  # faster float32 on a GPU, with 10 bits of mantissa
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    progress: bool = True


AT_LEAST: dict[str, float] = {  # the smallest value that makes sense; null is left alone
    **dict.fromkeys(("run.images", "data.batch_size", "trainer.nodes", "logger.every"), 1),
    **dict.fromkeys(("eval.images", "eval.batch_size", "eval.every_images", "metrics.real_images"), 1),
    **dict.fromkeys(("checkpoint.every_images", "checkpoint.keep", "checkpoint.averages_every"), 1),
    **dict.fromkeys(("samples.rows", "samples.columns", "samples.every_images"), 1),
    **dict.fromkeys(("optim.accumulate", "optim.d_steps_per_g_step", "optim.decay_images"), 1),
    **dict.fromkeys(
        ("optim.lr", "optim.d_lr", "optim.beta1", "optim.beta2", "optim.eps", "optim.weight_decay"), 0
    ),
    **dict.fromkeys(
        (
            "optim.ema_half_life",
            "optim.ema_ramp",
            "optim.ema_width",
            "optim.ema_start",
            "optim.clip_norm",
            "optim.lr_end",
            "optim.freeze_d",
            "optim.decay_start_images",
        ),
        0,
    ),
    **dict.fromkeys(("augment.images", "augment.interval"), 1),
    **dict.fromkeys(("augment.p", "augment.p_end", "metrics.border"), 0),
    "augment.target": -1,
    **dict.fromkeys(
        (f"regularise.{key.name}" for key in fields(Regularise) if type(key.default) is float), 0
    ),
    "regularise.top_k_images": 0,
    "regularise.interval": 1,
    **dict.fromkeys(
        ("seed", "data.workers", "checkpoint.every_minutes", "eval.max_share", "eval.standing_batches"), 0
    ),
}
AT_MOST: dict[str, float] = dict.fromkeys(
    ("augment.p", "augment.p_end", "augment.target", "regularise.top_k"), 1
)
BELOW: dict[str, float] = {"regularise.lecam_decay": 1, "optim.beta1": 1, "optim.beta2": 1, "seed": 2**32}
SECTIONS: dict[str, type] = {
    "run": Run,
    "optim": Optim,
    "augment": Augment,
    "regularise": Regularise,
    "eval": Eval,
    "metrics": Metrics,
    "checkpoint": Checkpoint,
    "samples": Samples,
    "logger": Logger,
    "trainer": Trainer,
}

"""The command line: parse, check, and only then import what is heavy."""

from __future__ import annotations

import errno
import os
import sys

import click

from lit_gan import __version__
from lit_gan.cli.looking import compare, config, dashboard, list_, weights
from lit_gan.cli.parsing import Commands
from lit_gan.cli.trained import average, blend, evaluate, sample, translate
from lit_gan.cli.training import encode, sweep, train
from lit_gan.errors import USER_ERROR, UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # in the order in which Lightning believes them
MACHINE_SAYS_NO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Train, measure and sample generative adversarial networks.

    \b
    lit-gan train arch=stylegan-lite                    digits, on whatever this machine has
    lit-gan train arch=r3gan data=folder data.path=photos/ trainer.devices=4
    lit-gan train resume=auto                           go on where the newest run stopped
    lit-gan sweep --grid arch=dcgan,r3gan seed=0,1,2    every combination, and a table at the end
    lit-gan sample runs/stylegan-lite-digits-1 -n 64
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    train,
    sweep,
    dashboard,
    evaluate,
    encode,
    sample,
    translate,
    average,
    blend,
    list_,
    weights,
    config,
    compare,
)
for command in COMMANDS:
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; a `UserError` is one line on standard error and exit code 2."""
    try:
        return int(cli.main(args=arguments, prog_name="lit-gan", standalone_mode=False) or 0)
    except UserError as error:
        rank = next((os.environ[k] for k in RANKS if k in os.environ), "0")
        where = (
            "" if rank == "0" else f" [rank {rank}]"
        )  # most often every rank finds the same, but not always
        click.echo(f"lit-gan{where}: {' '.join(str(error).split())}", err=True)
        return USER_ERROR
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        click.echo(
            f"lit-gan: {' '.join(error.format_message().split()).rstrip('.')}; see `lit-gan --help`", err=True
        )
        return USER_ERROR
    except OSError as error:
        if error.errno not in MACHINE_SAYS_NO:
            raise
        click.echo(f"lit-gan: {error.filename or 'disk'}: {error.strerror}", err=True)
        return USER_ERROR


def run() -> None:
    """The console script."""
    sys.exit(main())

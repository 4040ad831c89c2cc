"""`python -m lit_gan`."""

from lit_gan.cli import run

run()

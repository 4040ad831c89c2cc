"""What `lit-gan weights` prints and does, without importing torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lit_gan.errors import UserError
from lit_gan.metrics.weights import KNOWN, WeightFile, copy_from, download, known, sha256_of, weights_folder


def table() -> Iterator[str]:
    """The known files, a line each: size, hash, whether it is here, whose it is, where it lies or would lie."""
    yield f"{'name':<10} {'size':>8}  {'sha256':<8}  {'here':<4}  file"
    for name, wanted in KNOWN.items():
        path = wanted.found()
        start = f"{name:<10} {_size(wanted):>8}  {(wanted.sha256 or 'unknown')[:8]:<8}"
        yield f"{start}  {'yes' if path else 'no':<4}  {path or wanted.own}"
        yield f"{'':<10} {wanted.about}"


def check(names: Sequence[str] = ()) -> Iterator[tuple[bool, str]]:
    """Whether each file that is here is the published one, and a line about it."""
    for name in _chosen(names):
        wanted = known(name)
        here = [path for path in wanted.places if path.is_file()]
        if not here:
            yield True, f"{name:<10} missing  {wanted.own}"
        for path in here:
            found = sha256_of(path)
            right = wanted.sha256 in (None, found)
            word = ("ok" if wanted.sha256 else "unknown") if right else "WRONG"
            yield right, f"{name:<10} {word:<7}  {path}  sha256 {found}"
    if not names:  # weights of timm's models: there is nothing to hold them against
        files = {wanted.file for wanted in KNOWN.values()}
        for path in sorted(weights_folder().glob("*.*")):
            if path.suffix in {".pth", ".safetensors"} and path.name not in files:
                yield True, f"{'-':<10} unknown  {path}  sha256 {sha256_of(path)}"


def fetch(names: Sequence[str] = (), source: Path | None = None) -> Iterator[str]:
    """Puts what is missing into lit-gan's folder, from `source` or from the net, and says so line by line."""
    for name in _chosen(names):
        wanted = known(name)
        if (path := wanted.found()) is not None:
            if wanted.sha256 not in (None, sha256_of(path)):
                raise UserError(f"{path} is not the standard file; remove it, then fetch again")
            yield f"{name}: is here, {path}"
            continue
        yield f"{name}: {_size(wanted)} from {source or wanted.url}"
        try:
            found = download(wanted) if source is None else copy_from(source, wanted)
        except OSError as error:
            way = f"`lit-gan weights fetch {name} --from FOLDER`"
            raise UserError(
                f"{name}: not fetched ({error}): take {wanted.url} where there is a network, then {way}, or put it "
                f"as {wanted.file} into {weights_folder()}"
            ) from error
        yield f"{name}: {wanted.own}, sha256 {found}"


def _chosen(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        known(name)
    return names or list(KNOWN)


def _size(wanted: WeightFile) -> str:
    if not wanted.size:
        return "unknown"
    return f"{wanted.size / 1e9:.2f} GB" if wanted.size >= 1e9 else f"{wanted.size / 1e6:.1f} MB"

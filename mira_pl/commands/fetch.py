"""`python -m mira_pl fetch --config X`: downloads exactly what the fit of X loads, and checks it."""

import shlex
from collections.abc import Sequence

from ..fit.cli import ParsedCLI, build, hush, plain
from ..fit.needs import rounds
from ..hub import fetch
from .doctor import size


def main(argv: Sequence[str]) -> None:
    """Fetch what is missing, check what is here; takes the arguments of `fit`.

    Raises:
        OSError: something cannot be fetched.
        ValueError: the configuration is wrong, a model is not the one that is needed, or a download is damaged.
    """
    hush()
    listings = {}
    for need in rounds(plain(build(argv, ParsedCLI))):
        files = fetch(need, listings).files
        total = sum(path.stat().st_size for path in files.values())
        print(f"{need.source}: {', '.join(files)} ({size(total)})")
    print(f"ready: {shlex.join(['python', '-m', 'mira_pl', 'fit', *argv])}")

"""`python -m mira_pl fetch --config X`: downloads exactly what the fit of X loads, and checks it."""

import shlex
from collections.abc import Sequence

from ..fit.cli import hush, parse, plain
from ..fit.needs import rounds
from ..hub import fetch
from .doctor import size


def main(argv: Sequence[str]) -> None:
    """Fetch what is missing, check what is here; takes the arguments of `fit`.

    Where the hub cannot be asked and all is here, that is said and no error: a job may fetch first on a node offline.

    Raises:
        OSError: something cannot be fetched.
        ValueError: the configuration is wrong, a model is not the one that is needed, or a download is damaged.
    """
    hush()
    listings = {}
    for need in rounds(plain(parse(argv))):
        try:
            files, compared = fetch(need, listings).files, ""
        except OSError:
            found = need.look()
            if found.missing:
                raise
            files, compared = found.files, ", not compared with the hub, which cannot be asked"
        total = sum(path.stat().st_size for path in files.values())
        print(f"{need.source}: {', '.join(files)} ({size(total)}{compared})")
    print(f"ready: {shlex.join(['python', '-m', 'mira_pl', 'fit', *argv])}")

"""`fit` on a machine that has no memory left for the trial with beta 0.5, once everything is imported."""

import resource
import sys
from pathlib import Path

from mira_pl.__main__ import main
from mira_pl.commands import fit  # noqa: F401  imported before the memory is gone

LEFT = 700 * 2**20


def starve() -> None:
    """No more address space than what is taken, and a little."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + LEFT, resource.RLIM_INFINITY))


if __name__ == "__main__":
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    if flags["--model.objective.beta"] == "0.5":
        starve()
    raise SystemExit(main(["fit", *sys.argv[1:]]))

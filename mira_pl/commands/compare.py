"""`python -m mira_pl experiment compare`: many methods on one config, at equal compute."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..experiments.compare import METHODS, flags
from ..ranges import positive
from .arguments import Arguments

INTERRUPTED = 130
"""How a fit ends that Ctrl-C has stopped in order."""


def compare(argv: Sequence[str]) -> None:
    """Fit a config by one method after the other, each with as many samplings of the frozen model a job.

    What is finished is not done again. Further flags are those of `fit`, for all methods.

    Raises:
        OSError: some methods could not run; the others did.
    """
    about = (compare.__doc__ or "").split("\n\n    Raises:")[0]
    parser = Arguments(prog="python -m mira_pl experiment compare", description=about)
    parser.add_argument("--config", action="append", required=True, help="of the fit: model, reward and prompts")
    parser.add_argument("--samplings", type=int, default=10, help="a job and method; ways back and a last look on top")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"of {', '.join(METHODS)}; default: all")
    parser.add_argument("--overlays", type=Path, default=Path("configs/methods"), help="folder of METHOD.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="each method writes into OUT/METHOD")
    options, shared = parser.parse_known_args(list(argv))
    positive(samplings=options.samplings)
    own = {method: flags(method, options.samplings) for method in options.methods}  # wrong names before any fit
    failed = []
    for method, settings in own.items():
        configs = [f"--config={path}" for path in (*options.config, options.overlays / f"{method}.yaml")]
        words = ["fit", *configs, *settings, *shared, "--out", str(options.out / method)]
        print(f"{method}: {shlex.join(['python', '-m', 'mira_pl', *words])}", file=sys.stderr, flush=True)
        if code := run([sys.executable, "-m", "mira_pl", *words]):
            failed.append(method)
        if code < 0 or code == INTERRUPTED:
            raise KeyboardInterrupt
    if failed:
        raise OSError(f"{len(failed)} of {len(own)} methods did not run, for the reasons above: {', '.join(failed)}")


def run(command: Sequence[str]) -> int:
    """The exit code of a command. Ctrl-C reaches it, too, and it is given the time to end in order."""
    with subprocess.Popen(command) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue

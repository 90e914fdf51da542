"""`python -m mira_pl experiment compare`: many methods on one config, at equal compute."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..experiments.compare import METHODS, flags
from ..ranges import positive
from .arguments import Arguments


def compare(argv: Sequence[str]) -> None:
    """Fit a config by one method after the other, each with as many samplings of the frozen model a job.

    What is finished is not done again. Further flags are those of `fit`, for all methods.

    Raises:
        OSError: some methods could not run; the others did.
    """
    parser = Arguments(prog="python -m mira_pl experiment compare", description=compare.__doc__)
    parser.add_argument("--config", required=True, help="of the fit: model, reward and prompts")
    parser.add_argument("--samplings", type=int, default=10, help="a job and method, forward; a last look comes on top")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"of {', '.join(METHODS)}; default: all")
    parser.add_argument("--overlays", type=Path, default=Path("configs/methods"), help="folder of METHOD.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="each method writes into OUT/METHOD")
    options, shared = parser.parse_known_args(list(argv))
    positive(samplings=options.samplings)
    own = {method: flags(method, options.samplings) for method in options.methods}  # wrong names before any fit
    failed = []
    for method, settings in own.items():
        configs = ["--config", options.config, "--config", str(options.overlays / f"{method}.yaml")]
        words = ["fit", *configs, *settings, *shared, "--out", str(options.out / method)]
        print(f"{method}: python -m mira_pl {' '.join(words)}", file=sys.stderr, flush=True)
        if subprocess.run([sys.executable, "-m", "mira_pl", *words], check=False).returncode:
            failed.append(method)
    if failed:
        raise OSError(f"{len(failed)} of {len(own)} methods did not run, for the reasons above: {', '.join(failed)}")

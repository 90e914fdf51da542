"""`python -m mira_pl COMMAND`: the dispatch table."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "fit": "learn the noises of every prompt, or search among noises",
    "show": "one HTML page of a run, or of several compared",
    "doctor": "what a fit needs, what of it is here, how long it takes",
    "fetch": "download what a fit needs",
    "sweep": "sweeps with Optuna: run, worker, status, reap, show, export",
    "dashboard": "the W&B workspace as code",
    "experiment": "compare, hacking, toy-kl, world-quality: tables and figures",
    "pretrain": "train a model of the emoji world",
}
EXTRAS = {
    "pandas": "experiments",
    "matplotlib": "experiments",
    "optuna": "sweep",
    "wandb_workspaces": "dashboard",
}
HELP = f"""Align text-to-image models at inference time.

usage: python -m mira_pl COMMAND [...]; every command takes --help

{chr(10).join(f"  {name:11} {purpose}" for name, purpose in COMMANDS.items())}

  python -m mira_pl fit --data.prompts '["a white cat"]' --out runs/cat
  python -m mira_pl show runs/cat"""


def main(argv: Sequence[str]) -> int:
    """Run a command; a mistake of the user's is one line and exit code 2. A command may return a code of its own."""
    if not argv or argv[0] in ("--help", "-h"):
        print(HELP)
        return 0
    if argv[0] not in COMMANDS:
        return fail(f"no command {argv[0]!r}; there are {', '.join(COMMANDS)}. Try: python -m mira_pl --help")
    try:
        return import_module(f"mira_pl.commands.{argv[0]}").main(argv[1:]) or 0
    except (ValueError, OSError) as error:
        return fail(" ".join(str(error).split()))
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in EXTRAS:
            raise
        return fail(f'{argv[0]} needs {library}, an extra: python -m pip install "mira_pl[{EXTRAS[library]}]"')
    except KeyboardInterrupt:
        print("mira_pl: stopped", file=sys.stderr)
        return 130


def fail(message: str) -> int:
    """One line on stderr, and the exit code for it."""
    print(f"mira_pl: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""`python -m mira_pl COMMAND`: the dispatch table."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("doctor", "fetch", "fit", "show", "experiment", "pretrain")


def main(argv: Sequence[str]) -> int:
    """Run a command; a mistake of the user's is one line and exit code 2. A command may return a code of its own."""
    if not argv or argv[0] not in COMMANDS:
        wanted = f"no command {argv[0]!r}" if argv else "no command"
        print(f"mira_pl: {wanted}; there are {', '.join(COMMANDS)}. Try: python -m mira_pl fit --help", file=sys.stderr)
        return 2
    try:
        return import_module(f"mira_pl.commands.{argv[0]}").main(argv[1:]) or 0
    except (ValueError, OSError) as error:
        print(f"mira_pl: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mira_pl: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

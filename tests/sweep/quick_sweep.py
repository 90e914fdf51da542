"""`python -m mira_pl` whose trials run `quick_fit.py`."""

import sys
from pathlib import Path

from mira_pl.__main__ import main
from mira_pl.sweep import command

command.FIT = ("python", str(Path(__file__).with_name("quick_fit.py")))

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

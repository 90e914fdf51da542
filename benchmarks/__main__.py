"""`python -m benchmarks cpu` prints the table of docs/speed.md."""

import sys

from . import cpu

if __name__ == "__main__":
    if sys.argv[1:] != ["cpu"]:
        raise SystemExit("usage: python -m benchmarks cpu")
    cpu.main()

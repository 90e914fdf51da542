"""`python -m benchmarks cpu` (docs/performance.md), `gpu` and `scaling` (docs/gpu.md)."""

import argparse

from mira_pl.fit.cli import hush

from . import cpu, gpu, scaling

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory as ratios within one run.")
commands = parser.add_subparsers(required=True)
for module in (cpu, gpu, scaling):
    command = commands.add_parser(
        module.__name__.rsplit(".", 1)[1],
        help=(module.__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    module.add_arguments(command)
    command.set_defaults(main=module.main)

if __name__ == "__main__":
    args = parser.parse_args()
    hush()
    args.main(args)

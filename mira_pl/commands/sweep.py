"""`python -m mira_pl sweep run --config sweeps/beta.yaml`: many fits, chosen by Optuna, shared out among workers."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..experiments.page import page as run_html
from ..experiments.picture import png
from ..fit.cli import hush
from ..runs import RunFolder, write_atomic
from ..sweep import export as exports
from ..sweep import status as states
from ..sweep.check import job_keys, report_sets
from ..sweep.command import SELECTION, trial_folder, trial_name
from ..sweep.definition import Sweep, load
from ..sweep.logs import log_study
from ..sweep.page import figures, page
from ..sweep.recovery import reap
from ..sweep.report import report
from ..sweep.results import rows
from ..sweep.storage import redact, unreachable
from ..sweep.study import connect, create_or_join, default_storage, join, look, named
from ..sweep.worker import work_together
from .arguments import Arguments
from .show import load as load_run

WHAT = {
    "run": "create the study or join it, and work until its budget is spent",
    "worker": "join a study and work",
    "status": "how a study stands",
    "reap": "queue trials again whose workers were lost",
    "show": "the study as one HTML page",
    "export": "trials.csv and best.yaml",
}


def main(argv: Sequence[str]) -> None:
    """Run one of the subcommands.

    Raises:
        ValueError: a mistake in the file, the flags or the storage.
        OSError: a file or the storage cannot be reached.
    """
    hush()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        options = read(argv)
        sweep = load(options.config, settings(options.set), options.budget_trials if options.what == "run" else None)
        out = options.out or Path("runs/sweeps") / sweep.name
        storage = options.storage or default_storage(sweep, out)
        ACTIONS[options.what](sweep, storage, out, options)
    except (ValueError, OSError) as error:
        raise ValueError(redact(str(error))) from None
    except Exception as error:
        if not unreachable(error):
            raise
        raise OSError(f"the storage is away: {redact(str(error).splitlines()[0])}") from None


def read(argv: Sequence[str]) -> Namespace:
    """The flags, the same for every subcommand."""
    listed = "; ".join(f"{name}: {purpose}" for name, purpose in WHAT.items())
    parser = Arguments(prog="python -m mira_pl sweep", description=f"Sweeps with Optuna. {listed}.")
    parser.add_argument("what", choices=list(WHAT), metavar="|".join(WHAT), help="see above")
    parser.add_argument("--config", type=Path, required=True, help="the sweep file")
    parser.add_argument("--storage", metavar="URL", help="sqlite:///file, postgresql://user@host/base or journal:file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results; default: runs/sweeps/NAME")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="on this machine, a GPU or core share each")
    parser.add_argument(
        "--budget.trials", dest="budget_trials", type=int, metavar="N",
        help="run: of the study, instead of the file's; worker: that this one takes at most",
    )  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the base fit; repeatable")
    options = parser.parse_args(list(argv))
    for name, value in (("--workers", options.workers), ("--budget.trials", options.budget_trials)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return options


def settings(given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` of --set.

    Raises:
        ValueError: one has no =.
    """
    for text in given:
        if "=" not in text:
            raise ValueError(f"--set takes KEY=VALUE, got {text!r}: for example --set model.iterations=5")
    return dict(text.removeprefix("--").split("=", 1) for text in given)


def run(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Create or join, work, say what came of it."""
    create_or_join(sweep, connect(sweep, storage), job_keys(sweep))
    work_together(sweep, storage, out, options.workers, None)
    study = join(sweep, connect(sweep, storage))
    for slot, said in report(study, sweep, out).items():
        print(f"report set, {trial_name(slot)}: {said}")
    if rows(study):
        log_study(study, sweep, out)
    status(sweep, storage, out, options)


def worker(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Join and work."""
    join(sweep, connect(sweep, storage))
    work_together(sweep, storage, out, options.workers, options.budget_trials)


def status(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Print the table."""
    study, sweep = look(sweep, connect(sweep, storage))
    table = Table(show_header=False, title=Text(f"sweep {sweep.name}"))  # a reason may hold brackets: no markup
    for name, value in states.rows(study, sweep):
        table.add_row(Text(name), Text(value))
    Console(width=160).print(table)


def reaped(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Say which trials went back into the queue."""
    study, sweep = look(sweep, connect(sweep, storage))
    numbers = reap(study, sweep.grace)
    names = [named(study.trials[number]) for number in numbers]
    print(f"queued again: {', '.join(names) or 'nothing'}")


def export(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Write the table and the best configuration."""
    study, sweep = look(sweep, connect(sweep, storage))
    for path in exports.write(study, sweep, out):
        print(path)


def show(sweep: Sweep, storage: str, out: Path, options: Namespace) -> None:
    """Write index.html, the pictures beside it, and the pages of the runs it leads to."""
    study, sweep = look(sweep, connect(sweep, storage))
    if not rows(study):
        raise ValueError(f"no trial of {sweep.name} is complete yet: nothing to show")
    links = {row.slot: link for row in rows(study) if (link := run_page(sweep, out, row.slot))}
    reports = report_sets(sweep)
    pictures = figures(study, sweep, links, reports)
    for name, figure in pictures.items():
        write_atomic(out / f"{name}.png", png(figure))
    write_atomic(out / "index.html", page(study, sweep, states.rows(study, sweep), pictures, links, reports).encode())
    print(out / "index.html")


def run_page(sweep: Sweep, out: Path, slot: int) -> str | None:
    """The page of a trial's first fit, from `out`; it is written where it is missing. None: the run is elsewhere."""
    folders = sorted(trial_folder(out, slot).glob(f"{SELECTION}*/config.yaml"))
    if not folders:
        return None
    run = RunFolder(folders[0].parent)
    if not run.page_path.exists():
        write_atomic(run.page_path, run_html([load_run(run, str(run.path))]).encode())
    return str(run.page_path.relative_to(out))


ACTIONS = {"run": run, "worker": worker, "status": status, "reap": reaped, "show": show, "export": export}

"""`python -m mira_pl experiment NAME`: an experiment as a table, CSV files and a figure."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ..experiments.picture import png
from ..experiments.toy_kl import Drive, TrainedModel, drive, exact_model, figure, summary, train_unet
from ..runs import write_atomic
from .arguments import Arguments
from .compare import compare
from .measure import hacking, world_quality


def main(argv: Sequence[str]) -> None:
    """Run the named experiment.

    Raises:
        ValueError: there is no such experiment.
    """
    experiments = {"toy-kl": toy_kl, "world-quality": world_quality, "hacking": hacking, "compare": compare}
    if not argv or argv[0] not in experiments:
        wanted = f"no experiment {argv[0]!r}" if argv else "no experiment named"
        raise ValueError(
            f"{wanted}; there are {', '.join(experiments)}. Try: python -m mira_pl experiment toy-kl --help"
        )
    experiments[argv[0]](argv[1:])


def toy_kl(argv: Sequence[str]) -> None:
    """Appendix A.5 of MIRA: the surrogate S_0 - S against the true KL, where that is known."""
    parser = Arguments(prog="python -m mira_pl experiment toy-kl", description=toy_kl.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/toy-kl"), help="folder of the results")
    parser.add_argument("--chains", type=int, default=2000, help="samples of the distribution; 5000 in A.5")
    parser.add_argument("--unet", action="store_true", help="train a 1-D U-Net too, as in A.5 (minutes)")
    parser.add_argument("--quick", action="store_true", help="tiny and meaningless: is everything there?")
    options = parser.parse_args(list(argv))
    if options.chains < 2:
        raise ValueError(f"--chains must be at least 2, got {options.chains}: a distribution has a spread")
    curves = toy_kl_curves(options.chains, options.unet, options.quick)
    tables = {name: summary(curve) for name, curve in curves.items()}
    write_atomic(options.out / "curves.csv", _joined(curves).to_csv(index=False).encode())
    write_atomic(options.out / "summary.csv", _joined(tables).to_csv(index=False).encode())
    write_atomic(options.out / "figure.png", png(figure(curves)))
    for name, table in tables.items():
        Console().print(_rich(name, table))
    print(options.out)


def toy_kl_curves(chains: int, unet: bool, quick: bool) -> dict[str, pd.DataFrame]:
    """Curves by experiment; the U-Net runs on 64 chains at most: a chain costs 35 times as much there."""
    chains, iterations, steps = (min(chains, 8), 3, 5) if quick else (chains, 50, 100)
    exact = exact_model(steps)
    curves = {
        "exact model, every sample to 2.5": drive(exact, Drive(chains, iterations)),
        "exact model, the mean to 2.5": drive(exact, Drive(chains, iterations, aim="mean")),
    }
    if unet:
        net, loss = train_unet(updates=5 if quick else 3000)
        print(f"U-Net trained: mean square error of the noise {loss:.3f}")
        trained = TrainedModel(net, steps)
        curves["U-Net, every sample to 2.5"] = drive(trained, Drive(min(chains, 64), iterations))
        curves["U-Net, the mean to 2.5"] = drive(trained, Drive(min(chains, 64), iterations, aim="mean"))
    return curves


def _joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(experiment=name) for name, table in tables.items()], ignore_index=True)


def _rich(title: str, table: pd.DataFrame) -> Table:
    shown = Table(*table.columns, title=title)
    for row in table.itertuples(index=False):
        shown.add_row(*(value if isinstance(value, str) else f"{value:.3f}" for value in row))
    return shown

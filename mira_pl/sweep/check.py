"""The fits of a sweep, parsed before anything runs: a misspelt key is found now and not in every trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..fit import PromptData
from ..fit.cli import parse, plain
from .command import REPORT, arguments, set_name
from .definition import Overlay, Sweep
from .difference import difference
from .measures import MEASURES

SCALES = {"reward": ("reward", "gain"), "clip": ("clip",)}
"""Settings of the model, and the measures that have their scale."""


def parsed(sweep: Sweep, method: str | None, values: Overlay, overlay: Overlay) -> dict[str, Any]:
    """The resolved configuration of a fit.

    Raises:
        ValueError: a setting cannot be. Misspelt keys end the program with one line, as in `fit`.
    """
    return plain(parse(arguments(sweep, method, values, overlay)))


def job_keys(sweep: Sweep) -> list[str]:
    """Parse fits of every method and listed value, and name the jobs of a trial in order; see `measures.Jobs`."""
    for method in sweep.space.methods or (None,):
        for values in sweep.space.examples(method):
            check_measured(sweep, parsed(sweep, method, values, sweep.selection[0]))
    chosen = [representative(sweep, overlay) for overlay in sweep.selection]
    reported = [representative(sweep, overlay) for overlay in sweep.report]
    for config in (*chosen, *reported):
        check_measured(sweep, config)
    check_selection(chosen)
    check_held_out(chosen, reported)
    keys = [jobs_of(config) for config in chosen]
    return keys[0] if len(keys) == 1 else [f"{index}/{key}" for index, part in enumerate(keys) for key in part]


def model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the model of a configuration, whatever its class."""
    return config["model"].get("init_args", config["model"])


def check_measured(sweep: Sweep, config: Mapping[str, Any]) -> None:
    """Refuse an objective or a constraint that a fit of the sweep would not measure.

    Raises:
        ValueError: names the setting that is missing.
    """
    settings = model(config)
    if "elbo" in sweep.measured and not settings.get("elbo_pairs"):
        raise ValueError("elbo is wanted, but model.elbo_pairs is 0: --set model.elbo_pairs=2")
    if "clip" in sweep.measured and settings.get("clip") is None:
        raise ValueError("clip is wanted, but model.clip is null: give the base fit a CLIPScore, or other objectives")


def check_selection(chosen: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a mean over numbers that have no common scale.

    Raises:
        ValueError: the sets differ in what measures them.
    """
    for part in SCALES:
        first, *others = ({"model": {part: model(config).get(part)}} for config in chosen)
        if changed := next((lines for other in others if (lines := difference(first, other))), None):
            raise ValueError(
                f"the sets of selection differ in {'; '.join(changed)}: a mean over both says nothing. "
                "Choose on one, and make the others sets of report, which are never pooled"
            )


def check_held_out(chosen: Sequence[Mapping[str, Any]], reported: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to report on what the choice was made on.

    Raises:
        ValueError: a job of a report set is one of the selection, with the same reward.
    """
    for one, other in product(chosen, reported):
        shared = sorted(set(jobs_of(one)) & set(jobs_of(other)))
        if shared and model(one).get("reward") == model(other).get("reward"):
            raise ValueError(
                f"report holds {len(shared)} jobs of selection, the first {shared[0]}: the winner would be picked on "
                "its own test. Give report other prompts, seeds or another model.reward"
            )


@dataclass(frozen=True)
class ReportSet:
    """One set of the report.

    Attributes:
        name: of its folder under a trial.
        reward: its class.
        comparable: measures that have the scale of the selection's.
    """

    name: str
    reward: str
    comparable: tuple[str, ...]


def report_sets(sweep: Sweep) -> list[ReportSet]:
    """Those of a sweep, in order."""
    chosen = model(representative(sweep, sweep.selection[0]))
    found = []
    for index, overlay in enumerate(sweep.report):
        settings = model(representative(sweep, overlay))
        other = [name for part, names in SCALES.items() if settings.get(part) != chosen.get(part) for name in names]
        reward = settings["reward"]["class_path"].rpartition(".")[2]
        comparable = tuple(name for name in MEASURES if name not in other)
        found.append(ReportSet(set_name(REPORT, index, len(sweep.report)), reward, comparable))
    return found


def representative(sweep: Sweep, overlay: Overlay) -> dict[str, Any]:
    """The configuration of one allowed fit, on a set."""
    method = next(iter(sweep.space.methods), None)
    return parsed(sweep, method, sweep.space.examples(method)[0], overlay)


def jobs_of(config: Mapping[str, Any]) -> list[str]:
    """Keys of the jobs of a configuration."""
    return PromptData.of(config["data"]).order()

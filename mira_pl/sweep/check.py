"""The fits of a sweep, parsed before anything runs: a misspelt key is found now and not in every trial."""

from collections.abc import Mapping
from typing import Any

from ..fit import PromptData
from ..fit.cli import parse, plain
from .command import arguments
from .definition import Overlay, Sweep


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
            check_measured(sweep, parsed(sweep, method, values, sweep.selection[0])["model"])
    for overlay in sweep.report:
        representative(sweep, overlay)
    sets = [representative(sweep, overlay) for overlay in sweep.selection]
    keys = [jobs_of(config) for config in sets]
    return keys[0] if len(keys) == 1 else [f"{index}/{key}" for index, part in enumerate(keys) for key in part]


def check_measured(sweep: Sweep, model: Mapping[str, Any]) -> None:
    """Refuse an objective or a constraint that no fit of the sweep would measure.

    Raises:
        ValueError: names the setting that is missing.
    """
    settings = model.get("init_args", model)
    if "elbo" in sweep.measured and not settings.get("elbo_pairs"):
        raise ValueError("elbo is wanted, but model.elbo_pairs is 0: --set model.elbo_pairs=2")
    if "clip" in sweep.measured and settings.get("clip") is None:
        raise ValueError("clip is wanted, but model.clip is null: give the base fit a CLIPScore, or other objectives")


def representative(sweep: Sweep, overlay: Overlay) -> dict[str, Any]:
    """The configuration of one allowed fit, on a set."""
    method = next(iter(sweep.space.methods), None)
    return parsed(sweep, method, sweep.space.examples(method)[0], overlay)


def jobs_of(config: Mapping[str, Any]) -> list[str]:
    """Keys of the jobs of a configuration."""
    return PromptData.of(config["data"]).order()

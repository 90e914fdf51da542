"""The fits of a sweep, parsed before anything runs: a misspelt key is found now and not in every trial."""

from collections.abc import Mapping
from typing import Any

from ..fit import PromptData
from ..fit.cli import ParsedCLI, build, plain
from .command import arguments
from .definition import Overlay, Sweep


def parsed(sweep: Sweep, method: str | None, values: Overlay, overlay: Overlay) -> dict[str, Any]:
    """The resolved configuration of a fit.

    Raises:
        ValueError: a setting cannot be. Misspelt keys end the program with one line, as in `fit`.
    """
    return plain(build(arguments(sweep, method, values, overlay), ParsedCLI))


def job_keys(sweep: Sweep) -> list[str]:
    """Parse fits of every method and listed value, and name the jobs of a trial in order; see `measures.Jobs`."""
    for method in sweep.space.methods or (None,):
        for values in sweep.space.examples(method):
            parsed(sweep, method, values, sweep.selection[0])
    for overlay in sweep.report:
        representative(sweep, overlay)
    sets = [representative(sweep, overlay) for overlay in sweep.selection]
    keys = [jobs_of(config) for config in sets]
    return keys[0] if len(keys) == 1 else [f"{index}/{key}" for index, part in enumerate(keys) for key in part]


def representative(sweep: Sweep, overlay: Overlay) -> dict[str, Any]:
    """The configuration of one allowed fit, on a set."""
    method = next(iter(sweep.space.methods), None)
    return parsed(sweep, method, sweep.space.examples(method)[0], overlay)


def jobs_of(config: Mapping[str, Any]) -> list[str]:
    """Keys of the jobs of a configuration."""
    return PromptData.of(config["data"]).order()

"""Records as numbers: measures of a job, objectives and constraints of a trial, and when a trial is hopeless."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Measures = Mapping[str, float | None]
"""The measures of one job; None for what was not finite or not measured."""
Jobs = Mapping[str, Measures]
"""Job -> measures. Jobs of several fits of a trial have their number before the key."""

MEASURES: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "reward": lambda record: record["reward"],
    "gain": lambda record: record["reward"] - record["reward_start"],
    "drift": lambda record: abs(record["drift"]),
    "score_difference": lambda record: record["score_difference"],
    "elbo": lambda record: record["elbo"],
    "clip": lambda record: record["clip"],
    "seconds": lambda record: record["seconds"],
    "unet_calls": lambda record: record["compute"]["unet"],
}
"""drift is |S_0 - S|: the signed one falls where a method pumps it, and minimising it would ask for that."""
DEFAULT_OBJECTIVES = {"reward": "maximize", "drift": "minimize", "clip": "maximize"}
LIMIT = re.compile(r"\s*(?P<measure>\w+)\s*(?P<sign><=|>=)\s*(?P<limit>[-+.\deE]+)\s*")
FAILED = "failed"


@dataclass(frozen=True)
class Constraint:
    """`drift <= 0.5`, of the mean over the jobs of a trial."""

    text: str
    measure: str
    sign: str
    limit: float

    @staticmethod
    def parse(text: Any) -> "Constraint":
        """From the sweep file.

        Raises:
            ValueError: it is no constraint.
        """
        found = LIMIT.fullmatch(str(text))
        try:
            limit = float(found["limit"]) if found else math.nan
        except ValueError:
            limit = math.nan
        if found is None or found["measure"] not in MEASURES or not math.isfinite(limit):
            raise ValueError(f"constraints: {text!r} is none; write `drift <= 0.5` with one of {', '.join(MEASURES)}")
        return Constraint(" ".join(str(text).split()), found["measure"], found["sign"], limit)

    def excess(self, means: Mapping[str, float]) -> float:
        """By how much it is violated; 0 or less where it holds."""
        above = means[self.measure] - self.limit
        return above if self.sign == "<=" else -above


def measures(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Of one job."""
    found: dict[str, float | None] = {}
    for name, measure in MEASURES.items():
        try:
            value = float(measure(record))  # type: ignore[arg-type]
        except (TypeError, KeyError):
            value = math.nan
        found[name] = value if math.isfinite(value) else None
    return found


def trouble(records: Iterable[Mapping[str, Any]], needed: Iterable[str]) -> str | None:
    """Why the records make no result: a job failed, or a needed measure is not finite. None where all is well."""
    broken = {}
    for record in records:
        missing = [name for name in needed if measures(record)[name] is None]
        if str(record.get("status", "")).startswith(FAILED):
            broken[record["key"]] = str(record["status"])
        elif missing:
            broken[record["key"]] = f"{', '.join(missing)} not finite or not measured"
    if not broken:
        return None
    key, reason = next(iter(broken.items()))
    return f"{len(broken)} failed, the first {key}: {reason}"


def means(jobs: Jobs, names: Iterable[str]) -> dict[str, float]:
    """Mean of each measure over the jobs.

    Raises:
        ValueError: a measure is missing for a job.
    """
    found = {}
    for name in names:
        values = [job[name] for job in jobs.values()]
        numbers = [value for value in values if value is not None]
        if not numbers or len(numbers) < len(values):
            raise ValueError(f"{len(values) - len(numbers)} of {len(values)} jobs have no {name}")
        found[name] = math.fsum(numbers) / len(numbers)
    return found


def dominated_by(jobs: Jobs, others: Mapping[int, Jobs], directions: Mapping[str, str], after: int) -> int | None:
    """The rule by which trials of several objectives are stopped.

    Returns:
        A finished trial that was strictly better in every objective on every one of the jobs that this one has
        finished, once these are `after` or more; None where there is no such trial.
    """
    if len(jobs) < after:
        return None
    better = {name: operator.gt if way == "maximize" else operator.lt for name, way in directions.items()}
    for number, finished in others.items():
        if set(jobs) <= set(finished) and all(_better(finished[key], jobs[key], better) for key in jobs):
            return number
    return None


def _better(left: Measures, right: Measures, better: Mapping[str, Callable[[Any, Any], bool]]) -> bool:
    pairs: Sequence[tuple[Any, Any, Callable[[Any, Any], bool]]] = [
        (left[name], right[name], than) for name, than in better.items()
    ]
    return all(one is not None and other is not None and than(one, other) for one, other, than in pairs)

"""What a sweep searches: dotted keys of a fit, and a method with keys of its own."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler

Scalar = bool | int | float | str | None
RANGE = {"low", "high", "log", "step", "type"}
METHOD = "method"
KEY = re.compile(r"(model|trainer)(\.\w+)*|data\.batch_size")
"""Names files and stands in pictures, too."""


@dataclass(frozen=True)
class Parameter:
    """One key of the fit and the values it may take: `values`, or the range from `low` to `high`.

    Attributes:
        key: dotted, as a flag of `fit` without its dashes.
        method: the method that alone has this key; None for all.
        whole: integers only.
        log: uniform in the logarithm.
        step: distance of the values of a range.
    """

    key: str
    method: str | None = None
    values: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    step: float | None = None

    @property
    def name(self) -> str:
        """What the study calls it: two methods may search the same key in different ranges."""
        return self.key if self.method is None else f"{self.method}:{self.key}"

    def suggest(self, trial: optuna.Trial) -> Scalar:
        """A value from the sampler."""
        if self.values:
            return trial.suggest_categorical(self.name, self.values)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Method:
    """An overlay of the base fit, and what is searched under it alone."""

    name: str
    config: Path | None
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Space:
    """All that is searched. Where there are methods, the parameter `method` chooses one of them."""

    parameters: tuple[Parameter, ...] = ()
    methods: Mapping[str, Method] = field(default_factory=dict)

    def of(self, method: str | None) -> tuple[Parameter, ...]:
        """The parameters of a method, those of all methods first."""
        return self.parameters if method is None else self.parameters + self.methods[method].parameters

    def suggest(self, trial: optuna.Trial) -> tuple[str | None, dict[str, Scalar]]:
        """The method and the values by dotted key, from the sampler."""
        method = trial.suggest_categorical(METHOD, list(self.methods)) if self.methods else None
        return method, {parameter.key: parameter.suggest(trial) for parameter in self.of(method)}

    def grid(self) -> list[dict[str, Scalar]]:
        """Every combination, by the names of the study.

        Raises:
            ValueError: a parameter is a range.
        """
        points: list[dict[str, Scalar]] = []
        for method in self.methods or (None,):
            parameters = self.of(method)
            for parameter in parameters:
                if not parameter.values:
                    raise ValueError(f"sampler grid needs a list of values for {parameter.name}, which is a range")
            named = {} if method is None else {METHOD: method}
            for values in itertools.product(*(parameter.values for parameter in parameters)):
                points.append(named | {p.name: v for p, v in zip(parameters, values, strict=True)})
        return points

    def random(self, amount: int, seed: int) -> list[dict[str, Scalar]]:
        """So many random points; more of them begin with the same ones."""
        study = optuna.create_study(sampler=RandomSampler(seed))
        points = []
        for _ in range(amount):
            trial = study.ask()
            self.suggest(trial)
            points.append(dict(trial.params))
        return points

    def examples(self, method: str | None) -> list[dict[str, Scalar]]:
        """Allowed points of a method, by dotted key, that hold every listed value and every end of a range."""
        choices = {p.key: p.values or (ends(p.low, p.whole), ends(p.high, p.whole)) for p in self.of(method)}
        amount = max(map(len, choices.values()), default=1)
        return [{key: values[n % len(values)] for key, values in choices.items()} for n in range(amount)]


def ends(value: float, whole: bool) -> Scalar:
    """An end of a range."""
    return int(value) if whole else value


def parameters(given: Any, method: str | None = None) -> tuple[Parameter, ...]:
    """A mapping of the sweep file, from dotted keys to lists or ranges.

    Raises:
        ValueError: something in it is neither.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"space must map keys of a fit to ranges or lists, got {given!r}")
    return tuple(parameter(str(key), value, method) for key, value in given.items())


def parameter(key: str, given: Any, method: str | None = None) -> Parameter:
    """`[1, 2]` or `{low: 0.1, high: 10, log: true}`.

    Raises:
        ValueError: it is neither, or a range that cannot be.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"space: {key} is no setting of the method: prompts and seeds belong to selection and report")
    if isinstance(given, Sequence) and not isinstance(given, str):
        return listed(key, given, method)
    if not isinstance(given, Mapping) or not {"low", "high"} <= set(given) <= RANGE:
        raise ValueError(
            f"space: {key} must be a list or {{low: a, high: b, log: true, step: s, type: int}}, got {given!r}"
        )
    return ranged(key, given, method)


def listed(key: str, given: Sequence[Any], method: str | None) -> Parameter:
    """A choice among values."""
    if not given or len(set(map(repr, given))) < len(given):
        raise ValueError(f"space: the list of {key} must hold different values, got {list(given)!r}")
    if not all(value is None or isinstance(value, bool | int | float | str) for value in given):
        raise ValueError(f"space: the list of {key} may hold numbers, texts, true, false and null, got {list(given)!r}")
    return Parameter(key, method, tuple(given))


def ranged(key: str, given: Mapping[str, Any], method: str | None) -> Parameter:
    """A range of numbers."""
    low, high, step, log = given["low"], given["high"], given.get("step"), given.get("log", False)
    numbers = [value for value in (low, high, step) if value is not None]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) for value in numbers):
        raise ValueError(f"space: low, high and step of {key} must be numbers, got {dict(given)!r}")
    if given.get("type", "float") not in ("int", "float") or not isinstance(log, bool):
        raise ValueError(f"space: {key} has type int or float and log true or false, got {dict(given)!r}")
    if not low < high or (log and low <= 0) or (step is not None and step <= 0) or (log and step is not None):
        raise ValueError(f"space: {key} needs low < high (> 0 with log), and log or a step > 0, got {dict(given)!r}")
    whole = given.get("type") == "int"
    if whole and any(value != int(value) for value in numbers):
        raise ValueError(f"space: {key} is of type int, got {dict(given)!r}")
    return Parameter(key, method, (), low, high, whole, log, step)

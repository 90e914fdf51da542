"""The sweep file: what is fitted, searched, wanted and paid."""

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .difference import flatten
from .measures import DEFAULT_OBJECTIVES, MEASURES, Constraint
from .space import METHOD, Method, Space, parameters

T = TypeVar("T")
Overlay = Mapping[str, Any]
"""Dotted keys of a fit and their values."""

SAMPLERS = ("tpe", "grid", "random")
NAME = re.compile(r"\w[\w.-]{0,49}")
"""Of sweeps and methods: part of names of files, in whatever alphabet."""
NAMED = "1 to 50 letters, digits, '_', and '-' and '.' inside"
OWN = ("", "config", "out", "wandb.id")
"""Flags of `fit` that a sweep gives itself."""
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
KEYS = (
    "name", "base", "space", "methods", "sampler", "seed", "objectives", "constraints", "stop", "selection", "report",
    "budget", "storage", "heartbeat", "grace",
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What a study may cost; None is no limit.

    Attributes:
        trials: retries of lost workers do not count; None is a whole grid, and 20 of anything else.
        hours: of trials, summed over the workers.
        unet_calls: of all jobs of all trials.
    """

    trials: int | None = None
    hours: float | None = None
    unet_calls: float | None = None


@dataclass(frozen=True)
class Stop:
    """When a hopeless trial is stopped: after so many jobs at the earliest; `p` is that of WilcoxonPruner."""

    after: int = 4
    p: float = 0.1


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked. `settings` are those of --set, of every fit of the study."""

    name: str
    base: tuple[Path, ...]
    space: Space
    sampler: str = "tpe"
    seed: int = 0
    objectives: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_OBJECTIVES))
    constraints: tuple[Constraint, ...] = ()
    stop: Stop | None = Stop()
    selection: tuple[Overlay, ...] = ({},)
    report: tuple[Overlay, ...] = ()
    budget: Budget = Budget()
    storage: str | None = None
    heartbeat: int = 60
    grace: int = 300
    settings: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[str, ...]:
        """What a job must have for its trial to count."""
        return tuple(dict.fromkeys([*self.objectives, *(limit.measure for limit in self.constraints)]))


def load(path: Path, settings: Mapping[str, str], trials: int | None = None) -> Sweep:
    """Read a sweep file.

    Args:
        path: its base configs are named relative to it.
        settings: dotted keys of the base fit that were set on the command line.
        trials: another budget than the file's.

    Raises:
        ValueError: it is no sweep file; says where.
        OSError: it, or a config that it names, is not there.
    """
    given = read(path)
    unknown = [name for name in given if name not in KEYS]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), KEYS, 1)
        raise ValueError(f"{path}: no key {unknown[0]!r}" + (f". Did you mean {near[0]!r}?" if near else ""))
    names = listed(given.get("base", []))
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: give base, the paths of the fit configs that are swept; got {names!r}")
    base = tuple(config_path(path, name) for name in names)
    space = read_space(path, given)
    budget = part(path, "budget", Budget, given.get("budget") or {})
    sweep = Sweep(
        name=str(given.get("name", path.stem)),
        base=base,
        space=space,
        sampler=given.get("sampler", "tpe"),
        seed=given.get("seed", 0),
        objectives=read_objectives(path, given.get("objectives", DEFAULT_OBJECTIVES)),
        constraints=tuple(Constraint.parse(text) for text in listed(given.get("constraints", []))),
        stop=None if given.get("stop") is False else part(path, "stop", Stop, given.get("stop") or {}),
        selection=overlays(path, "selection", given.get("selection", {})) or ({},),
        report=overlays(path, "report", given.get("report", [])),
        budget=Budget(trials, budget.hours, budget.unet_calls) if trials is not None else budget,
        storage=given.get("storage"),
        heartbeat=given.get("heartbeat", 60),
        grace=given.get("grace", 300),
        settings=dict(settings),
        identity=identity(given, base, space, settings),
    )
    check(path, sweep)
    check_keys(path, sweep)
    return sweep


def check(path: Path, sweep: Sweep) -> None:
    """Refuse numbers that cannot be."""
    if sweep.sampler not in SAMPLERS:
        raise ValueError(f"{path}: sampler must be one of {', '.join(SAMPLERS)}, got {sweep.sampler!r}")
    if not NAME.fullmatch(sweep.name):
        raise ValueError(f"{path}: name must be {NAMED}, got {sweep.name!r}")
    if sweep.storage is not None and not isinstance(sweep.storage, str):
        raise ValueError(f"{path}: storage must be a URL, got {type(sweep.storage).__name__}")
    wrong = {"heartbeat": sweep.heartbeat, "grace": sweep.grace}
    if sweep.budget.trials is not None:
        wrong["budget.trials"] = sweep.budget.trials
    if sweep.stop is not None:
        wrong["stop.after"] = sweep.stop.after
        if not isinstance(sweep.stop.p, float) or not 0 < sweep.stop.p < 1:
            raise ValueError(f"{path}: stop.p must be a number between 0 and 1, got {sweep.stop.p!r}")
    for name, value in wrong.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{path}: {name} must be a whole number of at least 1, got {value!r}")
    for name, value in (("hours", sweep.budget.hours), ("unet_calls", sweep.budget.unet_calls)):
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(f"{path}: budget.{name} must be above 0, got {value!r}")
    if not isinstance(sweep.seed, int):
        raise ValueError(f"{path}: seed must be a whole number, got {sweep.seed!r}")
    if sweep.grace <= sweep.heartbeat:
        raise ValueError(f"{path}: grace must be above heartbeat ({sweep.heartbeat} s), got {sweep.grace}")
    if not sweep.space.parameters and not sweep.space.methods:
        raise ValueError(f"{path}: nothing is searched: give space or methods")
    if sweep.sampler == "grid":
        sweep.space.grid()


def check_keys(path: Path, sweep: Sweep) -> None:
    """Refuse keys that are given twice: one of the two would be overridden without a word."""
    searched = {bare(p.key) for method in sweep.space.methods or (None,) for p in sweep.space.of(method)}
    for key in sweep.settings:
        if beaten(key, searched):
            raise ValueError(f"--set {key}: {path} searches it")
        if key in OWN:
            raise ValueError(f"--set {key!r} is the sweep's own: change {path}, or give --out")
        if all(any(key in overlay for overlay in part) for part in (sweep.selection, sweep.report)):
            raise ValueError(f"--set {key}: {path} sets it apart for selection and report; change it there")
    for name, part in (("selection", sweep.selection), ("report", sweep.report)):
        for overlay in part:
            if own := [key for key in overlay if key in OWN]:
                raise ValueError(f"{path}: {name} sets {own[0]!r}, which is the sweep's own: leave it out")
            if twice := [key for key in flatten(overlay) if beaten(key, searched)]:
                raise ValueError(f"{path}: {name} sets {twice[0]}, which is searched: leave it in one of them")


def beaten(key: str, searched: Collection[str]) -> bool:
    """Whether a searched key is this one, or holds it."""
    return any(f"{bare(key)}.".startswith(f"{one}.") for one in searched)


def read(path: Path) -> dict[str, Any]:
    """A YAML mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping, got {type(content).__name__}")
    return numbers(content)


def bare(key: str) -> str:
    """The one spelling of a key: `model.objective.beta` may be written `model.objective.init_args.beta`."""
    return key.replace(".init_args.", ".")


def numbers(given: Any) -> Any:
    """The same with `1e-3` as a number, as the configs of `fit` have it; YAML 1.1 would have it written `1.0e-3`."""
    if isinstance(given, dict):
        return {key: numbers(value) for key, value in given.items()}
    if isinstance(given, list):
        return [numbers(value) for value in given]
    return float(given) if isinstance(given, str) and EXPONENT.fullmatch(given) else given


def config_path(sweep: Path, name: str) -> Path:
    """A config that a sweep file names, from the working folder where it lies below that."""
    path = (sweep.parent / name).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def listed(given: Any) -> list[Any]:
    """One thing or a list of them, as a list."""
    return list(given) if isinstance(given, list | tuple) else [given]


def read_space(path: Path, given: Mapping[str, Any]) -> Space:
    """`space` and `methods`."""
    methods, listed_methods = {}, given.get("methods") or {}
    if not isinstance(listed_methods, Mapping) or not all(isinstance(name, str) for name in listed_methods):
        raise ValueError(f"{path}: methods must map names to {{config, space}}, got {listed_methods!r}")
    for name, content in listed_methods.items():
        content = content or {}
        if not NAME.fullmatch(name):
            raise ValueError(f"{path}: the name of a method must be {NAMED}, got {name!r}")
        if not isinstance(content, Mapping) or not set(content) <= {"config", "space"}:
            raise ValueError(f"{path}: methods.{name} takes config and space, got {content!r}")
        if not isinstance(content.get("config", ""), str):
            raise ValueError(f"{path}: methods.{name}.config must be the path of a config, got {content['config']!r}")
        config = config_path(path, content["config"]) if "config" in content else None
        methods[name] = Method(name, config, parameters(content.get("space") or {}, name))
    shared = parameters(given.get("space") or {})
    if doubled := [p.key for m in methods.values() for p in m.parameters if p.key in {one.key for one in shared}]:
        raise ValueError(f"{path}: {doubled[0]} stands in space and under a method: leave it in one of them")
    return Space(shared, methods)


def read_objectives(path: Path, given: Any) -> dict[str, str]:
    """Measures and the way they are to go."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{path}: objectives must map measures to maximize or minimize, got {given!r}")
    for name, way in given.items():
        if name not in MEASURES or way not in ("maximize", "minimize"):
            raise ValueError(f"{path}: objectives.{name}: {way}: of {', '.join(MEASURES)}, maximize or minimize")
    return dict(given)


def overlays(path: Path, name: str, given: Any) -> tuple[Overlay, ...]:
    """One fit or several: each a mapping of dotted keys."""
    found = tuple(listed(given))
    if not all(isinstance(one, Mapping) and all(isinstance(key, str) for key in one) for one in found):
        raise ValueError(f"{path}: {name} must map keys of a fit to values, or list such mappings; got {given!r}")
    return found


def part(path: Path, name: str, kind: type[T], given: Any) -> T:
    """A small dataclass from its mapping."""
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise ValueError(f"{path}: {name} takes {', '.join(known)}, got {given!r}")
    return kind(**given)


def identity(
    given: Mapping[str, Any], base: Sequence[Path], space: Space, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that decides what the trials are, with the contents of the configs; where they lie does not."""
    fixed = {"budget", "storage", "heartbeat", "grace", "base", "methods"}
    methods = {
        name: {"config": read(method.config) if method.config else None, "space": given["methods"][name].get("space")}
        if given["methods"][name]
        else {}
        for name, method in space.methods.items()
    }
    return {
        **{name: value for name, value in given.items() if name not in fixed},
        "base": [read(config) for config in base],
        METHOD: methods,
        "set": dict(settings),
    }

"""Every method at one cost, in samplings of the frozen model a job. What goes back through it comes on top."""

from typing import NamedTuple

FRAMES = 4
"""Of a filmstrip, between start and result."""


class Unit(NamedTuple):
    """What a method is given a number of, by its setting below `model`: so many samplings each, and so many once."""

    setting: str = "iterations"
    cost: int = 1
    once: int = 0


METHODS: dict[str, Unit | None] = {
    "dno": Unit(),
    "prno": Unit(),
    "mira": Unit(),
    "mira_paper": Unit(),
    "drift_budget": Unit(),
    "langevin": Unit(),
    "guarded": Unit(),
    "initno": Unit(cost=2),  # at most: a round is a sampling and ten denoiser calls
    "mira_dpo": Unit(cost=2),
    "hybrid1": Unit(),
    "hybrid2": Unit(cost=5),
    "mira_hybrid2": Unit(cost=5),
    "zo": Unit(cost=5),
    "best_of_n": Unit("search.candidates"),
    "fk": Unit("search.particles"),
    "mira_fk": Unit("search.particles", once=1),  # S_0
    "code": Unit("search.candidates"),
    "das": Unit("search.particles"),
    "dps": Unit("search.rounds"),
    "dymo": Unit("search.rounds", cost=2),  # at most: it repeats most steps
    "recommended": None,  # comes with the length that was chosen for it
}
"""By overlay."""


def flags(overlay: str, samplings: int) -> list[str]:
    """Settings of `fit` under which a method costs at most so many samplings a job, but one unit of its own at least.

    Raises:
        ValueError: no method of that name is compared.
    """
    if overlay not in METHODS:
        raise ValueError(f"no method {overlay!r} to compare: there are {', '.join(METHODS)}")
    unit = METHODS[overlay]
    if unit is None:
        return []
    count = max(1, (samplings - unit.once) // unit.cost)
    found = [f"--model.{unit.setting}", str(count)]
    if unit.setting == "iterations":
        found += ["--model.film_frames", str(min(FRAMES, count - 1))]
    if overlay == "initno":  # its last iteration starts from the best of the rounds before
        found += ["--model.objective.init_args.rounds", str(max(1, count - 1))]
    return found

"""Every method at one cost, in samplings of the frozen model a job. What goes back through it comes on top."""

FRAMES = 4
"""Of a filmstrip, between start and result."""
COSTS = {
    "dno": 1, "prno": 1, "mira": 1, "mira_paper": 1, "drift_budget": 1, "langevin": 1, "guarded": 1, "hybrid1": 1,
    "initno": 2, "mira_dpo": 2, "hybrid2": 5, "mira_hybrid2": 5, "zo": 5,
}  # fmt: skip
"""Samplings that an iteration costs, by overlay, at most: a round of InitNO is one and ten denoiser calls."""
SEARCHES = {
    "best_of_n": "candidates", "fk": "particles", "mira_fk": "particles", "code": "candidates", "das": "particles",
    "dps": "rounds", "dymo": "rounds",
}  # fmt: skip
"""The setting of a search that says how often it samples."""
OWN = ("recommended",)
"""What comes with a length of its own, since more of it would hack."""
METHODS = (*COSTS, *SEARCHES, *OWN)


def flags(overlay: str, samplings: int) -> list[str]:
    """Settings of `fit` under which a method costs at most so many samplings a job, but one unit of its own at least.

    Raises:
        ValueError: no method of that name is compared.
    """
    if overlay not in METHODS:
        raise ValueError(f"no method {overlay!r} to compare: there are {', '.join(METHODS)}")
    if overlay in OWN:
        return []
    if overlay in SEARCHES:
        # S_0 takes MIRA's potential a sampling; DyMO repeats most steps, which doubles its rounds
        count = {"mira_fk": samplings - 1, "dymo": samplings // 2}.get(overlay, samplings)
        return [f"--model.search.{SEARCHES[overlay]}", str(max(1, count))]
    iterations = max(1, samplings // COSTS[overlay])
    rounds = ["--model.objective.init_args.rounds", str(max(1, iterations - 1))] if overlay == "initno" else []
    return ["--model.iterations", str(iterations), "--model.film_frames", str(min(FRAMES, iterations - 1)), *rounds]

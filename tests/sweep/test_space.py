"""Search spaces: what a sweep file may say, and what Optuna is asked for."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mira_pl.sweep.space import Method, Parameter, Space, parameter, parameters

BETA = "model.objective.beta"


def asked(space: Space) -> dict:
    """The distributions of one trial, by the names of the study."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    space.suggest(trial)
    return trial.distributions


@pytest.mark.parametrize(
    ("given", "distribution"),
    [
        ({"low": 0.01, "high": 10, "log": True}, FloatDistribution(0.01, 10, log=True)),
        ({"low": 0, "high": 1, "step": 0.25}, FloatDistribution(0, 1, step=0.25)),
        ({"low": 10, "high": 100, "step": 10, "type": "int"}, IntDistribution(10, 100, step=10)),
        ({"low": 1, "high": 64, "log": True, "type": "int"}, IntDistribution(1, 64, log=True)),
        ([0.1, None, "max", True], CategoricalDistribution([0.1, None, "max", True])),
    ],
)
def test_ranges_and_lists_are_optunas(given, distribution):
    assert asked(Space((parameter(BETA, given),))) == {BETA: distribution}


@pytest.mark.parametrize(
    ("key", "given", "words"),
    [
        (BETA, {"low": 0, "high": 1, "log": True}, "> 0 with log"),
        (BETA, {"low": 2, "high": 1}, "low < high"),
        (BETA, {"low": math.nan, "high": 1}, "must be numbers"),
        (BETA, {"low": 1, "high": 2, "step": 0.1, "log": True}, "log or a step"),
        (BETA, {"low": 1.5, "high": 2, "type": "int"}, "is of type int"),
        (BETA, {"low": "a", "high": 2}, "must be numbers"),
        (BETA, {"low": 1, "hihg": 2}, "must be a list or"),
        (BETA, 0.5, "must be a list or"),
        (BETA, [], "different values"),
        (BETA, [1, 1], "different values"),
        (BETA, [[1], [2]], "may hold numbers"),
        ("data.prompts", ["animals", "black_animals"], "belong to selection"),
        ("beta", [1], "no setting of the method"),
        ("model.$x_{$", [1], "no setting of the method"),
        ("model./etc/x", [1], "no setting of the method"),
    ],
)
def test_what_cannot_be_is_refused(key, given, words):
    with pytest.raises(ValueError, match=words):
        parameter(key, given)


def methods() -> Space:
    """Two methods that search the same key in different ranges, and one key for both."""
    one = Method("MIRA", None, parameters({BETA: [0.1, 1.0]}, "MIRA"))
    other = Method("PRNO", None, parameters({BETA: [5.0, 6.0, 7.0]}, "PRNO"))
    return Space(parameters({"model.lr": [0.01, 0.05]}), {"MIRA": one, "PRNO": other})


def test_only_the_chosen_method_is_searched():
    space = methods()
    for seed in range(8):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        method, values = space.suggest(trial)
        assert set(trial.params) == {"method", "model.lr", f"{method}:{BETA}"}
        assert values[BETA] in {"MIRA": (0.1, 1.0), "PRNO": (5.0, 6.0, 7.0)}[method]


def test_a_grid_is_every_combination_once():
    points = methods().grid()
    assert len(points) == 2 * 2 + 2 * 3
    assert len({tuple(sorted(map(str, point.items()))) for point in points}) == len(points)
    assert points[0] == {"method": "MIRA", "model.lr": 0.01, f"MIRA:{BETA}": 0.1}


def test_a_grid_of_a_range_is_refused():
    with pytest.raises(ValueError, match=rf"grid needs a list of values for {BETA}"):
        Space(parameters({BETA: {"low": 1, "high": 2}})).grid()


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_more_random_points_begin_with_the_same(seed, few, more):
    space = Space((Parameter(BETA, low=0.01, high=10, log=True),))
    points = space.random(few + more, seed)
    assert points[:few] == space.random(few, seed) and len({point[BETA] for point in points}) == few + more

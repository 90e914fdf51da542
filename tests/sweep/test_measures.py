"""Objectives, constraints, and the rule that stops trials of several objectives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.sweep.measures import Constraint, dominated_by, means, measures, trouble

RECORD = {
    "key": "cat-s0", "reward_start": 0.25, "reward": 1.0, "drift": -3.0, "score_difference": 0.5, "elbo": None,
    "clip": 60.0, "seconds": 2.0, "status": "finished", "compute": {"unet": 40},
}  # fmt: skip
WAYS = {"reward": "maximize", "drift": "minimize"}


def test_drift_has_no_sign():
    """The signed one falls without end where it is pumped."""
    found = measures(RECORD)
    assert found["drift"] == 3.0 and found["gain"] == 0.75 and found["unet_calls"] == 40 and found["elbo"] is None


@pytest.mark.parametrize(
    ("text", "values", "excess"),
    [("drift <= 2", {"drift": 3.0}, 1.0), ("clip>=30", {"clip": 50.0}, -20.0), ("clip >= 3e1", {"clip": 20.0}, 10.0)],
)
def test_a_constraint_holds_at_zero_and_below(text, values, excess):
    assert Constraint.parse(text).excess(values) == excess


@pytest.mark.parametrize("text", ["drift < 2", "dirft <= 2", "clip >= ", "2 >= clip", "clip >= nan", "clip >= 1-2", 3])
def test_what_is_no_constraint(text):
    with pytest.raises(ValueError, match="is none; write"):
        Constraint.parse(text)


def test_failed_jobs_are_told():
    failed = RECORD | {"key": "dog-s0", "status": "failed: not finite"}
    missing = RECORD | {"key": "fox-s0", "clip": None}
    assert trouble([RECORD], ["reward", "clip"]) is None
    assert trouble([missing], ["reward"]) is None
    assert trouble([RECORD, failed, missing], ["clip"]) == "2 failed, the first dog-s0: failed: not finite"
    assert "fox-s0: clip not finite" in str(trouble([missing], ["clip"]))


def test_a_mean_needs_every_job():
    jobs = {"a": {"reward": 1.0, "clip": 3.0}, "b": {"reward": 2.0, "clip": None}}
    assert means(jobs, ["reward"]) == {"reward": 1.5}
    with pytest.raises(ValueError, match="1 of 2 jobs have no clip"):
        means(jobs, ["clip"])
    with pytest.raises(ValueError, match="0 of 0"):
        means({}, ["reward"])


def jobs(*pairs: tuple[float, float]) -> dict:
    return {str(index): {"reward": reward, "drift": drift} for index, (reward, drift) in enumerate(pairs)}


def test_a_trial_is_hopeless_where_one_other_is_better_everywhere():
    mine = jobs((1.0, 2.0), (1.0, 2.0))
    better, half = jobs((1.1, 1.9), (1.1, 1.9), (0.0, 9.0)), jobs((1.1, 1.9), (1.1, 2.1))
    assert dominated_by(mine, {4: half, 7: better}, WAYS, after=2) == 7
    assert dominated_by(mine, {4: half}, WAYS, after=2) is None
    assert dominated_by(mine, {7: better}, WAYS, after=3) is None  # too early to say
    assert dominated_by(mine, {7: jobs((1.1, 1.9))}, WAYS, after=1) is None  # the other one lacks a job
    assert dominated_by(mine, {7: mine}, WAYS, after=1) is None  # equal is not better


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=1, max_size=6), st.integers(0, 5))
def test_a_trial_better_in_any_job_goes_on(pairs, place):
    mine = jobs(*pairs)
    other = {key: {"reward": job["reward"] + 1, "drift": job["drift"] - 1} for key, job in mine.items()}
    assert dominated_by(mine, {0: other}, WAYS, after=1) == 0
    key = str(place % len(pairs))
    other[key]["drift"] = mine[key]["drift"] + 0.5
    assert dominated_by(mine, {0: other}, WAYS, after=1) is None

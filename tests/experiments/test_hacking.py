"""Reward against truth: what is read off the curves, on numbers made by hand."""

import numpy as np
import pandas as pd
import pytest

from mira_pl.experiments.hacking import at_equal_reward, best_within, crossing, curves, figure


def frames(method: str, rewards: list[list[float]], faithful: list[list[float]]) -> pd.DataFrame:
    """One job a row, one frame a column."""
    rows = [
        {"method": method, "key": f"k{job}", "prompt": f"p{job}", "iteration": float(frame), "reward": reward}
        | {"faithful": truth, "animal": truth, "colour": np.nan, "drift": 0.0, "score_difference": 0.0, "clip": 0.0}
        for job, (row, truths) in enumerate(zip(rewards, faithful, strict=True))
        for frame, (reward, truth) in enumerate(zip(row, truths, strict=True))
    ]
    return pd.DataFrame(rows)


def test_the_crossing_lies_between_two_frames():
    reward, faithful = np.array([[0.0, 1, 4], [0, 1, 4]]), np.array([[1.0, 1, 0], [1, 0, 0]])
    assert crossing(reward, faithful, 2.5) == pytest.approx(0.25)  # half way from 0.5 to 0
    assert crossing(reward, faithful, -1) == 1.0
    assert np.isnan(crossing(reward, faithful, 5))


def test_methods_meet_at_the_level_of_the_first():
    """The first gains 4 and loses all; a slower one stays faithful and is met at 2; a third never gets there."""
    table = pd.concat(
        [
            frames("dno", [[0, 2, 4], [0, 2, 4]], [[1, 1, 0], [1, 0, 0]]),
            frames("slow", [[0, 1, 2], [0, 1, 2]], [[1, 1, 1], [1, 1, 1]]),
            frames("held", [[0, 1, 1], [0, 1, 1]], [[1, 1, 1], [1, 1, 1]]),
        ],
        ignore_index=True,
    )
    table = table.sample(frac=1, random_state=0).sort_values("method", kind="stable")  # in any order of jobs
    met = at_equal_reward(table, 0.5).set_index("method")
    found, to_first = met["faithful"], met["to_first"]
    assert found["dno"][0] == 0.5 and found["dno"][1:] == (0.0, 1.0)
    assert found["slow"] == (1.0, 1.0, 1.0)
    assert found["held"] is None
    assert to_first["slow"] == (0.5, 0.0, 1.0)  # prompt by prompt: 1 - 1 and 1 - 0
    assert to_first["dno"] is None and to_first["held"] is None
    assert curves(table).groupby("method", sort=False)["reward"].last().to_dict() == {"dno": 4, "slow": 2, "held": 1}


def test_a_job_returns_its_best_frame_within_the_limit():
    """The first job is beyond the limit at its highest reward and comes back from there; the other never is."""
    table = frames("dno", [[0, 1, 6, 5], [0, 2, 7, 6]], [[1, 1, 0, 1], [1, 1, 1, 1]])
    table["elbo"] = [5.0, 5.5, 7.0, 5.0, 1.0, 1.5, 1.9, 2.0]
    tight, loose = best_within(table, "ELBO", [1.0, 9.0]).to_dict("records")
    assert tight["reward"][0] == (5 + 7) / 2 and tight["faithful"][0] == 1.0
    assert loose["reward"][0] == (6 + 7) / 2 and loose["faithful"][0] == 0.5


def test_a_job_that_stopped_early_stays_where_it_is():
    """The second job ends at frame 1: curves and levels count it as it ended, also where the first method has it."""
    table = frames("dno", [[0, 2, 4], [0, 2, 2]], [[1, 1, 0], [1, 1, 1]])
    table = table[~((table["key"] == table["key"].unique()[1]) & (table["iteration"] == 2))]
    assert curves(table)["reward"].tolist() == [0, 2, 3]
    assert curves(table)["faithful"].tolist() == [1, 1, 0.5]
    (row,) = at_equal_reward(table, share=1.0).to_dict("records")
    assert row["reward"] == 3 and row["faithful"][0] == 0.5


def test_a_measure_that_is_missing_is_named():
    table = frames("dno", [[0, 1]], [[1, 1]])
    with pytest.raises(ValueError, match="the first run has no ELBO of every frame: fit with"):
        best_within(table, "ELBO", [1.0])


def test_the_lines_of_many_methods_differ():
    points = pd.DataFrame({"reward": [0.0, 1.0], "faithful": [1.0, 0.5]})
    lines = figure(pd.concat([points.assign(method=f"m{n}") for n in range(25)])).axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 25

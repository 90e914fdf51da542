"""`show` and `export` of studies whose results are written by hand: odd names, and report sets of several rewards."""

from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from matplotlib.collections import PathCollection
from quick_fit import key, record

from mira_pl.__main__ import main
from mira_pl.sweep.check import ReportSet
from mira_pl.sweep.definition import load
from mira_pl.sweep.figures import curves
from mira_pl.sweep.measures import measures
from mira_pl.sweep.results import intervals, rows
from mira_pl.sweep.study import JOBS, REPORTED, SLOT, connect, create_or_join, default_storage

BASE = str(Path(__file__).parents[2] / "configs" / "emoji_darkness.yaml")
BETA = "model.objective.beta"
LONG, ODD = "x" * 50, "Ω.x_y-z"
ANIMALS = ("a cat", "a dog")


def jobs(offset: float, *prefixes: str) -> dict[str, dict[str, float | None]]:
    """Of two animals in each of so many sets, the reward of set n higher by 100 n."""
    return {
        f"{prefix}{key(animal)}": measures(record(animal, index, 0.0) | {"reward": offset + 100 * place + index})
        for place, prefix in enumerate(prefixes)
        for index, animal in enumerate(ANIMALS)
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, optuna.Study]:
    """A sweep file and its study: two methods with odd names, both complete, the second run on two report sets."""
    folder = tmp_path_factory.mktemp("sweep") / "a & <b> $x_{$ 'c' %20 ?d=#e"
    folder.mkdir()
    space = {BETA: [0.1, 1.0]}
    content = {
        "name": ODD, "base": BASE, "sampler": "grid", "methods": {ODD: {"space": space}, LONG: {"space": space}},
        "objectives": {"reward": "maximize"}, "selection": {"data.prompts": list(ANIMALS), "data.template": "{}"},
        "report": [{"data.prompts": ["a cow"]}, {"data.prompts": ["a cow"], "model.reward": "Brightness"}],
    }  # fmt: skip
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(content))
    sweep = load(path, {})
    study = create_or_join(sweep, connect(sweep, default_storage(sweep, folder / "out")), list(jobs(0, "")))
    for value in range(4):
        trial = study.ask()
        sweep.space.suggest(trial)
        trial.set_user_attr(JOBS, jobs(value, ""))
        trial.set_user_attr("command", "fit --x '<script>alert(1)</script>'")
        study.tell(trial, value + 0.5)
    study.set_user_attr(f"{REPORTED}{study.best_trial.user_attrs[SLOT]}", jobs(3, "0/", "1/"))
    return path, study


@pytest.fixture(scope="module")
def out(swept) -> Path:
    """The folder with all that `show` and `export` wrote."""
    path, _ = swept
    for what in ("show", "export"):
        assert main(["sweep", what, "--config", str(path), "--out", str(path.parent / "out")]) == 0
    return path.parent / "out"


@pytest.mark.slow
def test_odd_names_are_shown_and_exported(out):
    page = (out / "index.html").read_text()
    assert f"<bdi>{ODD}</bdi>" in page and f"{ODD}:{BETA}" in page and "<script>alert" not in page
    assert (out / f"curve-{ODD}-{BETA}.png").exists() and (out / f"curve-{LONG}-{BETA}.png").exists()
    best = (out / "best.yaml").read_text()
    assert best.startswith(f"# trial-0003 of the sweep {ODD}: reward 3.5\n") and yaml.safe_load(best)["model"]


@pytest.mark.slow
def test_report_sets_are_told_apart_and_never_pooled(swept, out):
    frame = pd.read_csv(out / "trials.csv")
    assert frame["report-0: reward"].iloc[3] == 3.5 and frame["report-1: reward"].iloc[3] == 103.5
    assert frame["report-0: reward"].iloc[:3].isna().all()
    page = (out / "index.html").read_text()
    assert (
        "report-0, Darkness: reward" in page and "report-1, Brightness: reward" in page and 'value="53.5"' not in page
    )
    assert [set(row.held_out) for row in rows(swept[1])] == [set(), set(), set(), {"report-0", "report-1"}]


def test_another_reward_is_not_on_the_axis_of_the_selections(swept):
    path, study = swept
    parameter = load(path, {}).space.of(ODD)[0]
    every = ("reward", "drift", "clip")
    sets = [ReportSet("report-0", "Darkness", every), ReportSet("report-1", "Brightness", every[1:])]
    drawn = [
        [
            tuple(point)[1]
            for dots in axes.collections
            if isinstance(dots, PathCollection)
            for point in dots.get_offsets()
        ]
        for axes in curves(rows(study), parameter, {}, sets).axes
    ]
    assert drawn[0] == [2.5, 3.5, 3.5] and [len(points) for points in drawn[1:]] == [4, 4]


def test_a_prompt_of_two_sets_is_one_cluster():
    """Two sets of one selection may differ in seeds alone: with one prompt nothing is known of others."""
    same = {
        f"{place}/{key('a cat')[:-1]}{place}": measures(record("a cat", 0, 0.0) | {"reward": place}) for place in (0, 9)
    }
    assert intervals(same)["reward"] == (4.5, 4.5, 4.5)
    low, high = intervals(jobs(0, "0/", "1/"))["reward"][1:]
    assert (low, high) == (50.0, 51.0)

"""What a worker sees of a fit that runs: reports, and the end of hopeless trials. Records are written by hand."""

import json
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import InMemoryStorage
from quick_fit import key, record
from sqlalchemy.exc import OperationalError

from mira_pl.sweep import trial as trials
from mira_pl.sweep.command import Fit, Point, fits
from mira_pl.sweep.definition import Sweep, load
from mira_pl.sweep.study import JOBS, create_or_join, equip
from mira_pl.sweep.trial import Watch, patiently, reproducing

BASE = str(Path(__file__).parents[2] / "configs" / "emoji_darkness.yaml")
PROMPTS = [f"a {animal}" for animal in ("cat", "dog", "fox", "pig", "cow", "ant", "bee", "owl")]


def sweep_of(folder: Path, **content: object) -> Sweep:
    (folder / "s.yaml").write_text(yaml.safe_dump({"base": BASE, "space": {"model.lr": [1, 2, 3]}} | content))
    return load(folder / "s.yaml", {})


def watch(sweep: Sweep, study: optuna.Study, out: Path) -> Watch:
    """Of the next trial, whose only fit writes to `out`."""
    trial = study.ask()
    sweep.space.suggest(trial)
    out.mkdir()
    return Watch(sweep, trial, (Fit((), out),))


def write(seen: Watch, beta: float, jobs: int) -> None:
    """Records of so many jobs, as the stand-in's fit has them: all worse for a larger beta, but for drift and CLIP."""
    lines = [json.dumps(record(prompt, index, beta)) + "\n" for index, prompt in enumerate(PROMPTS[:jobs])]
    (seen.chain[0].out / "records.jsonl").write_text("".join(lines))


def finish(seen: Watch, *values: float) -> None:
    seen.trial.set_user_attr(JOBS, seen.jobs())
    seen.trial.study.tell(seen.trial, values)


def test_one_objective_is_pruned_by_wilcoxon_over_the_jobs(tmp_path):
    sweep = sweep_of(tmp_path, objectives={"reward": "maximize"}, stop={"after": 5, "p": 0.05})
    study = create_or_join(sweep, InMemoryStorage(), [key(prompt) for prompt in PROMPTS])
    equip(study, sweep, "")
    good = watch(sweep, study, tmp_path / "good")
    write(good, 0.0, 8)
    good.look(final=True)
    finish(good, 1.0)
    assert study.trials[0].intermediate_values == pytest.approx({place: 1 + place / 100 for place in range(8)})
    bad = watch(sweep, study, tmp_path / "bad")
    write(bad, 5.0, 4)
    bad.look(final=True)
    assert len(study.trials[1].intermediate_values) == 4
    write(bad, 5.0, 6)
    with pytest.raises(optuna.TrialPruned, match="signed-rank"):
        bad.look(final=True)


def test_several_objectives_stop_where_a_finished_trial_is_better_in_all(tmp_path):
    ways = {"reward": "maximize", "clip": "minimize"}
    sweep = sweep_of(tmp_path, objectives=ways, stop={"after": 3})
    study = create_or_join(sweep, InMemoryStorage(), [key(prompt) for prompt in PROMPTS])
    good = watch(sweep, study, tmp_path / "good")
    write(good, 0.0, 8)
    finish(good, 1.0, 50.0)
    bad = watch(sweep, study, tmp_path / "bad")
    write(bad, 5.0, 2)
    bad.look(final=True)
    write(bad, 5.0, 3)
    with pytest.raises(optuna.TrialPruned, match="trial-0000 was better in every objective on all 3 jobs"):
        bad.look(final=True)
    done = watch(sweep, study, tmp_path / "done")
    write(done, 5.0, 8)
    done.look(final=True)  # there is nothing left to save


def test_what_breaks_a_constraint_stops_nothing(tmp_path):
    """A hacked trial may be better in every objective: it is none to be measured by."""
    ways = {"reward": "maximize", "clip": "minimize"}
    sweep = sweep_of(tmp_path, objectives=ways, stop={"after": 3}, constraints=["drift <= 0.5"])
    study = create_or_join(sweep, InMemoryStorage(), [key(prompt) for prompt in PROMPTS])
    hacked = watch(sweep, study, tmp_path / "hacked")
    write(hacked, 0.0, 8)
    hacked.trial.set_constraint("drift <= 0.5", 0.5)
    finish(hacked, 1.0, 50.0)
    honest = watch(sweep, study, tmp_path / "honest")
    write(honest, 5.0, 3)
    honest.look(final=True)
    assert len(honest.reported) == 3


def test_without_a_rule_nothing_is_stopped(tmp_path):
    sweep = sweep_of(tmp_path, objectives={"reward": "maximize"}, stop=False)
    study = create_or_join(sweep, InMemoryStorage(), [key(prompt) for prompt in PROMPTS])
    seen = watch(sweep, study, tmp_path / "run")
    write(seen, 5.0, 7)
    seen.look(final=True)
    assert study.trials[0].intermediate_values == {}


def test_a_fit_is_told_its_place_in_wandb_and_the_user_is_not(tmp_path):
    sweep = sweep_of(tmp_path, name="mine", selection=[{"data.prompts": ["a cat"]}, {"data.prompts": ["a \"dog'"]}])
    chain = fits(sweep, Point(7, None, {"model.lr": 2}), tmp_path, "selection", "mine-abc")
    assert [fit.out for fit in chain] == [tmp_path / "trial-0007" / f"selection-{index}" for index in (0, 1)]
    told = dict(zip(chain[1].arguments[::2], chain[1].arguments[1::2], strict=True))
    assert told["--wandb.id"] == "mine-abc-0007-selection-1" and told["--wandb.group"] == "mine"
    assert told["--model.lr"] == "2" and json.loads(told["--data.prompts"]) == ["a \"dog'"]
    command = reproducing(chain)
    assert "wandb" not in command and command.count("python -m mira_pl fit --config") == 2 and " && " in command


def test_a_storage_that_is_away_is_waited_for(monkeypatch):
    monkeypatch.setattr(trials.time, "sleep", lambda seconds: None)
    left = [OperationalError("INSERT", {}, Exception("refused")), OperationalError("INSERT", {}, Exception("refused"))]

    def call() -> None:
        if left:
            raise left.pop()

    patiently(call)
    assert not left
    with pytest.raises(ValueError, match="not that"):
        patiently(lambda: (_ for _ in ()).throw(ValueError("not that")))

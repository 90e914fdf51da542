"""Methods are compared at equal compute: what each one is given, and that all of it costs the same."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from mira_pl import searches
from mira_pl.__main__ import main
from mira_pl.commands import compare
from mira_pl.experiments.compare import METHODS, flags
from mira_pl.runs import RunFolder

OVERLAYS = Path("configs/methods")
SEARCHES = [method for method, unit in METHODS.items() if unit is not None and unit.setting.startswith("search.")]
TINY = ["--model.backbone.init_args.steps", "5", "--data.limit", "1", "--wandb.mode", "disabled"]
CALLS = 5 * 2  # denoiser calls of a sampling under guidance


def test_every_overlay_is_compared_but_those_of_one_step_models():
    overlays = {path.stem for path in OVERLAYS.glob("*.yaml")}
    assert overlays - {"reno"} == set(METHODS)


@pytest.mark.parametrize("method", SEARCHES)
def test_searches_have_the_setting_that_is_set(method):
    search = yaml.safe_load((OVERLAYS / f"{method}.yaml").read_text())["model"]["init_args"]["search"]["class_path"]
    name = flags(method, 10)[0].removeprefix("--model.search.")
    assert name in {field.name for field in fields(getattr(searches, search))}


@pytest.mark.slow
def test_methods_cost_alike(tmp_path, capfd, monkeypatch):
    """Ten samplings each, but one for S_0 and what is left of a unit; looks at the result come on top."""
    monkeypatch.setattr(compare, "run", lambda command: main(command[3:]))
    command = ["experiment", "compare", "--config", "configs/emoji_darkness.yaml", *TINY, "--out", str(tmp_path)]
    assert main([*command, "--methods", *METHODS]) == 0
    calls = {method: RunFolder(tmp_path / method).records()[0]["compute"]["unet"] for method in METHODS}
    looks = {method: 0 if method in SEARCHES else CALLS for method in METHODS} | {"mira_dpo": 2 * CALLS}
    looks |= {"langevin": 2 * CALLS, "best_of_n": 0}
    cost = {method: calls[method] - looks[method] for method in METHODS if method != "recommended"}
    assert 5 * CALLS < cost.pop("initno") <= 4 * (CALLS + 10) + CALLS + 50  # the last round has more updates
    assert cost.pop("dymo") == 5 * (CALLS + 2 * 4)  # all steps but the first twice
    assert cost == dict.fromkeys(cost, 10 * CALLS)


@pytest.mark.slow
def test_configs_add_up_and_finished_methods_are_left_alone(tmp_path, capfd):
    overlay = tmp_path / "aesthetic.yaml"
    overlay.write_text("model: {reward: Aesthetic}")
    command = ["experiment", "compare", "--config", "configs/emoji_darkness.yaml", "--samplings", "2", *TINY]
    command += ["--config", str(overlay), "--out", str(tmp_path), "--methods", "best_of_n"]
    assert main(command) == 0
    run = RunFolder(tmp_path / "best_of_n")
    assert run.records()[0]["reward_name"] == "Aesthetic"
    written = (run.path / "records.jsonl").stat().st_mtime_ns
    assert main(command) == 0
    assert (run.path / "records.jsonl").stat().st_mtime_ns == written
    capfd.readouterr()
    assert main(["experiment", "hacking", str(run.path), "--out", str(tmp_path / "tables")]) == 0
    assert (tmp_path / "tables" / "outcome.csv").read_text().splitlines()[1].startswith("best_of_n,")


@pytest.mark.slow
def test_what_cannot_run_is_named_and_the_rest_runs(tmp_path, capfd):
    command = ["experiment", "compare", "--config", "configs/emoji_jpeg.yaml", "--samplings", "1", *TINY]
    assert main([*command, "--out", str(tmp_path), "--methods", "dno", "best_of_n"]) == 2
    said = capfd.readouterr().err
    assert "DNO needs reward gradients" in said and "1 of 2 methods did not run, for the reasons above: dno" in said
    assert RunFolder(tmp_path / "best_of_n").records()


def test_wrong_names_and_counts_are_refused_before_any_fit(tmp_path, capsys):
    command = ["experiment", "compare", "--config", "configs/emoji_jpeg.yaml", "--out", str(tmp_path / "out")]
    assert main([*command, "--methods", "dno", "reno"]) == 2
    assert "no method 'reno' to compare: there are dno, " in capsys.readouterr().err
    assert main([*command, "--samplings", "0"]) == 2
    assert "samplings must be greater than 0, got 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

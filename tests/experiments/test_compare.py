"""Methods are compared at equal compute: what each one is given, and that all of it costs the same."""

from pathlib import Path

import pytest
import yaml

from mira_pl.__main__ import main
from mira_pl.experiments.compare import METHODS, OWN, flags
from mira_pl.runs import RunFolder

OVERLAYS = Path("configs/methods")
TINY = ["--model.backbone.init_args.steps", "5", "--data.limit", "1", "--wandb.mode", "disabled"]
CALLS = 5 * 2  # denoiser calls of a sampling under guidance


def test_every_overlay_is_compared_but_those_of_one_step_models():
    overlays = {path.stem for path in OVERLAYS.glob("*.yaml")}
    assert overlays - {"reno"} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_gets_more_samplings_than_asked_for(method):
    """A number of units, each of so many samplings: one iteration of what learns noise, one candidate of a search."""
    settings = flags(method, 10)
    if method in OWN:
        assert settings == []
        return
    units = int(settings[1])
    cost = {"mira_dpo": 2, "hybrid2": 5, "zo": 5, "mira_hybrid2": 5, "initno": 2, "dymo": 2}.get(method, 1)
    assert units * cost == (9 if method == "mira_fk" else 10)
    assert int(flags(method, 1)[1]) == 1
    assert "--model.film_frames" not in settings or int(settings[3]) < units


def test_overlays_have_the_settings_that_are_set():
    for method in METHODS:
        for flag in flags(method, 10)[::2]:
            model = yaml.safe_load((OVERLAYS / f"{method}.yaml").read_text())["model"]
            if flag.startswith("--model.search."):
                assert model["class_path"] == "NoiseSearch"


@pytest.mark.slow
def test_methods_cost_alike_and_finished_ones_are_left_alone(tmp_path, capfd):
    """Four samplings each: two iterations of a pair, four of a climb, three particles and S_0, four candidates."""
    methods = ["dno", "mira_dpo", "mira_fk", "code"]
    command = ["experiment", "compare", "--config", "configs/emoji_darkness.yaml", "--samplings", "4", *TINY]
    command += ["--out", str(tmp_path), "--methods"]
    assert main([*command, *methods]) == 0
    records = {method: RunFolder(tmp_path / method).records() for method in methods}
    calls = {method: found[0]["compute"]["unet"] for method, found in records.items()}
    looks = {"mira_dpo": 2 * CALLS, "dno": CALLS}  # at the result
    assert {name: count - looks.get(name, 0) for name, count in calls.items()} == dict.fromkeys(methods, 4 * CALLS)
    written = (tmp_path / "dno" / "records.jsonl").stat().st_mtime_ns
    assert main([*command, "dno"]) == 0
    assert (tmp_path / "dno" / "records.jsonl").stat().st_mtime_ns == written
    capfd.readouterr()
    assert main(["experiment", "hacking", str(tmp_path / "dno"), str(tmp_path / "code"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "outcome.csv").read_text().splitlines()[1].startswith("dno,")


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

"""A sweep of real fits from its file to its page: two betas, two prompts, two steps of the emoji world."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from drill import BASE, FAST, Drill, ended, kill, wait
from offline_wandb import finished, records

from mira_pl.__main__ import main
from mira_pl.runs import RunFolder
from mira_pl.sweep.study import JOBS, SLOT

pytestmark = pytest.mark.slow
SETTINGS = [*FAST[:4], "--set", "wandb.mode=offline"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A folder with the sweep file and, in `out`, all that its run wrote."""
    folder = tmp_path_factory.mktemp("sweep")
    content = {
        "base": BASE,
        "sampler": "grid",
        "space": {"model.objective.beta": [0.0, 5.0]},
        "constraints": ["drift <= 1000"],
        "selection": {"data.prompts": ["a white cat", "a white goose"], "data.batch_size": 1, "model.lr": 0.5},
        "report": {"data.prompts": ["a white pig"], "data.seeds": [3], "model.lr": 0.5},
        "objectives": {"reward": "maximize"},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    assert main(["sweep", "run", "--config", str(folder / "small.yaml"), "--out", str(folder / "out"), *SETTINGS]) == 0
    return folder


def look(swept: Path, what: str, *flags: str) -> int:
    return main(["sweep", what, "--config", str(swept / "small.yaml"), "--out", str(swept / "out"), *flags])


def study(swept: Path):
    import optuna

    return optuna.load_study(study_name="small", storage=f"sqlite:///{swept / 'out' / 'study.db'}")


def test_values_are_means_over_the_records(swept):
    trials = study(swept).trials
    assert [trial.user_attrs[SLOT] for trial in trials] == [0, 1]
    for trial in trials:
        found = RunFolder(swept / "out" / f"trial-{trial.number:04d}" / "selection").records()
        assert trial.values == pytest.approx([sum(record["reward"] for record in found) / 2])
        assert set(trial.user_attrs[JOBS]) == {record["key"] for record in found}
        assert trial.constraints == {"drift <= 1000": pytest.approx(sum(abs(r["drift"]) for r in found) / 2 - 1000)}
        assert len(trial.intermediate_values) == 2
    written = json.loads((swept / "out" / "trial-0000" / "result.json").read_text())
    assert written["values"]["reward"] == pytest.approx(trials[0].value)


def test_the_stored_command_does_the_trial_again(swept, tmp_path):
    words = shlex.split(study(swept).trials[1].user_attrs["command"])
    assert words[:4] == ["python", "-m", "mira_pl", "fit"]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert main([*words[3:], "--wandb.mode", "disabled"]) == 0
    places = (swept / "out" / "trial-0001" / "selection", tmp_path / "again")
    one, other = (RunFolder(place).records() for place in places)
    for name in ("key", "reward", "drift", "clip", "config_hash"):
        assert [record[name] for record in one] == [record[name] for record in other]


def test_the_winner_is_run_on_the_report_set(swept):
    made = study(swept)
    slot = made.best_trial.user_attrs[SLOT]
    assert [name for name in made.user_attrs if name.startswith("report:")] == [f"report:{slot}"]
    (record,) = RunFolder(swept / "out" / f"trial-{slot:04d}" / "report").records()
    assert record["prompt"].endswith("a white pig") and record["seed"] == 3
    assert made.user_attrs[f"report:{slot}"][record["key"]]["reward"] == pytest.approx(record["reward"])


def test_the_page_leads_to_every_run_and_loads_nothing(swept, capsys):
    assert look(swept, "show") == 0
    page = (swept / "out" / "index.html").read_text()
    links = set(re.findall(r'href="(trial[^"]+)"', page))
    for slot in (0, 1):
        assert {f"trial-000{slot}/selection/page.html", f"trial-000{slot}/selection/contact.png"} <= links
    assert all((swept / "out" / link).is_file() for link in links)
    points = re.findall(r'<a xlink:href="(trial[^"]+)"', page)
    assert len(points) >= 2 * 4  # in the front and in three curves
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page) and "default-src 'none'" in page
    assert (swept / "out" / "front.png").stat().st_size > 5_000
    assert capsys.readouterr().out == f"{swept / 'out' / 'index.html'}\n"


def test_the_export_is_a_table_and_a_config(swept, tmp_path):
    assert look(swept, "export") == 0
    table = pd.read_csv(swept / "out" / "trials.csv")
    best = study(swept).best_trial
    assert list(table["model.objective.beta"]) == [0.0, 5.0]
    assert list(table["best"]) == [number == best.number for number in (0, 1)]
    assert list(table["state"]) == ["complete"] * 2 and table["command"].str.contains("--model.objective.beta").all()
    config = str(swept / "out" / "best.yaml")
    flags = ["--data.prompts", '["a white cat"]', "--wandb.mode", "disabled", "--out", str(tmp_path / "best")]
    assert main(["fit", "--config", config, *flags]) == 0
    held = RunFolder(tmp_path / "best").config()["model"]
    assert held["objective"]["init_args"]["beta"] == best.params["model.objective.beta"] and held["iterations"] == 2
    assert held["lr"] == 0.5  # of the selection


def test_wandb_has_a_run_a_trial_and_one_a_study(swept):
    runs = {}
    folders = [path.parent for path in (swept / "out").rglob("wandb") if path.is_dir()]
    for path in (path for folder in folders for path in finished(folder)):
        run = next(record.run for record in records(path) if record.HasField("run"))
        runs[run.run_id] = run
    token = study(swept).user_attrs["token"]
    best = study(swept).best_trial.user_attrs[SLOT]
    trials = {f"{token}-000{slot}-selection" for slot in (0, 1)}
    assert set(runs) == trials | {f"{token}-000{best}-report", f"{token}-study"}
    assert {run.run_group for run in runs.values()} == {"small"}
    assert {runs[name].job_type for name in trials} == {"trial"} and runs[f"{token}-study"].job_type == "study"


def test_a_second_run_has_nothing_to_do(swept, capsys):
    before = (swept / "out" / "trial-0000" / "result.json").stat().st_mtime_ns
    assert look(swept, "run", *SETTINGS) == 0
    assert (swept / "out" / "trial-0000" / "result.json").stat().st_mtime_ns == before and len(study(swept).trials) == 2


def test_a_real_fit_resumes(tmp_path):
    """Worker and child are killed after the first of two jobs: the second worker does the second alone."""
    drill = Drill(tmp_path, f"sqlite:///{tmp_path / 's.db'}", fit=None)
    sets = {"data.prompts": ["a white cat", "a white goose"], "data.batch_size": 1, "model.backbone.steps": 8}
    drill.write(space={"model.objective.beta": [0.5]}, selection=sets)
    worker = drill.start()
    wait(lambda: drill.records(0) == 1)
    pids = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()  # the fit
    kill(worker.pid, *map(int, pids))
    ended(worker)
    run = RunFolder(tmp_path / "out" / "trial-0000" / "selection")
    (first,) = run.records()
    noise = (run.path / "noise" / f"{first['key']}.safetensors").stat()
    drill.run()
    assert set(drill.complete()) == {0} and drill.records(0) == 2
    after = (run.path / "noise" / f"{first['key']}.safetensors").stat()
    assert (noise.st_ino, noise.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

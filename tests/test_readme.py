"""Every command of the README and of docs/world.md runs, at tiny size."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mira_pl.__main__ import main
from mira_pl.fit.cli import parse
from mira_pl.world.trainers import __all__ as trainers

ROOT = Path(__file__).parent.parent
REAL = [path.stem for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("emoji")]
TINY_FIT = ["--model.iterations", "1", "--data.limit", "1", "--wandb.mode", "disabled"]
ONE_STEP = ("emoji_turbo", "emoji_dit")


def commands(document: str) -> list[str]:
    """The `python -m mira_pl` lines of the document's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.split("-m mira_pl ", 1)[1] for line in lines if "-m mira_pl " in line]


def tiny(command: str, folder: Path, size: list[str] = TINY_FIT) -> list[str]:
    """The command on one prompt for one iteration, writing below `folder`."""
    words = [word.replace("runs/", f"{folder}/") for word in shlex.split(command)]
    if words[0] == "fit":
        steps = [] if named_config(command) in ONE_STEP else ["--model.backbone.init_args.steps", "2"]
        out = [] if "--out" in words else ["--out", str(folder / "unnamed")]
        processes = ["--trainer.devices", "1", "--trainer.strategy", "auto"] if "--trainer.devices" in words else []
        return [*words, *size, *steps, *out, "--overwrite", "true", *processes]
    if words[:2] == ["experiment", "compare"]:
        return [*words, "--methods", "dno", "best_of_n", "--samplings", "1", *size[2:]]
    if words[:2] == ["experiment", "toy-kl"]:
        return [*words, "--quick", "--out", str(folder / "toy")]
    return words


def named_config(command: str, last: bool = False) -> str:
    """Stem of the first or the last config that a command names."""
    found = re.findall(r"--config \S*?(\w+)\.yaml", command)
    return found[-1 if last else 0] if found else ""


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found = commands("README.md")
    assert {command.split()[0] for command in found} == {"doctor", "fetch", "fit", "show", "experiment", "sweep"}
    for command in found:
        words = tiny(command, tmp_path)
        if words[0] == "sweep":
            assert Path(words[words.index("--config") + 1]).is_file()  # tests/sweep runs them
        elif words[0] == "doctor":
            assert main(words) in (0, 1)  # 1 where the weights are not
        elif named_config(command) in REAL:
            continue  # needs the hub: tests/hub/test_fetch.py runs fetch and fit against a server with tiny weights
        elif "--print_config" in words:
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 0
        else:
            assert main(words) == 0, f"{command}: {capsys.readouterr().err}"
    assert (tmp_path / "dark.html").stat().st_size > 10_000
    assert (tmp_path / "emoji" / "contact.png").exists()


@pytest.mark.parametrize("document", ["docs/models.md", "docs/methods.md"])
def test_pages_name_configs_that_are_there(document):
    found = [re.findall(r"--config (\S+)", command) for command in commands(document)]
    assert found and all((ROOT / name).is_file() for names in found for name in names)


@pytest.mark.slow
def test_the_hacking_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for command in commands("docs/hacking.md"):
        words = tiny(command, tmp_path)
        out = ["--out", str(tmp_path / "tables")] if words[0] == "experiment" else []
        assert main([*words, *out]) == 0, f"{command}: {capsys.readouterr().err}"
    assert (tmp_path / "tables" / "outcome.csv").exists()


@pytest.mark.slow
def test_the_methods_page_runs(tmp_path, monkeypatch, capsys):
    """At two steps of one prompt; every overlay is in one of its tables."""
    monkeypatch.chdir(ROOT)
    named = {path.name for path in (ROOT / "configs" / "methods").glob("*.yaml") if "NoiseSearch" in path.read_text()}
    assert named <= set(re.findall(r"`(\w+\.yaml)`", (ROOT / "docs" / "methods.md").read_text()))
    found = commands("docs/methods.md")
    assert found
    for command in found:
        searches = "NoiseSearch" in command or f"{named_config(command, last=True)}.yaml" in named
        words = tiny(command, tmp_path, TINY_FIT[2:] if searches else TINY_FIT)
        assert main(words) == 0, f"{command}: {capsys.readouterr().err}"
    assert (tmp_path / "searches.html").stat().st_size > 10_000


@pytest.mark.parametrize("document", ["README.md", "docs/hacking.md"])
def test_the_results_are_those_of_the_tables(document):
    """Every row of the results is the outcome that `experiment hacking` wrote."""
    rows = re.findall(r"^\| (\w+), from ([\d.]+) \| (.*?) \| (.*) \|$", (ROOT / document).read_text(), re.M)
    assert len(rows) >= 12
    for reward, start, method, cells in rows:
        table = pd.read_csv(ROOT / "docs" / "results" / "hacking" / reward / "outcome.csv").set_index("method")
        outcome = table.loc[method]
        assert start == f"{outcome['reward at start']:.2f}"
        digits = {"reward": (2, 1), "drift": (1, 1), "clip": (0, 1), "animal": (0, 100), "colour": (0, 100)}
        digits["faithful"] = (0, 100)
        for cell, (column, (places, scale)) in zip(cells.split(" | "), digits.items(), strict=True):
            assert cell == interval(outcome[column], places, scale), f"{reward}, {method}, {column}"


def test_the_table_of_one_step_is_the_csv():
    page = (ROOT / "docs" / "hacking.md").read_text().split("## One step")[1]
    outcome = pd.read_csv(ROOT / "docs" / "results" / "one_step" / "turbo_outcome.csv").set_index("method")
    rows = re.findall(r"^\| (DNO|MIRA|ReNO) \| (.*) \|$", page, re.M)
    assert len(rows) == len(outcome) == 3
    digits = {"reward": (3, 1), "drift": (2, 1), "score_difference": (2, 1), "clip": (0, 1), "animal": (0, 100)}
    for method, cells in rows:
        for cell, (column, (places, scale)) in zip(cells.split(" | "), digits.items(), strict=True):
            written = [float(number) for number in re.findall(r"-?\d+\.?\d*", cell.replace("..", " "))]
            wanted = [
                scale * float(number)
                for number in re.findall(r"-?\d+\.?\d*", str(outcome[column][method]).replace("..", " "))
            ]
            assert written == pytest.approx(wanted, abs=0.5 * 10**-places + 1e-9), f"{method}, {column}"


def test_the_table_of_beta_is_the_csv():
    outcome = pd.read_csv(ROOT / "docs" / "results" / "beta" / "outcome.csv").set_index("method")
    rows = re.findall(r"^\| ([\d.]+) \| (.*) \|$", (ROOT / "docs" / "sweeps.md").read_text(), re.M)
    rows = [row for row in rows if row[1].count("..") == 7]
    assert [float(beta) for beta, _ in rows] == list(outcome.index)
    digits = {"reward": (2, 1), "drift": (1, 1), "score_difference": (1, 1), "clip": (0, 1), "animal": (0, 100)}
    digits |= {"colour": (0, 100), "faithful": (0, 100)}
    for beta, cells in rows:
        for cell, (column, (places, scale)) in zip(cells.split(" | "), digits.items(), strict=True):
            assert cell == interval(outcome.loc[float(beta), column], places, scale), f"{beta}, {column}"


def test_the_tables_at_equal_compute_are_the_csv():
    """A row a method, in the order of the CSV; U-Net calls without an interval."""
    page = (ROOT / "docs" / "methods.md").read_text().split("## At equal compute")[1]
    digits = {"unet": (0, 1), "reward": (2, 1), "drift": (1, 1), "clip": (0, 1), "animal": (0, 100), "colour": (0, 100)}
    digits |= {"faithful": (0, 100), "seconds": (1, 1)}
    for folder in sorted((ROOT / "docs" / "results" / "methods").iterdir()):
        outcome = pd.read_csv(folder / "outcome.csv")
        rows = re.findall(r"^\| ([^|]+) \| (\d.*) \|$", page.split(f"### {folder.name}\n")[1].split("\n### ")[0], re.M)
        assert [method for method, _ in rows] == outcome["method"].tolist()
        assert set(outcome["jobs"]) == {90}
        for (method, cells), (_, found) in zip(rows, outcome.iterrows(), strict=True):
            for cell, (column, (places, scale)) in zip(cells.split(" | "), digits.items(), strict=True):
                wanted = interval(found[column], places, scale)
                assert cell == (wanted.split()[0] if column == "unet" else wanted), f"{folder.name}, {method}, {column}"


def test_the_tables_of_ways_are_the_csv():
    """How each way ends, and what it keeps at one reward less what DNO keeps; the overlay on animals not tuned on."""
    page = (ROOT / "docs" / "hacking.md").read_text().split("## Many ways")[1].split("\n## ")[0]
    results = ROOT / "docs" / "results" / "ways"
    known = re.findall(r"^\| (.*?) \| `\w+\.yaml`", page, re.M)
    for folder in results.iterdir():
        outcome = pd.read_csv(folder / "outcome.csv").set_index("method")
        equal = {
            share: pd.read_csv(folder / name).set_index("method")
            for share, name in (("60", "equal_reward.csv"), ("80", "equal_reward_80.csv"))
        }
        section = page.split(f"### {folder.name}\n")[1].split("\n### ")[0]
        told = re.findall(r"(60|80) %(?: of its gain)? at ([\d.]+), (.*?) % right", section)
        assert told == [(k, f"{e['reward'].iloc[0]:.2f}", percents(e.loc["DNO", "faithful"])) for k, e in equal.items()]
        rows = re.findall(r"^\| (.*?) \| (.*\.\..*) \|$", section, re.M)
        rows = [(way, cells.split(" | ")) for way, cells in rows if cells.count(" | ") == 5]
        assert [way for way, _ in rows] == outcome.index.tolist() and set(outcome.index) <= set(known)
        assert set(outcome["jobs"]) == {90}
        for way, (*cells, at_60, at_80) in rows:
            digits = {"reward": 2, "score_difference": 1, "clip": 0}
            wanted = [interval(outcome.loc[way, column], places) for column, places in digits.items()]
            assert cells == [*wanted, percents(outcome.loc[way, "faithful"])], f"{folder.name}, {way}"
            assert [at_60, at_80] == [less_dno(way, found) for found in equal.values()], f"{folder.name}, {way}"
    held = re.findall(r"^\| (\w+), (start|end) \| (\S+) \| (.*) \|$", page, re.M)
    assert len(held) >= 4
    for reward, when, value, share in held:
        curves = pd.read_csv(results / reward / "report_curves.csv")
        row = curves[curves["method"] == "recommended"].iloc[0 if when == "start" else -1]
        assert (value, share) == (f"{row['reward']:.2f}", f"{100 * row['faithful']:.0f}")


def test_the_settings_of_ways_are_settings_of_fit():
    page = (ROOT / "docs" / "hacking.md").read_text().split("## Many ways")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .*? \| `(\w+\.yaml)`(?:, `(--.*)`)? \|$", page, re.M)
    assert len(rows) > 10
    for overlay, flags in rows:
        configs = ["--config", "configs/emoji_darkness.yaml", "--config", f"configs/methods/{overlay}"]
        parse([*configs, *shlex.split(flags)])


def less_dno(way: str, equal: pd.DataFrame) -> str:
    """A way's share at DNO's reward, less DNO's."""
    reached = isinstance(equal.loc[way, "faithful"], str)
    return "" if way == "DNO" else percents(equal.loc[way, "to_first"]) if reached else "never there"


def interval(cell: object, places: int, scale: float = 1) -> str:
    """A mean with its interval as pages write it, and a dash where there is none."""
    numbers = [scale * float(number) for number in re.findall(r"-?\d[\d.]*(?:e-?\d+)?", str(cell))]
    return "{} ({} .. {})".format(*(f"{number:.{places}f}" for number in numbers)) if numbers else "-"


def percents(cell: str) -> str:
    """A share with its interval, as pages write it."""
    return interval(cell, 0, 100)


def test_the_table_of_figure_8_is_the_csv():
    """Kilobytes and CLIPScore of every job, in the order of the columns; the counts and means that the pages name."""
    jobs = pd.read_csv(ROOT / "docs" / "results" / "figure8" / "jobs.csv")
    page = (ROOT / "docs" / "methods.md").read_text()
    rows = re.findall(r"^\| (a \w+ \w+), seed (\d) \| (.*) \|$", page, re.M)
    assert len(rows) == len(jobs) / 3 == 4
    for prompt, seed, cells in rows:
        found = jobs[(jobs["prompt"] == prompt) & (jobs["seed"] == int(seed))]
        start = [(found["start_kb"].iloc[0], found["start_clip"].iloc[0])]
        ends = list(zip(found["kb"], found["clip"], strict=True))
        assert cells.split(" | ") == [f"{size:.2f} kB, {clip:.0f}" for size, clip in start + ends]
    means = jobs.groupby("method")["kb"].mean()
    told = [jobs["start_kb"].mean(), means["MIRA-DPO"], means["Hybrid-2"]]
    assert [f"{size:.2f}" for size in told] == ["2.14", "2.20", "2.24"]
    assert (jobs["kb"].round(2) >= jobs["start_kb"].round(2)).sum() == 9


def test_the_python_example_runs(monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    code = code.replace("StableDiffusion()", "StableDiffusion(steps=2)").replace("iterations=10", "iterations=1")
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["result"].images.shape == (1, 3, 64, 64)
    assert len(scope["result"].trace) == 2


def test_every_trainer_is_documented():
    named = commands("docs/world.md")
    configs = {path.stem for path in (ROOT / "configs" / "world").glob("*.yaml")}
    assert {Path(command.split()[-1]).stem for command in named if command.startswith("pretrain")} == configs
    classes = {
        yaml.safe_load(path.read_text())["model"]["class_path"] for path in (ROOT / "configs" / "world").glob("*.yaml")
    }
    assert classes == set(trainers)


def test_links_lead_somewhere():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"

"""The sweep file: the shipped ones, what is refused, and what makes two of them different."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from mira_pl.sweep.check import ReportSet, job_keys, report_sets
from mira_pl.sweep.command import arguments
from mira_pl.sweep.definition import KEYS, load
from mira_pl.sweep.difference import difference
from mira_pl.sweep.study import planned

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
BASE = str(ROOT / "configs" / "emoji_darkness.yaml")
SMALL = {"base": BASE, "space": {"model.objective.beta": [0.1, 1.0]}}


def write(folder: Path, **content: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL | content))
    return path


def test_four_are_shipped():
    assert {path.stem for path in SHIPPED} == {"beta", "beta_lr", "steps", "methods"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_ones_are_fits(path, monkeypatch):
    """Every method and set parses as a fit, and no prompt that chose is one that reports."""
    monkeypatch.chdir(ROOT)
    sweep = load(path, {})
    assert sweep.name == path.stem and job_keys(sweep) and planned(sweep)
    assert sweep.base == (Path("configs/emoji_darkness.yaml"),)
    sets = (sweep.selection, sweep.report)
    chosen, reported = ({prompt for one in part for prompt in one["data.prompts"]} for part in sets)
    assert chosen and not chosen & reported


def test_methods_have_the_same_budget(monkeypatch):
    monkeypatch.chdir(ROOT)
    drawn = [fixed["method"] for fixed in planned(load(ROOT / "sweeps" / "methods.yaml", {}))]
    assert len({drawn.count(name) for name in set(drawn)}) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"spcae": {}}, "no key 'spcae'. Did you mean 'space'"),
        ({"base": []}, "give base"),
        ({"space": {}}, "nothing is searched"),
        ({"sampler": "cma"}, "sampler must be one of tpe, grid, random"),
        ({"objectives": {"reward": "up"}}, "maximize or minimize"),
        ({"objectives": {"rewrad": "maximize"}}, "rewrad"),
        ({"constraints": ["drift < 1"]}, "write `drift <= 0.5`"),
        ({"name": "../../evil"}, "name must be 1 to 50 letters, digits"),
        ({"name": "$x_y$"}, "name must be 1 to 50 letters, digits"),
        ({"name": "a" * 51}, "name must be 1 to 50 letters, digits"),
        ({"base": 5}, "give base, the paths"),
        ({"storage": 5}, "storage must be a URL, got int"),
        ({"methods": ["MIRA"]}, "methods must map names to"),
        ({"methods": {1: {}}}, "methods must map names to"),
        ({"methods": {"a/b": {}}}, "name of a method must be 1 to 50 letters, .* got 'a/b'"),
        ({"methods": {"$x_y$": {}}}, "name of a method must be"),
        ({"methods": {'<b>&"': {}}}, "name of a method must be"),
        (
            {"selection": {"model.objective.init_args.beta": 1}},
            "selection sets model.objective.init_args.beta, which is s",
        ),
        (
            {"report": [{}, {"model": {"objective": {"beta": 1}}}]},
            "report sets model.objective.beta, which is searched",
        ),
        (
            {"space": {"model.objective": ["MIRA"]}, "report": {"model.objective.beta": 1}},
            "which is searched: leave it",
        ),
        ({"report": {"out": "elsewhere"}}, "report sets 'out', which is the sweep's own"),
        ({"methods": {"MIRA": {"config": None}}}, "methods.MIRA.config must be the path of a config, got None"),
        ({"space": {"model.lr": {"low": 1, "high": float("inf")}}}, "must be numbers"),
        ({"stop": {"p": 5}}, "stop.p must be a number between 0 and 1"),
        ({"budget": {"trails": 3}}, "budget takes trials, hours, unet_calls"),
        ({"budget": {"trials": 0}}, "budget.trials must be a whole number of at least 1"),
        ({"budget": {"hours": -1}}, "budget.hours must be above 0"),
        ({"heartbeat": 60, "grace": 60}, "grace must be above heartbeat"),
        ({"selection": ["animals"]}, "selection must map keys of a fit"),
        ({"methods": {"A": {"confg": "x"}}}, "methods.A takes config and space"),
        ({"methods": {"A": {"space": {"model.objective.beta": [1]}}}}, "stands in space and under a method"),
        ({"sampler": "grid", "space": {"model.lr": {"low": 1, "high": 2}}}, "grid needs a list"),
        ({"seed": "one"}, "seed must be a whole number"),
    ],
)
def test_what_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        load(write(tmp_path, **content), {})


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load(write(tmp_path, base="nowhere.yaml"), {})


def test_a_misspelt_key_is_found_before_anything_runs(tmp_path, capsys):
    sweep = load(write(tmp_path, space={"model.objective.betta": [0.1]}), {})
    with pytest.raises(SystemExit):
        job_keys(sweep)
    assert "betta" in capsys.readouterr().err


def test_two_sets_name_their_jobs_apart(tmp_path):
    sets = [{"data.prompts": ["a cat"]}, {"data.prompts": ["a cat"], "model.iterations": 3}]
    keys = job_keys(load(write(tmp_path, selection=sets), {}))
    assert len(keys) == len(set(keys)) == 2 and {key[:2] for key in keys} == {"0/", "1/"}


def test_the_difference_is_what_was_changed(tmp_path):
    old = load(write(tmp_path), {"model.iterations": "3"}).identity
    assert difference(old, load(write(tmp_path), {"model.iterations": "3"}).identity) == []
    new = write(tmp_path, space={"model.objective.beta": [0.1, 2.0]}, constraints=["clip >= 20"])
    assert difference(old, load(new, {"model.iterations": "4"}).identity) == [
        "space.model.objective.beta.1: 1.0 -> 2.0",
        "set.model.iterations: 3 -> 4",
        "constraints.0: nothing -> clip >= 20",
    ]


def test_a_changed_base_is_a_difference_and_its_place_is_none(tmp_path):
    config = tmp_path / "base.yaml"
    config.write_text(Path(BASE).read_text())
    same, moved = load(write(tmp_path), {}).identity, load(write(tmp_path, base=str(config)), {}).identity
    assert difference(same, moved) == []
    config.write_text(Path(BASE).read_text().replace("iterations: 20", "iterations: 21"))
    assert difference(same, load(write(tmp_path, base=str(config)), {}).identity) == [
        "base.0.model.iterations: 20 -> 21"
    ]


def test_budget_storage_and_heartbeat_may_change(tmp_path):
    old = load(write(tmp_path), {}).identity
    new = load(write(tmp_path, budget={"trials": 99}, storage="journal:x", heartbeat=5, grace=9), {}, trials=7)
    assert difference(old, new.identity) == [] and new.budget.trials == 7


def test_the_file_of_the_page_is_one(tmp_path):
    page = (ROOT / "docs" / "sweeps.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "page.yaml").write_text(block.replace("../configs", str(ROOT / "configs")))
    sweep = load(tmp_path / "sweeps" / "page.yaml", {})
    assert set(yaml.safe_load(block)) | {"name"} == set(KEYS)
    assert len(sweep.constraints) == 2 and sweep.budget.unet_calls == 1e6 and job_keys(sweep)
    assert all((ROOT / name).is_file() for name in re.findall(r"`(sweeps/[\w.]+)`", page))


def test_set_beats_the_sets_and_may_not_mix_them(tmp_path):
    """Neither what is searched, nor what keeps the report apart from the choice."""
    one, other = {"data.prompts": ["a cat"], "model.iterations": 9}, {"data.prompts": ["a dog"]}
    sweep = load(write(tmp_path, selection=one), {"data.prompts": "white_animals", "model.lr": "0.1"})
    flags = arguments(sweep, None, {"model.objective.beta": 2.0}, sweep.selection[0])
    told = dict(zip(flags[::2], flags[1::2], strict=True))
    assert told["--data.prompts"] == "white_animals" and told["--model.iterations"] == "9"
    assert told["--model.lr"] == "0.1" and told["--model.objective.beta"] == "2.0"
    with pytest.raises(ValueError, match="sets it apart for selection and report"):
        load(write(tmp_path, selection=one, report=other), {"data.prompts": "white_animals"})
    with pytest.raises(ValueError, match=r"--set model\.objective\.init_args\.beta: .* searches it"):
        load(write(tmp_path), {"model.objective.init_args.beta": "1"})
    for own in ("", "config", "out"):
        with pytest.raises(ValueError, match="is the sweep's own"):
            load(write(tmp_path), {own: "5"})
    with pytest.raises(ValueError, match=r"--set model\.objective\.beta: .* searches it"):
        load(write(tmp_path), {"model.objective.beta": "1"})


def test_exponents_are_numbers_as_in_the_configs_of_fit(tmp_path):
    (tmp_path / "s.yaml").write_text(
        f"base: {ROOT / 'configs' / 'emoji_darkness.yaml'}\nbudget: {{unet_calls: 1e6}}\n"
        "space: {model.lr: {low: 1e-3, high: 1E-1, log: true}, model.weight_decay: [1e-3, 1e-2]}\n"
    )
    sweep = load(tmp_path / "s.yaml", {})
    assert sweep.budget.unet_calls == 1e6
    assert [(p.low, p.high, p.values) for p in sweep.space.parameters] == [(1e-3, 0.1, ()), (0.0, 0.0, (1e-3, 1e-2))]


def test_a_grid_without_a_budget_is_whole(tmp_path):
    """Thirty points; of anything else there are twenty."""
    space = {"model.lr": [n / 100 for n in range(1, 11)], "model.weight_decay": [0.0, 0.1, 0.2]}
    assert len(planned(load(write(tmp_path, space=space, sampler="grid"), {}))) == 30
    assert len(planned(load(write(tmp_path, space=space, sampler="grid", budget={"trials": 7}), {}))) == 7
    assert len(planned(load(write(tmp_path, space=space, sampler="random"), {}))) == 20


def test_another_report_set_is_another_study(tmp_path):
    """Else results of the old one would stand under the new one's name."""
    old, new = ({"data.prompts": [f"a {animal}"]} for animal in ("dog", "tiger"))
    before, after = (load(write(tmp_path, report=one), {}).identity for one in (old, new))
    assert difference(before, after) == ["report.data.prompts.0: a dog -> a tiger"]


@pytest.mark.parametrize(
    ("objectives", "settings", "words"),
    [
        ({"elbo": "minimize"}, {}, "model.elbo_pairs is 0: --set model.elbo_pairs=2"),
        ({"clip": "maximize"}, {"model.clip": "null"}, "model.clip is null"),
        ({"elbo": "minimize"}, {"model.elbo_pairs": "2"}, None),
    ],
)
def test_what_no_fit_would_measure_is_refused_before_any_runs(tmp_path, objectives, settings, words):
    sweep = load(write(tmp_path, objectives=objectives), settings)
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        assert job_keys(sweep)


CAT, DOG = {"data.prompts": ["a cat"]}, {"data.prompts": ["a dog"]}
BRIGHT = {"model.reward": "Brightness"}


def test_what_is_searched_beats_what_holds_it(tmp_path):
    """The flags of a trial's values come last: a set may choose the class whose parameter is searched."""
    overlay = {"model.objective": "MIRA", "model.objectives": 1}
    assert load(write(tmp_path, selection=overlay), {}).selection == (overlay,)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            [CAT, CAT | BRIGHT],
            r"differ in model\.reward\.class_path: .*Darkness -> .*Brightness: a mean over both says",
        ),
        ([CAT, DOG | {"model.clip": None}], r"differ in model\.clip\..*make the others sets of report"),
    ],
)
def test_sets_without_a_common_scale_are_not_chosen_on(tmp_path, sets, words):
    content = {"objectives": {"reward": "maximize"}, "selection": sets}
    with pytest.raises(ValueError, match=words):
        job_keys(load(write(tmp_path, **content), {}))


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (CAT, "report holds 1 jobs of selection, the first a-cat-"),
        (
            {"data.prompts": ["a dog", "a cat"], "data.seeds": [1, 0]},
            "report holds 1 jobs of selection, the first a-cat-",
        ),
        ([DOG, CAT | {"model.iterations": 3}], "would be picked on its own test"),
        (CAT | {"data.seeds": [1]}, None),
        (CAT | BRIGHT, None),
        (DOG, None),
    ],
)
def test_the_winner_is_not_picked_on_its_own_test(tmp_path, report, words):
    sweep = load(write(tmp_path, selection=CAT, report=report), {})
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        assert job_keys(sweep)


def test_report_sets_know_what_they_measure_as_selection_does(tmp_path):
    sweep = load(write(tmp_path, selection=CAT, report=[DOG, CAT | BRIGHT]), {})
    same, other = report_sets(sweep)
    assert (same.name, same.reward) == ("report-0", "Darkness") and {"reward", "gain", "clip"} <= set(same.comparable)
    assert other == ReportSet(
        "report-1", "Brightness", ("drift", "score_difference", "elbo", "clip", "seconds", "unet_calls")
    )
    assert [one.name for one in report_sets(load(write(tmp_path, report=DOG), {}))] == ["report"]


def test_a_report_that_would_not_measure_is_refused_before_any_runs(tmp_path):
    with pytest.raises(ValueError, match="clip is null"):
        job_keys(load(write(tmp_path, selection=CAT, report=DOG | {"model.clip": None}), {}))

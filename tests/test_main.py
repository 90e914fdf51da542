"""The dispatch table: help, and one line for what cannot be run."""

import sys

import pytest

from mira_pl.__main__ import COMMANDS, main


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_fits_on_a_screen_and_names_every_command(argv, capsys):
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert said.count("\n") < 24 and all(len(line) <= 80 for line in said.splitlines())


def test_an_unknown_command_is_one_line(capsys):
    assert main(["fti"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mira_pl: no command 'fti'; there are fit, show, ") and error.count("\n") == 1


@pytest.mark.parametrize("library", ["pandas", "matplotlib"])
def test_a_missing_extra_is_named(library, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.startswith(("mira_pl.commands", "mira_pl.experiments.toy_kl", "mira_pl.experiments.hacking", library)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["experiment", "toy-kl", "--quick"]) == 2
    line = f'mira_pl: experiment needs {library}, an extra: python -m pip install "mira_pl[experiments]"\n'
    assert capsys.readouterr().err == line


def test_another_missing_module_is_no_mistake_of_the_user(monkeypatch):
    monkeypatch.delitem(sys.modules, "mira_pl.commands.show", raising=False)
    monkeypatch.setitem(sys.modules, "mira_pl.experiments.page", None)
    with pytest.raises(ModuleNotFoundError):
        main(["show", "run"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["show"], ["required: RUN", "python -m mira_pl show --help"]),
        (["show", "x", "--ot", "y"], ["unrecognized arguments: --ot"]),
        (
            ["experiment", "toy-kl", "--chains", "many"],
            ["--chains", "'many'", "python -m mira_pl experiment toy-kl --help"],
        ),
        (["experiment", "world-quality", "--sed", "1", "--x"], ["unrecognized arguments: --sed 1 --x"]),
        (["experiment", "hacking"], ["required: runs"]),
        (["pretrain"], ["no configuration", "--config configs/world/vae.yaml"]),
        (["pretrain", "--model.steps", "3"], ["model"]),
        (["pretrain", "--modle", "VAETraining"], ["--modle", "model"]),
        (["pretrain", "--model", "VAETrainin"], ["no model is called 'VAETrainin'"]),
        (["pretrain", "--model", "VAETraining", "--model.stepps", "3"], ["stepps"]),
        (["pretrain", "--model", "VAETraining", "--model.steps", "0"], ["steps must be greater than 0, got 0"]),
        (["pretrain", "--model", "VAETraining", "--trainer.devices", "0"], ["the trainer cannot run so: ", "devices"]),
        (["pretrain", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_a_mistaken_flag_is_one_line(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "Seed set" not in line]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("mira_pl: ") and len(lines[0]) < 500
    assert all(word in lines[0] for word in words), lines[0]
    assert not list(tmp_path.iterdir())

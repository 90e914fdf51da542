"""Weak scaling: start-up cancels, and the whole path runs."""

import json

import pytest

from benchmarks import scaling
from benchmarks.__main__ import parser


def run(*flags: str) -> None:
    args = parser.parse_args(["scaling", *flags])
    args.main(args)


def test_what_a_fit_costs_before_and_after_cancels(monkeypatch, tmp_path):
    """Of four processes that lose a fifth of their speed to one another."""

    def fit(processes, iterations, args):
        return 30.0 + 5.0 * processes + iterations * (2.0 if processes == 1 else 2.5)

    monkeypatch.setattr(scaling, "fit", fit)
    run("--processes", "4", "--json", str(tmp_path / "scaling.json"))
    one, four = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert one == {"processes": 1, "seconds_per_iteration": 2.0, "speedup": 1.0, "efficiency": 1.0}
    assert four == pytest.approx({"processes": 4, "seconds_per_iteration": 2.5, "speedup": 3.2, "efficiency": 0.8})


@pytest.mark.slow
def test_a_failed_fit_says_why():
    with pytest.raises(SystemExit, match=r"fit ended with 2: mira_pl: .*steps"):
        run("--steps", "0", "--rounds", "1")


@pytest.mark.slow
def test_two_real_processes(tmp_path):
    flags = ["--prompts", "1", "--steps", "2", "--iterations", "1", "--rounds", "1"]
    run(*flags, "--json", str(tmp_path / "scaling.json"))
    rows = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert [row["processes"] for row in rows] == [1, 2]

"""The progress bar of a real run, as a terminal of 100 columns shows it."""

import io
import re

import pytest
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.progress import Progress

from mira_pl.fit.cli import build, fit
from mira_pl.fit.progress import RunProgress, line
from mira_pl.runs import RunFolder

FIELDS = re.compile(
    r"round (?P<round>\d)/3  iteration (?P<iteration>\d)/3  reward (?P<reward>\S+)  drift (?P<drift>\S+)  "
    r"(?:CLIP (?P<clip>\S+)  )?(?P<seconds>\d+) s left"
)


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What the bar writes."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    start = Progress.__init__
    monkeypatch.setattr(
        Progress, "__init__", lambda self, *columns: start(self, *columns, console=console, auto_refresh=False)
    )
    show = RunProgress._show

    def show_at_once(self, trainer, module):
        show(self, trainer, module)
        self.progress.refresh()

    monkeypatch.setattr(RunProgress, "_show", show_at_once)
    return text


@pytest.mark.parametrize("clip", [False, True])
def test_every_field_of_a_real_run(terminal, arguments, tmp_path, clip):
    """Three rounds of three iterations, their numbers those of the trace."""
    flags = ["--model.clip", "Darkness"] if clip else []
    fit([*arguments, *flags, "--trainer.enable_progress_bar", "true"])
    shown = [found.groupdict() for found in FIELDS.finditer(terminal.getvalue())]
    assert "Epoch" not in terminal.getvalue()
    assert {(row["round"], row["iteration"]) for row in shown} >= {(r, k) for r in "123" for k in "0123"}
    assert shown[-1]["seconds"] == "0"
    trace = [row for row in RunFolder(tmp_path / "run").trace() if row["key"].startswith("a-spider")]
    last = {row["iteration"]: row for row in shown if row["round"] == "3"}
    for row in trace:
        seen = last[row["iteration"]]
        assert float(seen["reward"]) == pytest.approx(float(row["reward"]), rel=1e-3)
        assert float(seen["drift"]) == pytest.approx(float(row["drift"]), rel=1e-3, abs=1e-6)
        assert (float(seen["clip"]) == pytest.approx(float(row["clip"]), rel=1e-3)) if clip else seen["clip"] is None


def test_the_line_fits_a_narrow_terminal():
    means = {"round": 1, "iteration": 12.0, "reward": 5.3123, "drift": -0.01234, "clip": 0.31234}
    text = line(means, 9, 50, 1083.6)
    assert text == "round 2/9  iteration 12/50  reward 5.312  drift -0.01234  CLIP 0.3123  1084 s left"


def test_a_bar_of_ones_own_or_none(arguments):
    own = ["--trainer.enable_progress_bar", "true", "--trainer.callbacks", "[{class_path: RichProgressBar}]"]
    assert isinstance(build([*arguments, *own]).trainer.progress_bar_callback, RichProgressBar)
    assert build(arguments).trainer.progress_bar_callback is None
    assert isinstance(
        build([*arguments, "--trainer.enable_progress_bar", "null"]).trainer.progress_bar_callback, RunProgress
    )

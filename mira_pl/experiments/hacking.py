"""Reward hacking, measured: what the judge sees along the way, and which drift measure tells hacked images apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import TABLEAU_COLORS
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from PIL import Image

from ..judges.truth import TruthJudge
from ..ranges import not_negative
from ..runs import RunFolder
from ..types import Images
from .statistics import auroc, bootstrap

MEASURES: dict[str, tuple[str, float]] = {
    "S_0 - S": ("drift", 1.0),
    "S - S_0": ("drift", -1.0),
    "|S_0 - S|": ("magnitude", 1.0),
    "score difference": ("score_difference", 1.0),
    "ELBO": ("elbo", 1.0),
    "noise norm": ("noise_norm", 1.0),
    "CLIPScore, falling": ("clip", -1.0),
}
RETURNED = ("reward", "drift", "score_difference", "elbo", "clip", "noise_norm")
OUTCOME = ("reward", "drift", "score_difference", "clip", "animal", "colour", "faithful", "unet", "seconds")


@dataclass(frozen=True)
class Labelled:
    """A run folder under the name it has in tables."""

    name: str
    run: RunFolder


def frames(labelled: Labelled, judge: TruthJudge) -> pd.DataFrame:
    """One row a job and filmstrip frame: the trace's columns there, and the judge's verdicts of the picture."""
    trace: Any = pd.DataFrame(labelled.run.trace()).replace("", np.nan)
    trace = trace.astype({name: float for name in trace.columns if name != "key"})
    parts = []
    for record in labelled.run.records():
        rows, pictures = trace[trace["key"] == record["key"]], film(labelled.run, record["key"])
        if record["status"] != "finished":
            pictures = pictures[[0, -1]]  # the frames of a job that stopped early are not evenly spaced
        rows = rows[rows["iteration"].isin(np.round(np.linspace(0, record["iterations"], len(pictures))))].copy()
        for name in RETURNED:  # not always what the last iteration had
            rows.loc[rows.index[-1], name] = record[name]
        prompts = [record["prompt"]] * len(pictures)
        rows["prompt"] = record["prompt"]
        rows["animal"] = judge.right_subject(pictures, prompts).numpy()
        rows["colour"] = judge.right_colour(pictures, prompts).numpy()
        rows["unet"], rows["seconds"] = record["compute"]["unet"], record["seconds"]
        parts.append(rows)
    table = pd.concat(parts, ignore_index=True)
    table["method"], table["magnitude"] = labelled.name, table["drift"].abs()
    table["faithful"] = table["animal"] * table["colour"].fillna(1.0)
    return table


def film(run: RunFolder, key: str) -> Images:
    """The frames of a filmstrip, start first, result last, in [-1, 1]; those two alone where there is no strip."""
    strip = run.image_path(key, "film")
    paths = [strip] if strip.exists() else [run.image_path(key, "base"), run.image_path(key)]
    return torch.cat([_frames_of(path) for path in paths])


def _frames_of(path: Path) -> Images:
    """Square pictures that stand side by side."""
    with Image.open(path) as strip:
        pixels = torch.from_numpy(np.array(strip.convert("RGB"))).float() / 127.5 - 1
    side = pixels.shape[0]
    return pixels.view(side, -1, side, 3).permute(1, 3, 0, 2)


def outcome_table(frames_of_runs: Any) -> pd.DataFrame:
    """One row a method: the mean of every column at the last frame, with a 95 % interval over prompts."""
    rows = []
    for method, part in frames_of_runs.groupby("method", sort=False):
        last = part.sort_values("iteration").groupby("key").tail(1)
        first = part[part["iteration"] == 0]
        row: dict[str, object] = {"method": method, "jobs": len(last), "reward at start": first["reward"].mean()}
        for column in OUTCOME:
            values = last[column].to_numpy()
            row[column] = bootstrap(_mean_of(values), last["prompt"].tolist()) if not np.isnan(values).all() else None
        rows.append(row)
    return pd.DataFrame(rows)


def curves(frames_of_runs: Any) -> pd.DataFrame:
    """Means by method and iteration: reward against truth, not end points alone."""
    columns = ["reward", "drift", "score_difference", "clip", "animal", "colour", "faithful"]
    parts = []
    for method, part in frames_of_runs.groupby("method", sort=False):
        means = _filled(part, columns).groupby("iteration").mean().reset_index()
        parts.append(means.assign(method=method)[["method", *means.columns]])
    return pd.concat(parts, ignore_index=True)


def _filled(part: Any, columns: Sequence[str]) -> Any:
    """Every job of one method at every frame of any, by key and iteration: one that stopped early stays where it is."""
    every = pd.MultiIndex.from_product([part["key"].unique(), sorted(part["iteration"].unique())])
    every.names = ["key", "iteration"]
    return part.set_index(["key", "iteration"])[list(columns)].reindex(every).groupby("key", sort=False).ffill()


def best_within(frames_of_runs: Any, measure: str, limits: Sequence[float]) -> pd.DataFrame:
    """What is had where every job of the first run returns its frame of highest reward within a limit of `measure`.

    Args:
        frames_of_runs: as of `collect`.
        measure: a key of `MEASURES`; what counts is its rise over the start.
        limits: of the rise, at least 0; one row each.

    Raises:
        ValueError: a limit is negative, or the run has not got the measure.
    """
    column, sign = MEASURES[measure]
    frames = frames_of_runs[frames_of_runs["method"] == frames_of_runs["method"].iloc[0]]
    frames = frames.sort_values(["key", "iteration"], ignore_index=True)
    if column not in frames or frames[column].isna().any():
        raise ValueError(f"the first run has no {measure} of every frame: fit with model.clip, model.elbo_pairs")
    rise = sign * (frames[column] - frames.groupby("key")[column].transform("first"))
    rows: list[dict[str, object]] = []
    for limit in limits:
        not_negative(limits=limit)
        within = frames[rise <= limit]
        best = within.loc[within.groupby("key")["reward"].idxmax()]
        row: dict[str, object] = {"measure": measure, "limit": limit}
        for name in ("reward", "faithful"):
            row[name] = bootstrap(_mean_of(best[name].to_numpy()), best["prompt"].tolist())
        rows.append(row)
    return pd.DataFrame(rows)


def at_equal_reward(frames_of_runs: Any, share: float = 0.5) -> pd.DataFrame:
    """How many pictures are faithful where each method has gained `share` of what the first one gains in all.

    Read off the curve of means between two frames, with a 95 % interval over prompts, resampled with its own rewards
    against the same level. A method that never gets there has no value. `to_first` is the difference to the first one,
    job by job where both have the same jobs: what two methods share by luck is not in its interval.
    """
    methods = list(frames_of_runs["method"].unique())
    first = _by_job(frames_of_runs, methods[0])
    means = first.reward.mean(axis=0)
    level = means[0] + share * (means[-1] - means[0])
    rows: list[dict[str, object]] = []
    for method in methods:
        jobs = _by_job(frames_of_runs, method)
        row: dict[str, object] = {"method": method, "reward": level, "faithful": None, "to_first": None}
        if not np.isnan(crossing(jobs.reward, jobs.faithful, level)):
            row["faithful"] = bootstrap(lambda rows, jobs=jobs: jobs.at(level, rows), jobs.prompts)
            if method != methods[0] and jobs.keys == first.keys:
                to_first = lambda rows, jobs=jobs: jobs.at(level, rows) - first.at(level, rows)  # noqa: E731
                row["to_first"] = bootstrap(to_first, jobs.prompts)
        rows.append(row)
    return pd.DataFrame(rows)


def crossing(reward: np.ndarray, faithful: np.ndarray, level: float) -> float:
    """Mean of `faithful` [jobs, frames] where the mean of `reward` first reaches `level`; NaN if it never does."""
    rewards, truth = reward.mean(axis=0), faithful.mean(axis=0)
    reached = np.flatnonzero(rewards >= level)
    if not len(reached):
        return float("nan")
    after = reached[0]
    if after == 0:
        return float(truth[0])
    way = (level - rewards[after - 1]) / (rewards[after] - rewards[after - 1])
    return float(truth[after - 1] + way * (truth[after] - truth[after - 1]))


class _Jobs(NamedTuple):
    reward: np.ndarray
    faithful: np.ndarray
    prompts: list[str]
    keys: list[str]

    def at(self, level: float, rows: np.ndarray) -> float:
        """The faithful of some jobs where their mean reward first reaches a level."""
        return crossing(self.reward[rows], self.faithful[rows], level)


def _by_job(frames_of_runs: Any, method: str) -> _Jobs:
    """Rewards and verdicts of one method, [jobs, frames]."""
    part = frames_of_runs[frames_of_runs["method"] == method]
    filled = _filled(part, ["reward", "faithful"])
    reward, truth = (filled[name].unstack("iteration").sort_index().to_numpy() for name in ("reward", "faithful"))
    jobs = part.drop_duplicates("key").sort_values("key")
    return _Jobs(reward, truth, jobs["prompt"].tolist(), jobs["key"].tolist())


def detection(frames_of_runs: Any) -> pd.DataFrame:
    """AUROC of every drift measure for "hacked": the judge found the start faithful and this later frame not."""
    start = frames_of_runs[frames_of_runs["iteration"] == 0].set_index(["method", "key"])["faithful"]
    later = frames_of_runs[frames_of_runs["iteration"] > 0]
    was_faithful = start.loc[list(zip(later["method"], later["key"], strict=True))].to_numpy() == 1
    later = later[was_faithful]
    hacked, prompts = later["faithful"].to_numpy() == 0, later["prompt"].tolist()
    rows: list[dict[str, Any]] = []
    if hacked.all() or not hacked.any():  # one kind alone, or no faithful start at all: nothing to tell apart
        return pd.DataFrame(rows, columns=["measure", "auroc", "low", "high", "hacked", "frames"])
    for name, (column, sign) in MEASURES.items():
        score = sign * later[column].to_numpy()
        if np.isnan(score).any():
            continue
        value, low, high = bootstrap(lambda rows, s=score: auroc(s[rows], hacked[rows]), prompts, resamples=500)
        rows.append(
            {
                "measure": name,
                "auroc": value,
                "low": low,
                "high": high,
                "hacked": int(hacked.sum()),
                "frames": len(hacked),
            }
        )
    return pd.DataFrame(rows)


def figure(curves_of_runs: Any) -> Figure:
    """Reward against the share of faithful pictures, one line a method: up and to the right is better."""
    result = Figure(figsize=(9, 4.5), layout="constrained")
    axes = result.subplots()
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=TABLEAU_COLORS))  # 30 methods differ
    for method, part in curves_of_runs.groupby("method", sort=False):
        axes.plot(part["reward"], part["faithful"], marker=".", label=method)
    axes.set_xlabel("reward, mean over jobs")
    axes.set_ylabel("right animal in the right colour, by the judge")
    axes.set_ylim(top=1.02)
    result.legend(loc="outside right upper", fontsize="small")
    return result


def collect(runs: Sequence[Labelled], judge: TruthJudge) -> pd.DataFrame:
    """The frames of several runs."""
    return pd.concat([frames(run, judge) for run in runs], ignore_index=True)


def _mean_of(values: np.ndarray):
    return lambda rows: float(np.nanmean(values[rows]))

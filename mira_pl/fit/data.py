"""Which jobs a process works on: whole batches, shared out by rank, round by round."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import lightning as L
from torch.utils.data import DataLoader
from typing_extensions import Self

from ..prompts import expand, make_jobs
from ..types import Job
from .budget import Budget


class PromptData(L.LightningDataModule):
    """Prompts as batches of jobs.

    The batches are cut once, from all jobs, so that what a job computes depends on neither the number of processes nor
    on which jobs were finished before. Batch j of those left goes to rank j % world in round j // world.

    Args:
        prompts: the name of a set (see `mira_pl.prompt_sets.SETS`), a .txt, .csv or .jsonl file, or a list of prompts.
        template: text with {} for the prompt; None is the paper's for sets and none for files and lists.
        articles: `original` keeps the sets' own "a ant", `fixed` makes it "an ant".
        column: of a .csv or .jsonl file, the one with the prompts; the others are not read.
        start: leave out the first so many prompts.
        limit: use the first so many of the others only.
        seeds: every prompt is solved under every seed.
        batch_size: jobs solved together by one process; `auto`: as many as fit, see `mira_pl.fit.batch`.
        budget: what a job may cost, such as {unet: 2000}; by default it may run to its last iteration.
    """

    def __init__(
        self,
        prompts: str | list[str] = "animals",
        template: str | None = None,
        articles: Literal["original", "fixed"] = "original",
        column: str = "prompt",
        start: int = 0,
        limit: int | None = None,
        seeds: Sequence[int] = (0,),
        batch_size: int | Literal["auto"] = 4,
        budget: Budget = Budget(),
    ) -> None:
        super().__init__()
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}; null takes every prompt")
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        chosen = expand(prompts, template, articles, column)[start:][:limit]
        if not chosen:
            raise ValueError(f"start {start} leaves no prompt: the set is shorter")
        self.budget = budget
        self.jobs = make_jobs(chosen, list(seeds))
        self.batch_size: int | Literal["auto"] = batch_size
        self.batches: list[list[Job]] = []
        self.left: list[int] = []
        if batch_size != "auto":
            self.cut(batch_size)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From the part `data` of a resolved configuration, as run folders keep it."""
        return cls(**{**settings, "budget": Budget(**settings.get("budget", {}))})

    def cut(self, size: int | Literal["auto"]) -> None:
        """Into batches of so many jobs.

        Raises:
            ValueError: the size is below 1, or not settled.
        """
        if size == "auto":
            raise ValueError("data.batch_size auto is settled by `python -m mira_pl fit`: give a number here")
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        self.batch_size = size
        self.batches = [self.jobs[i : i + size] for i in range(0, len(self.jobs), size)]
        self.left = list(range(len(self.batches)))

    def drop_finished(self, keys: Collection[str]) -> None:
        """Leave out every batch whose jobs all have a record."""
        self.left = [index for index, batch in enumerate(self.batches) if not all(job.key in keys for job in batch)]

    def order(self) -> list[str]:
        """Keys of all jobs, in the order in which records are written."""
        return [job.key for job in self.jobs]

    def rounds(self, world: int) -> int:
        """Rounds until every batch that is left is solved."""
        return -(-len(self.left) // world)

    def at(self, round_: int, rank: int, world: int) -> int | None:
        """Index of the batch that `rank` solves in a round, or None where it has nothing to do."""
        place = round_ * world + rank
        return self.left[place] if place < len(self.left) else None

    def train_dataloader(self) -> DataLoader[int]:
        """Ticks: one optimisation iteration each. The jobs of a round come from `at`."""
        return DataLoader(range(self.trainer.lightning_module.iterations), batch_size=None)  # type: ignore[arg-type]

"""What more than one suite counts: the fields of a record, and how often a reward was asked."""

from collections.abc import Sequence

from mira_pl.rewards import Reward
from mira_pl.types import Images, PerJob

FIELDS = {
    "key", "prompt", "seed", "method", "reward_name", "reward_start", "reward", "drift", "S0", "S", "score_difference",
    "elbo", "clip_start", "clip", "noise_norm", "iterations", "status", "seconds", "peak_memory_bytes", "compute",
    "config_hash", "versions",
}  # fmt: skip


class Counted(Reward):
    """A reward, and how many images it has scored."""

    def __init__(self, reward: Reward) -> None:
        self.reward, self.images, self.differentiable = reward, 0, reward.differentiable

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        self.images += len(images)
        return self.reward.score(images, prompts)

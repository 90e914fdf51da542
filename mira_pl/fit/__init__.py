"""The Lightning side: jobs shared out, noises learned, results written."""

from .budget import Budget
from .data import PromptData
from .module import NoiseAlignment
from .search import NoiseSearch
from .strategy import IndependentDDP

__all__ = ["Budget", "IndependentDDP", "NoiseAlignment", "NoiseSearch", "PromptData"]

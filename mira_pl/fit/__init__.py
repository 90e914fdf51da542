"""The Lightning side: jobs shared out, noises learned, results written."""

from .data import PromptData
from .module import NoiseAlignment
from .strategy import IndependentDDP

__all__ = ["IndependentDDP", "NoiseAlignment", "PromptData"]

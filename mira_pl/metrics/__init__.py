"""Measures of sets of images."""

from .cmmd import cmmd

__all__ = ["cmmd"]

"""Refuse numbers that no setting can have. None passes: it is what is not set."""

import math


def finite(**values: float | None) -> None:
    """Raises ValueError for NaN and infinity."""
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def positive(**values: float | None) -> None:
    """Raises ValueError for what is not finite or not greater than 0."""
    finite(**values)
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be greater than 0, got {value}")


def not_negative(**values: float | None) -> None:
    """Raises ValueError for what is not finite or less than 0."""
    finite(**values)
    for name, value in values.items():
        if value is not None and value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")


def share(**values: float | None) -> None:
    """Raises ValueError for what is not in 0..1."""
    finite(**values)
    for name, value in values.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in 0..1, got {value}")

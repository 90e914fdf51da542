"""What passes and what does not, for every number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.ranges import finite, not_negative, positive, share


@given(st.floats())
def test_every_number(value):
    number = math.isfinite(value)
    for check, passes in (
        (finite, number),
        (positive, number and value > 0),
        (not_negative, number and value >= 0),
        (share, 0 <= value <= 1),
    ):
        if passes:
            check(beta=value)
        else:
            with pytest.raises(ValueError, match="beta must be"):
                check(beta=value)


def test_what_is_not_set():
    for check in (finite, positive, not_negative, share):
        check(beta=None)

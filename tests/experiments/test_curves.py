"""Curves are drawn where the numbers are, and numbers are written as they are."""

import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.experiments.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, chart, spark, ticks
from mira_pl.experiments.summary import Point, Spread, curve, short, spread

numbers = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


def rows(key: str, *rewards: object) -> list[dict[str, object]]:
    return [{"key": key, "iteration": str(k), "reward": str(reward)} for k, reward in enumerate(rewards)]


def drawn(text: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'(?:polyline|polygon) class="[^"]*" points="([^"]*)"', text)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())] for points in found]


def test_a_curve_is_the_mean_over_jobs_with_least_and_greatest() -> None:
    points = curve(rows("a", 0, 2) + rows("b", 1, 6), "reward")
    assert points == [Point(0, Spread(0.5, 0, 1)), Point(1, Spread(4, 2, 6))]


def test_a_job_that_stopped_early_keeps_its_last_value() -> None:
    points = curve(rows("a", 0, 1, 2, 3) + rows("b", 0, 5), "reward")
    assert [point.spread.mean for point in points] == [0, 3, 3.5, 4]


def test_what_is_not_finite_is_left_out() -> None:
    points = curve(rows("a", "nan", 1, "") + rows("b", "inf", "-inf", ""), "reward")
    assert points == [Point(1, Spread(1, 1, 1))]
    assert curve(rows("a", 1), "elbo") == []
    assert curve([], "reward") == []


def test_a_spread_of_nothing_is_none() -> None:
    assert spread([None, "", math.nan, "x"]) is None
    assert spread([None, "2", 4]) == Spread(3, 2, 4)


@settings(deadline=None)
@given(st.lists(numbers, min_size=2, max_size=60))
def test_a_chart_is_a_straight_map_of_the_numbers(values: list[float]) -> None:
    points = [Point(k, Spread(value, value, value)) for k, value in enumerate(values)]
    band, line = drawn(chart([Line("x", "run-0", points)], "x"))
    assert len(line) == len(values) and len(band) == 2 * len(values)
    low, high = min(values), max(values)
    for k, ((x, y), value) in enumerate(zip(line, values, strict=True)):
        assert x == pytest.approx(LEFT + k / (len(values) - 1) * (WIDTH - RIGHT - LEFT), abs=0.06)
        assert TOP <= y <= HEIGHT - BOTTOM
        if high > low:
            room = (HEIGHT - BOTTOM - TOP) / 1.1
            assert y == pytest.approx(HEIGHT - BOTTOM - room * ((value - low) / (high - low) + 0.05), abs=0.06)


def test_one_point_is_drawn() -> None:
    text = chart([Line("x", "run-0", [Point(0, Spread(0, 0, 0))])], "x")
    assert drawn(text)[1][0] == (LEFT, pytest.approx((TOP + HEIGHT - BOTTOM) / 2))
    assert drawn(spark([(0, 1.0)], "x"))[0][0][0] == 3


def test_the_pointer_finds_the_numbers_of_an_iteration() -> None:
    points = [Point(k, Spread(k, k - 1, k + 1)) for k in range(1000)]
    text = chart([Line("<x>", "run-0", points), Line("y", "run-1", points[:1])], "x")
    titles = re.findall("<title>(.*?)</title>", text, re.DOTALL)
    assert titles[0] == "iteration 0\n&lt;x&gt;: 0  (−1 … 1)\ny: 0  (−1 … 1)"
    assert 100 < len(titles) <= 150


@settings(deadline=None)
@given(numbers, st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, width: float) -> None:
    high = low + max(width, abs(low) * 1e-6)
    found = ticks(low, high, 4)
    slack = (high - low) * 1e-6
    assert 1 <= len(found) <= 5
    assert all(low - slack <= value <= high + slack for value in found)
    steps = {f"{b - a:.3e}"[0] for a, b in itertools.pairwise(found)}
    assert len(steps) <= 2  # rounding may show 2 as 1.999


@settings(deadline=None)
@given(st.floats(-1e307, 1e307))
def test_a_short_number_is_near_the_number(value: float) -> None:
    text = short(value)
    assert "-" not in text and len(text) <= 9
    assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0834, "0.0834"),
        (-1.25, "−1.25"),
        (143.2345, "143.2"),
        (5100.0, "5,100"),
        (2.1e-5, "2.1e−05"),
        (-0.0, "0"),
        (1e6, "1.0e+06"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_a_gain_shows_its_sign() -> None:
    assert [short(value, "+") for value in (0.5, -0.5, 0.0, 2.0, math.nan)] == ["+0.500", "−0.500", "+0", "+2", "–"]

import numpy as np
import pytest

from cagface_core.evaluate.statistics import interval


def test_the_interval_holds_the_mean_at_the_width_theory_gives():
    values = np.random.default_rng(0).normal(30, 2, 400)
    found = interval(values, [str(i) for i in range(400)])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)
    assert found == interval(values, [str(i) for i in range(400)])


def test_pictures_of_one_person_do_not_count_as_many():
    people = np.random.default_rng(1).normal(0, 1, 20)
    values, names = np.repeat(people, 25), [str(i) for i in range(20) for _ in range(25)]
    grouped, alone = interval(values, names), interval(values, [str(i) for i in range(500)])
    assert grouped is not None
    assert alone is not None
    assert grouped.high - grouped.low > 4 * (alone.high - alone.low)


def test_missing_figures_are_left_out():
    found = interval(np.array([1.0, np.nan, 3.0]), ["a", "b", "c"])
    assert found is not None
    assert (found.mean, found.n, found.low, found.high) == (2.0, 2, 1.0, 3.0)
    assert interval(np.array([np.nan]), ["a"]) is None


def test_one_person_alone_has_no_bounds():
    found = interval(np.array([1.0, 2.0]), ["a", "a"])
    assert found is not None
    assert (found.mean, found.low, found.high) == (1.5, None, None)

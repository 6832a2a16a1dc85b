"""The bound on epsilon from one run: the paper's figure, brute force, and what must be monotone."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from fedmodel.errors import FedmodelError
from fedmodel.privacy.audit import epsilon_lower_bound, p_value


def bound(canaries=200, guesses=200, correct=160, delta=1e-5, significance=0.05):
    return epsilon_lower_bound(
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        delta=delta,
        significance=significance,
    )


@cache
def chance(epsilon, guesses, number):
    """P[X = number] for X binomial, term by term."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    return math.exp(
        math.log(math.comb(guesses, number))
        + number * math.log(q)
        + (guesses - number) * math.log(1 - q)
    )


def slowly(epsilon, *, canaries, guesses, correct, delta):
    """Theorem 5.2 as it is written, with loops."""
    tail = sum(chance(epsilon, guesses, k) for k in range(correct, guesses + 1))
    below = [
        sum(chance(epsilon, guesses, k) for k in range(correct - i, correct)) / i
        for i in range(1, correct + 1)
    ]
    return min(1.0, tail + 2 * canaries * delta * max(below, default=0.0))


def test_the_reference():
    found = bound(canaries=1000, guesses=1000, correct=750)
    assert found == pytest.approx(0.976, abs=5e-4)


COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)).map(
    lambda three: sorted(three, reverse=True)
)


@given(COUNTS, st.floats(0, 4), st.sampled_from([0.0, 1e-5, 1e-3, 0.1]))
def test_the_chance_is_the_theorems(counts, epsilon, delta):
    canaries, guesses, correct = counts
    setting = {"canaries": canaries, "guesses": guesses, "correct": correct, "delta": delta}
    assert p_value(epsilon, **setting) == pytest.approx(slowly(epsilon, **setting), rel=1e-9)


@pytest.mark.parametrize("correct", [5, 110, 140, 210, 250])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
def test_terms_far_from_the_mean_do_not_count(correct, epsilon):
    setting = {"canaries": 250, "guesses": 250, "correct": correct, "delta": 1e-5}
    assert p_value(epsilon, **setting) == pytest.approx(slowly(epsilon, **setting), rel=1e-9)


@given(st.integers(1, 80), st.data())
def test_without_delta_the_bound_is_where_the_binomial_tail_crosses(guesses, data):
    correct = data.draw(st.integers(guesses // 2, guesses))
    found = bound(guesses, guesses, correct, delta=0.0)

    def excess(epsilon):
        return sum(chance(epsilon, guesses, k) for k in range(correct, guesses + 1)) - 0.05

    expected = brentq(excess, 0, 30) if excess(0) < 0 else 0.0
    assert found == pytest.approx(expected, abs=1e-6)


@given(COUNTS, st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_better_guessing_shows_more_and_weaker_claims_show_less(counts, delta):
    canaries, guesses, correct = counts
    here = bound(canaries, guesses, correct, delta)
    if correct < guesses:
        assert bound(canaries, guesses, correct + 1, delta) >= here - 1e-8
    assert bound(canaries, guesses, correct, delta + 1e-3) <= here + 1e-8
    assert bound(canaries + 50, guesses, correct, delta) <= here + 1e-8
    assert bound(canaries, guesses, correct, delta, significance=0.01) <= here + 1e-8


def test_the_bound_is_the_largest_epsilon_on_a_grid_that_is_refuted():
    setting = {"canaries": 100, "guesses": 40, "correct": 33, "delta": 1e-3}
    refuted = [e for e in np.arange(0, 3, 0.001) if slowly(e, **setting) < 0.05]
    assert epsilon_lower_bound(**setting) == pytest.approx(max(refuted), abs=1.1e-3)


def test_randomised_response_is_rarely_accused():
    # It is exactly (epsilon, 0) private, and each guess right with the most chance that allows.
    epsilon, runs = 1.0, 400
    right = np.random.default_rng(0).binomial(300, 1 / (1 + math.exp(-epsilon)), runs)
    shown = {number: bound(300, 300, number, delta=0.0) for number in set(right.tolist())}
    found = np.array([shown[number] for number in right.tolist()])
    assert (found > epsilon).mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert found.mean() > 0.6 * epsilon


def test_nothing_guessed_shows_nothing():
    assert bound(100, 0, 0) == 0.0
    assert bound(0, 0, 0) == 0.0
    assert bound(100, 100, 50) == 0.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"correct": 201}, "correct of"),
        ({"guesses": 300}, "cannot be"),
        ({"canaries": -1}, "not a number of canaries"),
        ({"delta": 1.0}, "not a probability"),
        ({"delta": -0.1}, "not a probability"),
        ({"delta": math.nan}, "not a probability"),
        ({"significance": 0.0}, "between 0 and 1"),
    ],
)
def test_wrong_input_is_refused(wrong, said):
    with pytest.raises(FedmodelError, match=said) as raised:
        epsilon_lower_bound(
            **{"canaries": 200, "guesses": 200, "correct": 160, "delta": 1e-5, **wrong}
        )
    assert raised.value.fix

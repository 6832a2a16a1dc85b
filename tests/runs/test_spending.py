"""Epsilon by round of many clients: the same last figures, and bounds before them that never fall."""

from __future__ import annotations

from fedmodel.privacy.budget import Budget, plan
from fedmodel.runs import spending
from fedmodel.runs.spending import Spending

SIZES = [40, 200, 90]
NAMES = ["a", "b", "c"]


def spent(rounds: int = 6):
    plans = plan(
        Budget(epsilon=3.0, delta=1e-4, participations=rounds), sizes=SIZES, batch_size=16, epochs=1
    )
    found = Spending(plans, 3)
    for number in range(1, rounds + 1):
        found._take(number, {k: int(plans.steps[k]) * number for k in range(3) if k < number})
    return found.table(NAMES)


def test_a_table_of_many_rows_ends_alike_and_bounds_the_rest(monkeypatch):
    exact, figures = spent()
    monkeypatch.setattr(spending, "EXACT_ROWS", 0)
    quick, same = spent()
    assert same == figures
    assert quick[["round", "client"]].equals(exact[["round", "client"]])
    last = exact["round"] == 6
    assert quick.epsilon[last].tolist() == exact.epsilon[last].tolist()
    assert set(quick.accountant[last]) == {"prv"}
    assert "rdp" in set(quick.accountant)
    assert (quick.epsilon >= exact.epsilon - 0.02).all()  # PRV's figures allow for 0.01
    for name in NAMES:
        assert quick[quick.client == name].epsilon.is_monotonic_increasing
        assert quick[quick.client == name].epsilon.max() <= 3.0

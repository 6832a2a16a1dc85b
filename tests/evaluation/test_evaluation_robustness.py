from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.robustness import aggregate_share, honest_rows
from fedmodel.types import Counts


def counts_of(right: list[int], wrong: list[int]) -> Counts:
    """Clients with so many records right and wrong, half of each in either of two groups."""
    confusion = torch.zeros(len(right), 2, 2, 2, dtype=torch.int64)
    confusion[:, 0, 0, 0] = confusion[:, 1, 1, 1] = torch.tensor(right) // 2
    confusion[:, 0, 0, 1] = confusion[:, 1, 1, 0] = torch.tensor(wrong) // 2
    zero = torch.zeros(len(right))
    return Counts(confusion=confusion, loss=zero.double(), histogram=confusion[:, 0, :, :0])


def values(table) -> dict[str, float]:
    assert set(table.scope) == {"global"} and set(table.key) == {""}
    return dict(zip(table.metric, table.value))


def test_only_honest_clients_are_asked():
    counts = counts_of(right=[8, 2, 0, 6], wrong=[2, 8, 4, 0])
    dishonest = torch.tensor([False, True, True, False])
    table = honest_rows(counts, dishonest, round=3, split="test", model="global")
    assert values(table) == {
        "honest_accuracy": 14 / 16,  # of all their records
        "honest_accuracy_worst_decile": 0.8,  # of the one worst off client
    }
    assert list(table.columns) == ["round", "split", "model", "scope", "key", "metric", "value"]
    assert set(table["round"]) == {3}


def test_an_honest_client_without_records_is_not_the_worst_off():
    counts = counts_of(right=[8, 0, 6], wrong=[2, 0, 0])
    table = honest_rows(counts, torch.zeros(3).bool(), round=0, split="test", model="global")
    assert values(table)["honest_accuracy_worst_decile"] == 0.8


def test_nobody_is_honest():
    counts = counts_of(right=[8], wrong=[2])
    table = honest_rows(counts, torch.tensor([True]), round=0, split="test", model="global")
    assert table.value.isna().all() and len(table) == 2


def test_a_mask_of_other_clients_is_refused():
    counts = counts_of(right=[8], wrong=[2])
    with pytest.raises(FedmodelError, match="mask of 2 clients"):
        honest_rows(counts, torch.zeros(2).bool(), round=0, split="test", model="global")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(2, 8), data=st.data())
def test_the_share_of_a_weighted_mean_has_a_closed_form(seed, num_clients, data):
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(num_clients, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(num_clients, generator=generator, dtype=torch.float64) + 0.1
    mask = st.lists(st.booleans(), min_size=num_clients, max_size=num_clients)
    dishonest = torch.tensor(data.draw(mask))
    shares = aggregate_share(
        lambda keep: weights[keep] @ updates[keep] / weights[keep].sum(), dishonest
    )
    mean = weights @ updates / weights.sum()
    own = (updates - mean).norm(dim=1) * weights / (weights.sum() - weights) / mean.norm()
    torch.testing.assert_close(shares, own[dishonest], rtol=1e-9, atol=1e-12)


def test_a_median_gives_a_far_away_attacker_a_small_share():
    updates = torch.tensor([[1.0], [1.1], [1.2], [1.3], [1e6]])
    attackers = torch.tensor([False] * 4 + [True])
    robust = aggregate_share(lambda keep: updates[keep].median(0).values, attackers)
    naive = aggregate_share(lambda keep: updates[keep].mean(0), attackers)
    assert robust.item() < 0.1 and naive.item() == pytest.approx(1, abs=1e-4)


def test_a_client_alone_has_it_all():
    alone = aggregate_share(lambda keep: torch.ones(1, 2)[keep].sum(0), torch.tensor([True]))
    assert alone.tolist() == [1.0]


def test_a_share_of_nothing_is_not_defined():
    updates = torch.tensor([[1.0], [-1.0]])
    assert aggregate_share(lambda keep: updates[keep].mean(0), torch.tensor([True, False])).isnan()


def test_no_attacker_no_share():
    assert aggregate_share(lambda keep: torch.ones(2), torch.zeros(3).bool()).tolist() == []

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss

from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.evaluation.counts import count, from_records, to_record
from fedmodel.types import Counts

CLIENTS, GROUPS = 4, 3


def assert_same(left: Counts, right: Counts) -> None:
    assert torch.equal(left.confusion, right.confusion)
    assert torch.equal(left.loss, right.loss)
    assert torch.equal(left.histogram, right.histogram)


def only(counts: Counts, client: int) -> Counts:
    here = slice(client, client + 1)
    return Counts(
        confusion=counts.confusion[here], loss=counts.loss[here], histogram=counts.histogram[here]
    )


@st.composite
def records(draw, num_classes: int = 2):
    """Logits with many ties, and labels, cells and clients; clients and cells may stay empty."""
    one = st.tuples(
        st.lists(st.integers(-2, 2), min_size=num_classes, max_size=num_classes),
        st.integers(0, num_classes - 1),
        st.integers(0, GROUPS - 1),
        st.integers(0, CLIENTS - 1),
    )
    rows = draw(st.lists(one, max_size=30))
    logits = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, num_classes)
    return logits, *(torch.tensor([row[i] for row in rows], dtype=torch.int64) for i in (1, 2, 3))


def counted(logits, y, cell, client, bins=16) -> Counts:
    return count(logits, y, cell, client, num_clients=CLIENTS, num_groups=GROUPS, bins=bins)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4).flatmap(records))
def test_count_equals_a_loop_over_records(sample):
    logits, y, cell, client = sample
    num_classes = logits.shape[1]
    counts = counted(logits, y, cell, client)
    confusion = np.zeros((CLIENTS, GROUPS, num_classes, num_classes), dtype=int)
    loss = np.zeros(CLIENTS)
    histogram = np.zeros((CLIENTS, num_classes, 16 if num_classes == 2 else 0), dtype=int)
    for scores, label, group, owner in zip(logits.tolist(), y, cell, client):
        predicted = scores.index(max(scores))  # the first of the largest
        confusion[owner, group, label, predicted] += 1
        loss[owner] += math.log(sum(map(math.exp, scores))) - scores[label]
        if num_classes == 2:
            histogram[owner, label, int(expit(scores[1] - scores[0]) * 16)] += 1
    assert counts.confusion.tolist() == confusion.tolist()
    assert counts.histogram.tolist() == histogram.tolist()
    assert counts.loss.tolist() == pytest.approx(loss, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(records(), st.integers(0, CLIENTS - 1))
def test_a_clients_counts_do_not_depend_on_who_is_counted_with_it(sample, chosen):
    together = counted(*sample)
    mine = sample[3] == chosen
    alone = counted(*(part[mine] for part in sample))
    assert_same(only(alone, chosen), only(together, chosen))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(-2000, 2000) | st.just(math.inf)), min_size=1)
)
def test_loss_is_scikit_learns_even_where_the_model_is_sure_and_wrong(sample):
    y = torch.tensor([label for label, _ in sample])
    logits = torch.tensor([[0.0, -score] for _, score in sample], dtype=torch.float64)
    place = torch.zeros(len(y), dtype=torch.int64)
    counts = count(logits, y, place, place, num_clients=1, num_groups=1)
    expected = log_loss(y.numpy(), logits.softmax(1).numpy(), labels=[0, 1], normalize=False)
    assert counts.loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_record_costs_36_nats_at_most():
    one = torch.zeros(1, dtype=torch.int64)
    counts = count(torch.tensor([[-1e30, 0.0]]), one, one, one, num_clients=1, num_groups=1)
    assert counts.loss.item() == pytest.approx(-math.log(2.0**-52))


def test_the_highest_probability_falls_into_the_last_bin():
    one = torch.zeros(2, dtype=torch.int64)
    logits = torch.tensor([[0.0, 1e9], [1e9, 0.0]])
    counts = count(logits, one, one, one, num_clients=1, num_groups=1, bins=4)
    assert counts.histogram.tolist() == [[[1, 0, 0, 1], [0, 0, 0, 0]]]


def test_narrow_types_count_the_same():
    logits = torch.tensor([[0.5, 1.5], [2.0, -1.0], [0.0, 0.0]])
    index = torch.tensor([0, 1, 1])
    wide = count(logits, index, index, index, num_clients=2, num_groups=2)
    narrow = index.to(torch.int8)
    same = count(logits.half(), narrow, narrow, narrow, num_clients=2, num_groups=2)
    assert_same(wide, same)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_name_their_clients(bad):
    logits = torch.zeros(4, 2)
    logits[1, 0] = logits[3, 1] = bad
    client = torch.tensor([0, 1, 2, 3])
    zero = torch.zeros(4, dtype=torch.int64)
    names = ("Aachen", "Basel", "Chur", "Dole")
    with pytest.raises(RunFailed, match="2 of 4 records") as failure:
        count(logits, zero, zero, client, num_clients=4, num_groups=1, names=names)
    assert failure.value.where == "clients Basel, Dole"
    with pytest.raises(RunFailed) as failure:
        count(logits, zero, zero, client, num_clients=4, num_groups=1)
    assert failure.value.where == "clients 1, 3"


@pytest.mark.parametrize("what", ["label", "group", "client"])
@pytest.mark.parametrize("number", [-1, 2])
def test_numbers_out_of_range_are_refused(what, number):
    index = {name: torch.tensor([0, 1]) for name in ("label", "group", "client")}
    index[what] = torch.tensor([0, number])
    with pytest.raises(FedmodelError, match=f"{what} {number} is not in 0 to 1"):
        count(torch.zeros(2, 2), *index.values(), num_clients=2, num_groups=2)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4).flatmap(records))
def test_counts_survive_the_way_in_records(sample):
    counts = counted(*sample)
    sent = [to_record(only(counts, client)) for client in range(CLIENTS)]
    assert_same(from_records(sent), counts)
    wire = [ConfigRecord.inflate(record.deflate()) for record in sent]  # as on a deployment
    assert_same(from_records(wire), counts)
    assert all(record.count_bytes() > 0 for record in sent)


def test_no_strategy_finds_a_number_to_average():
    reply = RecordDict({"counts": to_record(only(two_clients(), 0))})
    assert not reply.metric_records and not reply.array_records


def two_clients() -> Counts:
    index = torch.tensor([0, 1])
    return count(torch.eye(2), index, index, index, num_clients=2, num_groups=2, bins=4)


def test_a_record_is_of_one_client():
    with pytest.raises(FedmodelError, match="not of 2"):
        to_record(two_clients())


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("confusion", [0.5] * 8, "'confusion' holds what is no count"),
        ("confusion", [-1] * 8, "'confusion' holds what is no count"),
        ("confusion", [1] * 7, "'confusion' is not a list of 8 numbers"),
        ("histogram", 3, "'histogram' is not a list of 8 numbers"),
        ("loss", math.nan, "'loss' is nan"),
        ("shape", [1, 2, 4], r"shape \[1, 2, 4\], but \[2, 2, 4\] in the first"),
    ],
)
def test_a_reply_without_proper_counts_is_named(key, value, problem):
    sent = [to_record(only(two_clients(), client)) for client in range(2)]
    sent[1][key] = value
    with pytest.raises(RunFailed, match=problem) as failure:
        from_records(sent)
    assert failure.value.where == "reply 1 of 2"
    del sent[1][key]
    with pytest.raises(RunFailed, match=key):
        from_records(sent)


def test_no_reply_at_all_is_an_error():
    with pytest.raises(RunFailed, match="no client answered"):
        from_records([])


def test_the_total_adds_clients_up():
    counts = two_clients()
    total = counts.total()
    assert total.confusion.tolist() == counts.confusion.sum(0, keepdim=True).tolist()
    assert_same(replace(total).total(), total)

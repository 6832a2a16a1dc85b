import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from fedmodel._flower import Layout, arrays_of, identify, vector_of
from fedmodel.catalogue import Component
from fedmodel.errors import FedmodelError
from fedmodel.grids.local import FIRST_NODE, LocalGrid
from fedmodel.messages import Instructions, Replies
from fedmodel.strategies.averaging import mean
from fedmodel.strategies.compose import compose
from fedmodel.strategies.robust import coordinate_median, trimmed_mean
from fedmodel.strategies.transforms import clip_norm
from fedmodel.strategies.weighting import by_records, equal


def deltas(number, size, seed):
    return torch.randn(number, size, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 12), st.floats(0, 0.49), st.integers(0, 99))
def test_trimmed_mean_equals_scipy(number, fraction, seed):
    delta = deltas(number, 3, seed)
    if 2 * int(fraction * number + 1e-9) >= number:
        return
    expected = trim_mean(delta.numpy(), fraction, axis=0)
    np.testing.assert_allclose(trimmed_mean(delta, fraction=fraction), expected, atol=1e-6)


@given(st.integers(1, 12), st.integers(0, 99))
def test_median_equals_numpy(number, seed):
    delta = deltas(number, 3, seed)
    np.testing.assert_allclose(coordinate_median(delta), np.median(delta, axis=0), atol=1e-7)


@given(liars=st.integers(0, 4), size=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_few_liars_cannot_leave_the_honest_range(liars, size, seed):
    honest = deltas(20 - liars, 3, seed)
    everybody = torch.cat([honest, torch.full((liars, 3), size)])
    for aggregator in (lambda d: trimmed_mean(d, fraction=0.2), coordinate_median):
        result = aggregator(everybody)
        assert (honest.min(0).values <= result + 1e-6).all()
        assert (result - 1e-6 <= honest.max(0).values).all()


@pytest.mark.parametrize("fraction", [-0.1, 0.5, 0.9])
def test_a_fraction_that_leaves_nothing_is_refused(fraction):
    with pytest.raises(FedmodelError, match="trimmed_mean"):
        trimmed_mean(torch.zeros(5, 2), fraction=fraction)


@given(st.floats(0.01, 10), st.integers(0, 99))
def test_clipping_bounds_the_norm_and_leaves_short_updates_alone(bound, seed):
    delta = deltas(6, 4, seed)
    clipped = clip_norm(delta, bound=bound)
    assert (clipped.norm(dim=1) <= bound * (1 + 1e-5)).all()
    short = delta.norm(dim=1) <= bound
    torch.testing.assert_close(clipped[short], delta[short])


def test_weights_follow_records_or_not():
    reports = {"num_records": torch.tensor([1, 3])}
    delta = torch.tensor([[0.0], [4.0]])
    assert mean(delta, weights=by_records(reports)).item() == 3.0
    assert mean(delta, weights=equal(reports)).item() == 2.0


# The strategy itself, through Flower's interface

LAYOUT = Layout(("w", "b"), ((2, 2), (1,)))


class Nodes(LocalGrid):
    def send_and_receive(self, messages, *, timeout=None):
        return []


def one_round(strategy, models, sizes, start):
    identify()
    nodes = Nodes(len(models))
    strategy.configure_train(1, arrays_of(start, LAYOUT), ConfigRecord(), nodes)
    replies = Replies(
        nodes.nodes, "train", LAYOUT, models.clone(), {"num-examples": np.array(sizes)}
    )
    arrays, _ = strategy.aggregate_train(1, replies)
    assert tuple(arrays) == LAYOUT.names
    return vector_of(arrays)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (compose(), FedAvg()),
        (compose(combine=coordinate_median), FedMedian()),
        (
            compose(
                combine=Component("aggregator", "trimmed_mean", trimmed_mean, {"fraction": 0.2})
            ),
            FedTrimmedAvg(beta=0.2),
        ),
    ],
)
def test_a_round_equals_flowers_own_strategy(ours, theirs):
    models, start = deltas(7, 5, 1), deltas(1, 5, 2)[0]
    sizes = [1, 2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(
        one_round(ours, models, sizes, start), one_round(theirs, models, sizes, start)
    )


def test_transform_weigh_combine_and_step_in_this_order():
    strategy = compose(
        before=[Component("transform", "clip_norm", clip_norm, {"bound": 1.0})],
        weigh=equal,
        learning_rate=0.5,
    )
    start = torch.ones(5)
    models = start + torch.tensor([[3.0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0]])
    found = one_round(strategy, models, [10, 1], start)
    torch.testing.assert_close(found, start + 0.5 * torch.tensor([0.5, 0.25, 0, 0, 0]))


def test_sampling_is_by_share_in_order_and_from_the_seed():
    nodes = Nodes(20).nodes
    strategy = compose(sample=0.25, seed=3)
    first = strategy.sampled(1, nodes)
    assert len(first) == 5
    assert first == sorted(first)
    assert first == compose(sample=0.25, seed=3).sampled(1, nodes)
    assert first != strategy.sampled(2, nodes)
    assert first != compose(sample=0.25, seed=4).sampled(1, nodes)
    assert len(compose(sample=0.001).sampled(1, nodes)) == 1


def test_over_many_rounds_everybody_is_sampled_equally_often():
    nodes, strategy = Nodes(10).nodes, compose(sample=0.3, seed=1)
    times = np.zeros(10)
    for number in range(1, 1001):
        for node in strategy.sampled(number, nodes):
            times[node - FIRST_NODE] += 1
    assert (abs(times - 300) < 4 * np.sqrt(1000 * 0.3 * 0.7)).all()


def test_weights_without_effect_are_refused():
    with pytest.raises(FedmodelError, match="ignores weights"):
        compose(weigh=by_records, combine=coordinate_median)
    compose(weigh=equal, combine=coordinate_median)


# Messages


def test_replies_are_ordinary_messages_and_a_change_to_one_is_kept():
    identify()
    models = deltas(3, 5, 1)
    replies = Replies([2, 3, 4], "train", LAYOUT, models, {"num-examples": np.array([1, 2, 3])})
    message = replies[1]
    assert message.metadata.src_node_id == 3
    assert message.content["metrics"]["num-examples"] == 2
    np.testing.assert_array_equal(message.content["arrays"]["w"].numpy(), models[1, :4].view(2, 2))
    from flwr.app import Array

    message.content["arrays"]["b"] = Array(np.array([9.0], dtype=np.float32))
    assert replies.block()[1, 4] == 9.0
    torch.testing.assert_close(replies.block()[0], models[0])


def test_instructions_give_each_client_a_shell_of_its_own():
    identify()
    asked = Instructions([2, 3], "train", arrays_of(torch.zeros(5), LAYOUT), {"server-round": 1})
    asked[0].content["config"]["server-round"] = 99
    assert asked[1].content["config"]["server-round"] == 1
    assert [message.metadata.dst_node_id for message in asked] == [2, 3]


def test_failures_and_refusals_are_error_messages_behind_the_answers():
    identify()
    replies = Replies(
        [4],
        "train",
        LAYOUT,
        deltas(1, 5, 1),
        {"num-examples": np.array([1])},
        {},
        failures={2: "broke"},
        declined={3: "spent"},
    )
    assert [message.has_error() for message in replies] == [False, True, True]
    again = Replies.read(list(replies))
    assert (again.nodes, again.failures, again.declined) == ([4], {2: "broke"}, {3: "spent"})
    torch.testing.assert_close(again.models, replies.models)

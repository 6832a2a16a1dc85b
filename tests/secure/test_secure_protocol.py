"""The sum of whoever is left is exact; a single vector is noise; nobody gives both secrets of a client."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secure.protocol import aggregate, server_for, vectors

from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.secure import Refusal, SecureClient, neighbours_needed
from fedmodel.secure.exchanges import SealedShares, UnmaskRequest
from fedmodel.secure.graph import components, neighbours_of, threshold_of


def plain_sum(words, clients):
    total = np.zeros_like(next(iter(words.values())))
    for client in clients:
        total += words[client]
    return total


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_masks_cancel(dtype):
    words = vectors(7, 40, dtype=dtype)
    total, inside, masked = aggregate(words)
    assert inside == list(range(7))
    np.testing.assert_array_equal(total, plain_sum(words, range(7)))
    for client, sent in masked.items():
        assert (np.frombuffer(sent.words, dtype) != words[client]).mean() > 0.9


@given(st.data())
def test_whoever_leaves_when_enough_are_left_the_sum_is_theirs_exactly(data):
    count = data.draw(st.integers(3, 9))
    left, leaves = set(range(count)), []
    for _ in range(4):
        gone = data.draw(st.sets(st.sampled_from(sorted(left)), max_size=2)) if left else set()
        leaves.append(gone)
        left -= gone
    words = vectors(count, 5, seed=data.draw(st.integers(0, 9)))
    arrived = sorted(set(range(count)) - leaves[0] - leaves[1] - leaves[2])
    try:
        total, inside, _ = aggregate(words, leaves=tuple(leaves))
    except RunFailed as error:
        # Everybody shares with all that sent keys, and each secret needs so many of them.
        told = count - len(leaves[0])
        answering = len(set(arrived) - leaves[3])
        assert answering < threshold_of(told, 2 / 3) or len(arrived) < 3
        assert "round 1" in str(error)
    else:
        assert inside == arrived
        np.testing.assert_array_equal(total, plain_sum(words, arrived))
        told = count - len(leaves[0])
        assert len(set(arrived) - leaves[3]) >= threshold_of(told, 2 / 3)


@pytest.mark.parametrize("stage", range(4))
def test_one_may_leave_at_any_time(stage):
    words = vectors(6, 5)
    leaves = tuple({4} if i == stage else () for i in range(4))
    total, inside, _ = aggregate(words, leaves=leaves)
    expected = [0, 1, 2, 3, 5] if stage < 3 else list(range(6))
    assert inside == expected
    np.testing.assert_array_equal(total, plain_sum(words, expected))


FEW = {
    "keys": (({0, 1, 2, 3}, (), (), ()), "2 clients have sent their keys"),
    "shares": (((), {0, 1, 2}, (), ()), "3 clients have shared their secrets"),
    "vectors": (((), (), {0, 1, 2}, ()), "3 clients have sent their vectors"),
    "unmasking": (((), (), (), {0, 1, 2}), "clients gave shares"),
}


@pytest.mark.parametrize(("leaves", "said"), FEW.values(), ids=[*FEW])
def test_with_too_few_left_nothing_is_released(leaves, said):
    with pytest.raises(RunFailed, match=said) as failed:
        aggregate(vectors(6, 5), leaves=leaves)
    assert "round 1" in failed.value.problem


@pytest.mark.parametrize("count", [1, 2])
def test_two_clients_are_too_few(count):
    with pytest.raises(RunFailed, match="needs 3"):
        aggregate(vectors(count, 5))


@given(st.integers(8, 20), st.sampled_from([4, 6]), st.integers(0, 20), st.integers(0, 99))
def test_with_few_neighbours_the_sum_is_exact_as_well(count, number, gone, seed):
    words = vectors(count, 5, seed=seed)
    lost = {gone} if gone < count else set()
    total, inside, _ = aggregate(
        words, leaves=((), (), lost, ()), neighbours=number, threshold=0.51, seed=seed
    )
    assert inside == sorted(set(range(count)) - lost)
    np.testing.assert_array_equal(total, plain_sum(words, inside))


def test_a_graph_in_parts_is_not_unmasked():
    """On a circle of eight with two neighbours each, two opposite ones that leave cut it."""
    words = vectors(8, 5)
    server = server_for(words, neighbours=2, threshold=0.51)
    keys = {number: SecureClient(number, 1).keys() for number in words}
    near = {client: hood.clients for client, hood in server.neighbourhoods(keys).items()}
    circle = [0, near[0][0]]
    while len(circle) < 8:
        circle += [other for other in near[circle[-1]] if other not in circle[-2:]]
    left = set(words) - {circle[1], circle[5]}
    assert components(left, near) == 2
    with pytest.raises(RunFailed, match="fall into parts"):
        aggregate(words, leaves=((), (), set(words) - left, ()), neighbours=2, threshold=0.51)


# What the server sees


def test_a_masked_vector_looks_uniform_and_never_the_same():
    """All-zero updates: chi-square of the bytes, 255 degrees of freedom, beyond 380 once in a million."""
    words = {client: np.zeros(20000, np.uint32) for client in range(4)}
    first, second = (aggregate(words)[2] for _ in range(2))
    for client in words:
        sent = np.frombuffer(first[client].words, np.uint8)
        counts = np.bincount(sent, minlength=256)
        expected = len(sent) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 380
        again = np.frombuffer(second[client].words, np.uint8)
        assert abs((sent == again).mean() - 1 / 256) < 6 * (1 / 256 / len(sent)) ** 0.5


def test_masked_vectors_do_not_depend_on_the_vector_under_them():
    """Of two very different vectors each masked byte is as likely: a two-sample chi-square."""
    seen = []
    for value in (0, 123456789):
        words = {client: np.full(20000, value, np.uint32) for client in range(3)}
        sent = np.frombuffer(aggregate(words)[2][0].words, np.uint8)
        seen.append(np.bincount(sent, minlength=256))
    one, other = seen
    assert ((one - other) ** 2 / (one + other)).sum() < 380


# What a client refuses


def session(count=4, **settings):
    """Clients after they have shared and received; who says what next is the test's affair."""
    words = vectors(count, 5)
    server = server_for(words, **settings)
    clients = {number: SecureClient(number, 1) for number in words}
    hoods = server.neighbourhoods({number: client.keys() for number, client in clients.items()})
    sealed = {number: clients[number].shares(hood) for number, hood in hoods.items()}
    return words, server, clients, hoods, server.boxes(sealed)


def masked_session():
    words, server, clients, _, boxes = session()
    for number, client in clients.items():
        client.receive(boxes[number])
        client.mask(words[number])
    return server, clients


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (UnmaskRequest([0, 1, 2, 3], [3]), "both secrets"),
        (UnmaskRequest([0, 1, 1, 2], []), "both secrets"),
        (UnmaskRequest([0, 1, 2, 9], []), "does not hold"),
        (UnmaskRequest([1, 2, 3], [0]), "does not hold"),
        (UnmaskRequest([0, 1], [2, 3]), "it needs 3"),
    ],
)
def test_nobody_gives_both_secrets_of_a_client_or_those_of_a_lonely_one(request_, why):
    _, clients = masked_session()
    with pytest.raises(Refusal, match=why):
        clients[0].unmask(request_)
    with pytest.raises(Refusal, match="once in a round"):
        clients[0].unmask(UnmaskRequest([0, 1, 2, 3], []))


def test_the_second_question_for_shares_is_refused():
    _, clients = masked_session()
    clients[0].unmask(UnmaskRequest([0, 1, 2, 3], []))
    with pytest.raises(Refusal, match="once in a round"):
        clients[0].unmask(UnmaskRequest([0, 1, 2], [3]))


def test_two_vectors_are_never_masked_alike():
    words, _, clients, _, boxes = session()
    clients[0].receive(boxes[0])
    clients[0].mask(words[0])
    with pytest.raises(Refusal, match="one vector in a round"):
        clients[0].mask(words[1])
    with pytest.raises(Refusal, match="not the time"):
        clients[0].receive(boxes[0])


def test_nothing_is_done_out_of_turn():
    words, _, clients, hoods, boxes = session()
    with pytest.raises(Refusal, match="already"):
        clients[0].shares(hoods[0])
    with pytest.raises(Refusal, match="after it has received"):
        clients[0].mask(words[0])
    with pytest.raises(Refusal, match="after its masked vector"):
        clients[0].unmask(UnmaskRequest([1, 2, 3], []))
    with pytest.raises(Refusal, match="not the time"):
        SecureClient(0, 1).receive(boxes[0])


HOODS = {
    "half of them": ({"threshold": 2}, "no threshold"),
    "more than there are": ({"threshold": 5}, "no threshold"),
    "another round": ({"round": 2}, "round 2"),
    "itself": ({"clients": [0, 1, 2]}, "different"),
    "one twice": ({"clients": [1, 1, 2]}, "different"),
    "one key for two": ({"masks": [bytes(32)] * 3}, "same keys"),
}


@pytest.mark.parametrize(("changes", "why"), HOODS.values(), ids=[*HOODS])
def test_a_neighbourhood_that_would_betray_it_is_refused(changes, why):
    hood = dataclasses.replace(session()[3][0], **changes)
    with pytest.raises(Refusal, match=why):
        SecureClient(0, 1).shares(hood)


def test_boxes_that_are_not_its_neighbours_or_were_changed_are_refused():
    _, _, clients, _, boxes = session()
    mine = boxes[0]
    for wrong, why in (
        (SealedShares([1, 2, 9], mine.boxes), "not its neighbours"),
        (SealedShares([1, 1, 2], mine.boxes), "two boxes"),
        (SealedShares([1], mine.boxes[:1]), "it needs 3"),
        (SealedShares([2, 1, 3], mine.boxes), "does not open"),
        (boxes[1], "not its neighbours"),
    ):
        with pytest.raises(Refusal, match=why):
            clients[0].receive(wrong)
    clients[0].receive(mine)


def test_a_client_is_the_same_after_its_state_was_stored():
    words, server, clients, _, boxes = session()
    stored = {number: SecureClient.from_record(c.to_record()) for number, c in clients.items()}
    masked = {}
    for number, client in stored.items():
        client.receive(boxes[number])
        masked[number] = SecureClient.from_record(client.to_record()).mask(words[number])
    assert set(masked) == set(server.requests(masked))


def test_secrets_are_not_printed():
    client = session()[2][0]
    assert client.seed.hex() not in repr(client)
    assert "seed" not in repr(client) and "mask_key" not in repr(client)


def test_shares_of_another_secret_are_noticed():
    words, server, clients, _, boxes = session(6)
    masked = {}
    for number in range(1, 6):
        clients[number].receive(boxes[number])
        masked[number] = clients[number].mask(words[number])
    shares = {n: clients[n].unmask(request) for n, request in server.requests(masked).items()}
    shares[1] = dataclasses.replace(shares[1], keys=[bytes(64)])
    with pytest.raises(RunFailed, match="not what it shared"):
        server.total(shares)


# The graph


@given(st.integers(3, 30), st.integers(2, 31), st.integers(0, 50))
def test_neighbours_are_mutual_regular_and_in_one_part(count, number, seed):
    clients = list(range(0, 2 * count, 2))
    near = neighbours_of(clients, number=number, generator=np.random.default_rng(seed))
    assert list(near) == clients
    for client, others in near.items():
        assert client not in others
        assert all(client in near[other] for other in others)
        assert len(others) == min(number + number % 2, count - 1)
    assert components(set(clients), near) == 1


def test_different_rounds_have_different_neighbours():
    draw = np.random.default_rng(0)
    assert neighbours_of(range(40), number=4, generator=draw) != neighbours_of(
        range(40), number=4, generator=draw
    )


@given(st.integers(2, 300), st.floats(0.01, 0.99))
def test_no_two_groups_of_holders_can_both_reach_the_threshold(neighbours, share):
    needed = threshold_of(neighbours, share)
    assert 2 * needed > neighbours
    assert share * neighbours <= needed + 1e-6 and needed <= neighbours


def test_so_many_neighbours_keep_the_promise():
    """At a chance large enough to be seen: failures counted over random circles, brute force."""
    clients, colluding, leaving, allowed = 60, 0.1, 0.1, 0.05
    number = neighbours_needed(
        clients, colluding=colluding, leaving=leaving, threshold=0.6, failure=allowed
    )
    assert 2 < number < clients - 1
    needed, draw, failures = threshold_of(number + 1, 0.6), np.random.default_rng(0), 0
    for _ in range(400):
        near = neighbours_of(range(clients), number=number, generator=draw)
        told = set(draw.choice(clients, 6, replace=False).tolist())
        gone = set(draw.choice(clients, 6, replace=False).tolist())
        left = set(range(clients)) - told - gone
        failures += (
            any(len(told.intersection(near[c])) >= needed for c in left)
            or any(len(set(near[c]) - gone) < needed for c in near)
            or components(left, near) > 1
        )
    assert failures / 400 <= allowed


def test_fewer_neighbours_for_less_and_all_where_nothing_less_will_do():
    few = neighbours_needed(1000, colluding=0.05, leaving=0.05)
    many = neighbours_needed(1000, colluding=0.2, leaving=0.1)
    assert few < many < 999
    # One colludes and one leaves: four neighbours could be cut off by the two, six cannot.
    assert neighbours_needed(10, colluding=0.1, leaving=0.1) == 6
    assert neighbours_needed(10, colluding=0.4, leaving=0.2) == 9
    with pytest.raises(FedmodelError, match="may collude"):
        neighbours_needed(100, colluding=0.7, leaving=0.1)
    with pytest.raises(FedmodelError, match="no graph"):
        neighbours_needed(2, colluding=0.1, leaving=0.1)

"""Random numbers: the published generator, frozen values, and independence of whatever is nearby."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedmodel import randomness
from fedmodel.errors import FedmodelError
from fedmodel.randomness import (
    SERVER,
    bits,
    hash_uniforms,
    normals,
    record_keys,
    secure_normals,
    shuffles,
    stream,
    stream_keys,
    uniforms,
)

WORD = 2**32
DRAWS = {"bits": bits, "uniforms": uniforms, "normals": normals}


def some_keys(count: int, purpose: str = "test") -> np.ndarray:
    return stream_keys(11, range(count), 3, purpose)


def python_philox(counter, key):
    """Philox4x32-10 in plain integers, as the paper writes it."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, WORD)
        high1, low1 = divmod(0xCD9E8D57 * c2, WORD)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return [c0, c1, c2, c3]


def exact_normals(words: np.ndarray) -> np.ndarray:
    """Box and Muller's formula in float64 with NumPy's logarithm, cosine and sine."""
    radius = np.sqrt(-2 * np.log((words[..., 0::2] + 1.0) / WORD))
    angle = 2 * np.pi * words[..., 1::2] / WORD
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(words.shape)


def copy_of_the_module(monkeypatch, setting: str, value: object):
    """The module imported once more, with something in numba set differently."""
    monkeypatch.setattr(setting, value)
    spec = importlib.util.spec_from_file_location("copy_of_randomness", randomness.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


# The generator


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # Random123's file kat_vectors
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_the_published_answers(counter, key, answer):
    counter, key, answer = (
        [int(word, 16) for word in text.split()] for text in (counter, key, answer)
    )
    assert python_philox(counter, key) == answer
    assert list(randomness._philox(*map(np.uint32, counter + key))) == answer


def test_splitmix_gives_the_published_answers():
    # The first values of the generator with seed 1234567, as its implementations are tested.
    state = 1234567 + np.arange(1, 6) * randomness._GOLDEN
    assert randomness._mix(state).view(np.uint64).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
        4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**64 - 1),
    client=st.integers(-1, 2**63 - 1),
    round=st.integers(0, WORD - 1),
    step=st.integers(0, WORD - 1),
)
def test_streams_are_derived_as_documented(seed, client, round, step):
    number = int.from_bytes(hashlib.blake2b(b"noise").digest()[:4], "little")
    high, low = divmod(client % 2**64, WORD)
    derived = python_philox((low, high, round, number), (seed % WORD, seed // WORD))
    keys = stream_keys(seed, [client], round, "noise")
    assert keys[0].tolist() == derived
    blocks = [python_philox((block, step, *derived[2:]), derived[:2]) for block in range(3)]
    assert bits(keys, 10, step=step)[0].tolist() == list(itertools.chain(*blocks))[:10]


def test_frozen_values():
    """Whoever changes one of these changes the results of all experiments."""
    keys = stream_keys(7, [0, 1, SERVER], 2, "noise")
    assert keys.tolist() == FROZEN["keys"]
    assert bits(keys, 6, step=1).tolist() == FROZEN["bits"]
    assert uniforms(keys, 2, step=1).tolist() == FROZEN["uniforms"]
    assert normals(keys, 5, step=1).view(np.uint32).tolist() == FROZEN["normals"]
    assert shuffles(keys, [6, 3, 5], step=1).tolist() == FROZEN["shuffles"]
    assert stream(7, 1, 2, "noise").bit_generator.random_raw(2).tolist() == FROZEN["stream"]
    records = record_keys(keys, np.array([[0, 1], [0, 1], [5, 0]]), step=1)
    assert records.tolist() == FROZEN["records"]
    masks = hash_uniforms(torch.from_numpy(records[0]), 3) * 2**24
    assert masks.tolist() == FROZEN["masks"]


FROZEN = {
    "keys": [[2212725732, 1110774307, 3991729490, 3002003023], [1208111050, 3622299550, 3865115751, 2718251199], [2046421339, 3010025333, 281465793, 3223132832]],
    "bits": [[1885522179, 162836707, 2664673686, 3897878015, 3512710859, 1732310199], [2057943423, 2065893151, 439354662, 9161096, 2020641438, 1908295693], [4189762540, 8379029, 2888574700, 2636722613, 800982995, 756099139]],
    "uniforms": [[0.037913375403500926, 0.9075454472611699], [0.4810032321790122, 0.002132983902072283], [0.0019508949423918676, 0.6139098232780928]],
    "normals": [[1067424497, 1050347187, 1062279975, 3205055877, 3204795763], [3214551599, 1041492359, 1074308783, 1021996683, 3214125479], [1046743479, 993191856, 3207336443, 3205865021, 1062355131]],
    "shuffles": [[4, 2, 1, 0, 5, 3], [2, 0, 1, -1, -1, -1], [4, 1, 3, 0, 2, -1]],
    "stream": [14300180302253352670, 4801536208093739323],
    "records": [[3598194757351081751, 7061462136376470611], [-4236883892060530271, 7084943276193499083], [-5492436906648692944, 5764471352710061659]],
    "masks": [[8452712, 12926225, 10864342], [3767910, 13227518, 7597396]],
}  # fmt: skip


def test_values_do_not_depend_on_the_processor(monkeypatch):
    """The same source without a compiler, number by number in NumPy: equal to the last bit."""
    plain = copy_of_the_module(monkeypatch, "numba.config.DISABLE_JIT", True)
    assert not hasattr(plain._fill_normals, "py_func")
    keys = stream_keys(5, range(SERVER, 4), 1, "noise")
    with np.errstate(over="ignore"):  # a scalar that wraps around warns
        assert (plain.stream_keys(5, range(SERVER, 4), 1, "noise") == keys).all()
        assert (plain.normals(keys, 403, step=2) == normals(keys, 403, step=2)).all()
        assert (plain.shuffles(keys, range(5)) == shuffles(keys, range(5))).all()


# One stream depends on nothing but its key


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.integers(0, 19), min_size=1, max_size=8),
    count=st.integers(0, 41),
    step=st.integers(0, 3),
)
def test_a_row_depends_neither_on_other_rows_nor_on_the_count(draw, rows, count, step):
    keys = some_keys(20)
    everything = draw(keys, 41, step=step)
    np.testing.assert_array_equal(draw(keys[rows], count, step=step), everything[rows, :count])


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.integers(0, 9), min_size=1, max_size=6), longest=st.integers(0, 30))
def test_a_shuffle_depends_neither_on_other_rows_nor_on_padding(rows, longest):
    keys, sizes = some_keys(10), np.array([0, 1, 2, 3, 5, 8, 13, 21, 22, 23])
    orders = shuffles(keys, sizes)
    some = shuffles(keys[[*rows, 0]], np.append(sizes[rows], longest))
    for place, row in enumerate(rows):
        assert some[place][: sizes[row]].tolist() == orders[row][: sizes[row]].tolist()
        assert (some[place][sizes[row] :] == -1).all()


def test_results_go_where_they_are_asked_to():
    keys, out = some_keys(3), np.empty((3, 7), np.float32)
    assert normals(keys, 7, out=out) is out
    np.testing.assert_array_equal(out, normals(keys, 7))
    for wrong in (np.empty((3, 8), np.float32), np.empty((3, 7)), np.empty((7, 3), np.float32).T):
        with pytest.raises(FedmodelError, match="does not fit"):
            normals(keys, 7, out=wrong)


# Different streams have nothing in common


VARIED = [
    (11, 3, 2, "noise", 1),
    (12, 3, 2, "noise", 1),
    (11 + WORD, 3, 2, "noise", 1),  # seeds that a 32-bit generator takes for one
    (11, 4, 2, "noise", 1),
    (11, 3 + WORD, 2, "noise", 1),
    (11, SERVER, 2, "noise", 1),
    (11, 3, 3, "noise", 1),
    (11, 2, 3, "noise", 1),
    (11, 3, 2, "batches", 1),
    (11, 3, 2, "noise", 0),
    (11, 3, 2, "noise", 2),
]


def test_streams_that_differ_in_one_thing_are_independent():
    size = 40_000
    words, values = [], []
    for seed, client, round, purpose, step in VARIED:
        keys = stream_keys(seed, [client], round, purpose)
        words.append(bits(keys, size, step=step)[0])
        values.append(normals(keys, size, step=step)[0])
    blocks = np.concatenate(words).reshape(-1, 4)
    assert len(np.unique(blocks, axis=0)) == len(blocks)
    for numbers in (values, np.square(values)):
        correlation = np.corrcoef(numbers)[np.triu_indices(len(VARIED), 1)]
        assert np.abs(correlation).max() < 5 / np.sqrt(size)


def test_many_client_rounds_share_no_key_and_no_noise():
    keys = np.concatenate(
        [stream_keys(1, np.arange(10_000), round, "noise") for round in range(20)]
    )
    assert len(np.unique(keys.view(np.uint64), axis=0)) == len(keys)
    first = bits(keys, 4).view(np.uint64)
    assert len(np.unique(first, axis=0)) == len(keys)
    # Across clients, too, the words are uniform: the top and bottom bytes, by chi-square.
    for shift in (0, 24):
        counts = np.bincount((first.view(np.uint32).ravel() >> shift) & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-4


# Distributions


def test_uniforms_are_made_of_two_words():
    words = bits(some_keys(4), 20).astype(np.uint64).astype(object)
    expected = ((words[:, 1::2] * WORD + words[:, 0::2]) // 2**11) / 2**53
    np.testing.assert_array_equal(uniforms(some_keys(4), 10), expected.astype(float))
    values = uniforms(some_keys(20), 10_000).ravel()
    assert values.min() >= 0 and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_normals_are_box_and_mullers():
    words = bits(some_keys(20), 20_000)
    values = normals(some_keys(20), 20_000)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, exact_normals(words), rtol=0, atol=1e-6)


def test_normals_are_right_at_the_edges_of_the_words():
    near = [0, 1, 2, 2**29, 2**30, 2**31, round(np.sqrt(0.5) * WORD), 3 * 2**29, 3 * 2**30]
    edges = sorted({(word + shift) % WORD for word in near for shift in range(-3, 4)})
    pairs = np.array(list(itertools.product(edges, edges)))
    found = np.array([randomness._box_muller(*np.uint32(pair)) for pair in pairs])
    np.testing.assert_allclose(found, exact_normals(pairs), rtol=0, atol=1e-6)
    # The radius keeps its relative accuracy where it is small: u close to 1.
    lengths, exact = np.hypot(*found.T.astype(float)), np.hypot(*exact_normals(pairs).T)
    np.testing.assert_allclose(lengths, exact, rtol=5e-7)
    assert found.max() == np.float32(np.sqrt(64 * np.log(2))) > 6.66


def test_normals_have_the_normal_distribution():
    values = normals(some_keys(100), 20_000).astype(np.float64).ravel()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(np.mean(values**power) - moment) < 4 * deviation / np.sqrt(values.size)
    expected = 2 * stats.norm.sf(4) * values.size
    assert abs(np.sum(np.abs(values) > 4) - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("shape", [(), 0, 1, 7, (3, 5), 2**14 + 1])
def test_secure_normals_come_in_any_shape(shape):
    values, out = secure_normals(shape), np.full(shape, np.nan, np.float32)
    assert values.shape == out.shape and values.dtype == np.float32
    assert secure_normals(shape, out=out) is out
    assert np.isfinite(out).all()
    assert not out.size or (values == out).mean() < 0.01  # a few may meet by chance


def test_secure_normals_have_the_normal_distribution():
    values = secure_normals((1000, 1000)).astype(np.float64).ravel()
    assert stats.kstest(values, "norm").pvalue > 1e-6  # not seeded: rarely enough
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(np.mean(values**power) - moment) < 5 * deviation / np.sqrt(values.size)
    for numbers in (values, values**2):  # neighbours share their radii
        assert abs(np.corrcoef(numbers[0::2], numbers[1::2])[0, 1]) < 5 / np.sqrt(values.size / 2)


def test_a_secure_normal_is_half_the_sum_of_four():
    words = np.random.default_rng(0).integers(0, WORD, (8, 500), dtype=np.uint32)
    out = np.empty(1000, np.float32)
    randomness._fill_secure(words, out)
    pairs = exact_normals(words.reshape(4, 2, 500).transpose(0, 2, 1))
    np.testing.assert_allclose(out, pairs.sum(0).ravel() / 2, rtol=0, atol=2e-6)


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 40), max_size=10), step=st.integers(0, 9))
def test_shuffles_are_permutations(sizes, step):
    orders = shuffles(some_keys(len(sizes)), sizes, step=step)
    assert orders.shape == (len(sizes), max(sizes, default=0))
    for order, size in zip(orders, sizes):
        assert sorted(order[:size]) == list(range(size))
        assert (order[size:] == -1).all()


def test_all_shuffles_are_equally_likely():
    orders = shuffles(some_keys(48_000), np.full(48_000, 4))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_server_generator_is_its_own():
    first = stream(5, SERVER, 1, "sample").random(1000)
    np.testing.assert_array_equal(first, stream(5, SERVER, 1, "sample").random(1000))
    assert not np.isin(first, stream(5, SERVER, 2, "sample").random(1000)).any()
    assert stats.kstest(first, "uniform").pvalue > 1e-3


# Draws per record


def test_hash_uniforms_are_splitmix_of_the_hashed_key():
    def mix(x):
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) % 2**64
        return x ^ x >> 31

    for key in (0, 1, -1, 2**63 - 1, -(2**63)):
        states = [mix(key % 2**64) + index * 0x9E3779B97F4A7C15 for index in range(1, 6)]
        expected = [(mix(state % 2**64) >> 40) / 2**24 for state in states]
        assert hash_uniforms(torch.tensor(key), 5).tolist() == expected


def test_hash_uniforms_are_the_same_under_vmap():
    keys = torch.from_numpy(record_keys(some_keys(4), np.arange(24).reshape(4, 6), step=2))
    before, plain = keys.clone(), hash_uniforms(keys, 50)
    one_record = torch.func.vmap(lambda key: hash_uniforms(key, 50))
    assert torch.equal(plain, torch.func.vmap(one_record)(keys))
    assert torch.equal(plain[:, :, :20], hash_uniforms(keys, 20))
    assert torch.equal(keys, before)


def test_hash_uniforms_of_neighbouring_keys_are_uniform_and_independent():
    values = hash_uniforms(torch.arange(-200, 200), 1000).double().numpy()
    assert values.min() >= 0 and values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3
    for one, other in ((values[:-1], values[1:]), (values[:, :-1], values[:, 1:])):
        counts, _, _ = np.histogram2d(one.ravel(), other.ravel(), bins=20, range=[[0, 1]] * 2)
        assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def test_a_record_has_one_key_wherever_it_stands():
    keys, records = some_keys(50), np.arange(5000).reshape(50, 100)
    drawn = record_keys(keys, records, step=4)
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(record_keys(keys, records[:, ::-1], step=4), drawn[:, ::-1])
    np.testing.assert_array_equal(record_keys(keys[7:9], records[7:9, :3], step=4), drawn[7:9, :3])
    for other in (record_keys(keys, records, step=5), record_keys(keys[::-1], records, step=4)):
        assert not np.isin(other, drawn).any()


def test_masks_of_records_have_the_rate_that_was_asked_for():
    keys = record_keys(some_keys(20), np.arange(1000).reshape(20, 50), step=0)
    kept = (hash_uniforms(torch.from_numpy(keys), 200) >= 0.3).double().numpy()
    for axis in ((2,), (0, 1)):  # over the units of a record, over the records of a unit
        size = np.prod([kept.shape[a] for a in axis])
        scores = (kept.mean(axis).ravel() - 0.7) / np.sqrt(0.21 / size)
        assert abs(scores.std() - 1) < 5 / np.sqrt(2 * scores.size)
        assert abs(scores.mean()) < 5 / np.sqrt(scores.size)


# Mistakes, and where the code is compiled


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: stream_keys(-1, [0], 0, "noise"), "seed"),
        (lambda: stream(2**64, 0, 0, "noise"), "seed"),
        (lambda: stream_keys(1, [0], -1, "noise"), "round"),
        (lambda: stream_keys(1, [0], WORD, "noise"), "round"),
        (lambda: bits(some_keys(1), 4, step=WORD), "step"),
        (lambda: normals(some_keys(1), 4, step=-1), "step"),
        (lambda: record_keys(some_keys(1), np.zeros((1, 1), np.int64), step=-1), "step"),
        (lambda: uniforms(some_keys(1), -1), "count"),
    ],
)
def test_numbers_out_of_range_are_named(call, where):
    with pytest.raises(FedmodelError, match="out of range") as caught:
        call()
    assert caught.value.where == where
    assert caught.value.fix.startswith(f"Choose 0 <= {where} < 2**")


def test_what_is_no_key_is_refused():
    for wrong in (some_keys(2)[:, :3], some_keys(2)[0], some_keys(2).astype(np.int64)):
        for draw in DRAWS.values():
            with pytest.raises(FedmodelError, match="no keys"):
                draw(wrong, 4)
    with pytest.raises(FedmodelError, match="sizes"):
        shuffles(some_keys(2), [3, 3, 3])


def test_nothing_is_compiled_at_import_and_no_directory_is_needed(monkeypatch):
    copy = copy_of_the_module(monkeypatch, "numba.core.caching.CacheImpl._locator_classes", [])
    loops = (copy._fill_keys, copy._fill_bits, copy._fill_normals, copy._philox)
    assert not any(loop.signatures for loop in loops)
    assert (copy.bits(some_keys(2), 5) == bits(some_keys(2), 5)).all()


def test_other_threads_may_run_meanwhile():
    for loop in (randomness._fill_bits, randomness._fill_normals, randomness._fill_secure):
        assert loop.targetoptions["nogil"]

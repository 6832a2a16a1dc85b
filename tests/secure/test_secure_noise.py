"""Noise of all clients together: exact draws, the divergence by brute force, the calibration."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fedmodel
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of
from fedmodel.secure import Encoding
from fedmodel.secure.gaussian import LARGEST, discrete_gaussians
from fedmodel.secure.noise import FINEST, SumNoise, sum_noise


def pmf(scale, reach):
    """The discrete Gaussian's chances on [-reach, reach], by its definition."""
    x = np.arange(-reach, reach + 1)
    weight = np.exp(-(x**2) / (2 * scale**2))
    return x, weight / weight.sum()


def words(count, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(-(2**63), 2**63 - 1, count, dtype=np.int64, endpoint=True)


@pytest.mark.parametrize("scale", [1, 3, 10])
def test_draws_have_the_chances_of_the_definition(scale):
    count = 60_000
    drawn = discrete_gaussians(words(60 * count, seed=scale), scale, count)
    x, chance = pmf(scale, 12 * scale)
    seen = np.array([(drawn == value).sum() for value in x])
    assert seen.sum() == count
    often = count * chance > 10
    expected = count * chance[often]
    statistic = ((seen[often] - expected) ** 2 / expected).sum()
    # chi-square: six standard deviations above its mean
    assert statistic < often.sum() + 6 * math.sqrt(2 * often.sum())


@pytest.mark.parametrize("scale", [FINEST, LARGEST])
def test_large_scales_have_mean_and_deviation(scale):
    count = 20_000
    drawn = discrete_gaussians(words(60 * count), scale, count).astype(float)
    assert abs(drawn.mean()) < 5 * scale / math.sqrt(count)
    assert abs(drawn.std() / scale - 1) < 5 / math.sqrt(2 * count)
    assert abs((np.abs(drawn) < scale).mean() - 0.6827) < 0.02


def test_too_few_words_give_nothing_and_more_of_them_the_same():
    assert discrete_gaussians(words(100), 5, 100) is None
    few, many = (discrete_gaussians(words(count), 5, 100) for count in (6000, 60_000))
    np.testing.assert_array_equal(few, many)
    with pytest.raises(FedmodelError, match="out of range"):
        discrete_gaussians(words(10), LARGEST + 1, 1)


def test_the_divergence_of_a_sum_is_below_the_bound_by_brute_force():
    """The sum's distribution by convolution; Renyi divergence from its shift by its definition."""
    scale, clients = 3, 4
    _, one = pmf(scale, 15 * scale)
    sum_ = one
    for _ in range(clients - 1):
        sum_ = np.convolve(sum_, one)
    tau = 10 * sum(math.exp(-2 * (math.pi * scale) ** 2 * k / (k + 1)) for k in range(1, clients))
    for moved in (1, 5, 8):
        shifted = np.concatenate([np.zeros(moved), sum_[:-moved]])
        both = (sum_ > 1e-100) & (shifted > 1e-100)
        log, log_shifted = np.log(sum_[both]), np.log(shifted[both])
        for order in (1.5, 2, 5):
            moment = np.exp(order * log + (1 - order) * log_shifted).sum()
            divergence = math.log(moment) / (order - 1)
            bound = order / 2 * (moved / (math.sqrt(clients) * scale) + tau) ** 2
            assert 0.99 * bound < divergence <= bound * (1 + 1e-9)


@given(
    st.floats(0.05, 20.0),
    st.integers(3, 2000),
    st.integers(1, 50_000),
    st.floats(0.01, 100.0),
)
def test_the_sum_has_the_noise_that_was_asked_for_after_rounding(multiplier, fewest, size, clip):
    if math.sqrt(fewest) <= multiplier * math.sqrt(size) / FINEST:
        with pytest.raises(FedmodelError, match="rounding alone"):
            sum_noise(clip=clip, noise_multiplier=multiplier, fewest=fewest, size=size, seed=0)
        return
    noise, bits = sum_noise(
        clip=clip, noise_multiplier=multiplier, fewest=fewest, size=size, seed=0
    )
    assert multiplier * (1 - 1e-12) <= noise.noise_multiplier <= multiplier * 1.001
    assert FINEST <= noise.scale <= LARGEST
    assert noise.step == pytest.approx(2 * clip / 2**bits)
    moved = clip + noise.step * math.sqrt(size)
    deviation = math.sqrt(fewest) * noise.scale * noise.step
    assert noise.noise_multiplier == pytest.approx(deviation / moved)
    assert noise.charged == pytest.approx(deviation / (2 * moved))


@given(st.integers(0, 99), st.floats(0.1, 30.0))
def test_a_clipped_and_rounded_update_moves_by_no_more_than_is_charged_for(seed, length):
    draw = np.random.default_rng(seed)
    noise, bits = sum_noise(clip=1.0, noise_multiplier=1.0, fewest=10, size=50, seed=0)
    code = Encoding(
        size=50,
        bound=1.0,
        bits=bits,
        num_clients=10,
        max_weight=1,
        max_records=1,
        noise=noise.scale,
    )
    delta = draw.normal(size=50)
    delta = (delta * length / np.linalg.norm(delta)).astype(np.float32)
    sent = code.encode(
        noise.clipped(delta),
        weight=1,
        records=1,
        uniforms=draw.random(50),
        noise=np.zeros(50, np.int64),
    )
    value = code.decode(sent, clients=1).mean
    assert np.linalg.norm(value) <= noise.clip + noise.step * math.sqrt(50)


def test_noise_is_its_clients_own_and_secure_noise_nobodys():
    fields = {"clip": 1.0, "step": 0.001, "scale": 2048, "fewest": 4, "size": 40_000, "seed": 3}
    noise = SumNoise(**fields)
    first = noise.draw(client=1, round=2)
    np.testing.assert_array_equal(first, noise.draw(client=1, round=2))
    assert abs(np.corrcoef(first[:20_000], first[20_000:])[0, 1]) < 0.05
    for other in ({"client": 2, "round": 2}, {"client": 1, "round": 3}):
        assert abs(np.corrcoef(first, noise.draw(**other))[0, 1]) < 0.05
    secret = SumNoise(**fields, source="secure")
    one, other = (secret.draw(client=1, round=2) for _ in range(2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
    assert abs(one.std() / 2048 - 1) < 0.03


# An experiment

IDLE = """
class client:
    def train(self, cohort, start):
        return start.repeat(cohort.size, 1) * 0
"""
BASE = {
    "seed": 3,
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public"},
    "partition": {"name": "iid", "clients": 12},
    "model": {"name": "mlp", "hidden": [64]},
    "client": {"name": "sgd", "learning_rate": 0.2},
    "privacy": {
        "unit": "client",
        "mode": "distributed",
        "noise_multiplier": 6.0,
        "delta": 1e-2,
        "clip": 0.5,
        "accountant": "rdp",
    },
    "strategy": {"name": "compose", "weigh": "equal"},
    "secure_aggregation": {},
}


def test_a_run_has_the_noise_that_it_charges_for(tmp_path, monkeypatch):
    """Clients that learn nothing: what moves the model is the noise of all twelve."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(IDLE)
    run = fedmodel.run({**BASE, "client": {"name": "p.py:client"}}, out=tmp_path / "run")
    built = Experiment.read(BASE).built
    noise = built.workload.secure.noise
    assert noise.fewest == 8  # two thirds of twelve
    moved = torch.cat([value.flatten() for value in run.model.state_dict().values()])
    moved -= built.model.initial
    # two rounds of twelve clients' noise, divided by twelve
    expected = math.sqrt(2 * 12) * noise.scale * noise.step / 12
    assert abs(moved.std().item() / expected - 1) < 5 / math.sqrt(2 * len(moved))
    assert abs(moved.mean().item()) < 5 * expected / math.sqrt(len(moved))
    charged = epsilon_of(
        sample_rate=1.0, noise_multiplier=noise.charged, steps=2, delta=1e-2, accountant="rdp"
    )
    last = run.epsilon.query("round == 2").epsilon
    assert len(last) == 12
    np.testing.assert_allclose(last, charged, rtol=2e-3)
    assert (last >= charged * (1 - 1e-9)).all()
    stated = run.manifest["privacy"]
    assert stated["mode"] == "distributed" and stated["sensitivity"] == 1.0
    said = " ".join(stated["sentences"])
    assert "distributed discrete Gaussian" in said and "follows the protocol" in said
    assert not any("floating point" in line for line in stated["outside"])


REFUSED = {
    "no secure aggregation": ({"secure_aggregation": None}, "the server sees every single update"),
    "another accountant": ({"privacy": {**BASE["privacy"], "accountant": "prv"}}, "PRV has no bound"),
    "a bound of its own": ({"secure_aggregation": {"bound": 1.0}}, "`bound` follows from clip"),
    "weights by records": ({"strategy": {"name": "compose"}}, "cannot weigh its update"),
    "a sample of any size": ({"strategy": {**BASE["strategy"], "sampling": "poisson"}}, "Poisson sampling leaves open"),
    "a server that clips": ({"privacy": {**BASE["privacy"], "mode": "central"}}, "lets the server clip"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), REFUSED.values(), ids=[*REFUSED])
def test_what_does_not_go_with_distributed_noise_is_refused(changes, why):
    config = {key: value for key, value in {**BASE, **changes}.items() if value is not None}
    with pytest.raises(FedmodelError, match=why):
        Experiment.read(config)


def test_a_model_too_large_for_its_clients_is_refused():
    config = {**BASE, "model": {"name": "mlp", "hidden": [2000, 1000]}}
    config["privacy"] = {**BASE["privacy"], "noise_multiplier": 20.0}
    with pytest.raises(FedmodelError, match="rounding alone"):
        Experiment.read(config).built  # noqa: B018

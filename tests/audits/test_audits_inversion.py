"""Gradient inversion of an experiment: what its own clients send, scored against what they hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cross_entropy

from fedmodel.audits.columns import columns_of, image_of
from fedmodel.audits.inversion import gradient_inversion
from fedmodel.audits.likeness import aligned, likeness
from fedmodel.audits.victims import held_by, sent, settings, training_under
from fedmodel.data.medical import heart_disease
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import noise_for
from fedmodel.runs.page import Page

HOSPITALS = {
    "rounds": 5,
    "seed": 3,
    "data": {"name": "heart_disease", "sensitive": ["sex"], "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.5, "batch_size": 16},
}
PRIVATE = {
    "client.name": "dp_sgd",
    "privacy.epsilon": 2.0,
    "privacy.delta": 1e-3,
    "privacy.accountant": "rdp",
}


@pytest.fixture(scope="module")
def plain():
    return Experiment.read(HOSPITALS)


@pytest.fixture(scope="module")
def private():
    return Experiment.read(HOSPITALS, PRIVATE)


def quick(experiment, **options):
    return gradient_inversion(
        experiment, **{"batch_sizes": [1, 8], "batches": 4, "iterations": 120, **options}
    )


@pytest.mark.parametrize("attack", ["bayes", "dlg", "idlg", "cosine", "closed_form"])
def test_single_records_are_recovered_without_privacy(plain, attack):
    assert quick(plain, attack="closed_form", batch_sizes=[1], batches=1).section.blocks
    found = quick(plain, attack=attack, batch_sizes=[1])
    assert found.figures["inversion_rmse"] < 0.15 < 0.7 < found.figures["inversion_rmse_of_guess"]
    assert found.figures["inversion_identified"] == 1.0


def test_larger_batches_and_noise_protect(private):
    found = quick(private, epsilons=[])
    errors = found.tables["errors"].set_index(["setting", "batch_size"]).rmse
    assert errors["no privacy", 1] < 0.15 < errors["no privacy", 8]
    guess = errors["guess: the mean", 1]
    assert errors["this run: ε = 2", 1] > 0.8 * guess
    assert found.figures["inversion_identified"] <= 0.25
    assert (found.tables["columns"].column.nunique(), found.name) == (13, "gradient_inversion")
    page = Page(title="t", about=[], headline="h", sections=[found.section]).render()
    assert "this run: ε = 2" in page and "thalch" in page


def test_epsilons_rise_from_strong_to_none(private):
    names = [setting.name for setting in settings(private, [8.0, 0.5])]
    assert names == ["no privacy", "ε = 8", "ε = 0.5", "this run: ε = 2"]


def test_the_noise_is_what_a_client_of_that_size_gets(private):
    own = settings(private, [])[-1]
    training = training_under(own, private, np.array([200, 50]), batch_size=10)
    for noise, size in zip(training.noise_multiplier, (200, 50)):
        steps = 5 * size // 10
        assert noise == noise_for(
            epsilon=2.0, sample_rate=10 / size, steps=steps, delta=1e-3, accountant="rdp"
        )


def test_a_made_up_client_sends_the_gradient_of_its_records(plain):
    data, model = plain.built.data, plain.built.model
    rows = [torch.tensor([4, 9, 2]), torch.tensor([7])]
    one = replace(
        training_under(settings(plain, [])[0], plain, np.array([3, 1])), num_steps=np.ones(2, int)
    )
    delta = sent(plain, held_by(data, rows), one, model.initial)
    for found, part in zip(delta, rows):
        model.module.zero_grad()
        cross_entropy(model.module(data.x[part]), data.y[part]).backward()
        by_hand = torch.cat([p.grad.flatten() for p in model.module.parameters()])
        torch.testing.assert_close(-found / 0.5, by_hand, rtol=1e-4, atol=1e-5)


def test_readable_gives_the_table_back(plain):
    data = plain.built.data
    frame = columns_of(data, 0).readable(data.x)
    original = heart_disease().features
    for name in ("age", "chol", "oldpeak"):  # the same values, in the order of clients
        clipped = original[name].clip(*heart_disease().ranges[name])
        np.testing.assert_allclose(np.sort(frame[name]), np.sort(clipped), rtol=1e-4, atol=1e-4)
    for name in ("sex", "thal"):
        assert frame[name].value_counts().to_dict() == original[name].value_counts().to_dict()


def test_likeness_does_not_see_the_order_of_a_batch(plain):
    data = plain.built.data
    columns, own = columns_of(data, 0), data.x[data.rows(0, "train")]
    original = own[:12].view(3, 4, -1)
    shuffled = original[:, [2, 0, 3, 1]]
    torch.testing.assert_close(aligned(original, shuffled, columns), original)
    perfect = likeness(original, shuffled, columns, own)
    assert (perfect.rmse, perfect.categories, perfect.identified) == (0.0, 1.0, 1.0)
    noisy = original + 0.1 * torch.randn_like(original)
    found = likeness(original, noisy, columns, own)
    numbers = [place for _, place in columns.numbers]
    cost = (((original[:, :, None] - noisy[:, None]) / columns.scale) ** 2).sum(-1)
    orders = [linear_sum_assignment(one.numpy())[1] for one in cost]
    right = torch.stack([noisy[v, orders[v]] for v in range(3)])
    squares = (((right - original) / columns.scale) ** 2)[..., numbers]
    assert found.rmse == pytest.approx(float(squares.mean().sqrt()), rel=1e-5)
    assert found.psnr == pytest.approx(-10 * np.log10(float((right - original).square().mean())))


def test_scales_are_deviations_of_all_clients_training_records(plain):
    data = plain.built.data
    train = torch.cat([data.x[data.rows(k, "train")] for k in range(4)]).numpy()
    columns = columns_of(data, 1)
    place = dict(columns.numbers)["age"]
    assert float(columns.scale[place]) == pytest.approx(train[:, place].std(ddof=1), rel=1e-5)
    others = torch.cat([data.x[data.rows(k, "train")] for k in (0, 2, 3)]).numpy()
    np.testing.assert_allclose(columns.mean, others.mean(0), atol=1e-5)


def test_pixels_are_seen_as_an_image():
    digits = {
        **HOSPITALS,
        "data": {"name": "digits", "encode": "none"},
        "partition": {"name": "iid", "clients": 3},
    }
    experiment = Experiment.read(digits)
    assert image_of(experiment.built.data) == (8, 8)
    found = quick(experiment, batch_sizes=[1], attack="closed_form", batches=1)
    assert found.figures["inversion_psnr"] > 40
    assert (
        "data:image/png"
        in Page(title="t", about=[], headline="h", sections=[found.section]).render()
    )


@pytest.mark.parametrize(
    ("changes", "options", "problem"),
    [
        ({}, {"epsilons": [1.0]}, "have no effect"),
        ({}, {"client": "Clevland"}, "no client 'Clevland'"),
        ({}, {"batch_sizes": [1, 500]}, "fewer than a batch of 500"),
        ({"client.optimiser": "adam"}, {}, "first step"),
        ({"data.name": "vader_tweets", "model.name": "text_bag"}, {}, "are texts"),
    ],
)
def test_what_cannot_be_attacked_is_refused(changes, options, problem):
    document = HOSPITALS
    if "data.name" in changes:
        document = {
            **HOSPITALS,
            "data": {"name": "vader_tweets"},
            "partition": {"name": "iid", "clients": 3},
            "model": {"name": "text_bag"},
        }
        changes = {}
    with pytest.raises(FedmodelError, match=problem) as error:
        quick(Experiment.read(document, changes), **options)
    assert error.value.fix

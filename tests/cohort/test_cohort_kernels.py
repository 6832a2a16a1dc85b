"""The stacked layers give what one backward pass a record gives, and what `torch.func` gives."""

import math
import warnings

import numpy as np
import pytest
import torch
from cohort.oracle import record_gradient
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel.cohort import Batch, FlatModel, functional, gradients
from fedmodel.models.text import text_bag

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


class Sequence(nn.Module):
    """An embedding, a recurrent layer, and the last state."""

    def __init__(self, kind, **options):
        super().__init__()
        self.embedding = nn.Embedding(20, 5, padding_idx=0)
        self.recurrent = kind(5, 4, batch_first=True, **options)
        self.output = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, tokens):
        return self.output(self.recurrent(self.embedding(tokens))[0][:, -1])


class Attention(nn.Module):
    """Self-attention that must not look at padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.output = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.embedding(tokens)
        padding = tokens == 0
        padding[:, 0] = False
        mixed, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        return self.output(mixed.mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.output(self.encoder(self.embedding(tokens)).mean(1))


class Tied(nn.Module):
    """One weight used twice, by two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.output = nn.Linear(6, 3)

    def forward(self, x):
        return self.output(self.second(torch.tanh(self.first(x))))


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.output = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.output(self.layer(torch.tanh(self.layer(x))))


def frozen():
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    module[0].requires_grad_(False)
    return module


def images(*layers):
    return nn.Sequential(nn.Unflatten(1, (2, 6, 6)), *layers, nn.Flatten(), nn.LazyLinear(3))


FLOATS, IMAGES, TOKENS = (6,), (72,), None
ZOO = {
    "linear": (lambda: nn.Linear(6, 3), FLOATS),
    "no bias": (lambda: nn.Linear(6, 3, bias=False), FLOATS),
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), FLOATS),
    "dropout": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, 3)),
        FLOATS,
    ),
    "layer norm": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(inplace=True), nn.Linear(5, 3)
        ),
        FLOATS,
    ),
    "tied": (Tied, FLOATS),
    "twice": (Twice, FLOATS),
    "frozen": (frozen, FLOATS),
    "conv2d": (
        lambda: images(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)
        ),
        IMAGES,
    ),
    "conv2d strides, dilation, groups": (
        lambda: images(nn.Conv2d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2), nn.Tanh()),
        IMAGES,
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 36)),
            nn.Conv1d(2, 3, 5, stride=3),
            nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        IMAGES,
    ),
    "group norm": (lambda: images(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), IMAGES),
    "text bag": (lambda: text_bag(vocabulary=20, num_classes=3, width=4), TOKENS),
    "gru": (lambda: Sequence(nn.GRU), TOKENS),
    "lstm": (lambda: Sequence(nn.LSTM, num_layers=2, bidirectional=True), TOKENS),
    "rnn": (lambda: Sequence(nn.RNN), TOKENS),
    "attention": (Attention, TOKENS),
    "transformer": (Encoder, TOKENS),
}


def problem(make, shape, dtype=torch.float64, clients=3, slots=4, seed=0):
    """A flat model, clients' own parameters, and a batch with absent slots that hold rubbish."""
    torch.manual_seed(seed)
    module = make()
    x = (
        torch.randint(0, 20, (clients, slots, 6))
        if shape is TOKENS
        else torch.randn(clients, slots, *shape)
    )
    with torch.no_grad():
        module(x[0])  # lazy layers take their size
    model = FlatModel(module)
    module.train()
    local = (model.initial + 0.2 * torch.randn(clients, model.size)).to(dtype)
    batch = Batch(
        x=x,
        y=torch.randint(0, 3, (clients, slots)),
        present=torch.rand(clients, slots) < 0.7,
        keys=torch.arange(clients * slots).view(clients, slots) * 7919,
        active=torch.ones(clients, 1),
    )
    return model, local, batch


class Company:
    """As much of a cohort as the gradients ask for."""

    def __init__(self, model):
        self.model = model


def one_by_one(model, local, batch, clip):
    """The oracle: a backward pass a record, clipped and added up by hand."""
    total, loss = torch.zeros_like(local), local.new_zeros(len(local))
    for k, slot in batch.present.nonzero().tolist():
        gradient, own = record_gradient(model, local[k], batch, k, slot)
        total[k] += gradient * min(1.0, clip / float(gradient.norm()))
        loss[k] += own
    return total, loss


# torch.func cannot map over a fused recurrent layer.
WITHOUT_ORACLE = {"gru", "lstm", "rnn"}


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stacked_layers_equal_one_backward_pass_a_record(name, dtype):
    model, local, batch = problem(*ZOO[name], dtype=dtype)
    if dtype == torch.float64:
        model.module.double()
        if batch.x.is_floating_point():
            batch = Batch(batch.x.double(), batch.y, batch.present, batch.keys, batch.active)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no fall-back
        total, loss = gradients.loss_sum_gradient(model, local, batch)
    expected, expected_loss = one_by_one(model, local, batch, math.inf)
    torch.testing.assert_close(total, expected, **tolerance)
    torch.testing.assert_close(loss, expected_loss, **tolerance)
    for clip in (0.05, 1.0):
        found = gradients.clipped_gradient_sum(Company(model), local, batch, clip=clip)
        torch.testing.assert_close(found, one_by_one(model, local, batch, clip)[0], **tolerance)
        if name not in WITHOUT_ORACLE:
            oracle = functional.clipped_gradient_sum(
                model, local, batch, clip=clip, style="flat", budget=1 << 26
            )
            torch.testing.assert_close(found, oracle, **tolerance)


@pytest.mark.parametrize("style", ["per_layer", "automatic"])
def test_other_styles_of_clipping_keep_the_bound_and_equal_torch_func(style):
    model, local, batch = problem(*ZOO["mlp"], dtype=torch.float32)
    for k in range(3):
        one = torch.zeros_like(batch.present)
        one[k, 1] = True
        alone = Batch(batch.x, batch.y, one, batch.keys, batch.active)
        found = gradients.clipped_gradient_sum(Company(model), local, alone, clip=0.3, style=style)
        oracle = functional.clipped_gradient_sum(
            model, local, alone, clip=0.3, style=style, budget=1 << 26
        )
        torch.testing.assert_close(found, oracle, rtol=1e-5, atol=1e-5)
        assert found.norm() <= 0.3 + 1e-5


def test_a_hugging_face_bert_of_two_layers():
    from transformers import BertConfig, BertForSequenceClassification

    def bert():
        return BertForSequenceClassification(
            BertConfig(
                vocab_size=20,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=12,
                max_position_embeddings=10,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                num_labels=3,
            )
        )

    model, local, batch = problem(bert, TOKENS, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradients.clipped_gradient_sum(Company(model), local, batch, clip=0.5)
    oracle = functional.clipped_gradient_sum(
        model, local, batch, clip=0.5, style="flat", budget=1 << 26
    )
    torch.testing.assert_close(found, oracle, rtol=1e-4, atol=1e-5)


class Scaled(nn.Module):
    """A parameter that no known layer holds."""

    def __init__(self):
        super().__init__()
        self.scale, self.output = nn.Parameter(torch.ones(6)), nn.Linear(6, 3)

    def forward(self, x):
        return self.output(x * self.scale)


def test_an_unknown_layer_falls_back_says_so_once_and_is_right():
    model, local, batch = problem(Scaled, FLOATS, dtype=torch.float32)
    with pytest.warns(UserWarning, match="Scaled"):
        found = gradients.clipped_gradient_sum(Company(model), local, batch, clip=0.5)
    oracle = functional.clipped_gradient_sum(
        model, local, batch, clip=0.5, style="flat", budget=1 << 26
    )
    torch.testing.assert_close(found, oracle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients.clipped_gradient_sum(Company(model), local, batch, clip=0.5)


@given(
    widths=st.lists(st.integers(1, 7), max_size=3),
    clients=st.integers(1, 4),
    slots=st.integers(1, 5),
    clip=st.floats(0.01, 10),
    seed=st.integers(0, 99),
)
def test_random_small_networks(widths, clients, slots, clip, seed):
    def make():
        layers, width = [], 6
        for size in widths:
            layers += [nn.Linear(width, size), nn.Tanh()]
            width = size
        return nn.Sequential(*layers, nn.Linear(width, 3))

    model, local, batch = problem(make, FLOATS, torch.float32, clients, slots, seed)
    found = gradients.clipped_gradient_sum(Company(model), local, batch, clip=clip)
    oracle = functional.clipped_gradient_sum(
        model, local, batch, clip=clip, style="flat", budget=1 << 26
    )
    torch.testing.assert_close(found, oracle, rtol=1e-4, atol=1e-5)
    assert math.isfinite(float(np.abs(found.numpy()).sum()))
    for k in range(clients):
        row = slice(k, k + 1)
        alone = gradients.clipped_gradient_sum(
            Company(model), local[row], batch.part(row, slice(None)), clip=clip
        )
        torch.testing.assert_close(alone[0], found[k], rtol=1e-4, atol=1e-5)

"""Models of texts: read at a text's own tokens, whatever stands behind them or in other records."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import relu
from torch.nn.utils.rnn import pack_padded_sequence

from fedmodel.models.text import rnn, text_bag, text_cnn

VOCABULARY = 20
MODELS = {
    "bag": lambda: text_bag(vocabulary=VOCABULARY, num_classes=3, width=4),
    "cnn": lambda: text_cnn(vocabulary=VOCABULARY, num_classes=3, width=4, filters=5),
    **{
        f"{cell}, {read}": lambda cell=cell, read=read: rnn(
            vocabulary=VOCABULARY, num_classes=3, width=4, hidden=5, cell=cell, read=read
        )
        for cell, read in product(("gru", "lstm"), ("last", "mean"))
    },
}


def texts(*lengths, times=7):
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, VOCABULARY, (len(lengths), times), generator=draw)
    return torch.where(torch.arange(times) < torch.tensor(lengths)[:, None], tokens, 0)


def made(name):
    torch.manual_seed(0)
    module = MODELS[name]()
    nn.init.normal_(module.embedding.weight)  # the vector of padding, too: it must not matter
    return module.double()


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    module, long = made(name), texts(1, 3, 6, 7, 0)
    more = torch.cat([long, torch.zeros(5, 4, dtype=torch.int64)], 1)
    if name == "cnn":  # what a window sees behind the text is padding's vector, trained by nobody
        nn.init.zeros_(module.embedding.weight[0].detach())
    torch.testing.assert_close(module(more), module(long))
    torch.testing.assert_close(module(long[1:2]), module(long)[1:2])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_last_state_is_that_of_a_packed_sequence(cell):
    module, lengths = made(f"{cell}, last"), [4, 1, 7, 2]
    tokens = texts(*lengths)
    packed = pack_padded_sequence(
        module.embedding(tokens), torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    last = module.recurrent(packed)[1]
    last = last[0] if isinstance(last, tuple) else last
    torch.testing.assert_close(module(tokens), module.output(last[0]))


def test_the_mean_is_over_the_tokens_states():
    module = made("gru, mean")
    (tokens,) = texts(4)
    states = module.recurrent(module.embedding(tokens[None, :4]))[0][0]
    torch.testing.assert_close(module(tokens[None])[0], module.output(states.mean(0)))


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_a_filter_gives_its_largest_answer_to_a_window_of_the_text(length):
    torch.manual_seed(0)
    module = text_cnn(vocabulary=VOCABULARY, num_classes=2, width=3, windows=(1, 3), filters=4)
    tokens = texts(length)
    vectors = torch.cat([module.embedding(tokens[0, :length]), torch.zeros(2, 3)])
    features = []
    for convolution in module.convolutions:
        (size,) = convolution.kernel_size
        answers = [
            relu((convolution.weight * vectors[at : at + size].T).sum((1, 2)) + convolution.bias)
            for at in range(length)
        ]
        features.append(torch.stack(answers).amax(0))
    torch.testing.assert_close(module(tokens)[0], module.output(torch.cat(features)))

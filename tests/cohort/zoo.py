"""Small models, each around a layer that stands on stacked parameters, and one of all of them."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fedmodel.models.tabular import mlp
from fedmodel.models.text import rnn, text_bag, text_cnn

CLIENTS, SLOTS, VOCABULARY, TIMES, WIDTH = 4, 4, 9, 5, 6


class Reads(nn.Module):
    """Tokens to vectors, through a layer, to logits. `how` calls the layer."""

    def __init__(self, layer, how=None, *, out=WIDTH, positions="", batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.layer, self.how, self.batch_first = layer, how, batch_first
        self.output = nn.Linear(out, 3)
        self.positions = positions
        if positions == "parameter":
            self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
            self.place = nn.Parameter(torch.randn(1, TIMES + 1, WIDTH))
        elif positions:
            self.place = nn.Embedding(TIMES, WIDTH)

    def forward(self, tokens):
        x = self.embedding(tokens)
        if self.positions == "one row":
            x = x + self.place(torch.arange(TIMES)[None])
        elif self.positions == "no row":
            x = x + self.place(torch.arange(TIMES))
        elif self.positions == "parameter":
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.layer(x) if self.how is None else self.how(self.layer, x, tokens)
        x = x if self.batch_first else x.transpose(0, 1)
        return self.output(x.mean(1))


def recurrent(layer, x, tokens):
    """Outputs and last states both matter."""
    y, last = layer(x)
    states = last if isinstance(last, tuple) else (last,)
    for state in states:
        y = y + state.sum(0).repeat(1, y.shape[-1] // state.shape[-1])[:, None]
    return y


def time_first(layer, x, tokens):
    y, last = layer(x)
    return y + (last if isinstance(last, torch.Tensor) else last[0]).sum(0)


def from_a_state(layer, x, tokens):
    start = x.mean(1)[None].repeat(layer.num_layers, 1, 1)
    return layer(x, start)[0]


def packed(layer, x, tokens):
    lengths = (tokens != 0).sum(1).clamp(min=1)
    sequences = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, last = layer(sequences)
    padded, _ = pad_packed_sequence(y, batch_first=True, total_length=TIMES)
    return padded + last[-1][:, None].repeat(1, 1, padded.shape[-1] // last.shape[-1])


def attend(**options):
    def how(layer, x, tokens):
        rows = tokens.shape[0]
        padding = tokens == 0
        padding[:, 0] = False
        causal = torch.ones(TIMES, TIMES, dtype=torch.bool).triu(1)
        arguments = {
            "key_padding_mask": padding if options.get("padding") else None,
            "need_weights": options.get("weights", False),
            "average_attn_weights": options.get("average", True),
        }
        if options.get("causal"):
            arguments |= {"attn_mask": causal, "is_causal": options["causal"] == "hint"}
        if options.get("each"):  # a mask for each record and head, of numbers
            scores = tokens[:, None, :, None] - tokens[:, None, None, :] * 0.5
            arguments["attn_mask"] = scores.repeat(1, 2, 1, 1).view(2 * rows, TIMES, TIMES).to(x)
        other = x * 0.7 if options.get("cross") else x
        value = x.flip(1) if options.get("value") else other
        y, weights = layer(x, other, value, **arguments)
        if weights is not None:
            spread = weights.square().flatten(1).sum(1)
            y = y + (spread[:, None, None] if layer.batch_first else spread[:, None])
        return y

    return how


def masked_encoder(layer, x, tokens):
    padding = tokens == 0
    padding[:, 0] = False
    return layer(x, src_key_padding_mask=padding)


def encoder(**options):
    options = {"dropout": 0.0, "batch_first": True, **options}
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 7, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def decoder(layer, x, tokens):
    return layer(x, x.flip(1), tgt_key_padding_mask=None)


class Tied(nn.Module):
    """One weight that is a table and a matrix, and used in each way."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.scores = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.scores.weight = self.embedding.weight
        self.output = nn.Linear(VOCABULARY, 3)

    def forward(self, tokens):
        return self.output(self.scores(self.embedding(tokens).tanh()).mean(1))


class Again(nn.Module):
    """A layer that is called twice, with other shapes."""

    def __init__(self, layer, shape):
        super().__init__()
        self.layer, self.shape, self.output = layer, shape, nn.LazyLinear(3)

    def forward(self, x):
        once = torch.tanh(self.layer(x.unflatten(1, self.shape)))
        return self.output((self.layer(once) + self.layer(once.flip(-1))[..., :1]).flatten(1))


class Patches(nn.Module):
    """A record is split into patches, which a layer meets as if they were records."""

    def __init__(self, layer, shape):
        super().__init__()
        self.layer, self.shape, self.output = layer, shape, nn.LazyLinear(3)

    def forward(self, x):
        patches = x.unflatten(1, (-1, *self.shape)).flatten(0, 1)
        y = self.layer(patches)
        y = y[0] if isinstance(y, tuple) else y
        return self.output(y.reshape(len(x), -1).tanh())


class AttentionOver(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


def chain(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def images(*layers):
    return chain(nn.Unflatten(1, (2, 6, 6)), *layers)


def sequences(*layers):
    return chain(nn.Unflatten(1, (2, 36)), *layers)


def partly_frozen():
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 3))
    module[0].bias.requires_grad_(False)
    module[2].weight.requires_grad_(False)
    module[3].weight.requires_grad_(False)
    return module


def with_frozen_layers():
    module = images(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 2))
    for layer in (module[1], module[2]):
        layer.requires_grad_(False)
    return module


def everything():
    """All the layers that stand on stacked parameters, in one model."""

    class Everything(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
            self.place = nn.Embedding(TIMES, WIDTH)
            self.encoder = encoder()
            self.cross = nn.MultiheadAttention(WIDTH, 3)
            self.norm = nn.RMSNorm(WIDTH)
            self.dropout = nn.Dropout(0.3)
            self.forward_and_back = nn.GRU(WIDTH, 3, batch_first=True, bidirectional=True)
            self.memory = nn.LSTM(WIDTH, WIDTH)
            self.simple = nn.RNN(WIDTH, WIDTH, batch_first=True)
            self.lines = nn.Conv1d(WIDTH, 4, 3, padding=1)
            self.image = nn.Conv2d(1, 4, 3, padding="same")
            self.groups = nn.GroupNorm(2, 4)
            self.volume = nn.Conv3d(1, 2, 2)
            self.channels = nn.InstanceNorm3d(2, affine=True)
            self.output = nn.Linear(12, 3)
            self.again = nn.Linear(WIDTH, WIDTH)
            self.again.weight = self.encoder.layers[0].self_attn.out_proj.weight

        def forward(self, tokens):
            padding = tokens == 0
            padding[:, 0] = False
            x = self.embedding(tokens) + self.place(torch.arange(TIMES))
            x = self.dropout(self.encoder(x, src_key_padding_mask=padding))
            turned = x.transpose(0, 1)
            crossed, _ = self.cross(turned, turned * 0.5, turned * 0.5)
            x = self.again(self.norm(x + crossed.transpose(0, 1)))
            x = x + self.forward_and_back(x)[0] + self.simple(x)[0]
            x = x + self.memory(x.transpose(0, 1))[0].transpose(0, 1)
            lines = self.lines(x.transpose(1, 2)).mean(2)
            image = self.groups(self.image(x[:, None])).mean((2, 3))
            volume = self.channels(self.volume(x[:, None, :, :, None].expand(-1, -1, -1, -1, 2)))
            volume = volume.square().flatten(2)[:, :, :2].flatten(1)
            return self.output(torch.cat([lines, image, volume], 1))

    return Everything()


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 7}
    without = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=2,
        max_position_embeddings=TIMES + 1,
        num_labels=3,
        **sizes,
        **without,
    )

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = BertForSequenceClassification(config)

        def forward(self, tokens):
            mask = (tokens != 0).long()
            mask[:, 0] = 1
            return self.bert(input_ids=tokens, attention_mask=mask)

    return Masked()


def heads(**options):
    return nn.MultiheadAttention(WIDTH, 2, **{"batch_first": True, **options})


def reads(make, *arguments, **options):
    return lambda: Reads(make(), *arguments, **options)


def recurrent_text(**options):
    return rnn(vocabulary=VOCABULARY, num_classes=3, width=4, hidden=3, **options)


def normalised(**options):
    return mlp(num_features=6, num_classes=3, hidden=(12, 8), **options)


TOKENS, FLOATS, IMAGES = None, 6, 72
ZOO = {
    "linear": (lambda: nn.Linear(6, 3), FLOATS),
    "linear without bias": (lambda: nn.Linear(6, 3, bias=False), FLOATS),
    "one output": (lambda: nn.Linear(6, 1), FLOATS),
    "relu in place": (lambda: chain(nn.Linear(6, 5), nn.ReLU(inplace=True)), FLOATS),
    "dropout": (lambda: chain(nn.Linear(6, 9), nn.Dropout(0.4)), FLOATS),
    "dropout of channels": (lambda: images(nn.Conv2d(2, 4, 3), nn.Dropout2d(0.4)), IMAGES),
    "layer norm": (lambda: chain(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh()), FLOATS),
    "layer norm of two dimensions": (
        lambda: images(nn.Conv2d(2, 2, 3), nn.LayerNorm((4, 4))),
        IMAGES,
    ),
    "layer norm without bias": (lambda: chain(nn.LayerNorm(6, bias=False)), FLOATS),
    "rms norm": (lambda: chain(nn.Linear(6, 5), nn.RMSNorm(5)), FLOATS),
    "group norm": (lambda: images(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), IMAGES),
    "group norm of vectors": (lambda: chain(nn.Linear(6, 8), nn.GroupNorm(4, 8)), FLOATS),
    "instance norm": (lambda: images(nn.InstanceNorm2d(2, affine=True), nn.Tanh()), IMAGES),
    "conv1d": (lambda: sequences(nn.Conv1d(2, 3, 5, stride=3, dilation=2)), IMAGES),
    "conv1d circular": (
        lambda: sequences(nn.Conv1d(2, 4, 3, padding=2, padding_mode="circular", groups=2)),
        IMAGES,
    ),
    "conv1d on its own": (lambda: sequences(nn.Conv1d(2, 2, 36)), IMAGES),
    "conv2d": (
        lambda: images(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)
        ),
        IMAGES,
    ),
    "conv2d with all options": (
        lambda: images(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=2, groups=2)
        ),
        IMAGES,
    ),
    "conv2d of one channel": (
        lambda: chain(nn.Unflatten(1, (1, 8, 9)), nn.Conv2d(1, 3, 5, bias=False), nn.ReLU()),
        IMAGES,
    ),
    "conv2d of every channel by itself": (
        lambda: images(nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 3, groups=4)),
        IMAGES,
    ),
    "conv2d, same size": (lambda: images(nn.Conv2d(2, 2, 2, padding="same")), IMAGES),
    "conv3d": (
        lambda: chain(nn.Unflatten(1, (2, 3, 4, 3)), nn.Conv3d(2, 4, 2, padding=1, groups=2)),
        IMAGES,
    ),
    "text bag": (lambda: text_bag(vocabulary=VOCABULARY, num_classes=3, width=4), TOKENS),
    "text cnn": (
        lambda: text_cnn(vocabulary=VOCABULARY, num_classes=3, width=4, windows=(2, 6), filters=3),
        TOKENS,
    ),
    "rnn read at the last token": (lambda: recurrent_text(cell="gru", read="last"), TOKENS),
    "rnn read at all tokens": (lambda: recurrent_text(cell="lstm", read="mean"), TOKENS),
    "mlp, layer norm": (lambda: normalised(normalise="layer"), FLOATS),
    "mlp, group norm": (lambda: normalised(normalise="group", groups=2), FLOATS),
    "tied table and matrix": (Tied, TOKENS),
    "linear twice": (lambda: Again(nn.Linear(3, 3), (2, 3)), FLOATS),
    "conv2d twice": (lambda: Again(nn.Conv2d(2, 2, 3, padding=1), (2, 6, 6)), IMAGES),
    "norm twice": (lambda: Again(nn.LayerNorm(3), (2, 3)), FLOATS),
    "partly frozen": (partly_frozen, FLOATS),
    "frozen layers": (with_frozen_layers, IMAGES),
    "patches, linear": (lambda: Patches(nn.Linear(3, 2), (3,)), FLOATS),
    "patches, conv": (lambda: Patches(nn.Conv2d(2, 4, 3, groups=2), (2, 3, 3)), IMAGES),
    "patches, norm": (lambda: Patches(nn.LayerNorm(3), (3,)), FLOATS),
    "patches, group norm": (lambda: Patches(nn.GroupNorm(2, 4), (4, 3)), IMAGES),
    "patches, gru": (lambda: Patches(nn.GRU(3, 2, batch_first=True), (4, 3)), IMAGES),
    "patches, attention": (lambda: Patches(AttentionOver(4), (3, 4)), IMAGES),
    "positions of one row": (reads(nn.Identity, positions="one row"), TOKENS),
    "positions without rows": (reads(nn.Tanh, positions="no row"), TOKENS),
    "class token and positions": (reads(nn.Tanh, positions="parameter"), TOKENS),
    "linear over time": (reads(lambda: nn.Linear(WIDTH, WIDTH)), TOKENS),
    "wide linear over time": (reads(lambda: nn.Linear(WIDTH, 200), out=200), TOKENS),
    "linear, time first": (reads(lambda: nn.Linear(WIDTH, WIDTH), batch_first=False), TOKENS),
    "rnn": (reads(lambda: nn.RNN(WIDTH, 4, batch_first=True), recurrent, out=4), TOKENS),
    "rnn of relu": (
        reads(lambda: nn.RNN(WIDTH, 4, 2, "relu", batch_first=True), recurrent, out=4),
        TOKENS,
    ),
    "gru both ways": (
        reads(lambda: nn.GRU(WIDTH, 3, 2, batch_first=True, bidirectional=True), recurrent, out=6),
        TOKENS,
    ),
    "gru, time first": (
        reads(lambda: nn.GRU(WIDTH, 4, bias=False), time_first, out=4, batch_first=False),
        TOKENS,
    ),
    "gru from a state": (
        reads(lambda: nn.GRU(WIDTH, WIDTH, 2, batch_first=True), from_a_state),
        TOKENS,
    ),
    "gru of packed sequences": (
        reads(lambda: nn.GRU(WIDTH, 3, 2, batch_first=True, bidirectional=True), packed, out=6),
        TOKENS,
    ),
    "lstm": (reads(lambda: nn.LSTM(WIDTH, 4, batch_first=True), recurrent, out=4), TOKENS),
    "lstm both ways": (
        reads(lambda: nn.LSTM(WIDTH, 3, 2, batch_first=True, bidirectional=True), recurrent, out=6),
        TOKENS,
    ),
    "lstm, time first": (
        reads(lambda: nn.LSTM(WIDTH, 4, 2), time_first, out=4, batch_first=False),
        TOKENS,
    ),
    "attention": (reads(heads, attend()), TOKENS),
    "attention, padding": (reads(heads, attend(padding=True)), TOKENS),
    "attention, causal": (reads(heads, attend(causal="mask")), TOKENS),
    "attention, causal by hint": (reads(heads, attend(causal="hint")), TOKENS),
    "attention, both masks": (reads(heads, attend(padding=True, causal="hint")), TOKENS),
    "attention, a mask each": (reads(heads, attend(each=True)), TOKENS),
    "attention, weights": (
        reads(heads, attend(padding=True, weights=True, average=False)),
        TOKENS,
    ),
    "attention across": (reads(heads, attend(cross=True, padding=True, weights=True)), TOKENS),
    "attention of three": (reads(heads, attend(cross=True, value=True)), TOKENS),
    "attention without bias": (reads(lambda: heads(bias=False), attend()), TOKENS),
    "attention, time first": (
        reads(
            lambda: heads(batch_first=False),
            attend(padding=True, causal="mask"),
            batch_first=False,
        ),
        TOKENS,
    ),
    "encoder": (reads(encoder, masked_encoder), TOKENS),
    "encoder, norm first": (
        reads(lambda: encoder(norm_first=True, activation="gelu"), masked_encoder),
        TOKENS,
    ),
    "encoder, time first": (
        reads(lambda: encoder(batch_first=False), masked_encoder, batch_first=False),
        TOKENS,
    ),
    "decoder": (
        reads(
            lambda: nn.TransformerDecoderLayer(WIDTH, 2, 7, dropout=0.0, batch_first=True), decoder
        ),
        TOKENS,
    ),
    "everything": (everything, TOKENS),
    "bert": (bert, TOKENS),
}
# torch.func cannot map over fused recurrences.
UNMAPPABLE = ("rnn", "gru", "lstm", "patches, gru", "everything")

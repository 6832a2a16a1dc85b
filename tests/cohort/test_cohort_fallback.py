"""What stacked layers cannot compute takes the slower way, says so once, and is right; nothing is silent."""

import gc
import pickle
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear
from torch.nn.utils.parametrizations import weight_norm

from fedmodel.cohort import Batch, FlatModel, gradients
from fedmodel.cohort.conversion import convert
from fedmodel.cohort.leaves import Leaf, NotStacked, Step
from fedmodel.cohort.leaves.attention import Attention
from fedmodel.cohort.leaves.linear import Linear
from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.uses import Outer
from fedmodel.cohort.stacked import StackedModel
from fedmodel.cohort.verification import verify
from fedmodel.errors import FedmodelError

CLIENTS, SLOTS, TIMES = 3, 4, 5


class Net(nn.Module):
    """Tokens in, what `how` makes of them out; with layers to play with."""

    def __init__(self, how, **layers):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.output = nn.Linear(4, 3)
        self.how = how
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, tokens):
        return self.how(self, self.embedding(tokens), tokens)


def by_mean(net, x, tokens):
    return net.output(x.mean(1))


def problem(module, dtype=torch.float64):
    model = FlatModel(module.to(dtype))
    local = model.initial.to(dtype) + 0.3 * torch.randn(CLIENTS, model.size, dtype=dtype)
    batch = Batch(
        torch.randint(0, 9, (CLIENTS, SLOTS, TIMES)),
        torch.randint(0, 3, (CLIENTS, SLOTS)),
        torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]]) == 1,
        torch.arange(CLIENTS * SLOTS).view(CLIENTS, SLOTS),
        torch.ones(CLIENTS, 1),
    )
    return model, local, batch


def one_by_one(model, local, batch, clip):
    total = torch.zeros_like(local)
    for k, slot in batch.present.nonzero().tolist():
        parameters = {n: p.clone().requires_grad_() for n, p in model.split(local[k]).items()}
        loss = cross_entropy(
            model.logits(parameters, batch.x[k, slot][None]), batch.y[k, slot][None]
        )
        grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        gradient = torch.cat([g.flatten() for g in grads])
        total[k] += gradient * min(1.0, clip / float(gradient.norm()))
    return total


def clipped(model, local, batch, clip=0.5):
    return gradients.clipped_gradient_sum(SimpleNamespace(model=model), local, batch, clip=clip)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.factor


def read_the_weight(net, x, tokens):
    return linear(x.mean(1), net.output.weight * 2)


def keep_an_alias():
    net = Net(lambda net, x, tokens: linear(x.mean(1), net.aliases[0]) + by_mean(net, x, tokens))
    net.aliases = [net.output.weight]
    return net


def with_a_hook():
    net = Net(by_mean)
    net.output.register_forward_hook(lambda layer, inputs, output: output * 2)
    return net


def ask_for_the_kind(net, x, tokens):
    return by_mean(net, x, tokens) * (1 if isinstance(net.output, nn.Linear) else 2)


def centred(net, x, tokens):
    return by_mean(net, x - x.mean(0), tokens)


def attend(net, x, tokens):
    other = x[..., :2] if net.attention.kdim == 2 else x
    return by_mean(net, net.attention(x, other, other, need_weights=False)[0], tokens)


def attention(**options):
    layer = nn.MultiheadAttention(4, 2, batch_first=True, **options)
    return lambda: Net(attend, attention=layer)


SLOWER = {
    "a layer of unknown kind": (
        lambda: Net(lambda n, x, t: by_mean(n, n.scale(x), t), scale=Scale()),
        "Scale at 'scale'",
    ),
    "a parameter of its own": (
        lambda: Net(lambda n, x, t: by_mean(n, x * n.own, t), own=nn.Parameter(torch.ones(4))),
        "Net at 'the top'.*own",
    ),
    "a weight that is read": (lambda: Net(read_the_weight), "Linear is asked for its weight"),
    "a weight under another name": (keep_an_alias, "outside of its layer"),
    "a hook": (with_a_hook, "Linear at 'output'"),
    "a parametrised weight": (
        lambda: Net(lambda n, x, t: by_mean(n, n.inner(x), t), inner=weight_norm(nn.Linear(4, 4))),
        "inner",
    ),
    "a layer that is asked what it is": (lambda: Net(ask_for_the_kind), "differs"),
    "keys of another width": (attention(kdim=2, vdim=2), "MultiheadAttention at 'attention'.*kdim"),
    "a key more": (attention(add_bias_kv=True), "add_bias_kv"),
    "a key of zeros": (attention(add_zero_attn=True), "add_zero_attn"),
}


@pytest.mark.parametrize("name", SLOWER)
def test_the_slower_way_is_right_and_says_once_why(name):
    make, reason = SLOWER[name]
    model, local, batch = problem(make())
    with pytest.warns(UserWarning, match=reason) as told:
        found = clipped(model, local, batch)
    assert sum("torch.func" in str(warning.message) for warning in told) == 1
    torch.testing.assert_close(found, one_by_one(model, local, batch, 0.5))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*torch.func")
        torch.testing.assert_close(clipped(model, local, batch), found)
        gradients.loss_sum_gradient(model, local, batch)


def test_a_model_that_mixes_records_is_not_taken_for_one_that_does_not():
    model, local, batch = problem(Net(centred))
    with pytest.warns(UserWarning, match="differs from one backward pass a record"):
        total, _ = gradients.loss_sum_gradient(model, local, batch)
    alone = [
        gradients.loss_sum_gradient(
            model, local[k : k + 1], batch.part(slice(k, k + 1), slice(None))
        )
        for k in range(CLIENTS)
    ]
    torch.testing.assert_close(total, torch.cat([gradient for gradient, _ in alone]))


def test_a_model_that_changes_its_mind_later():
    turned = Net(lambda net, x, tokens: net.output(x.mean(1)))
    model, local, batch = problem(turned)
    before = clipped(model, local, batch)
    kernel = gradients._READY[model][local.dtype, local.device].free[0]
    kernel.converted.module.how = lambda net, x, tokens: net.output(x.transpose(0, 1)).mean(0)
    with pytest.warns(UserWarning, match="another shape"):
        after = clipped(model, local, batch)
    torch.testing.assert_close(after, before)


def test_lengths_may_depend_on_the_records():
    def trimmed(net, x, tokens):
        longest = int((tokens != 0).sum(1).max())
        present = (tokens != 0).to(x)[:, :longest, None]
        return net.output((net.inner(x[:, :longest]) * present).sum(1))

    model, local, batch = problem(Net(trimmed, inner=nn.Linear(4, 4)))
    batch.x.copy_(batch.x.sort(dim=2, descending=True).values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clipped(model, local, batch)
    torch.testing.assert_close(found, one_by_one(model, local, batch, 0.5))


def test_dropout_inside_a_hugging_face_attention_is_refused():
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
    config = BertConfig(
        vocab_size=9, num_hidden_layers=1, attention_probs_dropout_prob=0.1, num_labels=3, **sizes
    )
    model, local, batch = problem(BertForSequenceClassification(config))
    with (
        pytest.raises(FedmodelError, match="attention_probs_dropout_prob"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        clipped(model, local, batch)


# Faults are put into the layers: each must be found before the layers are trusted.


def padded(net, x, tokens):
    padding = tokens == 0
    padding[:, 0] = False
    return by_mean(net, net.attention(x, x, x, key_padding_mask=padding)[0], tokens)


def tied():
    net = Net(lambda net, x, tokens: net.output(net.second(net.first(x).tanh()).mean(1)))
    net.first, net.second = nn.Linear(4, 4), nn.Linear(4, 4)
    net.second.weight = net.first.weight
    return net


def only_the_last(self, name, use, factor=None):
    use.total(self.rows, self.totals[name], factor)
    self._begun.add(name)


def untied(uses):
    return uses[-1]


def for_all_clients_the_first(self, name):
    own = self.step.parameters[self.names[name]]
    return own[:1].expand_as(own)


def without_bias(self, g, x, *, wanted):
    self.note("weight", Outer(self.rows.over_time(g), self.rows.over_time(x)))
    return self.rows.matmul(g, self.parameter("weight")) if wanted else None


FAULTS = {
    "a mask is dropped": (
        lambda: Net(padded, attention=nn.MultiheadAttention(4, 2, batch_first=True)),
        (Attention, "mask", lambda self, *arguments: None),
    ),
    "tied weights come apart": (tied, (Step, "_add", only_the_last)),
    "tied weights come apart in the norm": (tied, ("fedmodel.cohort.leaves.uses", "joined", untied)),
    "a client passes for another": (lambda: Net(by_mean), (Leaf, "parameter", for_all_clients_the_first)),
    "a bias is forgotten": (lambda: Net(by_mean), (Linear, "pull", without_bias)),
    "a norm is too small": (
        lambda: Net(by_mean),
        (Outer, "squared_norm", lambda self: self.g.new_zeros(len(self.g))),
    ),
    "a row is counted for its neighbour": (
        lambda: Net(by_mean),
        (Rows, "products", lambda self, a, b, out: torch.bmm(
            a.reshape(self.num_clients, -1, a.shape[-1]).mT,
            b.reshape(self.num_clients, -1, b.shape[-1]).flip(1),
            out=out,
        )),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_before_the_layers_are_trusted(fault, monkeypatch):
    make, (place, name, wrong) = FAULTS[fault]
    model, local, batch = problem(make())
    batch.x[:, :2, 2:] = 0
    verify(StackedModel(model, batch.x.flatten(0, 1), local), model, local, batch)
    if isinstance(place, str):
        monkeypatch.setattr(f"{place}.{name}", wrong)
    else:
        monkeypatch.setattr(place, name, wrong)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    with pytest.raises(NotStacked, match="differs from one backward pass"):
        verify(kernel, model, local, batch)
    with pytest.warns(UserWarning, match="differs"):
        found = clipped(model, local, batch)
    torch.testing.assert_close(found, one_by_one(model, local, batch, 0.5))


def test_tied_layers_are_one_leaf_and_one_parameter():
    model, _, _ = problem(tied())
    twice = Net(lambda net, x, tokens: by_mean(net, net.inner(net.same(x)), tokens))
    twice.inner = twice.same = nn.Linear(4, 4)
    one, _, _ = problem(twice)
    like = torch.zeros((), dtype=torch.float64)
    converted = convert(one, Step(like), like)
    assert converted.module.inner is converted.module.same
    assert len(converted.leaves) == 3
    names = [leaf.names["weight"] for leaf in convert(model, Step(like), like).leaves]
    assert names.count("first.weight") == 2


def test_a_model_is_made_ready_once_and_travels_without(monkeypatch):
    model, local, batch = problem(Net(by_mean))
    before = pickle.dumps(model)  # the network's function is in this module
    made = []
    original = StackedModel.__init__
    monkeypatch.setattr(
        StackedModel, "__init__", lambda self, *a: made.append(1) or original(self, *a)
    )
    first = clipped(model, local, batch)
    for _ in range(3):
        assert torch.equal(clipped(model, local, batch), first)
    assert len(made) == 1
    assert len(pickle.dumps(model)) == len(before)
    elsewhere = pickle.loads(pickle.dumps(model))
    assert torch.equal(clipped(elsewhere, local, batch), first)
    assert len(made) == 2


def test_what_was_made_ready_goes_with_the_model():
    model, local, batch = problem(Net(by_mean))
    clipped(model, local, batch)
    kernel = weakref.ref(gradients._READY[model][local.dtype, local.device].free[0])
    del model
    gc.collect()
    assert kernel() is None


def test_two_threads_may_use_one_model():
    model, local, batch = problem(Net(by_mean))
    right = clipped(model, local, batch)
    alone = batch.part(slice(0, 1), slice(None))
    with ThreadPoolExecutor(2) as pool:
        some = [pool.submit(clipped, model, local, batch) for _ in range(20)]
        some += [pool.submit(clipped, model, local[:1], alone) for _ in range(20)]
        for number, future in enumerate(some):
            expected = right if number < 20 else right[:1]
            torch.testing.assert_close(future.result(), expected)

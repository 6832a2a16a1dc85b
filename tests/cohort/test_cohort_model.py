import pytest
import torch
from torch import nn

from fedmodel.cohort import FlatModel
from fedmodel.cohort.dropout import KeyedDropout, dropout_keys
from fedmodel.errors import FedmodelError


def test_split_and_join_are_inverse():
    model = FlatModel(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert model.size == 3 * 4 + 4 + 4 * 2 + 2
    assert torch.equal(model.join(model.split(model.initial)), model.initial)


def test_logits_equal_the_module_itself():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model = FlatModel(module)
    x = torch.randn(5, 3)
    torch.testing.assert_close(model.predict(model.initial, x), module(x).detach())


def test_one_output_is_the_logit_of_class_one():
    model = FlatModel(nn.Linear(3, 1))
    x = torch.randn(5, 3)
    probability = model.predict(model.initial, x).softmax(1)[:, 1]
    torch.testing.assert_close(probability, model.module(x).sigmoid()[:, 0].detach())


def test_frozen_parameters_stay_in_the_module():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    model = FlatModel(module)
    assert model.size == 10
    changed = model.state_dict(model.initial + 1)
    assert torch.equal(changed["0.weight"], module[0].weight)
    assert torch.equal(changed["1.bias"], module[1].bias.detach() + 1)


def test_tied_weights_are_one_parameter_and_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    model = FlatModel(Tied())
    assert model.size == 9
    vector = torch.randn(9)
    weight = vector.view(3, 3)
    x = torch.randn(2, 3)
    torch.testing.assert_close(model.predict(vector, x), x @ weight.T @ weight.T)
    state = model.state_dict(vector)
    assert torch.equal(state["first.weight"], state["second.weight"])


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "GroupNorm"),
        (nn.ReLU(), "requires_grad"),
        (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), "dropout"),
    ],
)
def test_modules_that_cannot_be_trained_here_are_refused_with_the_fix(module, word):
    with pytest.raises(FedmodelError) as error:
        FlatModel(module)
    assert word in str(error.value)


def test_dropout_masks_belong_to_records():
    model = FlatModel(nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.Linear(64, 2)))
    layer = model.module[1]
    assert isinstance(layer, KeyedDropout)
    keys, x = torch.tensor([5, 6, 7]), torch.ones(3, 64)
    with dropout_keys(model.module, keys):
        together = layer(x)
    with dropout_keys(model.module, keys[1:2]):
        alone = layer(x[1:2])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])
    assert set(together.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(layer(x), x)  # without keys, at evaluation


def test_dropout_keeps_the_mean():
    layer = KeyedDropout(0.3, layer=1)
    layer.keys = torch.arange(2000)
    kept = layer(torch.ones(2000, 50))
    assert abs(float(kept.mean()) - 1.0) < 0.01
    assert abs(float((kept == 0).double().mean()) - 0.3) < 0.01


def test_dropout_of_channels_drops_whole_channels():
    model = FlatModel(
        nn.Sequential(nn.Conv2d(1, 8, 1), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(32, 2))
    )
    layer = model.module[1]
    with dropout_keys(model.module, torch.arange(4)):
        out = layer(torch.ones(4, 8, 2, 2))
    per_channel = out.flatten(2)
    assert ((per_channel == per_channel[..., :1]).all(-1)).all()
    assert 0 < float((out == 0).double().mean()) < 1

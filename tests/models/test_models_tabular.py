"""Models of tables: what a layer gives out is normalised record by record."""

import pytest
import torch

from fedmodel.errors import FedmodelError
from fedmodel.models.tabular import mlp


@pytest.mark.parametrize(("normalise", "groups"), [("layer", 1), ("group", 3)])
def test_each_record_is_brought_to_mean_0_and_variance_1(normalise, groups):
    torch.manual_seed(0)
    module = mlp(num_features=4, num_classes=2, hidden=(12, 6), normalise=normalise, groups=groups)
    x = torch.randn(5, 4)
    parts = module[:2](x).view(5, groups, -1)
    torch.testing.assert_close(parts.mean(2), torch.zeros(5, groups), atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.var(2, correction=0), torch.ones(5, groups), atol=1e-2, rtol=0)
    torch.testing.assert_close(module(x[2:3]), module(x)[2:3])
    assert [type(layer).__name__ for layer in module[3:6]] == [
        "Linear",
        {"layer": "LayerNorm", "group": "GroupNorm"}[normalise],
        "ReLU",
    ]


@pytest.mark.parametrize(("size", "groups", "fix"), [(30, 8, "1, 2, 3, 5, 6"), (8, 8, "1, 2, 4")])
def test_groups_that_do_not_fit_are_refused(size, groups, fix):
    with pytest.raises(FedmodelError, match=f"{groups} groups") as refused:
        mlp(num_features=4, num_classes=2, hidden=[size], normalise="group", groups=groups)
    assert fix in refused.value.fix

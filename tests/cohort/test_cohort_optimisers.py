import pytest
import torch

from fedmodel.cohort.optimisers import LocalOptimiser


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.5, "weight_decay": 0.1}),
        ("adam", {}),
        ("adam", {"weight_decay": 0.1}),
    ],
)
def test_each_row_moves_as_torch_moves_it(name, options):
    start = torch.randn(3, 6, dtype=torch.float64)
    ours, active = start.clone(), torch.ones(3, 1, dtype=torch.float64)
    optimiser = LocalOptimiser(name, 0.05, **options)
    theirs = [row.clone().requires_grad_() for row in start]
    kind = torch.optim.SGD if name == "sgd" else torch.optim.Adam
    references = [kind([row], lr=0.05, **options) for row in theirs]
    for _ in range(7):
        gradient = torch.randn(3, 6, dtype=torch.float64)
        for row, reference, own in zip(theirs, references, gradient):
            row.grad = own.clone()
            reference.step()
        optimiser.step(ours, gradient.clone(), active=active)
    torch.testing.assert_close(ours, torch.stack([row.detach() for row in theirs]))


def test_a_client_that_is_done_stays_where_it_is():
    local = torch.zeros(2, 3)
    LocalOptimiser("adam", 0.1).step(local, torch.ones(2, 3), active=torch.tensor([[1.0], [0.0]]))
    assert (local[0] != 0).all()
    assert (local[1] == 0).all()

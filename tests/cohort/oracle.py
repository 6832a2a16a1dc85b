"""What the kernels are held against: one record, one backward pass."""

import torch
from torch.nn.functional import cross_entropy

from fedmodel.cohort.dropout import dropout_keys


def record_gradient(model, vector, batch, k, slot):
    """One backward pass through the ordinary module, with no other record beside."""
    parameters = {n: p.clone().requires_grad_() for n, p in model.split(vector).items()}
    with dropout_keys(model.module, batch.keys[k, slot][None]):
        logits = model.logits(parameters, batch.x[k, slot][None])
    loss = cross_entropy(logits, batch.y[k, slot][None])
    grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return torch.cat([g.flatten() for g in grads]), loss.detach()

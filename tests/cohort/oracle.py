"""What the kernels are held against: one record, one backward pass."""

import torch
from torch.nn.functional import cross_entropy

from fedmodel.cohort.dropout import dropout_keys


def held_against_single_records(kernel, model, local, batch, *, share, close):
    """A kernel's sums of gradients, of losses, and of gradients clipped at a `share` of the largest."""
    records = {
        (k, slot): record_gradient(model, local[k], batch, k, slot)
        for k, slot in batch.present.nonzero().tolist()
    }
    sums, losses = torch.zeros_like(local), local.new_zeros(len(local))
    clipped = torch.zeros_like(local)
    clip = share * max([float(g.norm()) for g, _ in records.values()], default=1.0) + 1e-3
    for (k, _), (gradient, loss) in records.items():
        sums[k] += gradient
        losses[k] += loss
        clipped[k] += gradient * min(1.0, clip / max(float(gradient.norm()), 1e-12))
    found, loss = kernel.loss_sum_gradient(local, batch)
    torch.testing.assert_close(found, sums, **close)
    torch.testing.assert_close(loss, losses, **close)
    found = kernel.clipped_gradient_sum(local, batch, clip=clip)
    torch.testing.assert_close(found, clipped, **close)


def record_gradient(model, vector, batch, k, slot):
    """One backward pass through the ordinary module, with no other record beside."""
    parameters = {n: p.clone().requires_grad_() for n, p in model.split(vector).items()}
    with dropout_keys(model.module, batch.keys[k, slot][None]):
        logits = model.logits(parameters, batch.x[k, slot][None])
    loss = cross_entropy(logits, batch.y[k, slot][None])
    grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return torch.cat([g.flatten() for g in grads]), loss.detach()

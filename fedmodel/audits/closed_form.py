"""What a gradient gives away without any search: records behind a linear layer, and labels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fedmodel.cohort import FlatModel

__all__ = ["behind_first_layer", "first_layer", "labels_of"]


def first_layer(model: FlatModel) -> tuple[str, str] | None:
    """Weight and bias of a linear layer that reads the record itself; None where there is none.

    The module has to be that layer, or an `nn.Sequential` that begins with it.
    """
    layer, prefix = model.module, ""
    while isinstance(layer, nn.Sequential) and len(layer):
        name, layer = next(iter(layer.named_children()))
        prefix += f"{name}."
    names = f"{prefix}weight", f"{prefix}bias"
    fits = type(layer) is nn.Linear and set(names) <= set(model.names)
    return names if fits else None


def behind_first_layer(
    model: FlatModel, gradient: Float[Tensor, "V d"], *, batch_size: int
) -> Float[Tensor, "V B p"] | None:
    """Records from the gradients of a first linear layer with bias; None where there is no such layer.

    For one record, row i of the weight's gradient is the record times the bias' gradient i, so that
    the record is their quotient: exactly, whatever comes behind (Phong et al., IEEE TIFS 2018;
    Geiping et al., NeurIPS 2020, Proposition 3.1). Noise makes it an estimate: the least squares
    one over all rows. In a batch a row is a mixture of the records that excite its unit; the rows
    with the largest bias' gradients give `batch_size` guesses (a record that excites a unit alone is
    exact). Where there are fewer rows the guesses repeat.
    """
    names = first_layer(model)
    if names is None:
        return None
    parts = model.split(gradient)
    weight, bias = parts[names[0]], parts[names[1]]  # [V, H, p], [V, H]
    if batch_size == 1:
        power = bias.square().sum(1, keepdim=True).clamp(min=1e-30)
        return torch.einsum("vhp,vh->vp", weight, bias)[:, None] / power[..., None]
    order = bias.abs().argsort(dim=1, descending=True)
    order = order[:, torch.arange(batch_size) % bias.shape[1]]
    chosen = bias.gather(1, order)
    tiny = torch.where(chosen < 0, -1e-12, 1e-12)
    rows = weight.take_along_dim(order[..., None], dim=1)
    return rows / torch.where(chosen.abs() < 1e-12, tiny, chosen)[..., None]


def labels_of(
    model: FlatModel,
    start: Float[Tensor, " d"],
    gradient: Float[Tensor, "V d"],
    typical: Float[Tensor, "M p"],
    *,
    batch_size: int,
) -> Int[Tensor, "V B"] | None:
    """The labels of a batch in rising order, from the last layer's gradient; None where it has no bias.

    The gradient of class c's bias is the mean over records of P(c) less the share of label c. For
    one record only its own label's is negative (iDLG: Zhao et al., 2020). For more, the share is P(c)
    less the gradient, with P taken from `typical` records (LLG*: Wainakh et al., PoPETs 2022);
    labels are then given out one by one to the class that is owed most.
    """
    chances = model.predict(start, typical).softmax(1).mean(0)  # [C]
    last = model.split(gradient)[model.names[-1]]
    if last.dim() != 2 or last.shape[1] not in (1, len(chances)):
        return None
    if last.shape[1] == 1:  # a single output is the logit of class 1
        last = torch.cat([-last, last], dim=1)
    if batch_size == 1:
        return last.argmin(1, keepdim=True)
    owed = batch_size * (chances - last)
    labels = []
    for _ in range(batch_size):
        labels.append(owed.argmax(1))
        owed = owed.scatter_add(1, labels[-1][:, None], -torch.ones(len(owed), 1))
    return torch.stack(labels, dim=1).sort(dim=1).values

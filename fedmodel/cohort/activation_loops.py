"""Activations between the layers of a chain, in place, compiled."""

from __future__ import annotations

import numpy as np

from fedmodel.compiling import inlined

__all__ = ["NONE", "RELU", "SIGMOID", "TANH", "activate", "derive"]

NONE, RELU, TANH, SIGMOID = range(4)


@inlined
def activate(z, activation):
    """The activation of each number."""
    flat = z.reshape(z.size)
    if activation == RELU:
        for i in range(len(flat)):
            flat[i] = flat[i] if flat[i] > 0 else flat[i] * 0  # keeps NaN, as torch does
    elif activation == TANH:
        for i in range(len(flat)):
            flat[i] = np.tanh(flat[i])
    elif activation == SIGMOID:
        for i in range(len(flat)):
            flat[i] = 1 / (1 + np.exp(-flat[i]))


@inlined
def derive(g, a, activation):
    """Times the activation's derivative, from what came out of it."""
    g, a = g.reshape(g.size), a.reshape(a.size)
    if activation == RELU:
        for i in range(len(g)):
            g[i] = g[i] if a[i] > 0 else 0
    elif activation == TANH:
        for i in range(len(g)):
            g[i] *= 1 - a[i] * a[i]
    elif activation == SIGMOID:
        for i in range(len(g)):
            g[i] *= a[i] * (1 - a[i])

"""Recurrent layers, unrolled: matrices that multiply at every time, and a cell without parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.linear import Linear
from fedmodel.cohort.leaves.step import NotStacked, Step

__all__ = ["Recurrent"]

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM
Cell = Callable[[Tensor, Tensor, State], State]  # of the input's and the state's share


class Recurrent(Leaf):
    """RNN, GRU and LSTM of any number of layers, in one direction or both, of packed sequences too."""

    def __init__(self, layer: nn.RNNBase, step: Step, names: Mapping[str, str]) -> None:
        if layer.proj_size:
            raise NotStacked("it is an LSTM with projections")
        super().__init__(layer, step, names)
        self.own_row_dim = 0 if layer.batch_first else 1
        self.cell: Cell = CELLS[layer.mode]
        ways = ("", "_reverse") if layer.bidirectional else ("",)
        ends = [f"_l{number}{way}" for number in range(layer.num_layers) for way in ways]
        part = partial(Linear, layer, step, names)
        self.inputs = [part(weight=f"weight_ih{e}", bias=f"bias_ih{e}") for e in ends]
        self.hidden = [part(weight=f"weight_hh{e}", bias=f"bias_hh{e}", again=True) for e in ends]
        self.num_ways, self.num_states = len(ways), 2 if layer.mode == "LSTM" else 1

    def forward(self, x: Tensor | PackedSequence, start: Any = None) -> tuple[Any, Any]:
        if isinstance(x, PackedSequence):
            return self.packed(x, start)
        if x.dim() != 3:
            raise NotStacked("a recurrent layer meets one sequence alone")
        if self.shapes is not None:
            return self.observe(x.shape, x, start)
        y, last = self.through(self.enter(x), start)
        return self.leave(y), last

    def packed(self, x: PackedSequence, start: Any) -> tuple[PackedSequence, Any]:
        """The same for sequences of different lengths: a state stays as it is where one has ended."""
        if self.shapes is not None:
            number = int(x.batch_sizes[0])
            shape = (number, 1) if self.own_row_dim == 0 else (1, number)
            return self.observe(torch.Size(shape), x, start)
        padded, lengths = pad_packed_sequence(x, batch_first=True)
        if len(padded) % self.rows.number:
            raise NotStacked("a recurrent layer meets sequences that are not one a record")
        y, last = self.through(padded, start, lengths.to(padded.device))
        sorted_before = x.sorted_indices is None
        return pack_padded_sequence(
            y, lengths, batch_first=True, enforce_sorted=sorted_before
        ), last

    def through(
        self, x: Float[Tensor, "R T n"], start: Any, lengths: Int[Tensor, " R"] | None = None
    ) -> tuple[Float[Tensor, "R T m"], Any]:
        """What the last layer gives out at each time, and the last states of all."""
        x = self.lowered(x)
        starts, ends = self.starts(x, start), []
        for first in range(0, len(self.inputs), self.num_ways):
            outputs = []
            for number in range(first, first + self.num_ways):
                backwards = number > first
                output, end = self.run(number, x, starts[number], lengths, backwards=backwards)
                outputs.append(output)
                ends.append(end)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        last = tuple(torch.stack(states) for states in zip(*ends))
        return x, last if len(last) > 1 else last[0]

    def starts(self, x: Float[Tensor, "R T n"], start: Any) -> list[State]:
        """The first state of each layer and direction; zeros where none is given."""
        zeros = x.new_zeros(len(self.inputs), len(x), self.layer.hidden_size)
        given = (zeros,) * self.num_states if start is None else start
        states: State = (given,) if isinstance(given, Tensor) else given
        if any(state.shape[1] != len(x) for state in states):
            raise NotStacked("a recurrent layer's first state is not one a record")
        return list(zip(*map(self.lowered, states)))

    def run(
        self,
        number: int,
        x: Float[Tensor, "R T n"],
        state: State,
        lengths: Int[Tensor, " R"] | None,
        *,
        backwards: bool,
    ) -> tuple[Float[Tensor, "R T m"], State]:
        """One layer in one direction."""
        shares = self.inputs[number].answer(x).unbind(1)
        outputs: list[Tensor] = []
        for time in reversed(range(len(shares))) if backwards else range(len(shares)):
            before, hidden = state, self.hidden[number].answer(state[0])
            state = self.cell(shares[time], hidden, before)
            output = state[0]
            if lengths is not None:
                going_on = (time < lengths)[:, None]
                state = tuple(torch.where(going_on, new, old) for new, old in zip(state, before))
                output = output * going_on
            outputs.append(output)
        return torch.stack(outputs[::-1] if backwards else outputs, 1), state


def _rnn_tanh(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).tanh(),)


def _rnn_relu(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).relu(),)


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    """Cho et al. 2014, with the reset gate after the product, as in torch."""
    size = state[0].shape[-1]
    reset, update = (x[:, : 2 * size] + h[:, : 2 * size]).sigmoid().chunk(2, 1)
    new = torch.addcmul(x[:, 2 * size :], reset, h[:, 2 * size :]).tanh()
    return (torch.lerp(new, state[0], update),)


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    """Hochreiter and Schmidhuber 1997, with forget gates."""
    enter, forget, new, leave = (x + h).chunk(4, 1)
    memory = forget.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * memory.tanh(), memory


CELLS: dict[str, Cell] = {
    "RNN_TANH": _rnn_tanh,
    "RNN_RELU": _rnn_relu,
    "GRU": _gru,
    "LSTM": _lstm,
}

"""Privacy across an interruption: what was spent must be known, and what was cut off is charged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import RecordDict

from fedmodel.config import Evaluation
from fedmodel.errors import FedmodelError
from fedmodel.grids.local import FIRST_NODE
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.client_level import sensitivity
from fedmodel.privacy.ledger import LEDGER, Ledger
from fedmodel.rounds import State
from fedmodel.runs.folder import RunFolder

__all__ = ["charge_again", "charge_cut_off", "check_history", "ledger_of"]

FIX = (
    "Put the run folder back as it was, or start the experiment anew: going on would release more "
    "than was promised."
)


def ledger_of(states: Mapping[int, RecordDict], client: int) -> Ledger:
    """A client's ledger from its saved state; empty if it never trained. FedmodelError: it is damaged."""
    state = states.get(client + FIRST_NODE)
    if state is None or LEDGER not in state:
        return Ledger()
    return Ledger.from_record(state.config_records[LEDGER])


def check_history(state: State | None, entries: Sequence[Mapping[str, Any]], *, where: str) -> None:
    """Refuse to resume a private run that does not know what it has spent.

    Raises:
        FedmodelError: the state is missing though rounds were run, rounds are missing, or a
            client's ledger is damaged or holds fewer steps than were charged.
    """
    number = state.number if state is not None else 0
    rounds = [int(entry["round"]) for entry in entries]
    if state is None and max(rounds, default=0) > 0:
        raise FedmodelError(
            f"the privacy history of this run is missing: {max(rounds)} rounds were run and their "
            "state is gone",
            where=where,
            fix=FIX,
        )
    if missing := set(range(1, number + 1)) - set(rounds):
        raise FedmodelError(
            f"the privacy history of this run is missing for round {min(missing)}",
            where=where,
            fix=FIX,
        )
    charged: dict[int, int] = {}
    for entry in entries:
        if entry["round"] <= number:
            charged.update({int(k): steps for k, steps in entry.get("steps", {}).items()})
    for client, steps in charged.items():
        known = ledger_of(state.clients if state else {}, client).steps
        if known < steps:
            raise FedmodelError(
                f"the privacy history of client {client} is damaged: {steps} noisy steps were "
                f"charged, and its ledger holds {known}",
                where=where,
                fix=FIX,
            )


def charge_cut_off(
    folder: RunFolder, state: State, plans: ClientPlans | None, *, evaluation: Evaluation
) -> State:
    """The state to go on from, after what an interruption may have let out is charged and noted.

    Secure noise is drawn anew on resume, so both draws count.

    - A round that had begun: each client that was asked is charged for it; in mode "central" every
      client is, and the run ends a round earlier, so that it keeps to its budget.
    - The evaluation that may have been cut off: it is counted, also if that is more than was planned.
    """
    manifest, cut = folder.manifest, folder.cut_off(state.number)
    if evaluation.noise == "secure":
        manifest["repeated_evaluations"] = manifest.get("repeated_evaluations", 0) + 1
        manifest["notes"].append(
            f"The run was interrupted after round {state.number}. Secure noise of an evaluation that was "
            "cut off is drawn anew, so one more evaluation is charged than the run makes"
            + (
                f": it can spend more than the epsilon = {evaluation.epsilon:g} of [evaluation]."
                if evaluation.epsilon is not None
                else "."
            )
        )
        folder.write_manifest(manifest)
    if cut is None or plans is None:
        return state
    number = state.number + 1
    told = f"Round {number} was cut off after it had begun. Its noise was secure and is drawn anew, so "
    if plans.budget.mode == "central":
        manifest["repeated_rounds"] = [*manifest.get("repeated_rounds", ()), number]
        told += "every client is charged for both, and the run ends a round earlier."
    else:
        state = charge_again(state, cut, plans)
        folder.write_state(state)
        told += f"{len(cut)} clients are charged for both."
    manifest["notes"].append(told)
    folder.write_manifest(manifest)
    folder.write_begun(state.number, [])
    return state


def charge_again(state: State, clients: Iterable[int], plans: ClientPlans) -> State:
    """The state with one more round charged to these clients.

    Secure noise cannot be drawn again: what a round that was cut off may have released counts, and
    the round that takes its place counts too. Who would have declined is not charged.
    """
    states = dict(state.clients)
    for client in clients:
        ledger, steps = ledger_of(states, client), int(plans.steps[client])
        if not ledger.can_afford(steps, int(plans.max_steps[client])):
            continue
        noise = float(plans.noise_multiplier[client]) / sensitivity(plans.budget)
        rate = float(plans.sample_rate[client])
        record = RecordDict(dict(states.get(client + FIRST_NODE, RecordDict())))
        record[LEDGER] = ledger.charge(noise, rate, steps).to_record()
        states[client + FIRST_NODE] = record
    return replace(state, clients=states)

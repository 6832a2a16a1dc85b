"""What the runs of several seeds release together: privacy that is spent adds up over them."""

from __future__ import annotations

import math
from typing import Any

from fedmodel.config import Config
from fedmodel.privacy.accounting import epsilon_of_history
from fedmodel.privacy.wording import count, finite
from fedmodel.runs.seeds import SeedRuns

__all__ = ["released_together"]


def released_together(runs: SeedRuns, config: Config) -> dict[str, Any] | None:
    """The guarantee over all runs that have begun, in the form of `fedmodel.privacy.statement`.

    None where nothing was private. All values fit JSON: an infinite epsilon is None.
    """
    stated = [s for run in runs.runs.values() if (s := run.manifest.get("privacy"))]
    if not stated:
        return None
    together: dict[str, Any] = {"runs": len(stated)}
    sentences, outside = [], []
    composed = runs.composed_epsilon()
    if composed is not None:
        each = [_number(s["epsilon"]["max"]) for s in stated]
        delta, number = stated[0]["delta"], count(len(stated), "run")
        together |= {
            "unit": stated[0]["unit"],
            "neighbours": stated[0]["neighbours"],
            "epsilon": finite(composed),
            "delta": delta,
            "accountant": "rdp",
            "largest_of_one_run": finite(max(each)),
            "sum": {"epsilon": finite(sum(each)), "delta": len(stated) * delta},
        }
        sentences += [
            f"{number} trained on the same records, and whoever sees all of them learns from all: "
            f"together they spend epsilon = {_shown(composed)} at delta = {delta:g}, of "
            f"{stated[0]['unit'].replace('training record of one client', 'training record')}. "
            f"The epsilon of a single run, {_shown(max(each))} at most, holds for who sees that one only.",
            "Composed by RDP: in each run the client with the largest loss at each order counts, as a "
            "record may be at another client in another run; the losses of the runs add up.",
            f"Without RDP the plain sum holds: epsilon = {_shown(sum(each))} at delta = "
            f"{len(stated) * delta:g}.",
        ]
        outside.append(
            "The choice of seeds: no run may be added, left out or shown alone because of what another "
            "one has shown of the records."
        )
        if "split" not in config.data.spec and not config.evaluation.private:
            outside.append(
                "Evaluation counts where the split is drawn: a record that one run tests may be trained "
                "on by another, and the counts are exact."
            )
    if evaluated := [s["evaluation"] for s in stated if "evaluation" in s]:
        # Each client's counts have the same noise, so a record may be at any client.
        history = [(e["noise_multiplier"], 1.0, e["evaluations"]) for e in evaluated]
        delta = evaluated[0]["delta"]
        spent = epsilon_of_history(history, delta=delta)
        together["evaluation"] = {
            "epsilon": finite(spent.epsilon),
            "delta": delta,
            "accountant": spent.accountant,
        }
        sentences.append(
            f"Evaluation records, whose budget is apart, lose epsilon = {_shown(spent.epsilon)} at "
            f"delta = {delta:g} over all runs, by {spent.accountant.upper()}. A record that one run "
            "tests and another one trains on has both budgets spent."
        )
    outside.append("All that lies outside the guarantee of a single run: see each run's report.")
    return {**together, "sentences": sentences, "outside": outside}


def _number(epsilon: float | None) -> float:
    return math.inf if epsilon is None else float(epsilon)


def _shown(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "infinite"

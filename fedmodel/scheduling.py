"""Learning rates that go by a schedule: the factor of each round, and the client's behaviour with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedmodel.catalogue import KINDS, Component
from fedmodel.errors import FedmodelError, shown, user_place, what_failed
from fedmodel.source import Source

__all__ = ["Scheduled", "behaviour_in", "check_schedule", "scheduled_client"]


@dataclass(frozen=True)
class Scheduled:
    """A client's behaviour whose option `learning_rate` is multiplied by each round's factor.

    Whatever else is asked of it, the behaviour without a schedule answers.
    """

    plain: Any
    component: Component
    schedule: Component
    rounds: int

    def in_round(self, number: int) -> Any:
        """The behaviour of a round; of round 0, which trains nothing, the one without a schedule."""
        if number < 1:
            return self.plain
        component, factor = self.component, self.schedule(number, rounds=self.rounds)
        rate = _rate(component) * factor
        options = {**component.options, "learning_rate": rate}
        return Component(component.kind, component.name, component.function, options)()

    def train(self, cohort: Any, start: Any) -> Any:
        """Each client's local model minus the global one, at the learning rate of the cohort's round."""
        return self.in_round(cohort.round).train(cohort, start)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "plain" not in self.__dict__:  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.plain, name)


def behaviour_in(behaviour: Any, number: int) -> Any:
    """What a client does in a round, whether it goes by a schedule or not."""
    return behaviour.in_round(number) if isinstance(behaviour, Scheduled) else behaviour


def scheduled_client(
    behaviour: Any, client: Component, schedule: Component | None, *, rounds: int
) -> Any:
    """The behaviour with its schedule, if it has one."""
    return behaviour if schedule is None else Scheduled(behaviour, client, schedule, rounds)


def check_schedule(
    spec: Any, section: str, component: Component, source: Source, *, rounds: int
) -> Component:
    """The schedule that a section of the experiment names, tried for every round.

    Raises:
        FedmodelError: no such schedule, no learning rate that it could change, or a factor that is
            no positive number.
    """
    where = partial(source.where, section, "schedule")
    if "learning_rate" not in KINDS[component.kind].schema(component.function):
        raise FedmodelError(
            f"{component.name} has no option `learning_rate`, so `schedule` has no effect",
            where=where(),
            fix="Drop it, or call the option `learning_rate` if the component is yours.",
        )
    schedule = KINDS["schedule"].bind(spec, base=source.base, where=where)
    for number in range(1, rounds + 1):
        try:
            factor = schedule(number, rounds=rounds)
            good = 0 < float(factor) < math.inf
        except Exception as error:
            raise FedmodelError(
                f"the schedule {schedule.name} failed in round {number}: {what_failed(error)}",
                where=user_place(error) or where(),
                fix="Mend it: it takes the number of the round and returns a factor.",
            ) from error
        if not good:
            raise FedmodelError(
                f"the schedule {schedule.name} gives round {number} the factor {shown(factor)}",
                where=where(),
                fix="A factor is a number above 0; choose options that leave one to every round.",
            )
    wait = schedule.options.get("warm_up", 0)
    if isinstance(wait, int) and wait >= rounds:
        raise FedmodelError(
            f"warming up for {wait} rounds, a run of {rounds} never comes to its learning rate",
            where=where("warm_up"),
            fix="Choose fewer, or more `rounds`.",
        )
    return schedule


def _rate(component: Component) -> float:
    """The learning rate that an experiment gives a component, or its default."""
    if "learning_rate" in component.options:
        return float(component.options["learning_rate"])
    return float(KINDS[component.kind].schema(component.function)["learning_rate"].default)

"""What one client has spent so far: kept in its state, over all the rounds it took part in."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord

from fedmodel._flower import config_of, teller_of
from fedmodel.errors import FedmodelError
from fedmodel.privacy.checks import check_setting

__all__ = ["LEDGER", "Ledger"]

LEDGER = "privacy"  # its name in a client's state

COLUMNS = ("noise_multiplier", "sample_rate", "steps")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The history of one client's noisy steps, in order. A charge gives a new ledger.

    >>> ledger = Ledger().charge(1.1, 0.2, 5).charge(1.1, 0.2, 5)
    >>> ledger.entries, ledger.rounds, ledger.can_afford(5, max_steps=12)
    (((1.1, 0.2, 10),), 2, False)
    """

    entries: tuple[tuple[float, float, int], ...] = ()  # (noise multiplier, sample rate, steps)
    rounds: int = 0  # rounds charged; one drawn again counts again

    @property
    def steps(self) -> int:
        """Noisy steps in all."""
        return sum(steps for _, _, steps in self.entries)

    def charge(self, noise_multiplier: float, sample_rate: float, steps: int) -> Ledger:
        """The ledger after one more round. Raises FedmodelError for a value out of range."""
        check_setting(sample_rate=sample_rate, steps=steps, noise_multiplier=noise_multiplier)
        entries, entry = self.entries, (float(noise_multiplier), float(sample_rate), int(steps))
        if entries and entries[-1][:2] == entry[:2]:
            entries, entry = entries[:-1], (*entry[:2], entries[-1][2] + entry[2])
        return Ledger((*entries, entry) if entry[2] else entries, self.rounds + 1)

    def can_afford(self, steps: int, max_steps: int) -> bool:
        """Whether so many more steps stay within the limit; if not, the client declines."""
        return self.steps + steps <= max_steps

    def to_record(self) -> ConfigRecord:
        """As plain lists, for the client's state; they are made when they are read."""
        return config_of(self, Ledger._lists)

    def _lists(self) -> dict[str, list[float] | list[int] | int]:
        columns = zip(*self.entries, strict=True) if self.entries else ((), (), ())
        lists = {key: list(column) for key, column in zip(COLUMNS, columns, strict=True)}
        return {**lists, "rounds": self.rounds}

    @classmethod
    def from_record(cls, record: ConfigRecord) -> Ledger:
        """Read what `to_record` wrote. A damaged record is an error, never an empty ledger."""
        if isinstance(ledger := teller_of(record), cls):
            return ledger
        try:
            columns = [list(record[key]) for key in COLUMNS]  # type: ignore[arg-type]
            entries = tuple((float(a), float(b), int(c)) for a, b, c in zip(*columns, strict=True))
            rounds = int(record["rounds"])  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise FedmodelError(
                "a client's privacy ledger is damaged, so what it has spent is not known",
                where=f"its state holds {dict(record)}",
                fix="Go on from an earlier round whose state is whole; never from an empty ledger.",
            ) from error
        for noise, rate, steps in entries:
            check_setting(sample_rate=rate, steps=steps, noise_multiplier=noise)
        return cls(entries, rounds)

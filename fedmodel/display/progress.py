"""How a run goes, live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fedmodel.experiment import Experiment, Round

__all__ = ["Progress"]


class Progress:
    """Live progress on a terminal, a line a round elsewhere: loss, accuracy, epsilon, time left."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        self.console, self.experiment = console, experiment
        self.total = experiment.config.rounds
        self.begun = time.perf_counter()
        self.first: tuple[int, float] | None = None
        self.line = "loading data"
        self.number = 0
        self.live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        try:
            self.experiment.built  # noqa: B018 - load the data while "loading data" shows
        except BaseException:
            self.__exit__()  # the terminal gets its cursor back
            raise
        self.line = f"starting engine {self.experiment.config.engine.name}"
        return self

    def __exit__(self, *error: Any) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line above the progress."""
        self.console.print(line, soft_wrap=True)  # a path is whole, to be copied
        self.line = line if line.startswith("reference") else self.line

    def advance(self, finished: Round) -> None:
        """Show a finished round."""
        self.number = finished.number
        parts = [f"round {finished.number}/{self.total}"]
        if finished.evaluated:
            parts += [f"loss {finished['loss']:.4f}", f"accuracy {finished['accuracy']:.4f}"]
        if len(finished.epsilon):
            parts.append(f"epsilon \u2264 {finished.epsilon.max():.2f}")
        now = time.perf_counter()
        if self.first is None:
            self.first = (finished.number, now)
        elif finished.number > self.first[0]:
            each = (now - self.first[1]) / (finished.number - self.first[0])
            parts.append(f"{_duration(each * (self.total - finished.number))} left")
        self.line = "   ".join(parts)
        if not self.console.is_terminal:
            self.console.print(self.line)

    def _draw(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=self.total, completed=self.number, width=30), Text(self.line)
        )
        return grid


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

"""What grids share whose clients answer a request to train all together, by one weighted mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from flwr.app import Message

from fedmodel.errors import RunFailed
from fedmodel.grids.local import LocalGrid
from fedmodel.messages import Instructions, Replies, Request, requests

__all__ = ["SummingGrid"]


class SummingGrid(LocalGrid):
    """A grid around any other; everything but a request to train is passed on as it is."""

    def __init__(self, inner: LocalGrid) -> None:
        super().__init__(len(inner.nodes))
        self.inner, self.states = inner, inner.states

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Raises RunFailed where the clients are to train different models."""
        asked = messages if isinstance(messages, Instructions) else list(messages)
        wanted = requests(asked)
        if not any(request.message_type.startswith("train") for request in wanted):
            return self.inner.send_and_receive(asked, timeout=timeout)
        if len(wanted) > 1:
            raise RunFailed(
                f"the strategy asks for {len(wanted)} different trainings in one round, and only "
                "updates of one model can be added up",
                where="[strategy]",
                fix="Use a strategy that sends all clients the same model and settings.",
            )
        return self._train(wanted[0])

    def close(self) -> None:
        self.inner.close()

    @abstractmethod
    def _train(self, request: Request) -> Replies:
        """The one reply of all that trained; who failed or declined beside it."""

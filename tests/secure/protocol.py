"""A round of secure aggregation by hand, in which clients leave whenever a test likes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fedmodel.secure import Refusal, SecureClient, SecureServer


def vectors(
    count: int, size: int, *, dtype: str = "uint32", seed: int = 0
) -> dict[int, np.ndarray]:
    """Any words at all: the protocol does not know what they mean."""
    top = np.iinfo(dtype).max
    draw = np.random.default_rng(seed)
    return {
        client: draw.integers(0, top, size, dtype=dtype, endpoint=True) for client in range(count)
    }


def server_for(words: dict[int, np.ndarray], *, threshold=2 / 3, neighbours=None, seed=0):
    one = next(iter(words.values()))
    return SecureServer(
        round=1,
        threshold=threshold,
        neighbours=neighbours,
        words=len(one),
        dtype=one.dtype,
        generator=np.random.default_rng(seed),
    )


def aggregate(
    words: dict[int, np.ndarray],
    *,
    leaves: tuple[Collection[int], ...] = ((), (), (), ()),
    **settings,
) -> tuple[np.ndarray, list[int], dict]:
    """The unmasked sum, who is in it, and the masked vectors. `leaves[i]` do not answer exchange i."""
    server = server_for(words, **settings)
    clients = {number: SecureClient(number, 1) for number in words}

    def answers(told, speak, gone):
        given = {}
        for number, message in told.items():
            if number not in gone:
                try:
                    given[number] = speak(clients[number], message)
                except Refusal:
                    continue
        return given

    def masked(client, boxes):
        client.receive(boxes)
        return client.mask(words[client.number])

    keys = answers(dict.fromkeys(words), lambda client, _: client.keys(), leaves[0])
    hoods = server.neighbourhoods(keys)
    sealed = answers(hoods, lambda client, hood: client.shares(hood), leaves[1])
    vectors = answers(server.boxes(sealed), masked, leaves[2])
    requests = server.requests(vectors)
    shares = answers(requests, lambda client, request: client.unmask(request), leaves[3])
    return server.total(shares), server.survivors, vectors

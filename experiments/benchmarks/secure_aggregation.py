"""What secure aggregation costs: one round of the four exchanges, all clients in this process.

    python -m experiments.benchmarks.secure_aggregation [clients] [parameters]

Prints processor milliseconds: of all clients together, of one client, of the server. A tenth of the
clients leave after they have shared their secrets. Training is not in it.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from fedmodel.secure import Refusal, SecureClient, SecureServer


def measure(clients: int, size: int, neighbours: int | None) -> tuple[float, float, int]:
    """Processor seconds of all clients and of the server, and bytes that one client sends."""
    words = np.zeros(size, np.uint32)
    server = SecureServer(
        round=1,
        threshold=2 / 3,
        neighbours=neighbours,
        words=size,
        dtype=words.dtype,
        generator=np.random.default_rng(0),
    )
    parties = [SecureClient(number, 1) for number in range(clients)]
    begun = time.process_time()
    keys = {client.number: client.keys() for client in parties}
    at_clients = time.process_time() - begun
    hoods = server.neighbourhoods(keys)
    begun = time.process_time()
    sealed = {number: parties[number].shares(hood) for number, hood in hoods.items()}
    at_clients += time.process_time() - begun
    whole = time.process_time()
    boxes = server.boxes(sealed)
    at_server = time.process_time() - whole
    begun, masked = time.process_time(), {}
    for number in range(clients - clients // 10):
        parties[number].receive(boxes[number])
        masked[number] = parties[number].mask(words)
    at_clients += time.process_time() - begun
    begun = time.process_time()
    requests = server.requests(masked)
    at_server += time.process_time() - begun
    begun, shares = time.process_time(), {}
    for number, request in requests.items():
        try:
            shares[number] = parties[number].unmask(request)
        except Refusal:
            continue
    at_clients += time.process_time() - begun
    begun = time.process_time()
    total = server.total(shares)
    at_server += time.process_time() - begun
    assert not total.any()
    sent = len(masked[0].words) + sum(map(len, sealed[0].boxes)) + 64
    sent += sum(map(len, (*shares[0].seeds, *shares[0].keys)))
    return at_clients, at_server, sent


def main(numbers: list[int], size: int) -> None:
    """One line for each number of clients, with all neighbours and with forty."""
    print(f"{size} parameters in words of 32 bits")
    print("clients  neighbours  all clients ms  one client ms  server ms  one client sends KB")
    for clients in numbers:
        for neighbours in (None, 40) if clients > 41 else (None,):
            at_clients, at_server, sent = measure(clients, size, neighbours)
            print(
                f"{clients:7d}  {neighbours or clients - 1:10d}  {1e3 * at_clients:14.0f}  "
                f"{1e3 * at_clients / clients:13.1f}  {1e3 * at_server:9.0f}  {sent / 1e3:19.0f}"
            )


if __name__ == "__main__":
    wanted = [int(sys.argv[1])] if len(sys.argv) > 1 else [10, 50, 100, 200]
    main(wanted, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)

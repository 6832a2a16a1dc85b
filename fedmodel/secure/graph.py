"""Who masks with whom: everybody with everybody, or each client with some random neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
from scipy.stats import hypergeom

from fedmodel.errors import FedmodelError

__all__ = ["components", "neighbours_needed", "neighbours_of", "threshold_of"]


def neighbours_of(
    clients: Sequence[int], *, number: int | None, generator: np.random.Generator
) -> dict[int, list[int]]:
    """Each client's neighbours, in order.

    1. Put the clients on a circle in random order.
    2. Each is joined to the nearest on both sides, `number` in all (rounded up to an even one);
       None, or as many as there are, joins all to all.

    A Harary graph of random places: Bell et al., CCS 2020 (SecAgg+), section 3.

    >>> draw = np.random.default_rng(0)
    >>> {client: len(near) for client, near in neighbours_of([0, 1, 5, 6, 7], number=2, generator=draw).items()}
    {0: 2, 1: 2, 5: 2, 6: 2, 7: 2}
    """
    places, count = list(clients), len(clients)
    if number is None or number >= count - 1:
        return {client: [other for other in places if other != client] for client in places}
    circle = [places[place] for place in generator.permutation(count)]
    near = [step for half in range(1, math.ceil(number / 2) + 1) for step in (half, -half)]
    joined = {
        client: sorted({circle[(place + step) % count] for step in near} - {client})
        for place, client in enumerate(circle)
    }
    return {client: joined[client] for client in places}


def threshold_of(holders: int, share: float) -> int:
    """How many of those that hold a client's shares must give them: the share, and more than half.

    With more than half, no two disjoint sets of holders can give both of a client's secrets.
    """
    return max(math.ceil(share * holders - 1e-9), holders // 2 + 1)


def components(clients: Set[int], neighbours: Mapping[int, Iterable[int]]) -> int:
    """In how many parts the graph of these clients falls: each part's sum would be seen alone."""
    left, parts = set(clients), 0
    while left:
        parts, reached = parts + 1, [left.pop()]
        while reached:
            further = left.intersection(neighbours[reached.pop()])
            left -= further
            reached += further
    return parts


def neighbours_needed(
    clients: int,
    *,
    colluding: float,
    leaving: float,
    threshold: float = 2 / 3,
    failure: float = 2.0**-30,
) -> int:
    """The smallest number of neighbours with which masking fails at most with this chance.

    Of `clients` a share `colluding` tell the server all they know, and a share `leaving` goes after
    sharing keys; where they stand on the circle is random. Masking fails when

    1. a client has `threshold` colluding neighbours or more, so that its vector can be unmasked;
    2. a client has too few neighbours that stay, so that the sum cannot be unmasked;
    3. the others fall apart, which takes half a neighbourhood in a row that colludes or leaves.

    The three chances are bounded as in Bell et al., CCS 2020, section 3: hypergeometric tails, summed
    over the clients. The complete graph (``clients - 1``) if no smaller number will do.

    Raises FedmodelError where shares are outside [0, 1), or the threshold cannot be met at all.
    """
    told, gone = math.floor(colluding * clients), math.floor(leaving * clients)
    if not (0 <= colluding < 1 and 0 <= leaving < 1 and 0 < threshold < 1 and clients >= 3):
        raise FedmodelError(
            f"no graph of {clients} clients with shares {colluding}, {leaving} and {threshold}",
            fix="Choose shares from 0 to below 1, and at least 3 clients.",
        )
    for number in range(2, clients - 1, 2):
        needed = threshold_of(number + 1, threshold)
        unmasked = hypergeom(clients - 1, told, number).sf(needed - 1)
        too_few = hypergeom(clients - 1, clients - 1 - gone, number).cdf(needed - 1)
        bad, row = min(told + gone, clients), number // 2
        apart = math.prod(max(bad - i, 0) / (clients - i) for i in range(row))
        if clients * (unmasked + too_few + apart) <= failure:
            return number
    needed = threshold_of(clients, threshold)
    if told >= needed or clients - gone < needed:
        raise FedmodelError(
            f"with a threshold of {threshold:g}, not {colluding:g} of the clients may collude and "
            f"{leaving:g} leave, whatever the graph",
            fix="Assume fewer, or choose a threshold between them.",
        )
    return clients - 1

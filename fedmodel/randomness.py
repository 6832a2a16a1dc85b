"""Every random number of an experiment, from one seed: the same on every engine, and none used twice.

A stream belongs to (seed, client, round, purpose). It is a key and half a counter of the
counter-based generator Philox4x32-10 (Salmon et al., SC 2011, section 4.3), so that any value of any
client can be computed alone: neither the other clients, nor their order, nor the number of workers,
nor a resume can change it. The other half of the counter is (block, step): each local training step
has values of its own, without drawing those of the steps before. All functions that take a stream's
key read the same words: give each kind of draw a purpose of its own.

Only integer operations and IEEE additions, products, quotients and square roots are used, never the
machine's own logarithm or cosine, and the compiler may not reorder them. So the values are equal to
the last bit on every processor. The exception is `secure_normals`, which nobody can draw again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt32
from torch import Tensor

from fedmodel.compiling import compiled, in_threads, inlined
from fedmodel.errors import FedmodelError

__all__ = [
    "SERVER",
    "bits",
    "hash_uniforms",
    "normals",
    "normals_of_steps",
    "record_keys",
    "secure_normals",
    "shuffles",
    "stream",
    "stream_keys",
    "uniforms",
]

SERVER = -1  # the client number that stands for the server

Keys = UInt32[np.ndarray, "K 4"]  # one row a stream, from `stream_keys`
Numbers = Int64[np.ndarray, " K"] | Sequence[int]

_SECURE_CHUNK = 2**14  # values that `secure_normals` draws at once: 256 KiB of key stream


def stream_keys(seed: int, clients: Numbers, round: int, purpose: str) -> Keys:
    """The key of each client's stream in one round for one purpose, for the functions below.

    1. The seed is the key of Philox, (client's low word, client's high word, round, purpose) its
       counter; a purpose's number is the first four bytes, little endian, of its BLAKE2b digest.
    2. One block gives four words: two are the stream's own key, two the upper half of its counter.

    With its key fixed Philox is a bijection of the counter. So within an experiment no two streams
    have the same four words, and therefore no two blocks of values the same input, unless two
    purposes share a number (2^-32 for a pair). Streams of different seeds are related only by chance.

    Raises FedmodelError for a seed outside [0, 2^64) or a round outside [0, 2^32).
    """
    high, low = divmod(_below(64, "seed", seed), 2**32)
    clients = np.asarray(clients, dtype=np.int64)
    number = int.from_bytes(blake2b(purpose.encode()).digest()[:4], "little")
    keys = np.empty((len(clients), 4), np.uint32)
    _fill_keys(clients, _below(32, "round", round), number, low, high, keys)
    return keys


def stream(seed: int, client: int, round: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for draws made one by one: at the server, or when data are split.

    NumPy's Philox4x64-10, keyed with the stream's 128 bits. Raises what `stream_keys` raises.
    """
    words = stream_keys(seed, [client], round, purpose)[0]
    return np.random.Generator(np.random.Philox(key=_halves(words)))


def bits(keys: Keys, count: int, *, step: int = 0) -> UInt32[np.ndarray, "K count"]:
    """Each stream's first `count` random words: Philox4x32-10 of (0, step), (1, step), ...

    Fewer values are the beginning of more. Row k depends on ``keys[k]`` and `step` alone, as in all
    functions that take keys. Raises FedmodelError for a step outside [0, 2^32).

    >>> [f"{word:08x}" for word in bits(np.zeros((1, 4), np.uint32), 4)[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    out = np.empty((len(keys), _below(34, "count", count)), np.uint32)
    _fill_bits(_checked(keys), np.uint32(_below(32, "step", step)), out)
    return out


def uniforms(keys: Keys, count: int, *, step: int = 0) -> Float64[np.ndarray, "K count"]:
    """Uniform values in [0, 1) with 53 bits: multiples of 2^-53.

    Value i takes its upper 32 bits from word 2i + 1 of `bits`, its lower 21 from the top of word 2i.
    """
    return _upper(_halves(bits(keys, 2 * count, step=step)), 53) * 2.0**-53


def normals(
    keys: Keys,
    count: int,
    *,
    step: int = 0,
    out: Float32[np.ndarray, "K count"] | None = None,
) -> Float32[np.ndarray, "K count"]:
    """Standard normal values by the transform of Box and Muller (1958), written to `out` if given.

    Words 2i and 2i + 1 of `bits` give values 2i and 2i + 1: the radius sqrt(-2 ln u) with
    u = (word + 1) / 2^32, times the cosine and the sine of 2 pi (next word) / 2^32. Values reach
    6.66 (beyond lies a share of 3e-11) and are within 1e-6 of the formula.

    For experiments: whoever knows the seed can subtract this noise, see `secure_normals`.
    """
    out = _output((len(keys), _below(34, "count", count)), out)
    _fill_normals(_checked(keys), np.uint32(_below(32, "step", step)), out)
    return out


def normals_of_steps(
    keys: Keys, steps: range, *, out: Float32[np.ndarray, "S K count"], threads: int = 1
) -> None:
    """The values of `normals` for consecutive steps, to `out`."""
    _output(out.shape, out)
    checked, first = _checked(keys), np.uint32(_below(32, "step", steps.start))

    def fill(rows: slice) -> None:
        _fill_normals_of_steps(checked, rows.start, rows.stop, first, out)

    in_threads(fill, len(checked), threads)


def secure_normals(
    shape: int | tuple[int, ...], *, out: Float32[np.ndarray, "*shape"] | None = None
) -> Float32[np.ndarray, "*shape"]:
    """Standard normal values that nobody can predict or draw again, written to `out` if given.

    1. The words are the key stream of ChaCha20 under a key fresh from the operating system.
    2. A value is the sum of four independent normals, halved: what differs in the last bits of
       floating-point noise can betray the value under it (Mironov, CCS 2012), and recovering four
       summands is out of reach (Holohan and Braghin, ESORICS 2021). The four come from four
       different Box-Muller pairs, whose other halves make the neighbouring value.

    About 6.5 ns a value, four times `normals`. Raises FedmodelError for an `out` that does not fit.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    out = _output(shape, out)
    flat = out.reshape(-1)
    for start in range(0, len(flat), _SECURE_CHUNK):
        chunk = flat[start : start + _SECURE_CHUNK]
        words = np.zeros((8, (len(chunk) + 1) // 2), np.uint32)
        cipher = Cipher(algorithms.ChaCha20(os.urandom(32), nonce=bytes(16)), mode=None)
        cipher.encryptor().update_into(words.tobytes(), words.data.cast("B"))
        values = np.empty(2 * words.shape[1], np.float32)
        _fill_secure(words, values)
        chunk[:] = values[: len(chunk)]
    return out


def shuffles(keys: Keys, sizes: Numbers, *, step: int = 0) -> Int64[np.ndarray, "K longest"]:
    """A random order of ``range(sizes[k])`` in row k, then -1 up to the length of the longest row.

    Fisher and Yates's shuffle (Durstenfeld 1964): for i = size - 1 down to 1 exchange places i and
    floor(u_i (i + 1)), with u_i the stream's value i of `uniforms`.

    >>> orders = shuffles(stream_keys(7, [0, 1], 1, "batches"), [5, 3])
    >>> orders.shape, sorted(orders[1].tolist())
    ((2, 5), [-1, -1, 0, 1, 2])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    if sizes.shape != (len(keys),):
        problem = f"{len(keys)} streams are to shuffle rows of sizes {sizes.shape}"
        raise FedmodelError(problem, fix="Give each stream the size of its row.")
    draws = uniforms(keys, int(sizes.max(initial=0)), step=step)
    out = np.empty(draws.shape, np.int64)
    _fill_shuffles(draws, sizes, out)
    return out


def record_keys(
    keys: Keys, records: Int64[np.ndarray, "K B"], *, step: int
) -> Int64[np.ndarray, "K B"]:
    """A key for each record in one step, for what is drawn per record, such as dropout masks.

    A hash of the client's stream, the step and the record's number: a record has the same key in
    whatever batch or place it stands. Within a client and step no two records share a key.
    """
    halves = _halves(_checked(keys))
    start = _mix(_mix(halves[:, 0] + _below(32, "step", step)) ^ halves[:, 1])
    return _mix(start[:, None] + np.asarray(records, dtype=np.int64) * _GOLDEN)


def hash_uniforms(keys: Int64[Tensor, "*shape"], count: int) -> Float32[Tensor, "*shape count"]:
    """`count` uniform values in [0, 1) for each key: multiples of 2^-24, equal on every device.

    SplitMix64 (Steele et al., OOPSLA 2014) from the hashed key, in integer operations: a layer can draw
    a record's mask from the record's key, also under `torch.func.vmap`. Keys that are neighbours give
    independent values, so layer n of a model may use ``keys + n``.
    """
    index = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device)
    words = _mix(_mix(keys)[..., None] + index * _GOLDEN)
    return _upper(words, 24).to(torch.float32).mul_(2.0**-24)


def _below(power: int, name: str, value: int) -> int:
    """The value, if it is in [0, 2^power): compiled code would take any other for its remainder."""
    if not 0 <= value < 2**power:
        fix = f"Choose 0 <= {name} < 2**{power}."
        raise FedmodelError(f"{name} = {value} is out of range", where=name, fix=fix)
    return value


def _checked(keys: np.ndarray) -> np.ndarray:
    """The keys, if they are some: compiled code does not look where an array ends."""
    if keys.dtype != np.uint32 or keys.shape[1:] != (4,):
        problem = f"{keys.dtype} of shape {keys.shape} are no keys of streams"
        raise FedmodelError(problem, fix="Take the keys, uint32 [K, 4], that `stream_keys` gives.")
    return np.ascontiguousarray(keys)


def _output(shape: int | tuple[int, ...], out: np.ndarray | None) -> np.ndarray:
    if out is None:
        return np.empty(shape, np.float32)
    fits = out.shape == np.broadcast_shapes(shape) and out.flags.c_contiguous
    if not fits or out.dtype != np.float32:
        problem = f"`out` is {out.dtype} of shape {out.shape} and does not fit"
        raise FedmodelError(problem, fix=f"Give a contiguous float32 array of shape {shape}.")
    return out


def _halves(words: np.ndarray) -> np.ndarray:
    """Pairs of 32-bit words as 64-bit numbers, low word first, on machines of either byte order."""
    return np.ascontiguousarray(words, "<u4").view("<i8").astype(np.int64, copy=False)


# SplitMix64 on int64 that wraps around; the same code serves NumPy arrays and torch tensors.

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # odd, and 2^64 divided by the golden ratio


def _upper(x: Any, number: int) -> Any:
    """The upper `number` bits: a shift that fills with zeros, where >> repeats the sign."""
    x = x >> (64 - number)
    x &= (1 << number) - 1
    return x


def _mix(x: Any) -> Any:
    """A bijection of the 64-bit numbers under which every bit depends on all (SplitMix64's)."""
    x = x ^ _upper(x, 34)
    x *= 0xBF58476D1CE4E5B9 - 2**64
    x ^= _upper(x, 37)
    x *= 0x94D049BB133111EB - 2**64
    x ^= _upper(x, 33)
    return x


# Compiled loops; what they call is inlined, to fill the machine's vectors.
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


@inlined
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32 on counter c and key k (Salmon et al. 2011): four uint32.

    The words are held in 64 bits, as vector units multiply them; only the low halves count.
    """
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    k0, k1 = np.uint64(k0), np.uint64(k1)
    for _ in range(10):
        product_0, product_1 = _MULTIPLIER_0 * (c0 & _LOW), _MULTIPLIER_1 * (c2 & _LOW)
        c0, c1 = (product_1 >> _WORD) ^ c1 ^ k0, product_1
        c2, c3 = (product_0 >> _WORD) ^ c3 ^ k1, product_0
        k0, k1 = k0 + _WEYL_0, k1 + _WEYL_1
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


_ZERO, _ONE, _TWO, _LOG_2 = (np.float32(x) for x in (0, 1, 2, math.log(2)))
_WORD_TO_UNIT, _WORD_TO_ANGLE = np.float32(2.0**-32), np.float32(math.pi * 2.0**-33)
_ROOT_HALF = np.int32(np.float32(math.sqrt(0.5)).view(np.int32))  # the bits of sqrt(1/2)
_NEAR_ONE = np.uint32((1 - math.sqrt(0.5)) * 2**32)
# artanh(x) / x, sin(x) / x and cos(x) as power series of x² that begin with 1.
_ARTANH = tuple(np.float32(1 / n) for n in (3, 5, 7, 9))
_SINE = tuple(np.float32(1 / math.factorial(n) * (-1) ** (n // 2)) for n in (3, 5, 7, 9))
_COSINE = tuple(np.float32(1 / math.factorial(n) * (-1) ** (n // 2)) for n in (2, 4, 6, 8))


@inlined
def _series(q, c):
    return _ONE + q * (c[0] + q * (c[1] + q * (c[2] + q * c[3])))


@inlined
def _radius(word):
    """sqrt(-2 ln u) for u = (word + 1) / 2^32, to a relative 2e-7 also where u is close to 1.

    u = 2^exponent m with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh((m - 1) / (m + 1)). Near 1,
    m - 1 is taken from the distance to 2^32, a whole number, before it is rounded.
    """
    pattern = np.int32(np.float32(np.uint32(word + np.uint32(1))).view(np.int32) - _ROOT_HALF)
    exponent = np.float32((pattern >> np.int32(23)) - np.int32(32))
    above_one = np.int32((pattern & np.int32(2**23 - 1)) + _ROOT_HALF).view(np.float32) - _ONE
    distance = ~word
    if distance < _NEAR_ONE:
        exponent, above_one = _ZERO, -np.float32(distance) * _WORD_TO_UNIT
    x = above_one / (above_one + _TWO)
    logarithm = exponent * _LOG_2 + _TWO * x * _series(x * x, _ARTANH)
    return np.sqrt(-_TWO * logarithm)


@inlined
def _box_muller(first, second):
    """Two normals. The angle is the nearest quarter turn and a rest of an eighth at most."""
    rest = np.float32(np.int32(np.uint32(second << np.uint32(2)))) * _WORD_TO_ANGLE
    q = rest * rest
    sine, cosine = rest * _series(q, _SINE), _series(q, _COSINE)
    quarter = np.uint32(second + np.uint32(2**29)) >> np.uint32(30)
    if (quarter == 1) or (quarter == 3):
        cosine, sine = sine, cosine
    if (quarter == 1) or (quarter == 2):
        cosine = -cosine
    if quarter >= 2:
        sine = -sine
    radius = _radius(first)
    return radius * cosine, radius * sine


@compiled
def _fill_keys(clients, number, purpose, low, high, keys):
    for row in range(len(clients)):
        client = np.uint64(clients[row])
        block = _philox(client, client >> _WORD, number, purpose, low, high)
        for lane in range(4):
            keys[row, lane] = block[lane]


@compiled
def _fill_bits(keys, step, out):
    count = out.shape[1]
    for row in range(len(keys)):
        k0, k1, c2, c3 = keys[row, 0], keys[row, 1], keys[row, 2], keys[row, 3]
        line = out[row]
        for block in range(count // 4):
            w0, w1, w2, w3 = _philox(block, step, c2, c3, k0, k1)
            line[4 * block], line[4 * block + 1] = w0, w1
            line[4 * block + 2], line[4 * block + 3] = w2, w3
        last = _philox(count // 4, step, c2, c3, k0, k1)
        for lane in range(count % 4):
            line[count - count % 4 + lane] = last[lane]


@compiled
def _fill_normals(keys, step, out):
    count = out.shape[1]
    for row in range(len(keys)):
        k0, k1, c2, c3 = keys[row, 0], keys[row, 1], keys[row, 2], keys[row, 3]
        line = out[row]
        for block in range(count // 4):
            w0, w1, w2, w3 = _philox(block, step, c2, c3, k0, k1)
            line[4 * block], line[4 * block + 1] = _box_muller(w0, w1)
            line[4 * block + 2], line[4 * block + 3] = _box_muller(w2, w3)
        w0, w1, w2, w3 = _philox(count // 4, step, c2, c3, k0, k1)
        last = _box_muller(w0, w1) + _box_muller(w2, w3)
        for lane in range(count % 4):
            line[count - count % 4 + lane] = last[lane]


@compiled
def _fill_normals_of_steps(keys, begin, end, first, out):
    for place in range(len(out)):
        _fill_normals(keys[begin:end], np.uint32(first + place), out[place, begin:end])


@compiled
def _fill_secure(words, out):
    for pair in range(words.shape[1]):
        first = second = np.float32(0)
        for row in range(0, 8, 2):
            x, y = _box_muller(words[row, pair], words[row + 1, pair])
            first, second = first + x, second + y
        out[2 * pair], out[2 * pair + 1] = first * np.float32(0.5), second * np.float32(0.5)


@compiled
def _fill_shuffles(draws, sizes, out):
    for row in range(len(sizes)):
        line = out[row]
        for place in range(len(line)):
            line[place] = place if place < sizes[row] else -1
        for place in range(sizes[row] - 1, 0, -1):
            other = np.int64(draws[row, place] * (place + 1))
            line[place], line[other] = line[other], line[place]

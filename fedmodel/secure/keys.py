"""Keys and masks: agreement, derivation, key streams, sealed boxes. Each is a published standard."""

from __future__ import annotations

import os

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt

__all__ = ["Refusal", "agreed", "derived", "new_secret", "open_box", "own_mask", "pair_mask"]
__all__ += ["private_key", "public_key", "seal"]

PrivateKey = X25519PrivateKey
Words = UInt[np.ndarray, " n"]


class Refusal(Exception):  # noqa: N818 - a decision, not an error
    """What a client will not do in secure aggregation, and why. It leaves the round."""


def new_secret() -> bytes:
    """32 bytes from the operating system: a private key of X25519, or a seed."""
    return os.urandom(32)


def private_key(secret: bytes) -> PrivateKey:
    """The private key of X25519 that 32 bytes are. Load it once: that takes as long as an agreement."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_key(secret: bytes) -> bytes:
    """The public key of X25519 (RFC 7748) that belongs to a private one, 32 bytes each."""
    return private_key(secret).public_key().public_bytes_raw()


def agreed(private: PrivateKey, public: bytes) -> bytes:
    """The secret that two clients share: X25519 (RFC 7748) of one's private and the other's public key.

    Raises Refusal for a public key that leaves no secret (a point of small order).
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Refusal("a neighbour's public key is not one") from error


def derived(secret: bytes, *, purpose: bytes, salt: bytes | None = None, length: int = 32) -> bytes:
    """A key for one purpose: HKDF with SHA-256 (RFC 5869)."""
    return HKDF(SHA256(), length=length, salt=salt, info=purpose).derive(secret)


def own_mask(seed: bytes, *, round: int, client: int, like: Words) -> Words:
    """The mask that a client adds for itself, as many words as `like`."""
    purpose = b"fedmodel own mask" + _numbers(round, client)
    return _key_stream(derived(seed, purpose=purpose), like)


def pair_mask(
    private: PrivateKey, public: bytes, *, round: int, client: int, other: int, like: Words
) -> Words:
    """The mask of a pair, as many words as `like`: the lower number adds it, the higher takes it off."""
    pair = _numbers(round, min(client, other), max(client, other))
    key = derived(agreed(private, public), purpose=b"fedmodel pair mask" + pair)
    mask = _key_stream(key, like)
    return mask if client < other else np.negative(mask)


def seal(
    private: PrivateKey, public: bytes, text: bytes, *, round: int, sender: int, recipient: int
) -> bytes:
    """A text that only the recipient can read and nobody can change: ChaCha20-Poly1305 (RFC 8439).

    The key serves one box, as its purpose names round, sender and recipient; hence the constant nonce.
    """
    key, label = _box_key(private, public, round, sender, recipient)
    return ChaCha20Poly1305(key).encrypt(bytes(12), text, label)


def open_box(
    private: PrivateKey, public: bytes, box: bytes, *, round: int, sender: int, recipient: int
) -> bytes:
    """The text of a box; raises Refusal if it was changed, or is another's."""
    key, label = _box_key(private, public, round, sender, recipient)
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), box, label)
    except InvalidTag:
        raise Refusal(f"the box from client {sender} does not open: it was changed") from None


def _box_key(
    private: PrivateKey, public: bytes, round: int, sender: int, recipient: int
) -> tuple[bytes, bytes]:
    label = b"fedmodel shares" + _numbers(round, sender, recipient)
    return derived(agreed(private, public), purpose=label), label


def _key_stream(key: bytes, like: Words) -> Words:
    """ChaCha20's key stream (RFC 8439) as words, for a key that is used for nothing else."""
    cipher = Cipher(algorithms.ChaCha20(key, nonce=bytes(16)), mode=None)
    stream = cipher.encryptor().update(bytes(like.nbytes))
    return np.frombuffer(stream, like.dtype.newbyteorder("<")).astype(like.dtype, copy=False)


def _numbers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()

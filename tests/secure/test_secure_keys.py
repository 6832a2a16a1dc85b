"""Known answers: RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8439 (ChaCha20); and boxes that were changed."""

import numpy as np
import pytest

from fedmodel.secure.keys import (
    Refusal,
    agreed,
    derived,
    new_secret,
    open_box,
    own_mask,
    pair_mask,
    private_key,
    public_key,
    seal,
)

# RFC 7748, section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_x25519_known_answers():
    assert public_key(ALICE).hex() == ALICE_PUBLIC
    assert public_key(BOB).hex() == BOB_PUBLIC
    assert agreed(private_key(ALICE), bytes.fromhex(BOB_PUBLIC)).hex() == SHARED
    assert agreed(private_key(BOB), bytes.fromhex(ALICE_PUBLIC)).hex() == SHARED


@pytest.mark.parametrize("public", [bytes(32), bytes([1]) + bytes(31), b"short"])
def test_a_public_key_that_leaves_no_secret_is_refused(public):
    with pytest.raises(Refusal, match="not one"):
        agreed(private_key(ALICE), public)


# RFC 5869, appendix A.1 to A.3
HKDF = {
    "basic": (
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "long": (
        bytes(range(80)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    "no salt": (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}


@pytest.mark.parametrize(("secret", "salt", "purpose", "key"), HKDF.values(), ids=[*HKDF])
def test_hkdf_known_answers(secret, salt, purpose, key):
    found = derived(
        bytes.fromhex(secret),
        purpose=bytes.fromhex(purpose),
        salt=bytes.fromhex(salt) or None,
        length=len(key) // 2,
    )
    assert found.hex() == key


def test_a_mask_is_the_key_stream_of_chacha20(monkeypatch):
    """RFC 8439, appendix A.1, test vector 1: the zero key."""
    monkeypatch.setattr("fedmodel.secure.keys.derived", lambda secret, *, purpose: bytes(32))
    mask = own_mask(b"", round=1, client=0, like=np.zeros(16, np.uint32))
    assert mask.astype("<u4").tobytes().hex() == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_the_two_masks_of_a_pair_cancel_and_no_two_pairs_or_rounds_share_one(dtype):
    like = np.zeros(50, dtype)
    secrets = [new_secret() for _ in range(3)]

    def mask(one, other, round=1):
        public = public_key(secrets[other])
        key = private_key(secrets[one])
        return pair_mask(key, public, round=round, client=one, other=other, like=like)

    assert mask(0, 1).dtype == like.dtype
    assert not (mask(0, 1) + mask(1, 0)).any()
    seen = [mask(0, 1), mask(0, 2), mask(1, 2), mask(0, 1, round=2)]
    seen += [own_mask(secrets[0], round=1, client=0, like=like)]
    assert len({one.tobytes() for one in seen}) == len(seen)


def test_a_box_opens_for_its_recipient_only_and_whole():
    one, other, third = (new_secret() for _ in range(3))
    place = {"round": 4, "sender": 1, "recipient": 2}
    box = seal(private_key(one), public_key(other), b"shares", **place)
    key, sender = private_key(other), public_key(one)
    assert open_box(key, sender, box, **place) == b"shares"
    wrong = [
        (key, sender, box, {**place, "round": 5}),
        (key, sender, box, {**place, "sender": 2, "recipient": 1}),
        (private_key(third), sender, box, place),
        (key, public_key(third), box, place),
        (key, sender, bytes([box[0] ^ 1]) + box[1:], place),
        (key, sender, box[:-1], place),
    ]
    for key, sender, box, where in wrong:
        with pytest.raises(Refusal, match="does not open"):
            open_box(key, sender, box, **where)

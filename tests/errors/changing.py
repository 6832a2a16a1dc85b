"""Pieces of experiment files, and a file with one of its lines changed."""

from __future__ import annotations

STRATEGY = '\n[strategy]\nname = "compose"\n'
ENGINE = "\n[engine]\n"
PRIVACY = "\n[privacy]\nepsilon = 3.0\ndelta = 1e-3\n"


def changed(experiment: str, old: str, new: str) -> str:
    """The experiment with its only `old` replaced."""
    assert experiment.count(old) == 1
    return experiment.replace(old, new)

"""What a run was made with, so that somebody else can make it again."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from fedmodel.types import FederatedData

__all__ = ["fingerprint", "make_manifest"]

PACKAGES = ("fedmodel", "flwr", "torch", "opacus", "ray", "numpy", "pandas", "flwr-datasets")


def make_manifest(*, seed: int, engine: str, data: FederatedData, base: Path) -> dict[str, Any]:
    """Versions, seed, fingerprint of the encoded data, state of the git tree at `base`, hardware."""
    return {
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in PACKAGES}},
        "command": _command(),
        "seed": seed,
        "engine": engine,
        "data_fingerprint": fingerprint(data),
        "records_fingerprint": data.origin,
        "split_fingerprint": data.parts,
        "git": _git(base),
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": psutil.cpu_count(logical=True),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "finished": False,
        "notes": [],
    }


def fingerprint(data: FederatedData) -> str:
    """A hash of all records as the clients hold them, of their order and split."""
    digest = blake2b(digest_size=16)
    for tensor in (data.x, data.y, data.group, data.bounds):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    digest.update("\0".join(data.clients).encode())
    return digest.hexdigest()


def _command() -> str:
    """What was typed: the console script and `python -m fedmodel.cli` alike read `fedmodel ...`."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    program = "fedmodel" if name in ("fedmodel", "cli.py") else name
    return shlex.join([program or "python", *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    return (
        None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""What a run was made with, so that somebody else can make it again."""

from __future__ import annotations

import json
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

from fedmodel.errors import FedmodelError
from fedmodel.types import FederatedData

__all__ = ["FORMAT", "changed_versions", "fingerprint", "make_manifest", "processor"]
__all__ += ["read_manifest", "start_model", "surroundings"]

FORMAT = 1  # of run folders; a change that older versions cannot read adds one

PACKAGES = ("fedmodel", "flwr", "torch", "opacus", "ray", "numpy", "pandas", "flwr-datasets")


def make_manifest(*, seed: int, engine: str, data: FederatedData, base: Path) -> dict[str, Any]:
    """The manifest of one run: its seed, a fingerprint of the encoded data, and `surroundings`."""
    return {
        "seed": seed,
        "data_fingerprint": fingerprint(data),
        "test_fingerprint": fingerprint_of_tested(data),
        "records_fingerprint": data.origin,
        "split_fingerprint": data.parts,
        **surroundings(engine=engine, base=base),
    }


def surroundings(*, engine: str, base: Path) -> dict[str, Any]:
    """Versions, command, state of the git tree at `base`, hardware, and a run's beginning."""
    return {
        "format": FORMAT,
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in PACKAGES}},
        "command": _command(),
        "engine": engine,
        "git": _git(base),
        "hardware": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": psutil.cpu_count(logical=True),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "finished": False,
        "notes": [],
    }


def start_model(given: str, copy: Path) -> dict[str, str]:
    """What the run started from, as it was given, and a hash of the copy in the run folder."""
    return {"given": given, "hash": blake2b(copy.read_bytes(), digest_size=16).hexdigest()}


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        FedmodelError: it is damaged, or of a format that is newer than this version.
    """
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        newer = manifest.get("format", 1) > FORMAT
    except (ValueError, AttributeError, TypeError) as error:
        raise FedmodelError(
            f"the manifest of this run cannot be read: {error}",
            where=str(file),
            fix="Put it back as it was; the tables beside it are Parquet files that pandas reads.",
        ) from None
    if newer:
        raise FedmodelError(
            f"this run folder is of format {manifest['format']}, and fedmodel "
            f"{_version('fedmodel')} reads formats up to {FORMAT}",
            where=str(file),
            fix=f"Use fedmodel {manifest.get('versions', {}).get('fedmodel', 'of a later version')}, "
            "which wrote it. Nothing in the folder was changed.",
        )
    return manifest


def changed_versions(manifest: dict[str, Any], *, where: Path) -> list[str]:
    """What to note where a run goes on with other packages than it began with.

    Raises:
        FedmodelError: with another fedmodel: it may draw and count in another way.
    """
    begun, now = manifest.get("versions", {}), {n: _version(n) for n in PACKAGES}
    if begun.get("fedmodel") != now["fedmodel"]:
        raise FedmodelError(
            f"this run was begun with fedmodel {begun.get('fedmodel')}, and this is "
            f"{now['fedmodel']}: its rounds may be drawn in another way",
            where=str(where),
            fix=f"Go on with fedmodel {begun.get('fedmodel')}, or start the experiment anew. What is "
            "finished can be read as it is, and was not changed.",
        )
    other = [f"{n} {begun[n]} became {now[n]}" for n in PACKAGES if begun.get(n, now[n]) != now[n]]
    return [f"Resumed with other versions: {', '.join(other)}."] if other else []


def fingerprint(data: FederatedData) -> str:
    """A hash of all records as the clients hold them, of their order and split."""
    digest = blake2b(digest_size=16)
    for tensor in (data.x, data.y, data.group, data.bounds):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    digest.update("\0".join(data.clients).encode())
    return digest.hexdigest()


def fingerprint_of_tested(data: FederatedData) -> str:
    """A hash of who is tested where: labels and groups of the test records, client by client.

    Poisoned training labels and another encoding leave it as it is.
    """
    edges = torch.zeros(len(data.y) + 1, dtype=torch.int64)
    edges.index_add_(0, data.bounds[:, 2], torch.ones(data.num_clients, dtype=torch.int64))
    edges.index_add_(0, data.bounds[:, 3], -torch.ones(data.num_clients, dtype=torch.int64))
    tested = edges.cumsum(0)[:-1] > 0
    digest = blake2b(digest_size=16)
    for tensor in (data.y[tested], data.group[tested], data.sizes("test")):
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


def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""What a bug report needs: versions, machine, settings; no names, no paths."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

from fedmodel import __version__
from fedmodel.errors import what_failed
from fedmodel.terminal import out

__all__ = ["any_command", "doctor", "tested_versions"]

SWITCHES = (
    "FLWR_TELEMETRY_ENABLED",
    "FLWR_DISABLE_UPDATE_CHECK",
    "RAY_USAGE_STATS_ENABLED",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
)


def _tell_version(asked: bool) -> None:
    if asked:
        out.print(f"fedmodel {__version__}")
        raise typer.Exit


def any_command(
    version_: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_tell_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


def doctor(
    ray: Annotated[
        bool, typer.Option("--ray", help="Also start a Ray worker; takes some seconds.")
    ] = False,
) -> None:
    """Print what a bug report needs: versions, machine, settings. No names, no paths."""
    for name, find in _findings(ray=ray):
        try:
            found = find()
        except Exception as error:  # a fault of the installation is what it is here to tell
            found = f"FAILED: {what_failed(error)}"
        out.print(f"{name:<15} {found}", markup=False, soft_wrap=True)


def tested_versions() -> dict[str, str]:
    """The versions that were tested together, by package."""
    file = files("fedmodel") / "tested_versions.txt"
    text = file.read_text(encoding="utf-8")
    if "==" not in text:  # a checkout on a system that makes text files of links
        text = (Path(str(file)).parent / text.strip()).read_text(encoding="utf-8")
    pins = (line.split("==") for line in text.splitlines() if "==" in line)
    return {name.strip(): pin.strip() for name, pin in pins}


def _findings(*, ray: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each line's name, and what finds it."""
    yield "fedmodel", lambda: version("fedmodel")
    yield "python", lambda: f"{platform.python_version()} ({platform.python_implementation()})"
    yield "packages", _packages
    yield "not as tested", _differences
    yield "missing", _missing
    yield "platform", platform.platform
    yield "processor", _processor
    yield "memory", _memory
    yield "gpu", _gpu
    yield "torch threads", _threads
    yield "numba cache", _numba_cache
    yield "switches", lambda: ", ".join(f"{name}={os.environ.get(name)}" for name in SWITCHES)
    yield "working folder", _folder
    if ray:
        yield "ray", _ray


def _packages() -> str:
    from fedmodel.runs.manifest import PACKAGES

    return ", ".join(
        f"{name} {_version(name) or 'none'}" for name in PACKAGES if name != "fedmodel"
    )


def _differences() -> str:
    installed = {name: (_version(name), pin) for name, pin in tested_versions().items()}
    others = [
        f"{name} {found} (tested {pin})"
        for name, (found, pin) in installed.items()
        if found is not None and found.partition("+")[0] != pin
    ]
    return ", ".join(others) or "nothing"


def _missing() -> str:
    """Packages that fedmodel cannot do without."""
    needed = [line for line in requires("fedmodel") or [] if "extra ==" not in line]
    names = [re.split(r"[^\w.-]", line)[0] for line in needed]
    return ", ".join(name for name in names if _version(name) is None) or "nothing"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    from fedmodel.runs.manifest import processor

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {os.cpu_count()} cores, {usable} usable"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use"
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return f"{', '.join(names)}; CUDA {torch.version.cuda}"


def _threads() -> str:
    import torch

    return f"{torch.get_num_threads()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"


def _numba_cache() -> str:
    from numba import njit

    try:
        njit(_numba_cache, cache=True)  # it looks for a place, and compiles nothing yet
    except RuntimeError:
        return "nowhere to write: each process compiles for itself"
    return "writable"


def _folder() -> str:
    try:
        with TemporaryFile(dir=Path.cwd()) as file:
            file.write(b"x")
        can = "writable"
    except OSError as error:
        can = f"NOT writable: {error.strerror}"
    return f"{can}, {shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free on its disk"


def _ray() -> str:
    import ray

    begun = time.perf_counter()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=1, include_dashboard=False, **quiet)
    try:
        answer = ray.get(ray.remote(platform.python_version).remote(), timeout=60)
    finally:
        ray.shutdown()
    return f"starts, and a worker answers from Python {answer}, {time.perf_counter() - begun:.0f} s"

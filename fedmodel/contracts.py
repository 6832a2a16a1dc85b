"""Whether a component keeps to the rules of its kind: ours in the tests, anybody's by `fedmodel check`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp.strategy import Strategy
from torch import nn

from fedmodel.catalogue import KINDS, Component
from fedmodel.data.records import Records
from fedmodel.errors import FedmodelError, nearest, plugin_fault, shown
from fedmodel.rules import RULES, Broken, sample_updates

__all__ = ["Finding", "check_component", "check_plugin", "kind_of", "plausible_options"]


@dataclass(frozen=True)
class Finding:
    """One rule, and whether it is kept."""

    what: str
    passed: bool
    detail: str = ""


def check_plugin(
    plugin: str, *, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[str, list[Finding]]:
    """Try a plug-in (`file.py:name` or `package.module:name`) against the rules of its kind.

    Raises:
        FedmodelError: it cannot be found or imported, or its kind cannot be told.
    """
    if ":" not in plugin:
        raise FedmodelError(f"{shown(plugin)} names no function", fix="Write FILE.py:NAME.")
    function = KINDS["metric"].find(plugin, base=Path.cwd())
    kind = kind or kind_of(function)
    if kind not in KINDS:
        raise FedmodelError(
            f"there is no kind {shown(kind)}", fix=nearest(kind, KINDS, what="the kinds are")
        )
    chosen = {**plausible_options(KINDS[kind].schema(function), options or {}), **(options or {})}
    component = KINDS[kind].bind({"name": plugin, **chosen}, base=Path.cwd())
    return kind, check_component(component)


def check_component(component: Component) -> list[Finding]:
    """Every rule of the component's kind, tried on small data."""
    findings = [_documented(component)]
    for rule in RULES[component.kind]:
        what = (rule.__doc__ or rule.__name__).strip().splitlines()[0]
        try:
            rule(component)
            findings.append(Finding(what, True))
        except Broken as broken:
            findings.append(Finding(what, False, str(broken)))
        except FedmodelError as error:
            findings.append(Finding(what, False, f"it refused: {error.problem}"))
        except Exception as error:
            findings.append(Finding(what, False, plugin_fault(error)))
    return findings


def kind_of(function: Callable[..., Any]) -> str:
    """The kind that a signature tells.

    Raises:
        FedmodelError: it tells none.
    """
    parameters = inspect.signature(function).parameters
    if inspect.isclass(function):
        if issubclass(function, nn.Module):
            return "model"
        if issubclass(function, Strategy):
            return "strategy"
        if hasattr(function, "train"):
            return "client"
    for keyword, kind in (
        ("own", "attack"),
        ("labels", "attack"),
        ("reports", "weighting"),
        ("confusion", "metric"),
        ("memory", "optimiser"),
        ("records", "partitioner"),
        ("num_classes", "model"),
        ("vocabulary", "model"),
        ("experiment", "audit"),
        ("round", "schedule"),
    ):
        if keyword in parameters:
            return kind
    if "delta" in parameters:
        bound = Component(
            "aggregator", "", function, plausible_options(KINDS["aggregator"].schema(function), {})
        )
        with suppress(Exception):  # what is wrong, the rules of an aggregator will tell
            return (
                "transform"
                if bound(sample_updates(), weights=torch.ones(len(sample_updates()))).dim() == 2
                else bound.kind
            )
        return bound.kind
    if inspect.signature(function).return_annotation in ("Records", Records):
        return "dataset"
    raise FedmodelError(
        f"the signature of {getattr(function, '__name__', function)} does not tell what it is",
        fix=f"Name its first parameter as its kind does (delta, own, reports, ...), or give "
        f"--kind: {', '.join(KINDS)}.",
    )


def _documented(component: Component) -> Finding:
    what = "its docstring says what it does"
    doc = inspect.getdoc(component.function) or ""
    own = doc and doc != inspect.getdoc(nn.Module)
    return Finding(what, bool(own), "write a first line that says what it does, and the source")


def plausible_options(
    schema: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Something plausible for options that have no default."""
    plausible = {"clients": 3, "learning_rate": 0.1, "bound": 1.0, "label": "y"}
    by_type = {"int": 2, "float": 0.1, "str": "y", "bool": False}
    return {
        name: plausible.get(
            name, by_type.get(str(getattr(p.annotation, "__name__", p.annotation)), 1)
        )
        for name, p in schema.items()
        if p.default is p.empty and name not in given
    }

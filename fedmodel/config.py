"""An experiment file as frozen, typed values; every mistake named with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from fedmodel.errors import FedmodelError, marked_line, nearest, shown, wanted
from fedmodel.source import Source

__all__ = ["AdaptiveClip", "Config", "Section", "Source", "Targets", "changes_of", "explain"]
__all__ += ["parsed", "read_config"]

# What pydantic adds to a fault's place to name the branch of a union; it is no key of the file.
_UNION_BRANCH = r"[\[\]() ]|^(float|int|str|bool|dict|AdaptiveClip|Targets)$|^constrained-"

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A table of the experiment file with fixed keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Open(Section):
    """A table that names a component and may hold that component's options beside the fixed keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: str

    @property
    def spec(self) -> dict[str, Any]:
        """The name and the options, as the catalogue takes them."""
        return {"name": self.name, **(self.__pydantic_extra__ or {})}


class Data(Open):
    """[data]: the data set, how it is encoded and split."""

    encode: Literal["pooled", "client", "private", "public", "none"] = "pooled"
    test: Share = 0.2
    validation: Share = 0.0
    ranges: dict[str, list[Any]] = {}
    encoder: str | None = None  # of a run, in place of one fitted here


class Model(Open):
    """[model]: the model; `init` is the file of one to start from."""

    init: str | None = None


class Client(Open):
    """[client]: the client behaviour; `dropout` is the share of sampled clients lost each round,
    `schedule` how its learning rate goes from round to round."""

    dropout: Share = 0.0
    schedule: str | dict[str, Any] | None = None


class AdaptiveClip(Section):
    """A bound that follows a quantile of the updates' norms (Andrew et al., NeurIPS 2021)."""

    initial: Annotated[float, Field(gt=0)] = 1.0
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.5
    learning_rate: Annotated[float, Field(gt=0)] = 0.2
    count_noise: Annotated[float, Field(gt=0)] | None = None  # standard deviation, in clients


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Targets(Section):
    """`epsilon` as a table: each client's own target, `uniform` in a range, one of `values` by
    `shares` (default: equal), or by a `rule`, a function of the clients' sizes [K]."""

    uniform: list[Positive] | None = None
    values: list[Positive] | None = None
    shares: list[float] | None = None
    rule: str | None = None


Epsilon = Annotated[
    Annotated[Positive, Tag("float")] | Annotated[Targets, Tag("Targets")],
    Discriminator(lambda value: "Targets" if isinstance(value, dict | Targets) else "float"),
]


class Privacy(Section):
    """[privacy]: what is promised to whom. The clip bounds the norm of one record's gradient, or,
    with `unit = "client"`, of one client's update."""

    unit: Literal["record", "client"] = "record"
    mode: Literal["central", "local", "distributed"] | None = None
    epsilon: Epsilon | None = None
    epsilon_column: str | None = None
    noise_multiplier: Positive | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] | AdaptiveClip = 1.0
    participations: Annotated[int, Field(ge=1)] | None = None
    accountant: Literal["prv", "rdp", "gdp"] = "prv"
    noise: Literal["seeded", "secure"] = "seeded"
    encoding_epsilon: Positive | None = None  # what [data] encode = "private" alone may cost


class SecureAggregation(Section):
    """[secure_aggregation]: the server learns the sum of the updates, and no single one.

    Values of updates are cut to [-bound, bound] and sent in 2^bits steps.
    """

    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    bits: Annotated[int, Field(ge=2, le=32)] = 20
    neighbours: Annotated[int, Field(ge=2)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 2 / 3


class Attack(Open):
    """[attack]: what the dishonest clients do; `clients` is a share or a list of their ids."""

    clients: Annotated[float, Field(gt=0, lt=1)] | list[str | int] = 0.1


Levels = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]


class SeverityTable(Section):
    """[evaluation.severity]: levels of what is done to test records, every so many rounds or at the end."""

    feature_noise: Annotated[list[Positive], Field(min_length=1)] | None = None
    missing_features: Levels | None = None
    typos: Levels | None = None
    every: Annotated[int, Field(ge=1)] | None = None


class Stop(Section):
    """[evaluation.stop]: end the run after `patience` evaluations in which the metric on validation
    records is no more than `min_delta` better than the best before."""

    metric: Literal["loss", "accuracy", "balanced_accuracy", "roc_auc"] = "loss"
    patience: Annotated[int, Field(ge=1)] = 5
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Evaluation(Section):
    """[evaluation]: how often, what beside the built-in metrics, and against which references.

    With `epsilon` or `noise_multiplier` each client noises its counts before they leave it.
    """

    every: Annotated[int, Field(ge=1)] = 1
    references: list[Literal["pooled", "local", "non_private", "cross_site"]] = []
    metrics: list[str | dict[str, Any]] = []
    severity: SeverityTable | None = None
    epsilon: Positive | None = None  # over all evaluations of the run
    noise_multiplier: Positive | None = None  # standard deviation of the noise, in records
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # default: 1e-5
    noise: Literal["seeded", "secure"] | None = None  # default: seeded
    # From which P(class 1) on a record counts as positive; default: the more probable class.
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["validation"] | None = None
    stop: Stop | None = None
    threshold_by: Literal["balanced_accuracy", "f1"] | None = None  # default: balanced_accuracy

    @property
    def private(self) -> bool:
        return self.epsilon is not None or self.noise_multiplier is not None


class Engine(Section):
    """[engine]: where clients execute. Results do not depend on it."""

    name: Literal["inline", "ray", "flower"] = "inline"
    workers: Annotated[int, Field(ge=1)] | None = None
    address: str | None = None
    device: str = "cpu"  # or "cuda", "cuda:1"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    on_failure: Literal["retry", "drop", "abort"] = "retry"


Seed = Annotated[int, Field(ge=0, lt=2**64)]


class Config(Section):
    """A whole experiment."""

    name: str | None = None
    seed: Seed = 0
    seeds: list[Seed] | None = None  # in place of `seed`: a run with each; `seed` is then the first
    rounds: Annotated[int, Field(ge=0)]  # 0: evaluate `model.init`
    data: Data
    partition: Open = Open(name="natural")
    model: Model
    client: Client
    privacy: Privacy | None = None
    secure_aggregation: SecureAggregation | None = None
    attack: Attack | None = None
    strategy: Open = Open(name="compose")
    evaluation: Evaluation = Evaluation()
    engine: Engine = Engine()


def read_config(
    path: Path | str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, Source, dict[str, Any]]:
    """The configuration in a file (or a mapping), after dotted overrides; with its source and raw form.

    Raises:
        FedmodelError: no such file, broken TOML, unknown key, wrong type, missing section.
    """
    if isinstance(path, Mapping):
        source, raw = Source(None, ""), _copy(path)
    else:
        path = Path(path)
        raw, text = parsed(path)
        source = Source(path, text, frozenset(overrides or ()))
    for key, value in (overrides or {}).items():
        _override(raw, key, value)
    if "seeds" in (overrides or {}) and "seed" not in (overrides or {}):
        raw.pop("seed", None)  # the file's one seed gives way to several
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise explain(error, source) from None
    if config.seeds is not None:
        _check_seeds(config.seeds, raw, source, given="seed" in (overrides or {}))
        config = config.model_copy(update={"seed": config.seeds[0]})
    return config, source, raw


def parsed(path: Path) -> tuple[dict[str, Any], str]:
    """What is in a TOML file, and its text.

    Raises:
        FedmodelError: it is not there or no TOML; with the line.
    """
    text = _text(path)
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, text, str(error)) from None


def _check_seeds(seeds: list[int], raw: Mapping[str, Any], source: Source, *, given: bool) -> None:
    """Refuse seeds that clash; `given` says that `seed` is an override."""
    if "seed" in raw:
        raise FedmodelError(
            "`seed` and `seeds` are both given",
            where="--seed, or --set seed" if given else source.where("seed"),
            fix="Leave it out, or take `seeds` out of the experiment."
            if given
            else "Keep `seed` for one run, or `seeds` for a run with each.",
        )
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise FedmodelError(
            f"seed {twice} is listed twice: the second run would be the first one again",
            where=source.where("seeds"),
            fix="List each seed once.",
        )
    if len(seeds) < 2:
        raise FedmodelError(
            "`seeds` lists fewer than two seeds, and one run has no interval",
            where=source.where("seeds"),
            fix="List two or more, or write e.g. `seed = 1` for one run.",
        )


def changes_of(
    overrides: Mapping[str, Any], *, engine: str | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Overrides by dotted key, with the engine and the seed among them.

    Another engine than the file's leaves the settings behind that were meant for the file's.
    """
    changes = dict(overrides)
    if engine is not None:
        changes = {"engine.name": engine, "engine.address": None, **changes}
        if engine == "inline":
            changes = {"engine.workers": None, **changes}
    if seed is not None:
        changes["seed"] = seed
    return changes


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _text(path: Path) -> str:
    """What is in an experiment file."""
    fix = "Give the path of an experiment file (.toml); `fedmodel run --help` shows one."
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FedmodelError(f"{path} {what}", fix=fix)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FedmodelError(f"{path} is not a text in UTF-8", fix=fix) from None
    except OSError as error:
        raise FedmodelError(f"{path} cannot be read: {error.strerror}", fix=fix) from None
    if not text.strip():
        raise FedmodelError(f"{path} is empty", fix=fix)
    return text


def _broken(path: Path, text: str, message: str) -> FedmodelError:
    """What `tomllib` found, at its line."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    lines = text.rstrip("\n").split("\n")
    number = min(int(found[1]), len(lines)) if found and found[1] else len(lines)
    column = int(found[2]) - 1 if found and found[2] else len(lines[-1])
    reason = message[: found.start()] if found else message
    # It writes the tables of a key as a tuple.
    reason = re.sub(
        r"\(('.*'),?\)", lambda m: f"[{m[1].replace(chr(39), '').replace(', ', '.')}]", reason
    )
    twice = "twice" in reason or "overwrite" in reason
    return FedmodelError(
        f"{path.name} is not valid TOML: {reason[:1].lower()}{reason[1:]}",
        where=marked_line(path.name, number, lines[number - 1], column, 1),
        fix="A table or a key may be there once: write all of it in one place."
        if twice
        else 'Text needs quotes, e.g. name = "adult"; a table starts with a line like [data].',
    )


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, last = dotted.split(".")
    if not all((*tables, last)):
        raise FedmodelError(
            f"{shown(dotted)} is not a dotted key",
            where=f"--set {dotted}",
            fix="Write the table, a dot and the key, e.g. client.learning_rate.",
        )
    for number, name in enumerate(tables, 1):
        raw = raw.setdefault(name, {})
        if not isinstance(raw, dict):
            raise FedmodelError(
                f"`{'.'.join(tables[:number])}` is not a table, so it has no key `{last}`",
                where=f"--set {dotted}",
                fix="Name a key of a table, e.g. client.learning_rate.",
            )
    if value is None:
        raw.pop(last, None)
    else:
        raw[last] = value


def explain(
    error: ValidationError,
    source: Source,
    *,
    root: type[BaseModel] | None = None,
    whole: str = "the experiment",
) -> FedmodelError:
    """The first fault that pydantic found, in our words and at its line.

    `root` is the model of the `whole` file; default: an experiment.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    keys = _keys(fault["loc"])
    if isinstance(fault["input"], Mapping):  # a number or a table: the fault is inside the table
        below = (f for f in faults if _keys(f["loc"])[:-1] == keys)
        fault = next(below, fault)
        keys = _keys(fault["loc"])
    name, table = str(keys[-1]), ".".join(map(str, keys[:-1]))
    place = f"[{table}]" if table else whole
    if fault["type"] == "extra_forbidden":
        section: Any = root or Config
        for key in keys[:-1]:
            section = _section(section, str(key))
        known = section.model_fields if section else {}
        return FedmodelError(
            f"{place} has no key `{name}`",
            where=source.where(*keys),
            fix=nearest(name, known, what=f"{place} takes"),
        )
    if fault["type"] == "missing":
        example = f'{name} = "..."' if keys[:-1] else f'a table [{name}] with name = "..."'
        if name == "rounds":
            example = "e.g. rounds = 20"
        return FedmodelError(
            f"{place} needs `{name}`", where=source.where(*keys[:-1]), fix=f"Add {example}."
        )
    dotted = ".".join(key for key in keys if isinstance(key, str))
    verb = "hold" if isinstance(keys[-1], int) else "be"
    messages = [f["msg"] for f in faults if _keys(f["loc"]) == keys]
    return FedmodelError(
        f"`{dotted}` cannot {verb} {shown(fault['input'])}",
        where=source.where(*keys),
        fix="It should be a table with keys of its own."
        if fault["type"] == "model_type"
        else wanted(messages),
    )


def _keys(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The keys of a fault's place, without the branches of unions."""
    return tuple(key for key in place if isinstance(key, int) or not re.search(_UNION_BRANCH, key))


def _section(section: Any, key: str) -> Any:
    if section and key not in section.model_fields:
        return section  # the name of one table of several
    waiting = [section.model_fields[key].annotation if section else None]
    while waiting:
        candidate = waiting.pop(0)
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
        waiting += get_args(candidate)
    return None

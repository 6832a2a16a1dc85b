"""An experiment file as frozen, typed values; every mistake named with its line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

__all__ = ["LEAST_CLIP", "MOST_CLIP", "AdaptiveClip", "Config", "Section", "Targets"]


Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Text = Annotated[str, Field(min_length=1)]
# Clipped and noised in float32, which beyond these would lose the noise, or the bound.
LEAST_CLIP, MOST_CLIP = 1e-9, 1e9
Clip = Annotated[float, Field(ge=LEAST_CLIP, le=MOST_CLIP)]


class Section(BaseModel):
    """A table of the experiment file with fixed keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Open(Section):
    """A table that names a component and may hold that component's options beside the fixed keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
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
    encoder: Text | None = None  # of a run, in place of one fitted here


class Model(Open):
    """[model]: the model; `init` is the file of one to start from."""

    init: Text | None = None


class Client(Open):
    """[client]: the client behaviour; `dropout` is the share of sampled clients lost each round,
    `schedule` how its learning rate goes from round to round."""

    dropout: Share = 0.0
    schedule: str | dict[str, Any] | None = None


class AdaptiveClip(Section):
    """A bound that follows a quantile of the updates' norms (Andrew et al., NeurIPS 2021)."""

    initial: Clip = 1.0
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.5
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.2
    count_noise: Annotated[float, Field(gt=0)] | None = None  # standard deviation, in clients


Positive = Annotated[float, Field(gt=0)]


class Targets(Section):
    """`epsilon` as a table: each client's own target, `uniform` in a range, one of `values` by
    `shares` (default: equal), or by a `rule`, a function of the clients' sizes [K]."""

    uniform: list[Positive] | None = None
    values: list[Positive] | None = None
    shares: list[float] | None = None
    rule: Text | None = None


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
    epsilon_column: Text | None = None
    noise_multiplier: Positive | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Clip | AdaptiveClip = 1.0
    participations: Annotated[int, Field(ge=1)] | None = None
    accountant: Literal["prv", "rdp", "gdp"] = "prv"
    noise: Literal["seeded", "secure"] = "seeded"
    encoding_epsilon: Positive | None = None  # what [data] encode = "private" alone may cost


class SecureAggregation(Section):
    """[secure_aggregation]: the server learns the sum of the updates, and no single one.

    Values of updates are cut to [-bound, bound] and sent in 2^bits steps.
    """

    bound: Clip = 1.0
    bits: Annotated[int, Field(ge=2, le=32)] = 20
    neighbours: Annotated[int, Field(ge=2)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 2 / 3


class Attack(Open):
    """[attack]: what the dishonest clients do; `clients` is a share or a list of their ids."""

    clients: (
        Annotated[float, Field(gt=0, lt=1)] | Annotated[list[str | int], Field(min_length=1)]
    ) = 0.1


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
    min_delta: Annotated[float, Field(ge=0)] = 0.0


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
    address: Text | None = None
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

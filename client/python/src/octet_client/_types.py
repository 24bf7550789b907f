"""What a client asks and gets: plain values."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np

Parameter = Union[bool, int, float, str]


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    name: str
    datatype: str  # as the server names it: "FP32", "BYTES"
    shape: tuple[int, ...]  # -1 where free; with the batch dimension


@dataclasses.dataclass(frozen=True)
class ServerMetadata:
    name: str
    version: str
    extensions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclasses.dataclass(frozen=True)
class ModelState:
    """A line of the repository's index: a model, or a variant of it ("resnet50@int8")."""
    name: str
    version: str
    state: str  # "READY", "UNAVAILABLE", ...
    reason: str  # why it is not ready


@dataclasses.dataclass(frozen=True)
class InferRequest:
    model: str  # "resnet50", or "resnet50@int8" for one variant of an Octet server
    inputs: Mapping[str, np.ndarray[Any, Any]]  # with the batch dimension
    variant: str = ""  # the same as "@variant" behind the model's name
    version: str = ""  # "": the server chooses
    id: str = ""  # echoed
    outputs: Sequence[str] = ()  # names; empty: all
    parameters: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class InferResult:
    model: str
    version: str
    id: str
    outputs: Mapping[str, np.ndarray[Any, Any]]  # read-only views of the reply's bytes; copy() to write
    parameters: Mapping[str, Parameter]

    @property
    def variant(self) -> str:
        """Which variant answered; "" from a server that has none."""
        return str(self.parameters.get("variant", ""))

    def __getitem__(self, output: str) -> np.ndarray[Any, Any]:
        return self.outputs[output]


@dataclasses.dataclass(frozen=True)
class DurationStatistic:
    count: int
    seconds: float  # in total


@dataclasses.dataclass(frozen=True)
class ModelStatistics:
    name: str
    version: str
    inference_count: int  # rows
    execution_count: int  # batches
    success: DurationStatistic
    fail: DurationStatistic
    queue: DurationStatistic
    compute_infer: DurationStatistic
    memory_bytes: Mapping[str, int]  # by kind: "weights", "activations", ...

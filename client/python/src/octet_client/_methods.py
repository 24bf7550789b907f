"""The unary methods of both clients, apart from how they are called: what each sends and what its answer means."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from . import _calls, _figures
from ._figures import Version
from ._types import InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics, ServerMetadata

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    request: Any
    result: Callable[[Any], T]  # of the answer


def _done(_: Any) -> None:
    return None


def live() -> Call[bool]:
    return Call("ServerLive", _calls.empty("ServerLiveRequest"), lambda answer: bool(answer.live))


def ready() -> Call[bool]:
    return Call("ServerReady", _calls.empty("ServerReadyRequest"), lambda answer: bool(answer.ready))


def model_ready(model: str, version: str) -> Call[bool]:
    return Call("ModelReady", _calls.named("ModelReadyRequest", model, version), lambda answer: bool(answer.ready))


def server_metadata() -> Call[ServerMetadata]:
    return Call("ServerMetadata", _calls.empty("ServerMetadataRequest"), _calls.server_metadata_of)


def metadata(model: str, version: str) -> Call[ModelMetadata]:
    return Call("ModelMetadata", _calls.named("ModelMetadataRequest", model, version), _calls.metadata_of)


def statistics(model: str, version: str) -> Call[list[ModelStatistics]]:
    return Call("ModelStatistics", _calls.named("ModelStatisticsRequest", model, version), _calls.statistics_of)


def index(only_ready: bool) -> Call[list[ModelState]]:
    return Call("RepositoryIndex", _calls.empty("RepositoryIndexRequest", ready=only_ready), _calls.index_of)


def load(model: str) -> Call[None]:
    return Call("RepositoryModelLoad", _calls.empty("RepositoryModelLoadRequest", model_name=model), _done)


def unload(model: str) -> Call[None]:
    return Call("RepositoryModelUnload", _calls.empty("RepositoryModelUnloadRequest", model_name=model), _done)


def infer(request: InferRequest) -> Call[InferResult]:
    return Call("ModelInfer", _calls.request_message(request), _calls.result_of)


def variants(model: str) -> Call[list[Version]]:
    return Call("ListVariants", _figures.request("ListVariantsRequest", model=model), _figures.versions_of)


def set_primary(model: str, variant: str, version: str) -> Call[Version]:
    return Call("SetPrimary", _figures.request("SetPrimaryRequest", model=model, version=version, variant=variant),
                _figures.version_of)


def set_weights(model: str, weights: Mapping[str, float], version: str) -> Call[Version]:
    request = _figures.request("SetWeightsRequest", model=model, version=version, weights=dict(weights))
    return Call("SetWeights", request, _figures.version_of)


def set_guard(model: str, version: str, variant: str, min_top1_agreement: float | None, min_sqnr_db: float | None,
              recover: bool, compare_fraction: float | None) -> Call[Version]:
    return Call("SetGuard", _figures.guard_request(model, version, variant, min_top1_agreement, min_sqnr_db, recover,
                                                   compare_fraction), _figures.version_of)


def reset_windows(model: str, version: str, variant: str) -> Call[Version]:
    return Call("ResetWindows", _figures.request("ResetWindowsRequest", model=model, version=version, variant=variant),
                _figures.version_of)

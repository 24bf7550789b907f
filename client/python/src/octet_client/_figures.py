"""What Octet's own service (octet.v1) tells: each variant's figures, its agreement with the reference, comparisons."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from . import _protocol


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""
    value: float
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class OutputAgreement:
    output: str
    rows: int
    top1_agreement: Estimate | None  # None: no output of classes
    sqnr_db: Estimate | None
    cosine: float


@dataclasses.dataclass(frozen=True)
class Guard:
    min_top1_agreement: float | None
    min_sqnr_db: float | None
    tripped: bool  # the reference answers
    reason: str  # of the latest trip or recovery
    trips: int
    recoveries: int


@dataclasses.dataclass(frozen=True)
class Pair:
    """A variant against the reference, on live traffic."""
    variant: str
    reference: str
    outputs: tuple[OutputAgreement, ...]  # of the window; empty: nothing compared
    compared: int
    dropped: int
    failed: int
    latency_ratio: float | None  # CPU time of the variant / of the reference
    memory_ratio: float | None  # weights of the variant / of the reference
    guard: Guard | None


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    state: str
    reason: str  # why it is unavailable
    in_memory: bool  # figures are zero when it is not
    memory_bytes: Mapping[str, int]  # by kind; all but "file" are resident
    load_seconds: float
    requests_ok: int
    requests_failed: int
    rows: int
    batches: int
    queue_depth: int
    p50_seconds: float  # of the requests answered in the last minute, from arrival to answer
    p99_seconds: float


@dataclasses.dataclass(frozen=True)
class Version:
    model: str
    version: str
    primary: str
    reference: str  # "": none
    weights: Mapping[str, float]  # share of requests that name no variant; empty: all to the primary
    compare_fraction: float
    variants: tuple[Variant, ...]
    pairs: tuple[Pair, ...]


@dataclasses.dataclass(frozen=True)
class ComparedVariant:
    name: str
    memory_bytes: Mapping[str, int]
    p50_cpu_seconds: float  # of one sample on one thread
    p99_cpu_seconds: float
    outputs: tuple[OutputAgreement, ...]  # with the reference; empty for the reference
    top1_accuracy: float | None  # with labels
    top5_accuracy: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    reference: str
    samples: int
    variants: tuple[ComparedVariant, ...]

    def __getitem__(self, variant: str) -> ComparedVariant:
        return next(v for v in self.variants if v.name == variant)


# ---- messages into values


def versions_of(message: Any) -> list[Version]:
    return [version_of(version) for model in message.models for version in model.versions]


def version_of(message: Any) -> Version:
    return Version(message.model, message.version, message.primary, message.reference, dict(message.weights),
                   message.compare_fraction, tuple(map(_variant, message.variants)), tuple(map(_pair, message.pairs)))


def comparison_of(message: Any) -> Comparison:
    return Comparison(message.reference, message.samples, tuple(
        ComparedVariant(v.variant, _memory(v.memory), v.p50_cpu_seconds, v.p99_cpu_seconds,
                        tuple(map(_agreement, v.outputs)), _optional(v, "top1_accuracy"), _optional(v, "top5_accuracy"))
        for v in message.variants))


def _optional(message: Any, field: str) -> float | None:
    return float(getattr(message, field)) if message.HasField(field) else None


def _memory(message: Any) -> dict[str, int]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _estimate(message: Any, field: str) -> Estimate | None:
    value = getattr(message, field)
    return Estimate(value.value, value.lower, value.upper) if message.HasField(field) else None


def _agreement(message: Any) -> OutputAgreement:
    return OutputAgreement(message.output, message.rows, _estimate(message, "top1_agreement"),
                           _estimate(message, "sqnr_db"), message.cosine)


def _variant(message: Any) -> Variant:
    return Variant(message.name, message.state, message.reason, message.in_memory, _memory(message.memory),
                   message.load_seconds, message.requests_ok, message.requests_failed, message.rows, message.batches,
                   message.queue_depth, message.latency.p50_seconds, message.latency.p99_seconds)


def _pair(message: Any) -> Pair:
    guard = None
    if message.HasField("guard"):
        settings = message.guard.settings
        guard = Guard(_optional(settings, "min_top1_agreement"), _optional(settings, "min_sqnr_db"),
                      message.guard.tripped, message.guard.reason, message.guard.trips, message.guard.recoveries)
    return Pair(message.variant, message.reference, tuple(map(_agreement, message.outputs)), message.compared,
                message.dropped, message.failed, _optional(message, "latency_ratio"),
                _optional(message, "memory_ratio"), guard)


# ---- requests into messages


def request(name: str, **fields: Any) -> Any:
    return _protocol.message(f"octet.v1.{name}")(**fields)


def guard_request(model: str, version: str, variant: str, min_top1_agreement: float | None, min_sqnr_db: float | None,
                  recover: bool, compare_fraction: float | None) -> Any:
    message = request("SetGuardRequest", model=model, version=version, variant=variant, recover=recover)
    if min_top1_agreement is not None:
        message.settings.min_top1_agreement = min_top1_agreement
    if min_sqnr_db is not None:
        message.settings.min_sqnr_db = min_sqnr_db
    if compare_fraction is not None:
        message.compare_fraction = compare_fraction
    return message


def compare_request(model: str, version: str, variants: Sequence[str], reference: str, samples: Sequence[Sequence[bytes]],
                    labels: Sequence[int], max_samples: int, image_options: str) -> Any:
    return request("CompareRequest", model=model, version=version, variants=list(variants), reference=reference,
                   samples=[request("UploadedSample", inputs=list(s)) for s in samples],
                   labels=[int(label) for label in labels], max_samples=max_samples, image_options=image_options)

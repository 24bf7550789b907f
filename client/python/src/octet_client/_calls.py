"""What both clients share: targets, requests into messages, messages into values. Pure functions."""
from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from . import _protocol, _tensors
from ._errors import OctetError
from ._types import (DurationStatistic, InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics,
                     Parameter, ServerMetadata, TensorSpec)

# What a server refused as UNAVAILABLE (it drains), or what found a closed connection, was not run: it is sent again.
_RETRIES = {"methodConfig": [{
    "name": [{}],
    "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.02s", "maxBackoff": "1s", "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"]}}]}
# Over several servers requests go round; one that drains says NOT_SERVING and leaves the round before it refuses. A single
# server is asked whatever its health says, or nobody could ask it whether it is ready.
_ROUND = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
_SEVERAL = ("dns:", "ipv4:", "ipv6:")


def target_of(servers: str | Sequence[str]) -> str:
    """gRPC's target: a name as it is ("host:8001", "dns:///octet-headless:8001"), or many IP addresses as one.

    Errors: ValueError for an empty sequence, or for names in it (give one name that resolves to all addresses).
    """
    if isinstance(servers, str):
        return servers
    if not servers:
        raise ValueError("no server address")
    if len(servers) == 1:
        return servers[0]
    versions = set()
    for server in servers:
        host = server.rpartition(":")[0].strip("[]")
        try:
            versions.add(ipaddress.ip_address(host).version)
        except ValueError:
            raise ValueError(f"'{server}' is not IP:PORT; several servers by name need one name for all, "
                             "such as dns:///NAME:PORT of a headless service") from None
    if len(versions) > 1:
        raise ValueError(f"IPv4 and IPv6 addresses are mixed: {', '.join(servers)}")
    return f"ipv{versions.pop()}:" + ",".join(servers)


def channel_options(target: str, extra: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
            ("grpc.service_config", json.dumps({**_RETRIES, **(_ROUND if target.startswith(_SEVERAL) else {})})),
            # What is larger is not kept for a second attempt.
            ("grpc.per_rpc_retry_buffer_size", 64 << 20), *extra]


def samples_bytes(metadata: ModelMetadata, samples: Iterable[Mapping[str, Any]]) -> list[list[bytes]]:
    """Each sample's inputs in the model's order. Errors: ValueError or TypeError naming sample and input."""
    converted = []
    for i, sample in enumerate(samples):
        names = [spec.name for spec in metadata.inputs]
        if set(sample) != set(names):
            raise ValueError(f"sample {i} has inputs {sorted(sample)}, the model {sorted(names)}")
        inputs = []
        for spec in metadata.inputs:
            datatype, raw = _tensors.to_wire(spec.name, sample[spec.name])
            if datatype != spec.datatype:
                raise TypeError(f"sample {i}: input '{spec.name}' is {datatype}, the model's is {spec.datatype}")
            inputs.append(raw)
        converted.append(inputs)
    return converted


def request_message(request: InferRequest) -> Any:
    """Errors: TypeError for a dtype or a parameter that the protocol lacks."""
    message = _protocol.message("inference.ModelInferRequest")(
        model_name=request.model, model_version=request.version, id=request.id)
    for name, array in request.inputs.items():
        datatype, raw = _tensors.to_wire(name, array)
        message.inputs.add(name=name, datatype=datatype).shape.extend(np.shape(array))
        message.raw_input_contents.append(raw)
    for name in request.outputs:
        message.outputs.add(name=name)
    parameters = dict(request.parameters)
    if request.variant:
        parameters["variant"] = request.variant
    for name, value in parameters.items():
        _set_parameter(message.parameters[name], name, value)
    return message


def _set_parameter(field: Any, name: str, value: Parameter) -> None:
    if isinstance(value, bool):
        field.bool_param = value
    elif isinstance(value, int):
        field.int64_param = value
    elif isinstance(value, float):
        field.double_param = value
    elif isinstance(value, str):
        field.string_param = value
    else:
        raise TypeError(f"parameter '{name}' is a {type(value).__name__}; the protocol has bool, int, float, str")


def result_of(message: Any) -> InferResult:
    """Errors: OctetError DATA_LOSS for an answer that breaks the protocol."""
    raw = message.raw_output_contents
    if raw and len(raw) != len(message.outputs):
        raise OctetError(grpc.StatusCode.DATA_LOSS, f"{len(message.outputs)} outputs, {len(raw)} raw contents")
    outputs = {}
    for i, output in enumerate(message.outputs):
        shape = tuple(output.shape)
        try:
            outputs[output.name] = (_tensors.from_raw(output.datatype, shape, raw[i]) if raw else
                                    _tensors.from_contents(output.datatype, shape, output.contents))
        except ValueError as error:
            raise OctetError(grpc.StatusCode.DATA_LOSS, f"output '{output.name}': {error}") from error
    return InferResult(message.model_name, message.model_version, message.id, outputs,
                       {name: _parameter_of(field) for name, field in message.parameters.items()})


def _parameter_of(field: Any) -> Parameter:
    choice = field.WhichOneof("parameter_choice")
    value: Parameter = getattr(field, choice) if choice else ""
    return value


def named(message: str, model: str, version: str) -> Any:
    return _protocol.message(f"inference.{message}")(name=model, version=version)


def empty(message: str, **fields: Any) -> Any:
    return _protocol.message(f"inference.{message}")(**fields)


def server_metadata_of(message: Any) -> ServerMetadata:
    return ServerMetadata(message.name, message.version, tuple(message.extensions))


def metadata_of(message: Any) -> ModelMetadata:
    def specs(tensors: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in tensors)
    return ModelMetadata(message.name, tuple(message.versions), message.platform, specs(message.inputs),
                         specs(message.outputs))


def index_of(message: Any) -> list[ModelState]:
    return [ModelState(m.name, m.version, m.state, m.reason) for m in message.models]


def statistics_of(message: Any) -> list[ModelStatistics]:
    def duration(d: Any) -> DurationStatistic:
        return DurationStatistic(d.count, d.ns / 1e9)

    return [ModelStatistics(
        m.name, m.version, m.inference_count, m.execution_count, duration(m.inference_stats.success),
        duration(m.inference_stats.fail), duration(m.inference_stats.queue),
        duration(m.inference_stats.compute_infer), {u.type: u.byte_size for u in m.memory_usage})
        for m in message.model_stats]

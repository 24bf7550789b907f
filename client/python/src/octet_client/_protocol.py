"""Messages and methods of the protocol, made from the descriptor set that the build put beside this file.

They live in a descriptor pool of their own: another package with the same protos in the process does no harm.
"""
from __future__ import annotations

import importlib.resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE = "inference.GRPCInferenceService"
OCTET = "octet.v1.Octet"


def _load_pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(importlib.resources.files(__package__).joinpath("protocol.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:  # protoc writes imports before what imports them
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_pool = _load_pool()
_factory: Any = None if hasattr(message_factory, "GetMessageClass") else message_factory.MessageFactory(_pool)


def _class_of(descriptor: Any) -> Any:
    if _factory is None:
        return message_factory.GetMessageClass(descriptor)
    return _factory.GetPrototype(descriptor)  # protobuf before 4.22


def message(name: str) -> Any:
    """The class of a message, "inference.ModelInferRequest". Errors: KeyError."""
    return _class_of(_pool.FindMessageTypeByName(name))


class Stub:
    """The methods of one service over a channel, synchronous or asyncio: `stub.ModelInfer(request, timeout=1)`.

    Errors: KeyError when the protocol this package was built from lacks the service.
    """

    def __init__(self, channel: Any, service: str = INFERENCE) -> None:
        for method in _pool.FindServiceByName(service).methods:
            request, response = _class_of(method.input_type), _class_of(method.output_type)
            # Old protobuf does not tell whether a method streams; its proto does.
            proto = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(proto)
            kind = "_".join("stream" if streams else "unary"
                            for streams in (proto.client_streaming, proto.server_streaming))
            setattr(self, method.name, getattr(channel, kind)(
                f"/{service}/{method.name}", request_serializer=request.SerializeToString,
                response_deserializer=response.FromString))

    def __getattr__(self, name: str) -> Any:  # for the type checker: all methods are set above
        raise AttributeError(f"the service has no method {name}")

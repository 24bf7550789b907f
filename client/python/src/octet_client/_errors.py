"""The one exception of this package's calls."""
from __future__ import annotations

from typing import Any

import grpc


class OctetError(Exception):
    """A call that failed: the status that gRPC gives, and the server's reason from its closed list.

    code     grpc.StatusCode: INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, UNAVAILABLE, ...
    reason   "queue_full", "draining", ...; "" when the server sends none
    """

    def __init__(self, code: grpc.StatusCode, message: str, reason: str = "") -> None:
        super().__init__(f"{code.name}: {message}" + (f" ({reason})" if reason else ""))
        self.code = code
        self.message = message
        self.reason = reason


def from_rpc(error: grpc.RpcError) -> OctetError:
    pairs: Any = error.trailing_metadata() or ()
    metadata = {name: value for name, value in pairs}  # dict() fails on grpc.aio's type
    return OctetError(error.code(), error.details() or "", str(metadata.get("octet-reason", "")))

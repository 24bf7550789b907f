"""The synchronous client."""
from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from . import _calls, _protocol
from ._errors import OctetError, from_rpc
from ._types import (InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics, Parameter,
                     ServerMetadata)


class Client:
    """Connections to one server, or to several that serve the same models. Thread-safe.

    servers      "host:8001"; "dns:///name:8001" (every address of a headless service); or a sequence of IP:PORT.
                 Requests go round over all addresses, skip servers that are not serving, and a request that
                 a server refused as UNAVAILABLE (it drains) is sent to another one, up to 5 times.
    timeout      seconds, of each call that names none
    credentials  for TLS: grpc.ssl_channel_credentials(...); None: plain text
    options      gRPC's channel arguments, after ours

    Connects on the first call. Every method raises OctetError when its call fails.
    """

    def __init__(self, servers: str | Sequence[str], *, timeout: float = 30.0,
                 credentials: grpc.ChannelCredentials | None = None,
                 options: Sequence[tuple[str, Any]] = ()) -> None:
        target, arguments = _calls.target_of(servers), _calls.channel_options(options)
        self._timeout = timeout
        self._channel = (grpc.insecure_channel(target, arguments) if credentials is None else
                         grpc.secure_channel(target, credentials, arguments))
        self._stub = _protocol.Stub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends outstanding calls as CANCELLED."""
        self._channel.close()

    def _call(self, method: str, request: Any, timeout: float | None) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=self._timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    # ---- health

    def live(self, *, timeout: float | None = None) -> bool:
        return bool(self._call("ServerLive", _calls.empty("ServerLiveRequest"), timeout).live)

    def ready(self, *, timeout: float | None = None) -> bool:
        """True once every model was loaded (or failed to), until the server drains."""
        return bool(self._call("ServerReady", _calls.empty("ServerReadyRequest"), timeout).ready)

    def model_ready(self, model: str, version: str = "", *, timeout: float | None = None) -> bool:
        """A model may be "name" or "name@variant"."""
        return bool(self._call("ModelReady", _calls.named("ModelReadyRequest", model, version), timeout).ready)

    # ---- what is served

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        return _calls.server_metadata_of(self._call("ServerMetadata", _calls.empty("ServerMetadataRequest"), timeout))

    def metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        return _calls.metadata_of(
            self._call("ModelMetadata", _calls.named("ModelMetadataRequest", model, version), timeout))

    def statistics(self, model: str = "", version: str = "", *, timeout: float | None = None) -> list[ModelStatistics]:
        """Of one model or variant; without a name, of all."""
        return _calls.statistics_of(
            self._call("ModelStatistics", _calls.named("ModelStatisticsRequest", model, version), timeout))

    def index(self, *, only_ready: bool = False, timeout: float | None = None) -> list[ModelState]:
        """Every model and variant of the repository, with the reason of what is not ready."""
        return _calls.index_of(
            self._call("RepositoryIndex", _calls.empty("RepositoryIndexRequest", ready=only_ready), timeout))

    def load(self, model: str, *, timeout: float | None = None) -> None:
        """Loads the model, or loads it anew when its files changed; returns when it serves."""
        self._call("RepositoryModelLoad", _calls.empty("RepositoryModelLoadRequest", model_name=model), timeout)

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        self._call("RepositoryModelUnload", _calls.empty("RepositoryModelUnloadRequest", model_name=model), timeout)

    # ---- inference

    def infer(self, model: str, inputs: Mapping[str, np.ndarray[Any, Any]], *, variant: str = "", version: str = "",
              outputs: Sequence[str] = (), id: str = "",  # pylint: disable=redefined-builtin
              parameters: Mapping[str, Parameter] | None = None, timeout: float | None = None) -> InferResult:
        """Arrays with the batch dimension by input name; the answer has arrays by output name.

        Errors besides OctetError: TypeError for a dtype or parameter that the protocol lacks.
        """
        return self.infer_request(
            InferRequest(model, inputs, variant, version, id, outputs, parameters or {}), timeout=timeout)

    def infer_request(self, request: InferRequest, *, timeout: float | None = None) -> InferResult:
        return _calls.result_of(self._call("ModelInfer", _calls.request_message(request), timeout))

    def stream(self, requests: Iterable[InferRequest], *, in_flight: int = 16,
               timeout: float | None = None) -> Iterator[InferResult | OctetError]:
        """Answers in the order of the requests, at most `in_flight` of them outstanding; `requests` is read as fast as
        answers are taken. A request that fails gives its OctetError in its place and the others go on.

        Each is a call of its own, not a message of ModelStreamInfer: so they are spread over all servers, may be merged
        into one batch, and outlive the server they were first sent to.
        """
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")
        seconds = self._timeout if timeout is None else timeout
        waiting: collections.deque[Any] = collections.deque()
        try:
            for request in requests:
                if len(waiting) == in_flight:
                    yield _outcome(waiting.popleft())
                waiting.append(self._stub.ModelInfer.future(_calls.request_message(request), timeout=seconds))
            while waiting:
                yield _outcome(waiting.popleft())
        finally:
            for call in waiting:
                call.cancel()


def _outcome(call: Any) -> InferResult | OctetError:
    try:
        return _calls.result_of(call.result())
    except grpc.RpcError as error:
        return from_rpc(error)
    except OctetError as error:
        return error

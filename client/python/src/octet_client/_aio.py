"""The asyncio client: Client's methods as coroutines."""
from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import numpy as np

from . import _calls, _figures, _methods, _protocol
from ._errors import OctetError, from_rpc
from ._figures import Comparison, Version
from ._methods import Call, T
from ._types import (InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics, Parameter,
                     ServerMetadata)


class AsyncClient:
    """As Client, for use on one event loop: it is made, used and closed there. Every method raises OctetError."""

    def __init__(self, servers: str | Sequence[str], *, timeout: float = 30.0,
                 credentials: grpc.ChannelCredentials | None = None,
                 options: Sequence[tuple[str, Any]] = ()) -> None:
        target = _calls.target_of(servers)
        arguments = _calls.channel_options(target, options)
        self._timeout = timeout
        self._channel = (grpc.aio.insecure_channel(target, arguments) if credentials is None else
                         grpc.aio.secure_channel(target, credentials, arguments))
        self._stub = _protocol.Stub(self._channel)
        self._octet = _protocol.Stub(self._channel, _protocol.OCTET)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends outstanding calls as CANCELLED."""
        await self._channel.close(None)

    async def _do(self, call: Call[T], timeout: float | None) -> T:
        stub = self._stub if hasattr(self._stub, call.method) else self._octet
        try:
            seconds = self._timeout if timeout is None else timeout
            answer = await getattr(stub, call.method)(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        return call.result(answer)

    async def live(self, *, timeout: float | None = None) -> bool:
        return await self._do(_methods.live(), timeout)

    async def ready(self, *, timeout: float | None = None) -> bool:
        return await self._do(_methods.ready(), timeout)

    async def model_ready(self, model: str, version: str = "", *, timeout: float | None = None) -> bool:
        return await self._do(_methods.model_ready(model, version), timeout)

    async def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        return await self._do(_methods.server_metadata(), timeout)

    async def metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        return await self._do(_methods.metadata(model, version), timeout)

    async def statistics(self, model: str = "", version: str = "", *,
                         timeout: float | None = None) -> list[ModelStatistics]:
        return await self._do(_methods.statistics(model, version), timeout)

    async def index(self, *, only_ready: bool = False, timeout: float | None = None) -> list[ModelState]:
        return await self._do(_methods.index(only_ready), timeout)

    async def load(self, model: str, *, timeout: float | None = None) -> None:
        await self._do(_methods.load(model), timeout)

    async def unload(self, model: str, *, timeout: float | None = None) -> None:
        await self._do(_methods.unload(model), timeout)

    async def variants(self, model: str = "", *, timeout: float | None = None) -> list[Version]:
        """Every figure of one model's variants; without a name, of all models."""
        return await self._do(_methods.variants(model), timeout)

    async def compare(self, model: str, samples: Iterable[Mapping[str, np.ndarray[Any, Any]]] | None = None, *,
                labels: Sequence[int] = (), variants: Sequence[str] = (), reference: str = "", version: str = "",
                max_samples: int = 0, image_options: str = "",
                progress: Callable[[int, int], None] | None = None, timeout: float | None = None) -> Comparison:
        """See Client.compare."""
        uploaded = [] if samples is None else _calls.samples_bytes(await self.metadata(model, version), samples)
        request = _figures.compare_request(model, version, variants, reference, uploaded, labels, max_samples,
                                           image_options)
        try:
            async for event in self._octet.Compare(request, timeout=timeout):
                if event.HasField("result"):
                    return _figures.comparison_of(event.result)
                if progress is not None:
                    progress(event.progress.samples_done, event.progress.samples_total)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        raise OctetError(grpc.StatusCode.DATA_LOSS, "the comparison ended without a result")

    async def set_primary(self, model: str, variant: str, version: str = "", *, timeout: float | None = None) -> Version:
        """Requests that name no variant go to this one; traffic weights end. Lasts until the model is loaded again."""
        return await self._do(_methods.set_primary(model, variant, version), timeout)

    async def set_weights(self, model: str, weights: Mapping[str, float], version: str = "", *,
                    timeout: float | None = None) -> Version:
        """Splits requests that name no variant; shares sum to 1. Without weights all go to the primary."""
        return await self._do(_methods.set_weights(model, weights, version), timeout)

    async def set_guard(self, model: str, *, version: str = "", variant: str = "", min_top1_agreement: float | None = None,
                  min_sqnr_db: float | None = None, recover: bool = False, compare_fraction: float | None = None,
                  timeout: float | None = None) -> Version:
        """Bounds below which the reference answers. When one is given, one that is not is no longer judged."""
        return await self._do(_methods.set_guard(
            model, version, variant, min_top1_agreement, min_sqnr_db, recover, compare_fraction), timeout)

    async def reset_windows(self, model: str, *, version: str = "", variant: str = "",
                      timeout: float | None = None) -> Version:
        """Forgets the live comparisons so far."""
        return await self._do(_methods.reset_windows(model, version, variant), timeout)

    async def infer(self, model: str, inputs: Mapping[str, np.ndarray[Any, Any]], *, variant: str = "",
                    version: str = "", outputs: Sequence[str] = (),
                    id: str = "",  # pylint: disable=redefined-builtin
                    parameters: Mapping[str, Parameter] | None = None, timeout: float | None = None) -> InferResult:
        return await self.infer_request(
            InferRequest(model, inputs, variant, version, id, outputs, parameters or {}), timeout=timeout)

    async def infer_request(self, request: InferRequest, *, timeout: float | None = None) -> InferResult:
        return await self._do(_methods.infer(request), timeout)

    async def stream(self, requests: AsyncIterable[InferRequest] | Iterable[InferRequest], *, in_flight: int = 16,
                     timeout: float | None = None) -> AsyncIterator[InferResult | OctetError]:
        """See Client.stream."""
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")
        waiting: collections.deque[asyncio.Task[InferResult | OctetError]] = collections.deque()
        try:
            async for request in _each(requests):
                if len(waiting) == in_flight:
                    yield await waiting.popleft()
                waiting.append(asyncio.create_task(self._outcome(request, timeout)))
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()

    async def _outcome(self, request: InferRequest, timeout: float | None) -> InferResult | OctetError:
        try:
            return await self.infer_request(request, timeout=timeout)
        except OctetError as error:
            return error


async def _each(requests: AsyncIterable[InferRequest] | Iterable[InferRequest]) -> AsyncIterator[InferRequest]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request

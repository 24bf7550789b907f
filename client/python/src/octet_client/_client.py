"""The synchronous client."""
from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from . import _calls, _figures, _methods, _protocol
from ._errors import OctetError, from_rpc
from ._figures import Comparison, Version
from ._methods import Call, T
from ._types import (InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics, Parameter,
                     ServerMetadata)


class Client:
    """Connections to one server, or to several that serve the same models. Thread-safe.

    servers      "host:8001"; or several: "dns:///name:8001" (every address of a headless service), a sequence of IP:PORT.
                 Over several, requests go round and skip servers that are not serving. A request that a server
                 refused as UNAVAILABLE (it drains) is sent again, up to 5 times.
    timeout      seconds, of each call that names none
    credentials  for TLS: grpc.ssl_channel_credentials(...); None: plain text
    options      gRPC's channel arguments, after ours

    Connects on the first call. Every method raises OctetError when its call fails.
    """

    def __init__(self, servers: str | Sequence[str], *, timeout: float = 30.0,
                 credentials: grpc.ChannelCredentials | None = None,
                 options: Sequence[tuple[str, Any]] = ()) -> None:
        target = _calls.target_of(servers)
        arguments = _calls.channel_options(target, options)
        self._timeout = timeout
        self._channel = (grpc.insecure_channel(target, arguments) if credentials is None else
                         grpc.secure_channel(target, credentials, arguments))
        self._stub = _protocol.Stub(self._channel)
        self._octet = _protocol.Stub(self._channel, _protocol.OCTET)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends outstanding calls as CANCELLED."""
        self._channel.close()

    def _do(self, call: Call[T], timeout: float | None) -> T:
        stub = self._stub if hasattr(self._stub, call.method) else self._octet
        try:
            seconds = self._timeout if timeout is None else timeout
            answer = getattr(stub, call.method)(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        return call.result(answer)

    # ---- health

    def live(self, *, timeout: float | None = None) -> bool:
        return self._do(_methods.live(), timeout)

    def ready(self, *, timeout: float | None = None) -> bool:
        """True once every model was loaded (or failed to), until the server drains."""
        return self._do(_methods.ready(), timeout)

    def model_ready(self, model: str, version: str = "", *, timeout: float | None = None) -> bool:
        """A model may be "name" or "name@variant"."""
        return self._do(_methods.model_ready(model, version), timeout)

    # ---- what is served

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        return self._do(_methods.server_metadata(), timeout)

    def metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        return self._do(_methods.metadata(model, version), timeout)

    def statistics(self, model: str = "", version: str = "", *, timeout: float | None = None) -> list[ModelStatistics]:
        """Of one model or variant; without a name, of all."""
        return self._do(_methods.statistics(model, version), timeout)

    def index(self, *, only_ready: bool = False, timeout: float | None = None) -> list[ModelState]:
        """Every model and variant of the repository, with the reason of what is not ready."""
        return self._do(_methods.index(only_ready), timeout)

    def load(self, model: str, *, timeout: float | None = None) -> None:
        """Loads the model, or loads it anew when its files changed; returns when it serves."""
        self._do(_methods.load(model), timeout)

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        self._do(_methods.unload(model), timeout)

    # ---- Octet's own service: what variants save and cost. UNIMPLEMENTED on other servers.

    def variants(self, model: str = "", *, timeout: float | None = None) -> list[Version]:
        """Every figure of one model's variants; without a name, of all models."""
        return self._do(_methods.variants(model), timeout)

    def compare(self, model: str, samples: Iterable[Mapping[str, np.ndarray[Any, Any]]] | None = None, *,
                labels: Sequence[int] = (), variants: Sequence[str] = (), reference: str = "", version: str = "",
                max_samples: int = 0, image_options: str = "",
                progress: Callable[[int, int], None] | None = None, timeout: float | None = None) -> Comparison:
        """Runs variants side by side on the server, at low priority, and returns when all samples are done.

        samples        arrays with the batch axis by input name; None: the model's calibration folder
        labels         one per sample: adds top-1 and top-5 accuracy
        variants       empty: all in memory; reference "": the version's
        max_samples    0: the server's 256
        image_options  how a calibration folder of images is read, as `octet compress --image` has it
        progress       called with (samples done, samples in all) now and then
        timeout        seconds for all of it; None: no limit
        """
        uploaded = [] if samples is None else _calls.samples_bytes(self.metadata(model, version), samples)
        request = _figures.compare_request(model, version, variants, reference, uploaded, labels, max_samples,
                                           image_options)
        try:
            for event in self._octet.Compare(request, timeout=timeout):
                if event.HasField("result"):
                    return _figures.comparison_of(event.result)
                if progress is not None:
                    progress(event.progress.samples_done, event.progress.samples_total)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        raise OctetError(grpc.StatusCode.DATA_LOSS, "the comparison ended without a result")

    def set_primary(self, model: str, variant: str, version: str = "", *, timeout: float | None = None) -> Version:
        """Requests that name no variant go to this one; traffic weights end. Lasts until the model is loaded again."""
        return self._do(_methods.set_primary(model, variant, version), timeout)

    def set_weights(self, model: str, weights: Mapping[str, float], version: str = "", *,
                    timeout: float | None = None) -> Version:
        """Splits requests that name no variant; shares sum to 1. Without weights all go to the primary."""
        return self._do(_methods.set_weights(model, weights, version), timeout)

    def set_guard(self, model: str, *, version: str = "", variant: str = "", min_top1_agreement: float | None = None,
                  min_sqnr_db: float | None = None, recover: bool = False, compare_fraction: float | None = None,
                  timeout: float | None = None) -> Version:
        """Bounds below which the reference answers. When one is given, one that is not is no longer judged."""
        return self._do(_methods.set_guard(
            model, version, variant, min_top1_agreement, min_sqnr_db, recover, compare_fraction), timeout)

    def reset_windows(self, model: str, *, version: str = "", variant: str = "",
                      timeout: float | None = None) -> Version:
        """Forgets the live comparisons so far."""
        return self._do(_methods.reset_windows(model, version, variant), timeout)

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
        return self._do(_methods.infer(request), timeout)

    def stream(self, requests: Iterable[InferRequest], *, in_flight: int = 16,
               timeout: float | None = None) -> Iterator[InferResult | OctetError]:
        """Answers in the order of the requests, at most `in_flight` of them outstanding; `requests` is read as fast as
        answers are taken. A request that fails gives its OctetError in its place and the others go on.

        Each is a call of its own, not a message of ModelStreamInfer: so they are spread over all servers and outlive
        the server they were first sent to.
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

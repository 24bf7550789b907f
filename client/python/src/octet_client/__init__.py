"""Client of Octet and of any other server of the Open Inference Protocol over gRPC: numpy in and out.

    from octet_client import Client

    with Client("127.0.0.1:8001") as client:
        result = client.infer("resnet50", {"image": array}, variant="int8")
        print(result["logits"].argmax(axis=1), result.variant)

`AsyncClient` has the same methods as coroutines.
"""
from ._aio import AsyncClient
from ._client import Client
from ._errors import OctetError
from ._figures import (ComparedVariant, Comparison, Estimate, Guard, OutputAgreement, Pair, Variant, Version)
from ._types import (DurationStatistic, InferRequest, InferResult, ModelMetadata, ModelState, ModelStatistics,
                     Parameter, ServerMetadata, TensorSpec)

__all__ = ["AsyncClient", "Client", "ComparedVariant", "Comparison", "DurationStatistic", "Estimate", "Guard", "InferRequest",
           "InferResult", "ModelMetadata", "ModelState", "ModelStatistics", "OctetError", "OutputAgreement", "Pair",
           "Parameter", "ServerMetadata", "TensorSpec", "Variant", "Version"]

"""The measured figures that docs/scaling.md rests on, and what follows from them directly.

Machine: 2 cores of an Intel Xeon with AMX, idle; embedded model (28 x 28 float images). README.md and design facts: `octet demo
--once`, and a bare gRPC echo with client and server on the same two cores. CPU time by batch: measure.py, on a busy machine.
"""
import dataclasses

CORES = 2  # of the measured machine, and of the replica that is reckoned with
ECHO_PER_SECOND = 16_900  # unary calls of 3 kB, client and server on 2 cores
ECHO_SECONDS = 165e-6  # p50 of one such call
REQUEST_BYTES = 28 * 28 * 4 + 160  # the image, the envelope, HTTP/2 headers
REPLY_BYTES = 10 * 4 + 160
BASELINE_BYTES = 46e6  # resident before the first model: octet_baseline_bytes
MEMORY_BYTES_PER_SECOND = 36e9  # weights walked from DRAM on huge pages, 2 cores
MAX_BATCH = 32

# Half of an echo's CPU time is the client's, and a client runs elsewhere.
RPC_CORE_SECONDS = CORES / ECHO_PER_SECOND / 2


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    weights_bytes: float
    images_per_second: float  # calls of 32, one after the other
    top1: float
    cpu_alone: float  # CPU seconds of the server per call of one image, each a batch of its own
    cpu_shared: float  # the same with `rows_shared` calls in a batch on average
    rows_shared: float

    def engine_core_seconds(self):
        """An image's share of a batch of 32, in core seconds. An upper bound: both cores count as busy all the time."""
        return CORES / self.images_per_second - CORES * ECHO_SECONDS / MAX_BATCH

    def request_core_seconds(self):
        """A request of one image that shares its batch with 31 others."""
        return self.engine_core_seconds() + RPC_CORE_SECONDS

    def fixed_core_seconds(self):
        """What a batch costs however many rows it has: the line through the two measured sizes, at zero."""
        slope = (self.cpu_shared * self.rows_shared - self.cpu_alone) / (self.rows_shared - 1)
        return self.cpu_alone - slope

    def batch_seconds(self, rows):
        """Time a replica of 2 cores takes for a batch and its calls. A full batch costs what the sum says, a small one more a row
        by the fixed part."""
        fixed = self.fixed_core_seconds()
        slope = self.request_core_seconds() - fixed / MAX_BATCH
        return (fixed + slope * rows) / CORES

    def capacity(self):
        """Requests per second that a replica of 2 cores cannot exceed."""
        return MAX_BATCH / self.batch_seconds(MAX_BATCH)


VARIANTS = (
    Variant("f32", 2.85e6, 4968, 94.78, 780e-6, 529e-6, 13.8),
    Variant("int8", 731.2e3, 14650, 94.79, 360e-6, 126e-6, 7.9),
    Variant("int4", 404.8e3, 12901, 94.77, 385e-6, 136e-6, 8.7),
    Variant("ternary", 230.8e3, 13506, 94.35, 380e-6, 131e-6, 6.4),
)

"""A service that grows and shrinks under changing traffic: replicas with real queues, the HorizontalPodAutoscaler's rule.

Requests are spread over ready replicas as random splitting of a Poisson stream does. The rule and its bounds are those of
deploy/kubernetes/components/autoscale-*: desired = ceil(replicas x metric / target) unless within 10 % of the target, at most
doubled in 30 s, shrunk to the largest wish of the last 300 s and by at most 20 % a minute.
"""
import dataclasses
import math

import numpy as np

import figures
from queueing import BatchServer

SYNC_SECONDS = 15
TOLERANCE = 0.1
SCALE_DOWN_WINDOW = 300


@dataclasses.dataclass(frozen=True)
class Policy:
    """The autoscaler takes the largest of its metrics' wishes; cpu is the busy share of a replica, queue a mean wait in seconds."""
    name: str
    cpu: float = math.inf
    queue: float = math.inf
    cpu_window: int = 30  # seconds over which a metric is averaged before the autoscaler sees it
    queue_window: int = 30


@dataclasses.dataclass
class Result:
    replicas: np.ndarray  # ready, each second
    p99: np.ndarray  # of the requests answered in that second; 0 without any
    late_share: float  # of all requests, above the limit
    replica_seconds: float  # started ones count, ready or not


def spike(second, base, peak):
    """Traffic in requests per second: calm, a rise within a minute, high for eight, calm again."""
    if second < 120 or second >= 660:
        return base
    return min(peak, base + (peak - base) * (second - 120) / 60)


def simulate(variant, policy, rate, seconds, start_replicas, startup_seconds, seed, late_seconds=0.05,
             min_replicas=2, max_replicas=200):
    """`rate(second)` gives requests per second. A new replica serves `startup_seconds` after it was asked for."""
    rng = np.random.default_rng(seed)
    ready = [BatchServer(variant.batch_seconds, figures.MAX_BATCH) for _ in range(start_replicas)]
    starting = []  # times at which they serve
    history = []  # (busy share, mean wait) of each second
    wishes = []  # (second, replicas)
    sizes = []  # replicas of each second, ready or not
    result = Result(np.zeros(seconds), np.zeros(seconds), 0, 0)
    late = total = 0
    for second in range(seconds):
        arrived = [t for t in starting if t <= second]
        starting = [t for t in starting if t > second]
        for _ in arrived:
            server = BatchServer(variant.batch_seconds, figures.MAX_BATCH)
            server.free_at = second
            ready.append(server)
        arrivals = np.sort(second + rng.random(rng.poisson(rate(second))))
        owner = rng.integers(len(ready), size=len(arrivals))
        busy_before = sum(server.busy_seconds for server in ready)
        outcomes = [server.run(arrivals[owner == i], until=second + 1) for i, server in enumerate(ready)]
        waits = np.concatenate([w for w, _ in outcomes])
        latencies = np.concatenate([l for _, l in outcomes])
        busy = (sum(server.busy_seconds for server in ready) - busy_before) / len(ready)
        history.append((min(busy, 1.0), waits.sum(), len(waits)))
        late += int((latencies > late_seconds).sum())
        total += len(latencies)
        result.replicas[second] = len(ready)
        result.p99[second] = np.quantile(latencies, 0.99) if len(latencies) else 0
        sizes.append(len(ready) + len(starting))
        result.replica_seconds += sizes[-1]
        if second % SYNC_SECONDS == SYNC_SECONDS - 1:
            wanted = decide(policy, history, sizes, wishes, second, min_replicas, max_replicas)
            for _ in range(wanted - sizes[-1]):
                starting.append(second + 1 + startup_seconds)
            surplus = sizes[-1] - wanted
            if surplus > 0:
                starting = starting[:max(0, len(starting) - surplus)]
                # A drained replica answers what it accepted: only idle ones are taken here, which keeps every request.
                for server in sorted(ready, key=BatchServer.waiting)[:len(ready) + len(starting) - wanted]:
                    if server.waiting() == 0:
                        ready.remove(server)
    result.late_share = late / max(total, 1)
    return result


def decide(policy, history, sizes, wishes, second, low, high):
    """The autoscaler's number of replicas, from what it can know at this second."""
    window = history[-policy.cpu_window:]
    usage = sum(busy for busy, _, _ in window) / len(window) / policy.cpu
    window = history[-policy.queue_window:]
    usage = max(usage, sum(w for _, w, _ in window) / max(1, sum(count for _, _, count in window)) / policy.queue)
    current = sizes[-1]
    wish = current if abs(usage - 1) <= TOLERANCE else math.ceil(current * usage)
    wish = min(max(wish, low), high)
    wishes.append((second, wish))
    if wish > current:
        return min(wish, 2 * min(sizes[-30:]))
    recent = max(w for s, w in wishes if s > second - SCALE_DOWN_WINDOW)
    # Up to a fifth of what there was a minute ago may go.
    return max(min(current, recent), math.ceil(0.8 * max(sizes[-60:])), low) if recent < current else current

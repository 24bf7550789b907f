"""Queues: simulated request by request, and the textbook's formulas that the simulation must meet.

Times in seconds. Every simulation takes its arrivals as a sorted array, so a seed fixes it.
"""
import heapq
import math

import numpy as np


def poisson_arrivals(rng, rate, seconds):
    """Arrival times of a Poisson process in [0, seconds)."""
    return np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)


def fifo_waits(arrivals, services, servers=1):
    """Waiting times of requests served one by one, first come first served, by `servers` equal servers."""
    free = [0.0] * servers
    waits = np.empty(len(arrivals))
    for i, (arrival, service) in enumerate(zip(arrivals.tolist(), services.tolist())):
        start = max(arrival, heapq.heappop(free))
        waits[i] = start - arrival
        heapq.heappush(free, start + service)
    return waits


class BatchServer:
    """One slot of a replica: when free it takes all that wait, at most `max_batch`, and answers them together. That is what
    server/scheduler.h does with no queue delay configured."""

    def __init__(self, batch_seconds, max_batch):
        self._seconds = [0.0] + [batch_seconds(rows) for rows in range(1, max_batch + 1)]
        self._max_batch = max_batch
        self._waiting = []  # arrival times not yet taken
        self.free_at = 0.0
        self.busy_seconds = 0.0
        self.batches = 0

    def waiting(self):
        return len(self._waiting)

    def run(self, arrivals, until=math.inf):
        """Serves `arrivals` (sorted, after all before) as far as batches start before `until`.

        Returns (waits, latencies) of the requests whose batch started; the others are kept for the next call.
        """
        queue = self._waiting + arrivals.tolist()
        at, count = 0, len(queue)
        waits, latencies = [], []
        while at < count:
            start = max(self.free_at, queue[at])
            if start >= until:
                break
            end = at + 1
            while end < count and end - at < self._max_batch and queue[end] <= start:
                end += 1
            self.free_at = start + self._seconds[end - at]
            self.busy_seconds += self._seconds[end - at]
            self.batches += 1
            for arrival in queue[at:end]:
                waits.append(start - arrival)
                latencies.append(self.free_at - arrival)
            at = end
        self._waiting = queue[at:]
        return np.array(waits), np.array(latencies)


def erlang_c(servers, load):
    """Probability of waiting in M/M/c; load = arrival rate x mean service time < servers."""
    blocked = 1.0  # Erlang B by its recursion
    for c in range(1, servers + 1):
        blocked = load * blocked / (c + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc_mean_wait(servers, rate, service):
    load = rate * service
    return erlang_c(servers, load) * service / (servers - load)


def md1_mean_wait(rate, service):
    """Pollaczek-Khinchine with no variance."""
    load = rate * service
    return load * service / (2 * (1 - load))

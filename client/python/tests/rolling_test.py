#!/usr/bin/python3
"""A rolling update under load, as a Deployment does it: a new server is ready, then an old one gets SIGTERM.

Clients ask all the while, as fast as they are answered; not one request may fail, and every server must have worked.
"""
import os
import sys
import threading
import unittest

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import installed  # noqa: E402
from octet_client import Client, OctetError  # noqa: E402

ROUNDS = 3
ANSWERS_PER_ROUND = 200  # between two steps of the update, so that each step happens under load


class Load:
    """Threads that ask one balanced client until they are stopped; counts answers and keeps failures."""

    def __init__(self, client, threads):
        self._client = client
        self._stop = False
        self._counted = threading.Condition()
        self.answers = 0
        self.failures = []
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self, seed):
        image = np.random.default_rng(seed).random((1, 1, 28, 28), dtype=np.float32)
        expected = None
        while not self._stop:
            failure = None
            try:
                result = self._client.infer("fashion", {"image": image}, timeout=60)["logits"]
                if expected is None:
                    expected = result
                elif not np.allclose(result, expected, rtol=1e-4, atol=1e-5):
                    failure = "another answer"
            except OctetError as error:
                failure = error
            with self._counted:
                self.answers += 1
                if failure is not None:
                    self.failures.append(failure)
                self._counted.notify_all()

    def await_more(self, count):
        with self._counted:
            wanted = self.answers + count
            if not self._counted.wait_for(lambda: self.answers >= wanted, timeout=120):
                raise RuntimeError(f"{wanted - self.answers} answers are missing after 120 s")

    def stop(self):
        self._stop = True
        for thread in self._threads:
            thread.join()


class RollingTest(unittest.TestCase):
    def test_no_request_fails(self):
        repository = installed.make_repository()
        servers = [installed.start_server(repository), installed.start_server(repository)]
        ports = [s.grpc_address.rpartition(":")[2] for s in servers]
        for server in servers:
            self.addCleanup(server.stop)
        with Client([s.grpc_address for s in servers]) as client:
            load = Load(client, threads=6)
            try:
                for round_number in range(ROUNDS):
                    for i in (0, 1):
                        load.await_more(ANSWERS_PER_ROUND)
                        # Addresses are fixed here, so the old one must be gone before the new one takes its port: at
                        # that time the other carries all.
                        metrics = servers[i].metrics()
                        self.assertGreater(sum(v for (n, _), v in metrics.items() if n == "octet_inferences_total"), 0,
                                           f"server {i} had no work in round {round_number}")
                        self.assertEqual(servers[i].stop(), 0)
                        load.await_more(ANSWERS_PER_ROUND)
                        servers[i] = installed.start_server(repository, f"--grpc-port={ports[i]}")
                        self.addCleanup(servers[i].stop)
                        self.await_first_answer(servers[i], load)
            finally:
                load.stop()
        self.assertEqual(load.failures, [], f"{len(load.failures)} of {load.answers} requests failed")
        print(f"{load.answers} requests over {2 * ROUNDS} restarts, none failed")

    def await_first_answer(self, server, load):
        """The client reconnects in its own time; until then more load passes."""
        for _ in range(1000):
            if any(v > 0 for (n, _), v in server.metrics().items() if n == "octet_inferences_total"):
                return
            load.await_more(50)
        self.fail("a restarted server gets no requests")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *installed.rest])

#!/usr/bin/python3
"""Client-side balancing over two real servers: both work, a stopped one is left, a returned one is used again.

The example of docs/clients.md runs here, too, as it is printed there.
"""
import os
import re
import subprocess
import sys
import unittest

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import installed  # noqa: E402
from octet_client import Client  # noqa: E402

IMAGE = np.zeros((1, 1, 28, 28), np.float32)


def rows(server):
    """Rows that a server inferred, from its own metrics."""
    return sum(value for (name, _), value in server.metrics().items() if name == "octet_inferences_total")


class BalanceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.repository = installed.make_repository()

    def start(self, port=0):
        # The last flag of a name wins.
        server = installed.start_server(self.repository, f"--grpc-port={port}")
        self.addCleanup(server.stop)
        return server

    def test_requests_go_round(self):
        servers = [self.start(), self.start()]
        with Client([s.grpc_address for s in servers]) as client:
            for _ in range(100):
                client.infer("fashion", {"image": IMAGE})
            counts = [rows(s) for s in servers]
            self.assertEqual(sum(counts), 100)
            # Turn by turn once both are connected; the first may answer alone until then.
            self.assertGreater(min(counts), 20, counts)

            # One stops: no request fails, and the other answers all.
            self.assertEqual(servers[0].stop(), 0)
            before = rows(servers[1])
            for _ in range(50):
                client.infer("fashion", {"image": IMAGE})
            self.assertEqual(rows(servers[1]) - before, 50)

            # It comes back on its port: the client finds it without being told.
            returned = self.start(servers[0].grpc_address.rpartition(":")[2])
            for _ in range(20_000):
                client.infer("fashion", {"image": IMAGE})
                if rows(returned) > 0:
                    break
            self.assertGreater(rows(returned), 0)

    def test_example(self):
        with open(os.path.join(installed.args.source, "docs", "clients.md"), encoding="utf-8") as page:
            example = re.search(r"<!-- balance -->\n```python\n(.*?)```", page.read(), re.S)[1]
        servers = [self.start(), self.start()]
        script = os.path.join(installed.work, "balance.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(example)
        ran = subprocess.run([sys.executable, script, *(s.grpc_address for s in servers)], capture_output=True,
                             text=True, check=False, env={**os.environ, "PYTHONPATH": installed.site})
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("1000 answers", ran.stdout)
        self.assertGreater(min(rows(s) for s in servers), 200)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *installed.rest])

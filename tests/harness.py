"""Starts Octet's server from a test and speaks the Open Inference Protocol with it through generated stubs.

Everything here is a foreign client's view: Debian's grpcio, stubs made by protoc from proto/, no code of ours.
"""
import contextlib
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request

import grpc
import numpy as np

START_SECONDS = 120  # an upper bound for a hung server, not a wait


def make_stubs(source, build):
    """Generates the Python stubs of proto/ into `build` (once per content) and returns (messages, services)."""
    proto = pathlib.Path(source) / "proto"
    build = pathlib.Path(build)
    build.mkdir(parents=True, exist_ok=True)
    files = [proto / "grpc_service.proto", proto / "model_config.proto"]
    done = build / "grpc_service_pb2_grpc.py"
    if not done.exists() or done.stat().st_mtime < max(f.stat().st_mtime for f in files):
        subprocess.run(["protoc", f"-I{proto}", f"--python_out={build}", f"--grpc_out={build}",
                        "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin", *map(str, files)], check=True)
    sys.path.insert(0, str(build))
    import grpc_service_pb2  # pylint: disable=import-outside-toplevel,import-error
    import grpc_service_pb2_grpc  # pylint: disable=import-outside-toplevel,import-error
    return grpc_service_pb2, grpc_service_pb2_grpc


class Server:
    """A running `octet serve` and a stub connected to it."""

    def __init__(self, process, ports, stubs):
        self.process = process
        self.ports = ports  # grpc, http, metrics -> "host:port"
        self.messages = stubs[0]
        self.channel = grpc.insecure_channel(ports["grpc"], options=[
            ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)])
        self.stub = stubs[1].GRPCInferenceServiceStub(self.channel)

    def infer(self, model, inputs):
        """Sends {name: f32 array}, returns {name: f32 array}."""
        request = self.messages.ModelInferRequest(model_name=model)
        for name, array in inputs.items():
            tensor = request.inputs.add(name=name, datatype="FP32")
            tensor.shape.extend(array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array, dtype="<f4").tobytes())
        reply = self.stub.ModelInfer(request, timeout=60)
        outputs = {}
        for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
            assert tensor.datatype == "FP32", tensor
            outputs[tensor.name] = np.frombuffer(raw, dtype="<f4").reshape(tensor.shape)
        return outputs

    def metrics(self):
        """The samples of /metrics: {(name, frozenset of labels): value}."""
        with urllib.request.urlopen(f"http://{self.ports['metrics']}/metrics", timeout=30) as page:
            text = page.read().decode()
        samples = {}
        for line in text.splitlines():
            if line.startswith("#") or not line:
                continue
            name, labels, value = re.fullmatch(r"([a-z_A-Z0-9:]+)(?:\{(.*)\})? (\S+)", line).groups()
            samples[name, frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))] = float(value)
        return samples

    def resident_bytes(self, kind="VmRSS"):
        """What the kernel says the process holds: VmRSS, RssAnon or RssFile of /proc."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(kind + r":\s+(\d+) kB", status)[1]) * 1024


def _ports(process):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1)[0]:
            line = process.stdout.readline()
            if match := re.match(r"listening grpc=(\S+) http=(\S+) metrics=(\S+)", line):
                return dict(zip(("grpc", "http", "metrics"), match.groups()))
            assert line, f"octet serve ended with {process.wait()} before it listened"
    raise AssertionError("octet serve never said where it listens")


def _wait_until_ready(server):
    deadline = time.monotonic() + START_SECONDS
    while not server.stub.ServerReady(server.messages.ServerReadyRequest(), timeout=30, wait_for_ready=True).ready:
        assert server.process.poll() is None, f"octet serve ended with {server.process.returncode}"
        assert time.monotonic() < deadline, "the server never became ready"
        time.sleep(0.05)  # polls; what ends the loop is the answer


@contextlib.contextmanager
def serving(octet, repository, stubs, log=None, flags=()):
    """A ready server on free ports; SIGTERM at the end must end it with 0. `log` gets its stderr."""
    with open(log or os.devnull, "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [octet, "serve", f"--model-repository={repository}", "--host=127.0.0.1", "--grpc-port=0", "--http-port=0",
             "--metrics-port=0", *flags], stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1)
        try:
            server = Server(process, _ports(process), stubs)
            _wait_until_ready(server)
            yield server
            server.channel.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, f"SIGTERM ended octet serve with {process.returncode}"
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if log and sys.exc_info()[0] is not None:
                print(pathlib.Path(log).read_text(encoding="utf-8")[-4000:], file=sys.stderr)


def skip(reason):
    """Ends a test that cannot run here; ctest shows it as skipped (SKIP_RETURN_CODE 77)."""
    print(f"skipped: {reason}")
    sys.exit(77)

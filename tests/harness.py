"""Starts Octet's server from a test and speaks the Open Inference Protocol with it through generated stubs.

Everything here is a foreign client's view: Debian's grpcio, stubs made by protoc from proto/, no code of ours.
"""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
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


def make_octet_stubs(source, build):
    """The same for Octet's own service, octet.v1: (messages, services)."""
    proto = pathlib.Path(source) / "proto"
    build = pathlib.Path(build)
    build.mkdir(parents=True, exist_ok=True)
    subprocess.run(["protoc", f"-I{proto}", f"--python_out={build}", f"--grpc_out={build}",
                    "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin",
                    str(proto / "octet/v1/octet.proto")], check=True)
    if str(build) not in sys.path:
        sys.path.insert(0, str(build))
    from octet.v1 import octet_pb2, octet_pb2_grpc  # pylint: disable=import-outside-toplevel,import-error
    return octet_pb2, octet_pb2_grpc


class Server:
    """A running `octet serve` on ports that the system chose, and a stub connected to it; not yet ready."""

    def __init__(self, octet, repository, stubs, *flags):
        self.messages, services = stubs
        self.log = []  # lines of stderr
        self.process = subprocess.Popen(
            [octet, "serve", f"--model-repository={repository}", "--host=127.0.0.1", "--grpc-port=0", "--http-port=0",
             "--metrics-port=0", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Read all along, so that a full pipe never blocks the server.
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        ports = re.match(r"listening grpc=(\S+) http=(\S+) metrics=(\S+)", line)
        if not ports:
            self.process.kill()
            raise RuntimeError(f"octet serve said {line!r}: {''.join(self.log)}")
        self.grpc_address, self.http_address, self.metrics_address = ports.groups()
        self.channel = grpc.insecure_channel(self.grpc_address, options=[
            ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
        self.stub = services.GRPCInferenceServiceStub(self.channel)

    def get(self, path, address=None):
        """(status, body) of an HTTP GET."""
        try:
            with urllib.request.urlopen(f"http://{address or self.http_address}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def await_ready(self, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while self.get("/v2/health/ready")[0] != 200:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("not ready: " + "".join(self.log))
            time.sleep(0.02)  # polls; what ends the loop is the answer

    def infer(self, model, inputs):
        """Sends {name: f32, int64, int32 or uint8 array}, returns {name: f32 array}."""
        request = self.messages.ModelInferRequest(model_name=model)
        datatypes = {np.int64: ("INT64", "<i8"), np.int32: ("INT32", "<i4"), np.uint8: ("UINT8", "u1")}
        for name, array in inputs.items():
            datatype, dtype = datatypes.get(array.dtype.type, ("FP32", "<f4"))
            tensor = request.inputs.add(name=name, datatype=datatype)
            tensor.shape.extend(array.shape)
            request.raw_input_contents.append(array.astype(dtype).tobytes())
        reply = self.stub.ModelInfer(request, timeout=60)
        outputs = {}
        for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
            assert tensor.datatype == "FP32", tensor
            outputs[tensor.name] = np.frombuffer(raw, dtype="<f4").reshape(tensor.shape)
        return outputs

    def metric_lines(self):
        """{series as written: value} of /metrics."""
        status, text = self.get("/metrics", self.metrics_address)
        assert status == 200, text
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}

    def metrics(self):
        """{(name, frozenset of labels): value} of /metrics."""
        samples = {}
        for series, value in self.metric_lines().items():
            name, labels = re.fullmatch(r"([a-z_A-Z0-9:]+)(?:\{(.*)\})?", series).groups()
            samples[name, frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))] = value
        return samples

    def resident_bytes(self, kind="VmRSS"):
        """What the kernel says the process holds: VmRSS, RssAnon or RssFile of /proc."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(kind + r":\s+(\d+) kB", status)[1]) * 1024

    def cpu_seconds(self):
        """What the kernel says the process has used, user and system."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM and the exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._reader.join(10)
            if not self.process.stdout.closed:
                self.process.stdout.close()
                self.process.stderr.close()


@contextlib.contextmanager
def serving(octet, repository, stubs, *flags):
    """A ready server; SIGTERM at the end must end it with 0."""
    server = Server(octet, repository, stubs, *flags)
    try:
        server.await_ready()
        yield server
        status = server.stop()
        assert status == 0, f"SIGTERM ended octet serve with {status}"
    except BaseException:
        print("".join(server.log)[-4000:], file=sys.stderr)
        raise
    finally:
        server.stop()


def skip(reason):
    """Ends a test that cannot run here; ctest shows it as skipped (SKIP_RETURN_CODE 77)."""
    print(f"skipped: {reason}")
    sys.exit(77)

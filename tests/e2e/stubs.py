"""Stubs of proto/ made by Debian's protoc and Python plugin: a client that shares no code with the server."""
import os
import shutil
import subprocess
import sys


def generate(source_dir, out_dir):
    plugin = shutil.which("grpc_python_plugin")
    proto = os.path.join(source_dir, "proto")
    subprocess.run(
        ["protoc", "-I", proto, f"--python_out={out_dir}", f"--grpc_python_out={out_dir}",
         f"--plugin=protoc-gen-grpc_python={plugin}",
         os.path.join(proto, "grpc_service.proto"), os.path.join(proto, "model_config.proto")],
        check=True)
    sys.path.insert(0, out_dir)
    import grpc_service_pb2
    import grpc_service_pb2_grpc
    return grpc_service_pb2, grpc_service_pb2_grpc

"""Compiles the repository's protos into one descriptor set inside the package; all else is in pyproject.toml.

A descriptor set, not generated Python: it works with every version of protobuf, and messages live in a pool of their
own, so that a program may use another package with the same protos (tritonclient) beside this one.
"""
import pathlib
import shutil
import subprocess
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
NAME = "protocol.binpb"


def proto_folder():
    """Beside this file in a source distribution, else the repository's."""
    for folder in (HERE / "proto", HERE.parent.parent / "proto"):
        if (folder / "grpc_service.proto").is_file():
            return folder
    raise FileNotFoundError(f"grpc_service.proto is neither in {HERE / 'proto'} nor in {HERE.parent.parent / 'proto'}")


def protocol_files(folder):
    """The protocol, and Octet's own services where the tree has them; not the files about compression."""
    own = sorted(folder.glob("octet/**/*.proto"))
    return [folder / "grpc_service.proto", folder / "model_config.proto", *own]


def compile_protocol(target):
    folder = proto_folder()
    compiler = ["protoc"] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*compiler, f"-I{folder}", "--include_imports", f"--descriptor_set_out={target}",
                    *map(str, protocol_files(folder))], check=True)


class BuildPy(build_py):
    def run(self):
        super().run()
        # An editable install runs the package from src/, so its protocol must lie there.
        root = HERE / "src" if self.editable_mode else pathlib.Path(self.build_lib)
        compile_protocol(root / "octet_client" / NAME)


class Sdist(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        folder = proto_folder()
        for file in protocol_files(folder):
            copy = pathlib.Path(base_dir) / "proto" / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})

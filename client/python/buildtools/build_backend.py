"""setuptools, which is told to fetch grpcio-tools only where the machine has no protoc of its own."""
import shutil

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401  (the hooks that pip calls)
    build_editable, build_sdist, build_wheel, prepare_metadata_for_build_editable, prepare_metadata_for_build_wheel)


def _protoc():
    return [] if shutil.which("protoc") else ["grpcio-tools"]


def get_requires_for_build_wheel(config_settings=None):
    return build_meta.get_requires_for_build_wheel(config_settings) + _protoc()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _protoc()


def get_requires_for_build_sdist(config_settings=None):
    return build_meta.get_requires_for_build_sdist(config_settings) + _protoc()

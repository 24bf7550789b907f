"""Installs the package with pip into a scratch folder and makes it importable; shared set-up of the package's tests."""
import argparse
import atexit
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
work = tempfile.mkdtemp(prefix="octet_python_")
atexit.register(shutil.rmtree, work, ignore_errors=True)
site = os.path.join(work, "site")


def install():
    """From a copy of the sources: a build leaves folders behind, and the tree stays clean."""
    tree = os.path.join(work, "tree")
    for folder in ("client/python", "proto"):
        shutil.copytree(os.path.join(args.source, folder), os.path.join(tree, folder))
    made = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps",
         "--break-system-packages", "--root-user-action=ignore", "--no-cache-dir", f"--target={site}",
         os.path.join(tree, "client/python")], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"pip install failed: {made.stdout}{made.stderr}")


install()
sys.path[:0] = [site, os.path.join(args.source, "tests")]
import harness  # noqa: E402  pylint: disable=wrong-import-position

MODEL = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")


def start_server(repository, *flags):
    """A ready `octet serve`; the caller stops it. One compute thread: the tests want answers, not speed."""
    server = harness.Server(args.octet, repository, harness.make_stubs(args.source, os.path.join(work, "stubs")),
                            "--threads=1", *flags)
    server.await_ready()
    return server


def make_repository(*schemes):
    """The embedded model as `fashion`, with twins made by `octet compress`."""
    import numpy as np  # pylint: disable=import-outside-toplevel
    root = tempfile.mkdtemp(dir=work)
    folder = os.path.join(root, "fashion", "1")
    os.makedirs(folder)
    shutil.copy(MODEL, folder)
    samples = os.path.join(root, ".samples.npy")
    np.save(samples, np.random.default_rng(1).random((128, 1, 28, 28), dtype=np.float32))
    for scheme in schemes:
        subprocess.run([args.octet, "compress", MODEL, f"--calibration={samples}", f"--scheme={scheme}", "--threads=1",
                        f"--out={folder}/model.{scheme}.onnx"], check=True, capture_output=True)
    return root

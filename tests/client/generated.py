"""Generates the gRPC code from the protos alone, as anybody's client would."""

import atexit
import importlib.resources
import pathlib
import shutil
import sys
import tempfile

from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def generate(folder):
    """Writes the Python code of every contract into `folder`."""
    google = importlib.resources.files("grpc_tools") / "_proto"
    files = sorted(str(path) for path in PROTO.rglob("*.proto"))
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{google}", *outputs, *files]) != 0:
        raise RuntimeError("protoc failed")


FOLDER = tempfile.mkdtemp(prefix="parlance-python-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
generate(FOLDER)
sys.path.insert(0, FOLDER)

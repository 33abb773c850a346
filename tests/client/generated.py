"""Generates the gRPC code from the protos alone, as anybody's client would."""

import atexit
import importlib
import importlib.resources
import pathlib
import re
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


def internal():
    """The services that the suite keeps to itself: the comment of the contract says so."""
    for path in sorted(PROTO.rglob("*_service.proto")):
        text = path.read_text()
        package = re.search(r"^package (.+);$", text, re.MULTILINE).group(1)
        for comment, name in re.findall(r"((?:^//.*\n)+)^service (\w+) ", text, re.MULTILINE):
            if "only tokens of the internal audience" in " ".join(comment.split("\n// ")):
                yield f"{package}.{name}"


def services():
    """The descriptors of every service of the contracts that the suite serves."""
    for path in sorted(PROTO.rglob("*_service.proto")):
        if "hook" in path.parts:
            continue
        module = ".".join(path.relative_to(PROTO).with_suffix("").parts) + "_pb2"
        yield from importlib.import_module(module).DESCRIPTOR.services_by_name.values()

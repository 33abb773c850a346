"""The images of the programs, as `make images` builds them: `make test-deploy`."""

import json
import os
import pathlib
import re
import signal
import subprocess

import generated  # noqa: F401  (puts the generated code on the path)
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance_client import Client, mint, open_channel

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("TEST_PARLANCE_PROGRAMS", ROOT / "target" / "release"))
MOST = 60 * 2**20
# Runs what an image is started by as its user, with its root read-only but for /data.
RUN = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount -t tmpfs -o mode=0700,uid=65532,gid=65532 data "$0/data"
exec chroot --userspec=65532:65532 "$0" "$@"
"""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    """buildah with a store of its own, in which the images are."""
    folder = tmp_path_factory.mktemp("images")
    command = ["buildah", "--storage-driver", "vfs", "--root", folder / "root", "--runroot", folder / "run"]

    def run(*arguments):
        done = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    environment = {**os.environ, "BUILDAH": " ".join(map(str, command))}
    subprocess.run([ROOT / "scripts" / "build-images", PROGRAMS], env=environment, check=True)
    return run


def mounted(buildah, image):
    container = buildah("from", "--pull-never", image)
    return pathlib.Path(buildah("mount", container))


def images(buildah):
    # What they share is kept without a name.
    return {it["names"][0]: it for it in json.loads(buildah("images", "--json")) if it.get("names")}


def test_each_image_is_small_says_what_it_is_and_what_it_is_made_of(buildah):
    names = {"parlance", *(f"parlance-{it}" for it in ("membership", "message", "presence", "room"))}
    found = {name.rpartition("/")[2].partition(":")[0]: name for name in images(buildah)}
    assert set(found) == names
    layers = set()
    for program, image in found.items():
        told = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]
        layers.add(tuple(told["rootfs"]["diff_ids"]))
        config = told["config"]
        assert config["User"] == "65532:65532"
        assert config["Labels"]["org.opencontainers.image.title"] == program
        assert config["Entrypoint"] == [f"/usr/local/bin/{program}"]
        root = mounted(buildah, image)
        size = sum(it.lstat().st_size for it in root.rglob("*"))
        assert size < MOST, f"{program}: {size}"
        print(f"{program}: {size / 2**20:.1f} MiB")
    assert len(layers) == 1, "a node fetches the program once"


def test_an_image_says_what_it_is_made_of_under_which_licences(buildah):
    image, *_ = images(buildah)
    folder = mounted(buildah, image) / "usr/share/doc"
    made_of = json.loads((folder / "parlance/sbom.cdx.json").read_text())
    assert made_of["bomFormat"] == "CycloneDX"
    crates = {f"{it['name']} {it['version']}" for it in made_of["components"]}
    notices = (folder / "parlance/NOTICES").read_text()
    named = set(re.findall(r"^(\S+ \d\S*) \(.*\)$", notices, re.MULTILINE))
    assert named <= crates
    assert {"aws-lc-sys", "libsqlite3-sys", "sqlx", "tokio", "tonic"} <= {it.split()[0] for it in named}
    assert "Apache License" in (folder / "parlance/LICENSE").read_text()
    assert (folder / "libc6/copyright").is_file()


def test_an_image_runs_with_a_root_that_nobody_can_write_to(buildah):
    [image] = [it for it in images(buildah) if it.rpartition("/")[2].startswith("parlance:")]
    root = mounted(buildah, image)
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    arguments = ["run", "--store", "sqlite:///data", "--listen", "127.0.0.1:17070"]
    command = ["unshare", "--mount", "bash", "-euc", RUN, root, *config["Entrypoint"], *arguments]
    server = subprocess.Popen(command)
    try:
        with open_channel("127.0.0.1:17070") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            # The folder is there for the server alone, so that it is looked for through the server.
            key = pathlib.Path(f"/proc/{server.pid}/root/data/signing.key").read_bytes().strip()
            Client(channel, mint(key, "acme", "tests", role="service")).upsert_users(["anna"])
            anna = Client(channel, mint(key, "acme", "anna"))
            room = anna.create_group("an image")
            anna.send(room, "hello")
            assert [it.content.text for it in anna.history(room)] == ["hello"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        # By another name it is one service.
        told = ["chroot", root, "/usr/local/bin/parlance-message", "--version"]
        assert subprocess.run(told, check=True, stdout=subprocess.PIPE).stdout.startswith(b"parlance-message ")
    finally:
        server.kill()
        server.wait()

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import generated  # noqa: F401  (puts the generated code on the path)
import pytest
from control_plane import ControlPlane, until
from deployment import Calls, Clients, images, wait_for_rolls
from kubelet import Kubelet
from names import Names
from subscriber import Subscriber


@pytest.fixture(scope="module")
def cluster(request):
    """A cluster on which the overlay of a module was applied, after what it needs to be there."""
    with ControlPlane() as plane, Kubelet(plane, images()) as plane.kubelet, Names(plane, "10.88.0.1"):
        until("accounts", lambda: plane.call("GET", "/api/v1/namespaces/default/serviceaccounts/default"))
        plane.trusted = None
        getattr(request.module, "prepare", lambda _: None)(plane)
        plane.kubectl("apply", "-k", request.module.OVERLAY)
        try:
            yield plane
        finally:
            for log in sorted((plane.folder / "pods").glob("*/log")):
                print(f"{log.parent.name}: {log.read_text(errors='replace')[-1500:]}")


@pytest.fixture
def calls(cluster):
    """Users who send to a room and one who follows it. In the end nothing is lost, nothing failed,
    and no process was cut or killed on its way out."""
    wait_for_rolls(cluster)
    users = [f"user-{number}" for number in range(3)]
    with Clients(cluster.trusted) as clients:
        clients.service().upsert_users(users)
        room = clients.user(users[0]).create_group("a deployment", users[1:])
        with Subscriber(clients.user(users[2]), [room]) as follower:
            with Calls(clients, room, users) as running:
                running.follower = follower
                running.go_on()
                yield running
                running.go_on()
            assert running.failures == []
            sent = sorted(running.sent)
            follower.wait_for(room, sent[-1][0])
            assert follower.faults == [] and follower.messages(room) == sent
        stored = [(it.seq, it.sender_id, it.content.text) for it in clients.user(users[1]).history(room)]
        assert stored == sent
    assert [it for it in cluster.kubelet.ended if it[1] != 0] == []
    assert cluster.kubelet.failures == []

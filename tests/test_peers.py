import generated
import peer
import pytest
from suite import SERVICE_CONFIG, Suite, started

# How many lines are in flight when a replica is killed.
IN_FLIGHT = 5


@pytest.mark.parametrize("build", [peer.go, peer.node, peer.java])
def test_a_client_in_another_language_handles_every_event_once_and_in_order(build, tmp_path):
    """B-100, B-131, B-144: written by docs/clients.md with code from the contracts alone, its own
    streams dropped at random and its replica killed in the middle of its sends."""
    with started() as (state, _), Suite(state) as suite:
        suite.service().upsert_users(["anna", "peer"])
        anna = suite.user("anna")
        room = anna.create_group("a meeting", ["peer"])
        told = []

        def tell(count):
            """Lines for the peer to send."""
            told.extend(f"the peer says {len(told) + number}" for number in range(count))
            other.send(told[-count:])

        def say(count):
            """Lines of somebody else."""
            return [anna.send(room, f"anna says {number}").seq for number in range(count)][-1]

        with peer.Peer(build(tmp_path), suite, room, "peer") as other:
            tell(30)
            say(30)
            other.wait("its first lines", lambda me: len(me.told("sent")) == len(told))
            # The room's first two events made it and its members.
            other.wait("its events", lambda me: len(me.told("seq")) == 2 + 60)
            extra = 0
            while other.left() <= IN_FLIGHT:
                head, extra = say(1), extra + 1
                other.wait("one more", lambda me: me.told("seq")[-1]["seq"] == head)
                other.wait("a stream", lambda me: me.left() > 0)
            # Now the peer will not leave by itself before it notices.
            [*_, stream] = other.told("stream")
            tell(IN_FLIGHT)
            suite.kill_message(stream["stream"])
            tell(30 - IN_FLIGHT)
            say(30)
            other.wait("its last lines", lambda me: len(me.told("sent")) == len(told))
            events = 2 + 60 + extra + 60
            other.wait("its last events", lambda me: len(me.told("seq")) >= events)
            other.finish()
        history = [(each.seq, each.sender_id, each.content.text) for each in anna.history(room)]
        handled = [(line["seq"], line["actor"], line["text"]) for line in other.told("seq")]
        assert [seq for seq, _, _ in handled] == list(range(1, events + 1))
        assert handled[2:] == history
        sent = [(line["sent"], "peer", line["text"]) for line in other.told("sent")]
        assert sent == [line for line in history if line[1] == "peer"]
        assert [text for _, _, text in sent] == told
        assert len(other.told("dropped")) > 2
        assert other.told("ended"), "the peer did not notice that its replica was killed"
        assert other.told("stream")[-1]["stream"] != stream["stream"]
        assert not other.told("reset")


def configured(service, method):
    """What the service config says of a method: what names it, else its service, else all."""
    named = {
        (name.get("service"), name.get("method")): config
        for config in SERVICE_CONFIG["methodConfig"]
        for name in config["name"]
    }
    return named.get((service, method)) or named.get((service, None)) or named[None, None]


def test_the_service_config_repeats_every_call_and_lets_streams_wait():
    seen = 0
    for service in generated.services():
        for method in service.methods:
            config, seen = configured(service.full_name, method.name), seen + 1
            if method.server_streaming or method.client_streaming:
                assert config == {"name": config["name"], "waitForReady": True}
            else:
                assert config["retryPolicy"] and config["timeout"], method.full_name
    assert seen > 30

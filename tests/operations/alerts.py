"""Each alert of deploy/telemetry/alerts.yaml in the fault that it is about, raised by a real
Prometheus that scrapes a suite; and none of them while the suite is well.

A minute of a rule is a second here: what an alert waits for (`for: 5m`), and over what it counts
(`[5m]`). What the rules compare with is left as it is, but for the age of a change: 1 s, not 60."""

import contextlib
import functools
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import threading
import time
import uuid

import grpc
import pytest
from certificates import DAY, Ca, Secret
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance_client import DEADLINE, Client, people
from prometheus import RULES, Prometheus, shortened
from server import binary, environment
from suite import Message, Suite, started
from watching import get, until

# How long an alert may take that is about to be raised: its window, its wait, and a busy machine.
PATIENCE = 60
# The longest window of a rule, and its wait.
WELL = 20
# Alerts whose fault nobody can make from outside, and why.
UNMADE = {
    "ParlanceTaskStuck": "every run of a task is bounded: only a bug makes one hang for half an "
    "hour. alerts_test.yaml judges the rule"
}
# What a process says of the port that it took for operators.
ADMIN = re.compile(r"/readyz on (\S+)")


def is_gone(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def end(pid, how=signal.SIGTERM):
    """Asks a process of the suite to end, and waits until it has."""
    os.kill(pid, how)
    until(lambda: is_gone(pid), what=f"the end of process {pid}")


class Traffic:
    """Calls without a pause, each thread the same one over and over, whatever comes of it."""

    def __init__(self, threads, call):
        self._over, self._call, self.done = threading.Event(), call, 0
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self):
        while not self._over.is_set():
            try:
                self._call()
                self.done += 1
            except grpc.RpcError:
                # Refused without work: others may go on.
                self._over.wait(0.01)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def send(client, room):
    content = message_pb2.MessageContent(text="hello")
    request = message_pb.SendMessageRequest(
        room_id=room, content=content, request_id=uuid.uuid4().hex
    )
    client.messages.SendMessage(request, timeout=DEADLINE)


def add(client, room, user, timeout=DEADLINE):
    request = membership_pb.AddMembersRequest(
        room_id=room, user_ids=[user], request_id=uuid.uuid4().hex
    )
    client.members.AddMembers(request, timeout=timeout)


class Faults:
    """A suite with somebody who uses it, and a Prometheus that watches it."""

    def __init__(self, state, suite, prometheus, folder, stack):
        self.state, self.suite, self.prometheus = state, suite, prometheus
        self.folder, self.stack = folder, stack
        told = json.loads(pathlib.Path(state).read_text())
        self.store, self.bus, self.admin = told["store"], told["bus"], told["admin"]
        self.raised = set()
        self.name, self.anna, *more = people(suite, "anna", *(f"member{number}" for number in range(6)))
        self.members = more[::2]
        self.room = self.anna.create_group("watched")

    def pid(self, name):
        return self.suite._processes[name]

    @contextlib.contextmanager
    def fault(self, *alerts):
        """Alerts that a fault must raise, which nothing raises before it is made; it lasts until
        they are there."""
        until(lambda: not self.prometheus.firing() & set(alerts), PATIENCE, f"quiet of {alerts}")
        self.raised -= set(alerts)
        yield
        self.see(*alerts)

    def see(self, *alerts):
        """Waits until each of them was raised, though it may be over before another begins."""

        def raised():
            self.raised |= set(alerts) & self.prometheus.firing()
            return set(alerts) <= self.raised

        until(raised, PATIENCE, f"one of {alerts}")

    def sql(self, *statements):
        words = [word for statement in statements for word in ("-c", statement)]
        run = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", *words, self.store]
        return subprocess.Popen(run, stdout=subprocess.PIPE, text=True)

    def well(self):
        """Nothing is raised while people use the suite."""
        phone = session_pb.OpenSessionRequest(resource="phone")

        def use():
            send(self.anna, self.room)
            self.anna.sessions.OpenSession(phone, timeout=DEADLINE)

        # Before its first look Prometheus took everybody for gone.
        until(lambda: not self.prometheus.firing(), PATIENCE, "a beginning")
        with Traffic(2, use) as traffic:
            add(self.anna, self.room, self.members[0])
            add(self.anna, self.room, self.members[1])
            # The time is what it is about: the longest window must have been filled.
            time.sleep(WELL)
        assert traffic.done > 20
        assert self.prometheus.fired(WELL) == set()
        rules = self.prometheus.rules()
        assert set(rules.values()) == {"ok"}, rules
        # What they look at was there.
        rate = "sum(rate(rpc_server_call_duration_seconds_count[15s]))"
        assert self.prometheus.value(rate) > 1
        assert self.prometheus.value("count(parlance_task_runs_total)") > 10
        assert self.prometheus.value("count(parlance_outbox_oldest_seconds)") == 2

    def redis_away(self):
        with self.fault("ParlanceBusDown", "ParlanceTaskFails"):
            end(self.pid("redis"))
        port = self.bus.rsplit(":", 1)[1]
        run = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", self.folder]
        run += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        redis = subprocess.Popen(run, stdout=subprocess.DEVNULL)
        self.stack.callback(lambda: (redis.terminate(), redis.wait()))
        until(lambda: "ParlanceBusDown" not in self.prometheus.firing(), PATIENCE, "its end")

    def message_silent(self):
        with self.fault("ParlanceOutboxStuck"):
            os.kill(self.pid("message-0"), signal.SIGSTOP)
            self.stack.callback(self.go_on, "message-0")
            with pytest.raises(grpc.RpcError):
                add(self.anna, self.room, self.members[2], timeout=2)
        self.go_on("message-0")
        until(lambda: "ParlanceOutboxStuck" not in self.prometheus.firing(), PATIENCE, "its end")

    def go_on(self, name):
        with contextlib.suppress(KeyError, ProcessLookupError):
            os.kill(self.pid(name), signal.SIGCONT)

    @contextlib.contextmanager
    def small(self):
        """A replica of message beside the suite that takes little: a few connections and calls."""
        options = ["--connections", "4", "--max-calls", "16", "--admin-listen", "127.0.0.1:0"]
        with Message(self.state, options) as small:
            [admin] = ADMIN.findall(small.log.read_text())
            self.prometheus.scrape(small=admin)
            anna = Client(small.channel(), self.suite.token(self.name))
            request = message_pb.ListMessagesRequest(room_id=self.room, page_size=100)
            yield lambda: anna.messages.ListMessages(request, timeout=DEADLINE)
            self.prometheus.forget("small")

    def events_locked(self, read):
        """As by an index that is made without care."""
        lock = "LOCK TABLE parlance_message.events IN ACCESS EXCLUSIVE MODE"
        with self.fault("ParlanceSlowSends", "ParlanceDatabaseCrowded"):
            held = self.sql("BEGIN", lock, "SELECT pg_sleep(9)", "COMMIT")
            with Traffic(4, functools.partial(send, self.anna, self.room)), Traffic(6, read):
                self.see("ParlanceDatabaseCrowded")
                assert held.wait(PATIENCE) == 0
                # What was slow once is over before it is told of.
                again = self.sql(*["BEGIN", lock, "SELECT pg_sleep(1.7)", "COMMIT"] * 12)
                self.see("ParlanceSlowSends")
                assert again.wait(PATIENCE) == 0

    def too_much(self, read):
        with self.fault("ParlanceOverloaded"), Traffic(30, read):
            self.see("ParlanceOverloaded")

    def membership_rewound(self):
        """Membership's database is put back by two changes of a room."""
        schema = "parlance_membership"
        of_room = f"room_id = '{self.room}'"
        with self.fault("ParlanceRewound"):
            back = self.sql(
                f"UPDATE {schema}.outbox_logs SET version = version - 2, applied = applied - 2 "
                f"WHERE {of_room} AND version = applied AND version > 2 RETURNING version",
                f"DELETE FROM {schema}.outbox o USING {schema}.outbox_logs l "
                f"WHERE l.{of_room} AND o.log_id = l.log_id AND o.version > l.version",
            )
            told, _ = back.communicate()
            assert back.returncode == 0 and told.strip(), told
            add(self.anna, self.room, self.members[3])

    def unread_log_and_old_certificate(self, folder):
        ca = Ca(folder / "ca")
        secret = Secret(folder / "secret", ca.issue("localhost", "127.0.0.1", ends=3 * DAY))
        key = folder / "auth.key"
        key.write_text(secrets.token_hex(32))
        run = [binary(), "run", "--store", f"sqlite://{folder}/data", "--listen", "127.0.0.1:0"]
        run += ["--auth-key", f"hs256:{key}", "--admin-listen", "127.0.0.1:0", *secret.options()]
        process = subprocess.Popen(
            [*run, "--log-filter", "trace"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=environment(), cwd=folder,
        )
        try:
            self.nobody_reads(process, ca)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def nobody_reads(self, process, ca):
        said = ""
        while not (found := re.search(r"\b(127\.0\.0\.1:[1-9]\d*)\b(?s:.*)/readyz on (\S+)", said)):
            said += process.stdout.readline()
        # From here on nobody reads what it says.
        address, admin = found.groups()
        until(lambda: get(admin, "/readyz")[0] == 200, what="the start of a server")
        with self.fault("ParlanceCertificateEnds", "ParlanceLogLost"):
            self.prometheus.scrape(unread=admin)
            trusted = grpc.ssl_channel_credentials(ca.pem)
            options = [("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(address, trusted, options) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check
                ask = functools.partial(check, health_pb2.HealthCheckRequest(), timeout=DEADLINE)
                with Traffic(4, ask):
                    self.see("ParlanceLogLost")
        self.prometheus.forget("unread")

    def postgres_away(self):
        with self.fault("ParlanceNotReady", "ParlanceErrors"):
            with Traffic(4, functools.partial(send, self.anna, self.room)):
                end(self.pid("postgres"), signal.SIGINT)
                self.see("ParlanceNotReady", "ParlanceErrors", "ParlanceTaskFails")

    def all_gone(self):
        with self.fault("ParlanceAbsent"):
            for name in self.admin:
                self.suite.kill(name)


def without_minutes(rules):
    rules = shortened(rules)
    assert rules.count("parlance_outbox_oldest_seconds) > 60") == 1
    return rules.replace("parlance_outbox_oldest_seconds) > 60", "parlance_outbox_oldest_seconds) > 1")


def test_each_alert_is_raised_in_its_fault_and_none_without(tmp_path):
    rules = RULES.read_text()
    with contextlib.ExitStack() as stack:
        state, _ = stack.enter_context(started(replicas=1))
        suite = stack.enter_context(Suite(state))
        prometheus = stack.enter_context(Prometheus(tmp_path, without_minutes(rules)))
        watched = Faults(state, suite, prometheus, tmp_path, stack)
        prometheus.scrape(**{name.replace("-", "_"): it for name, it in watched.admin.items()})
        watched.well()
        watched.redis_away()
        watched.message_silent()
        with watched.small() as read:
            watched.events_locked(read)
            watched.too_much(read)
        watched.membership_rewound()
        watched.unread_log_and_old_certificate(tmp_path)
        watched.postgres_away()
        watched.all_gone()
        every = set(re.findall(r"- alert: (\w+)", rules))
        assert watched.raised | set(UNMADE) == every and not watched.raised & set(UNMADE)

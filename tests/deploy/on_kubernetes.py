"""deploy/kubernetes on a control plane of Kubernetes: `make test-deploy`."""

import subprocess
import urllib.error

import yaml
from control_plane import until
from deployment import (
    NAMESPACE,
    PODS,
    SERVICES,
    deployments,
    is_ready,
    pods,
    roll,
    wait_for_rolls,
    wait_for_the_end_of_those_that_go,
)

OVERLAY = "deploy/kubernetes/overlays/dev"


def test_one_command_gives_a_suite_whose_replicas_roll_scale_and_are_evicted_unnoticed(cluster, calls):
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", "job", "--all", "--timeout=60s")
    any_pod = ["run", "any", "--image=redis", "--dry-run=server"]
    refused = cluster.kubectl("-n", NAMESPACE, *any_pod, check=False).stderr
    assert "violates PodSecurity" in refused
    before = {it["metadata"]["uid"] for service in SERVICES for it in pods(cluster, service)}
    assert len(before) == 2 * len(SERVICES)

    roll(cluster)
    calls.go_on()

    for replicas in (4, 2):
        cluster.kubectl("-n", NAMESPACE, "scale", f"--replicas={replicas}", *deployments())
        for service in SERVICES:
            until(
                f"{replicas} replicas of {service}",
                lambda service=service: [is_ready(it) for it in pods(cluster, service)] == [True] * replicas,
            )
        calls.go_on()
    assert before.isdisjoint(it["metadata"]["uid"] for service in SERVICES for it in pods(cluster, service))

    for service in SERVICES:
        first, second = (it["metadata"]["name"] for it in pods(cluster, service))
        until(f"a budget that knows the replicas of {service}", lambda first=first: evict(cluster, first))
        assert not evict(cluster, second), "the budget allows one at a time"
    wait_for_rolls(cluster)
    calls.go_on()
    wait_for_the_end_of_those_that_go(cluster)


def evict(cluster, name):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    try:
        cluster.call("POST", f"{PODS}/{name}/eviction", eviction)
    except urllib.error.HTTPError as error:
        assert error.code == 429
        return False
    return True


def test_an_autoscaler_keeps_the_least_and_without_metrics_changes_nothing_else(cluster, calls):
    rendered = cluster.kubectl("kustomize", "deploy/kubernetes/base/presence").stdout
    [scaler] = [it for it in yaml.safe_load_all(rendered) if it["kind"] == "HorizontalPodAutoscaler"]
    path = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
    cluster.call("POST", path, scaler)
    path = f"{path}/{scaler['metadata']['name']}"
    try:
        # One replica, as a new Deployment has that says nothing of how many.
        scale(cluster, 1)
        until("the least that it may be", lambda: wanted(cluster) == scaler["spec"]["minReplicas"] == 2)
        scale(cluster, 3)
        until("an autoscaler that saw it", lambda: cluster.call("GET", path)["status"].get("currentReplicas") == 3)
        told = {it["type"]: it for it in cluster.call("GET", path)["status"]["conditions"]}
        assert told["AbleToScale"]["status"] == "True", told
        assert told["ScalingActive"]["status"] == "False", told
        assert told["ScalingActive"]["reason"] == "FailedGetResourceMetric", told
        assert wanted(cluster) == 3
    finally:
        cluster.call("DELETE", path)
    scale(cluster, 2)
    wait_for_rolls(cluster)


def scale(cluster, replicas):
    cluster.kubectl("-n", NAMESPACE, "scale", f"--replicas={replicas}", "deployment/parlance-presence")


def wanted(cluster):
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/parlance-presence"
    return cluster.call("GET", path)["spec"]["replicas"]


def test_a_migration_that_fails_stops_the_roll_and_the_version_before_goes_on(cluster, calls):
    # As if the last migration were of the next version, and could not be run.
    applied = "parlance_presence._sqlx_migrations"
    sql(cluster, f"CREATE TABLE forgotten AS SELECT * FROM {applied}; DELETE FROM {applied}")
    manifests = cluster.kubectl("kustomize", OVERLAY).stdout.replace("0.1.0", "0.1.1")
    cluster.kubectl("apply", "-f", "-", input=manifests)
    until("a failed Job", lambda: job(cluster)["status"].get("failed", 0) > 0)

    def restarts():
        new = [it for it in pods(cluster, "presence") if not is_ready(it)]
        return sum(it["restartCount"] for pod in new for it in pod["status"].get("containerStatuses", ()))

    until("a replica that cannot start", lambda: restarts() > 1)
    old = [it for it in pods(cluster, "presence") if is_ready(it)]
    assert [it["spec"]["containers"][0]["image"] for it in old] == ["parlance-presence:0.1.0"] * 2
    calls.go_on()

    sql(cluster, f"INSERT INTO {applied} SELECT * FROM forgotten")
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", job_name(), "--timeout=120s")
    wait_for_rolls(cluster)
    new = [it["spec"]["containers"][0]["image"] for it in pods(cluster, "presence")]
    assert new == ["parlance-presence:0.1.1"] * 2


def job_name():
    return "job/parlance-migrate-0.1.1"


def job(cluster):
    return cluster.call("GET", f"/apis/batch/v1/namespaces/{NAMESPACE}/{job_name().replace('job', 'jobs', 1)}")


def sql(cluster, statement):
    [postgres] = cluster.call("GET", f"{PODS}?labelSelector=app.kubernetes.io/name%3Dpostgres")["items"]
    url = f"postgres://parlance:dev-only@{postgres['status']['podIP']}/parlance"
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", statement], check=True)

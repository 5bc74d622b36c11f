#!/usr/bin/env python3
"""Pods on the local cluster's node: what runs, what it sees, how it ends, and that a killed node agent costs nothing.
As this user and, when that is root, once more as an ordinary user. Images and programs are the test's own.
"""
import json
import os
import signal
import subprocess
import sys
import time

import cluster_test
from cluster_test import KUBECTL, eventually, kill

NS = "kube-public"  # never gets sidecars


def container(name, script, **more):
    return {"name": name, "image": "test/any", "command": ["sh", "-c", script], **more}


def pod(name, *containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 2, "containers": list(containers), **spec}}


class Cluster:
    def __init__(self, person, *arguments):
        self.person = person
        person.up(*arguments)
        eventually(lambda: "Ready" in self("get", "nodes", "--no-headers"))

    def __call__(self, *arguments, check=True, text=None, seconds=60):
        person = self.person
        command = [KUBECTL, *arguments]
        if person.user:
            command = ["setpriv", f"--reuid={person.user}", f"--regid={person.user}", "--init-groups"] + command
        done = subprocess.run(command, env=person.environment(), text=True, timeout=seconds, cwd="/", input=text or "",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
            return done.stdout
        return done

    def apply(self, *objects):
        self("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, name):
        return json.loads(self("-n", NS, "get", "pod", name, "-o", "json"))

    def state(self, name, which=None):
        statuses = self.get(name)["status"].get("containerStatuses", [])
        return next((s for s in statuses if which in (None, s["name"])), {})

    def condition(self, name, kind):
        for condition in self.get(name)["status"].get("conditions", []):
            if condition["type"] == kind:
                return condition["status"]
        return None

    def ready(self, name):
        return self.condition(name, "Ready") == "True"

    def wait_ready(self, *names, seconds=10):
        for name in names:
            eventually(lambda each=name: self.ready(each), seconds)

    def logs(self, name, *arguments):
        return self("-n", NS, "logs", name, *arguments)

    def exec(self, name, *command, **more):
        return self("-n", NS, "exec", name, "--", *command, check=False, **more)


def test_containers_in_order(person):
    k = Cluster(person)
    begun = time.monotonic()
    k.apply(pod("order", container("a", "cat /shared/*; exec sleep 1000", volumeMounts=[{"name": "v", "mountPath": "/shared"}]),
                container("b", "echo b; exec sleep 1000"),
                initContainers=[container("one", "echo 1 >/shared/1", volumeMounts=[{"name": "v", "mountPath": "/shared"}]),
                                container("two", "test -f /shared/1 && echo 2 >/shared/2",
                                          volumeMounts=[{"name": "v", "mountPath": "/shared"}])],
                volumes=[{"name": "v", "emptyDir": {}}]))
    k.wait_ready("order")
    print(f"  ready after {time.monotonic() - begun:.2f} s")
    assert k.logs("order", "-c", "a") == "1\n2\n"
    status = k.get("order")["status"]
    assert status["phase"] == "Running" and status["podIP"].startswith("10.244.0."), status
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        t: "True" for t in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")}
    assert [s["state"]["terminated"]["reason"] for s in status["initContainerStatuses"]] == ["Completed", "Completed"]
    # A sidecar-less pod of the network: its own address answers from another pod.
    reasons = k("-n", NS, "get", "events", "-o", "jsonpath={.items[*].reason}").split()
    assert {"Scheduled", "Pulled", "Created", "Started"} <= set(reasons), reasons


def test_what_a_container_sees(person):
    k = Cluster(person)
    k.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": NS}, "data": {"k": "v", "f.txt": "file"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NS}, "stringData": {"p": "word"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-svc", "namespace": NS},
             "spec": {"clusterIP": "10.96.7.7", "ports": [{"name": "web", "port": 80}]}},
            pod("sees", {
                "name": "a", "image": "test/any", "command": ["sh", "-c"], "workingDir": "/tmp",
                "args": ["echo $0 $1; exec sleep 1000", "$(GREETING)", "$$(X)"],
                "env": [{"name": "WHO", "value": "world"}, {"name": "GREETING", "value": "hello-$(WHO)"},
                        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}}],
                "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c"}}],
                "resources": {"limits": {"cpu": "1500m"}},
                "securityContext": {"runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": True},
                "volumeMounts": [{"name": "p", "mountPath": "/etc/istio/pod"}, {"name": "t", "mountPath": "/var/run/secrets/tokens"},
                                 {"name": "e", "mountPath": "/etc/istio/proxy"},
                                 {"name": "c", "mountPath": "/opt/one.txt", "subPath": "f.txt"}]},
                volumes=[{"name": "p", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                         {"name": "t", "projected": {"sources": [
                             {"serviceAccountToken": {"audience": "istio-ca", "path": "istio-token"}},
                             {"configMap": {"name": "c", "items": [{"key": "k", "path": "deep/k"}]}}]}},
                         {"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}]))
    k.wait_ready("sees")
    assert k.logs("sees") == "hello-world $(X)\n", k.logs("sees")
    script = """
        id -u; pwd; echo $NAME $IP $CPU $K $P $C_k $MY_SVC_SERVICE_HOST $MY_SVC_PORT_80_TCP $KUBERNETES_SERVICE_HOST
        cat /etc/istio/pod/labels; echo; cut -d. -f1 /var/run/secrets/tokens/istio-token | wc -l
        cat /var/run/secrets/tokens/deep/k; echo; cat /opt/one.txt; echo; echo w >/etc/istio/proxy/w && cat /etc/istio/proxy/w
        test -s /var/run/secrets/kubernetes.io/serviceaccount/token && cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo
        hostname; grep -c "$IP" /etc/hosts; grep -o 10.96.0.10 /etc/resolv.conf; (echo x >/etc/x) 2>/dev/null || echo read-only
        echo out >/dev/stdout; echo err >/dev/stderr"""
    done = k.exec("sees", "sh", "-c", script)
    ip = k.get("sees")["status"]["podIP"]
    assert done.stdout.split("\n") == [
        "1337", "/tmp", f"sees {ip} 2 v word v 10.96.7.7 tcp://10.96.7.7:80 10.96.0.1", 'app="sees"', "1", "v", "file", "w", NS, "sees",
        "1", "10.96.0.10", "read-only", "out", ""], done
    assert done.stderr == "err\n", done.stderr
    # Changes of labels arrive in the files.
    k("-n", NS, "label", "pod", "sees", "more=1")
    eventually(lambda: "more" in k.exec("sees", "cat", "/etc/istio/pod/labels").stdout)


def test_keys_stay_out_of_sight(person):
    k = Cluster(person)
    k.apply(pod("spy", container("a", "exec sleep 1000")))
    k.wait_ready("spy")
    for path in (person.data + "/admin.kubeconfig", person.data + "/api", person.home + "/.kube/config", person.data + "/run/node.sock"):
        assert os.path.exists(path), path
        for seen in (path, "/proc/1/root" + path, "/.postern/host" + path):
            assert k.exec("spy", "ls", seen).returncode != 0, seen


def test_exec(person):
    k = Cluster(person)
    k.apply(pod("e", container("a", "exec sleep 1000")))
    k.wait_ready("e")
    assert k.exec("e", "sh", "-c", "exit 3").returncode == 3
    done = k("-n", NS, "exec", "-i", "e", "--", "cat", check=False, text="in\n" * 10000)
    assert done.stdout == "in\n" * 10000
    missing = k.exec("e", "no-such-program")
    assert missing.returncode != 0 and "no-such-program" in missing.stderr, missing
    # On a terminal, both outputs are one.
    import pty
    master, slave = pty.openpty()
    command = [KUBECTL, "-n", NS, "exec", "-ti", "e", "--", "sh", "-c", "tty; echo err >/dev/stderr; exit 4"]
    if person.user:
        command = ["setpriv", f"--reuid={person.user}", f"--regid={person.user}", "--init-groups"] + command
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=person.environment(), cwd="/") as process:
        out, _ = process.communicate(timeout=20)
    os.close(master)
    os.close(slave)
    assert process.returncode == 4 and out.startswith(b"/dev/pts/") and out.endswith(b"err\r\n"), out


def test_logs(person):
    k = Cluster(person)
    k.apply(pod("l", container("a", "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; trap 'exit 0' USR1; "
                                    "while :; do sleep 0.1; test -f /tmp/more && { echo more; rm /tmp/more; }; done")))
    k.wait_ready("l")
    assert k.logs("l").split("\n")[:-1] == [f"line {i}" for i in range(1, 51)]
    assert k.logs("l", "--tail", "2") == "line 49\nline 50\n"
    assert k.logs("l", "--tail", "0") == ""
    assert k.logs("l", "--limit-bytes", "9") == "line 1\nli"
    first = k.logs("l", "--timestamps", "--tail=1").split(" ", 1)
    assert first[0].endswith("Z") and len(first[0]) == 30 and first[1] == "line 50\n", first
    assert k.logs("l", "--since-time", "2090-01-01T00:00:00Z") == ""
    assert "previous terminated container" in k("-n", NS, "logs", "l", "-p", check=False).stderr
    command = [KUBECTL, "-n", NS, "logs", "-f", "l", "--tail=1"]
    if person.user:
        command = ["setpriv", f"--reuid={person.user}", f"--regid={person.user}", "--init-groups"] + command
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=person.environment(), cwd="/") as follow:
        assert follow.stdout.readline() == "line 50\n"
        k.exec("l", "touch", "/tmp/more")
        assert follow.stdout.readline() == "more\n"
        k("-n", NS, "delete", "pod", "l", "--now", "--wait=false")
        follow.wait(timeout=20)


def test_restart_with_back_off(person):
    k = Cluster(person)
    k.apply(pod("crash", container("a", "echo run; echo why >/dev/termination-log; exit 3")))
    eventually(lambda: k.state("crash").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    status = k.state("crash")
    assert status["restartCount"] == 1, status
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "why\n"), ended
    assert k.logs("crash", "-p") == "run\n"
    assert k.get("crash")["status"]["phase"] == "Running"
    k.apply(pod("nothing", {"name": "a", "image": "test/any", "command": ["/no/such"]}))
    eventually(lambda: "terminated" in k.state("nothing").get("lastState", {}))
    assert k.state("nothing")["lastState"]["terminated"]["reason"] == "StartError"


def test_pods_that_end(person):
    k = Cluster(person)
    k.apply(pod("good", container("a", "exit 0"), restartPolicy="Never"), pod("bad", container("a", "exit 2"), restartPolicy="OnFailure"),
            pod("failed", container("a", "exit 2"), restartPolicy="Never"))
    eventually(lambda: k.get("good")["status"]["phase"] == "Succeeded")
    eventually(lambda: k.get("failed")["status"]["phase"] == "Failed")
    eventually(lambda: k.state("bad").get("restartCount", 0) >= 1)
    assert k.state("failed")["state"]["terminated"]["exitCode"] == 2
    k("-n", NS, "create", "job", "j", "--image=test/any", "--", "sh", "-c", "echo done")
    k("-n", NS, "wait", "--for=condition=complete", "job/j", "--timeout=10s")
    log = k("-n", NS, "logs", "job/j", check=False)
    assert log.stdout == "done\n", log
    k("-n", NS, "delete", "pod", "good", "--timeout=10s")


def test_images(person):
    """A person's own program behind an image name; the map may be changed while the cluster runs."""
    program = os.path.join(person.programs, "mine.sh")
    with open(program, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho mine $@ $MODE\nexec sleep 1000\n")
    os.chmod(program, 0o755)
    images = os.path.join(person.programs, "images.yaml")
    with open(images, "w", encoding="utf-8") as file:
        file.write("images: []\n")
    k = Cluster(person, "--image-map", images)
    k.apply(pod("own", {"name": "a", "image": "docker.io/acme/own:1", "args": ["x"]}))
    eventually(lambda: k.state("own").get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff")
    assert "image map" in k.state("own")["state"]["waiting"]["message"]
    with open(images, "w", encoding="utf-8") as file:
        file.write(f'images:\n- match: "docker.io/acme/own:*"\n  command: ["{program}"]\n  env: {{MODE: dev}}\n')
    k.wait_ready("own")
    eventually(lambda: k.logs("own") == "mine x dev\n")


def test_missing_configuration(person):
    k = Cluster(person)
    k.apply(pod("env", container("a", "exec sleep 1000", env=[
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}])),
            pod("vol", container("a", "exec sleep 1000", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
                volumes=[{"name": "v", "configMap": {"name": "late"}}]))
    eventually(lambda: k.state("env").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError")
    assert k.state("env")["state"]["waiting"]["message"] == 'configmap "late" not found'
    eventually(lambda: "FailedMount" in k("-n", NS, "get", "events"))
    k("-n", NS, "create", "configmap", "late", "--from-literal=k=v")
    k.wait_ready("env", "vol", seconds=15)


def test_probes(person):
    k = Cluster(person)
    web = os.path.join(k.person.programs, "postern-demo")
    assert os.path.exists(web)
    k.apply(pod("http", {"name": "a", "image": "x/httpbin", "readinessProbe": {"httpGet": {"path": "/status/200", "port": "web"}},
                         "livenessProbe": {"tcpSocket": {"port": 80}}, "ports": [{"name": "web", "containerPort": 80}]}),
            pod("switch", container("a", "touch /tmp/ok; exec sleep 1000", readinessProbe={
                "exec": {"command": ["test", "-f", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1})),
            pod("never", container("a", "exec sleep 1000", readinessProbe={
                "httpGet": {"path": "/", "port": 81}, "periodSeconds": 1})),
            pod("sick", container("a", "sleep 1.5; touch /tmp/sick; exec sleep 1000", livenessProbe={
                "exec": {"command": ["sh", "-c", "! test -f /tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1})))
    k.wait_ready("http", "switch")
    assert not k.ready("never")
    k.exec("switch", "rm", "/tmp/ok")
    eventually(lambda: not k.ready("switch"))
    k.exec("switch", "touch", "/tmp/ok")
    k.wait_ready("switch")
    eventually(lambda: k.state("sick")["restartCount"] == 1, seconds=15)
    messages = k("-n", NS, "get", "events", "-o", "jsonpath={.items[*].message}")
    assert "failed liveness probe, will be restarted" in messages and "Readiness probe failed: " in messages, messages
    assert not k.ready("never")


def test_termination(person):
    k = Cluster(person)
    notes = [{"name": "v", "hostPath": {"path": person.programs}}]
    mounts = [{"name": "v", "mountPath": "/notes"}]
    os.chmod(person.programs, 0o777)
    k.apply(pod("gentle", container("a", "trap 'echo term >/notes/gentle; exit 0' TERM; while :; do sleep 0.05; done", volumeMounts=mounts),
                volumes=notes, terminationGracePeriodSeconds=20),
            pod("deaf", container("a", "trap '' TERM; while :; do sleep 0.05; done"), terminationGracePeriodSeconds=1),
            pod("hook", container("a", "trap 'echo after >>/notes/hook; exit 0' TERM; while :; do sleep 0.05; done", volumeMounts=mounts,
                                  lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo before >>/notes/hook"]}}}),
                volumes=notes),
            pod("pause", container("a", "trap 'exit 0' TERM; while :; do sleep 0.05; done",
                                   lifecycle={"preStop": {"sleep": {"seconds": 1}}}), terminationGracePeriodSeconds=20))
    k.wait_ready("gentle", "deaf", "hook", "pause")
    for name, least, most in (("gentle", 0, 3), ("deaf", 0.9, 4), ("hook", 0, 3), ("pause", 0.9, 5)):
        begun = time.monotonic()
        k("-n", NS, "delete", "pod", name, "--timeout=15s")
        took = time.monotonic() - begun
        assert least <= took <= most, f"{name} took {took:.2f} s"
    with open(os.path.join(person.programs, "gentle"), encoding="utf-8") as file:
        assert file.read() == "term\n"
    with open(os.path.join(person.programs, "hook"), encoding="utf-8") as file:
        assert file.read() == "before\nafter\n"
    pods = os.path.join(person.data, "node/pods")
    eventually(lambda: os.listdir(pods) == [])


def pid_of(person, mark):
    """The process of the cluster whose last argument this is."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().split(b"\0")[-2:] == [mark.encode(), b""]:
                    return int(pid)
        except OSError:
            continue
    return None


def test_node_agent_killed(person):
    """Pods go on, are taken up again, and what happened meanwhile is made good."""
    k = Cluster(person)
    tag = f"{os.getpid()}{time.monotonic_ns()}"
    names = ("a", "b", "c")
    k.apply(pod("many", *[container(n, f"echo start; exec sleep {i}.{tag}") for i, n in enumerate(names, 1000)],
                initContainers=[container("first", "echo 1"), container("second", "echo 2")]),
            pod("leaves", container("a", f"exec sleep 2000.{tag}")), pod("dies", container("a", f"exec sleep 3000.{tag}")))
    k.wait_ready("many", "leaves", "dies")
    before = [pid_of(person, f"{i}.{tag}") for i in range(1000, 1003)]
    assert all(before), before
    supervisor, agent = person.pid("supervisor"), person.pid("node")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        kill(agent)
        k("-n", NS, "delete", "pod", "leaves", "--wait=false")
        kill(pid_of(person, f"3000.{tag}"))
        assert k.exec("many", "true").returncode != 0
    finally:
        os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: k.state("dies").get("restartCount") == 1 and "running" in k.state("dies")["state"])
    eventually(lambda: not k("-n", NS, "get", "pod", "leaves", "--ignore-not-found"))
    eventually(lambda: pid_of(person, f"2000.{tag}") is None)
    time.sleep(0.5)  # what should not happen needs its time to happen
    assert [pid_of(person, f"{i}.{tag}") for i in range(1000, 1003)] == before
    status = k.get("many")["status"]
    assert [s["restartCount"] for s in status["containerStatuses"]] == [0, 0, 0], status
    assert k.ready("many") and k.exec("many", "true").returncode == 0
    assert k.logs("many", "-c", "b") == "start\n"
    # A second time at once, and a pod that is force-deleted while no agent runs.
    os.kill(supervisor, signal.SIGSTOP)
    try:
        kill(person.pid("node"))
        k("-n", NS, "delete", "pod", "dies", "--force", "--grace-period=0", "--wait=false")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: pid_of(person, f"3000.{tag}") is None)
    k.wait_ready("many")
    assert [pid_of(person, f"{i}.{tag}") for i in range(1000, 1003)] == before


def test_sandbox_killed(person):
    k = Cluster(person)
    tag = f"{os.getpid()}{time.monotonic_ns()}"
    k.apply(pod("s", container("a", f"exec sleep 1000.{tag}"), container("b", f"exec sleep 1001.{tag}")))
    k.wait_ready("s")
    parent = None
    with open(f"/proc/{pid_of(person, f'1000.{tag}')}/stat", encoding="utf-8") as file:
        parent = int(file.read().rsplit(")", 1)[1].split()[1])
    ip = k.get("s")["status"]["podIP"]
    kill(parent)
    eventually(lambda: [s["restartCount"] for s in k.get("s")["status"]["containerStatuses"]] == [1, 1])
    k.wait_ready("s")
    assert k.get("s")["status"]["podIPs"] == [{"ip": ip}], k.get("s")["status"]


def test_cluster_down_and_up(person):
    """Pods of a cluster that was stopped run again."""
    k = Cluster(person)
    k.apply(pod("back", container("a", "exec sleep 1000")))
    k.wait_ready("back")
    assert person.postern("down").returncode == 0
    k = Cluster(person)
    eventually(lambda: k.state("back").get("restartCount") == 1)
    k.wait_ready("back")
    assert k.exec("back", "true").returncode == 0


def test_many_at_once(person):
    k = Cluster(person)
    names = [f"m{i}" for i in range(12)]
    begun = time.monotonic()
    k.apply(*[pod(name, container("a", "exec sleep 1000"), container("b", "exec sleep 1000")) for name in names])
    k.wait_ready(*names)
    print(f"  12 pods ready after {time.monotonic() - begun:.2f} s")


if __name__ == "__main__":
    sys.exit(cluster_test.main(globals()))

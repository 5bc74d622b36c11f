#!/usr/bin/env python3
"""What goes wrong, and what happens then: each program of a running mesh is killed with -9 while requests come in through the
ingress gateway, and bad input is given. As root, in namespaces of its own; $KUBECTL chooses the kubectl.
"""
import base64
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import article_test  # pylint: disable=wrong-import-position
import modes  # pylint: disable=wrong-import-position
from article_test import Article, BIN, GATEWAY, ROUTE, eventually  # pylint: disable=wrong-import-position

DISK_MEGABYTES = 96  # of the file system with the cluster's data: small enough to be filled


class Load:
    """Asks for the front page on fresh connections, some 100 times a second, and keeps what failed and when."""

    def __init__(self, address, host):
        self.address, self.host = address, host
        self.port = Article.port(80)
        self.answers, self.failures, self.over = 0, [], False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over:
            try:
                connection = http.client.HTTPConnection(self.address, self.port, timeout=3)
                connection.request("GET", "/", headers={"Host": self.host})
                status = connection.getresponse().status
                connection.close()
                if status == 200:
                    self.answers += 1
                else:
                    self.failures.append((time.monotonic(), status))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((time.monotonic(), repr(error)))
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()

    def outage(self):
        """Seconds from the first to the last failure."""
        return self.failures[-1][0] - self.failures[0][0] if self.failures else 0.0


def processes(pattern):
    """Pids by command line."""
    out = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if re.search(pattern, line):
            out.append(int(pid))
    return out


def one(pattern):
    found = processes(pattern)
    assert found, f"no process {pattern}"
    return min(found)


def killed_and_back(pattern, seconds):
    before = set(processes(pattern))
    os.kill(one(pattern), signal.SIGKILL)
    start = time.monotonic()
    eventually(lambda: set(processes(pattern)) - before, seconds, f"{pattern} is back")
    return time.monotonic() - start


def test_01_node_agent(a):
    with Load(a.ingress[0], a.host) as load:
        took = killed_and_back(r"^postern daemon node --data-dir", 3)
        time.sleep(1.5)
    assert took < 1.0 and not load.failures and load.answers > 50, (took, load.failures[:3], load.answers)
    pods = json.loads(a.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    restarts = sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"])
    assert restarts == 0, restarts
    assert a.kubectl("exec", "deploy/echo", "--", "echo", "ok").endswith("ok\n")


class Api:
    """Writes to the API server without kubectl, one connection each."""

    def __init__(self, a):
        view = json.loads(a.kubectl("config", "view", "--raw", "-o", "json"))
        user, cluster = view["users"][0]["user"], view["clusters"][0]["cluster"]
        self.server = cluster["server"]
        self.context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self.context.load_cert_chain(pair.name)

    def create(self, name):
        """True when the server said that it is stored."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": "1"}}
        request = urllib.request.Request(self.server + "/api/v1/namespaces/default/configmaps", json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(request, timeout=5, context=self.context).status == 201
        except (OSError, http.client.HTTPException):
            return False


def test_02_api_server(a):
    """Of 1,000 writes with a kill in the middle none that was acknowledged is lost, and traffic does not notice."""
    api, acknowledged = Api(a), []

    def write():
        for count in range(1000):
            if api.create(f"write-{count}"):
                acknowledged.append(f"configmap/write-{count}")
    with Load(a.ingress[0], a.host) as load:
        writer = threading.Thread(target=write)
        writer.start()
        eventually(lambda: len(acknowledged) >= 300, 60, "300 writes")
        took = killed_and_back(r"^postern daemon api --data-dir", 3)
        writer.join()
    present = set(a.kubectl("get", "configmaps", "-o", "name").split())
    lost = [name for name in acknowledged if name not in present]
    print(f"  {len(acknowledged)} of 1000 writes acknowledged, {len(lost)} of them lost; API server back in {took:.2f} s")
    assert took < 1.0 and not lost and len(acknowledged) > 900, (took, lost, len(acknowledged))
    assert not load.failures, load.failures[:3]


def test_03_control_plane(a):
    """Proxies serve without it, and take up a change when it is back."""
    with Load(a.ingress[0], a.host) as load:
        killed_and_back(r"^\S*postern-control", 20)
        eventually(lambda: "1/1" in a.kubectl("-n", "istio-system", "get", "pods", "-l", "app=istiod"), 30)
    assert not load.failures, load.failures[:3]
    other = "second.example"
    eventually(lambda: a.run(article_test.KUBECTL, "apply", "-f", "-", stdin=GATEWAY % {
        "name": "second", "ns": "backyards-demo", "selector": "{istio: ingressgateway}", "port": 80, "hosts": f'["{other}"]'})
        .returncode == 0)
    a.apply(ROUTE % {"name": "second", "ns": "backyards-demo", "hosts": f'["{other}"]',
                     "target": "frontpage.backyards-demo.svc.cluster.local", "target_port": 8080})
    eventually(lambda: "200" in a.curl(a.ingress[0], other)[0], 20, "the change after the restart")


def test_04_relay(a):
    with Load(a.ingress[0], a.host) as load:
        killed_and_back(r"^postern daemon relay --data-dir", 3)
        time.sleep(2)
    assert load.outage() < 1.5 and load.answers > 50, (load.outage(), load.failures[:3])


def test_05_gateway_proxy(a):
    """The proxy proper dies: its agent starts it again."""
    gateway = next(pid for pid in processes(r"postern-proxy gateway") if pid)
    with open(f"/proc/{gateway}/task/{gateway}/children", encoding="ascii") as file:
        child = int(file.read().split()[0])
    with Load(a.ingress[0], a.host) as load:
        os.kill(child, signal.SIGKILL)
        time.sleep(4)
    assert load.outage() < 3 and load.answers > 50, (load.outage(), load.failures[-3:])
    eventually(lambda: "200" in a.curl(a.ingress[0], a.host)[0])


def test_06_gateway_container(a):
    """The agent dies too: the container is restarted."""
    def restarts():
        """Of the gateways' containers that are ready; -1 for others."""
        pods = json.loads(a.kubectl("-n", "istio-system", "get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: status["restartCount"] if status["ready"] else -1 for pod in pods if "gateway" in pod["metadata"]["name"]
                for status in pod["status"]["containerStatuses"]}

    before = restarts()
    with Load(a.ingress[0], a.host):
        for pid in processes(r"postern-proxy gateway"):
            os.kill(pid, signal.SIGKILL)
        # Answers may come before anybody has noted the death, which then takes the pod out of its Service for a moment.
        eventually(lambda: all(count > before[name] for name, count in restarts().items()), 60, "the containers are counted as back")
        eventually(lambda: "Available" in a.kubectl("-n", "istio-system", "get", "istio", "mesh") and
                   "200" in a.curl(a.ingress[0], a.host)[0], 60, "the gateway is back")


def test_07_bad_input(a):
    """Each mistake is refused with resource and field; what is in force stays."""
    mistakes = (
        ("port 0", GATEWAY % {"name": "echo", "ns": "default", "selector": "{istio: ingressgateway}", "port": 0,
                              "hosts": '["x.example"]'}, r"port\.number"),
        ("port 70000", GATEWAY % {"name": "echo", "ns": "default", "selector": "{istio: ingressgateway}",
                                  "port": 70000, "hosts": '["x.example"]'}, r"port\.number"),
        ("reserved port", GATEWAY % {"name": "echo", "ns": "default", "selector": "{istio: ingressgateway}",
                                     "port": 15021, "hosts": '["x.example"]'}, r"15021|reserved"),
        ("weight below 0", (ROUTE % {"name": "echo", "ns": "default", "hosts": '["x.example"]', "target": "a.b",
                                     "target_port": 80}).replace("port: {number: 80}}}", "port: {number: 80}}, weight: -1}"), "weight"),
        ("duplicate hosts", ROUTE % {"name": "echo", "ns": "default", "hosts": '["x.example","x.example"]',
                                     "target": "a.b", "target_port": 80}, "duplicate"),
        ("HTTP and TCP on one port", (GATEWAY % {
            "name": "echo", "ns": "default", "selector": "{istio: ingressgateway}", "port": 80, "hosts": '["x.example"]'}).replace(
                "servers: [", 'servers: [{port: {number: 80, name: tcp, protocol: TCP}, hosts: ["*"]}, '), "port"),
        ("malformed YAML", "kind: [", "error"),
        ("absent object", None, "not found"))
    with Load(a.ingress[0], a.host) as load:
        for name, text, pattern in mistakes:
            if text is None:
                done = a.run(article_test.KUBECTL, "-n", "default", "patch", "gateway", "absent", "--type=merge", "-p", "{}")
            else:
                done = a.run(article_test.KUBECTL, "apply", "-f", "-", stdin=text)
            assert done.returncode != 0 and re.search(pattern, done.stderr), (name, done.stdout, done.stderr)
    assert not load.failures and load.answers > 5, load.failures[:3]


def test_08_supervisor(a):
    """It dies, the rest runs on, the next `up` takes it over."""
    before = {name: one(rf"^postern daemon {name} ") for name in ("api", "node", "relay", "node-ns")}
    with Load(a.ingress[0], a.host) as load:
        os.kill(one(r"^postern daemon supervise"), signal.SIGKILL)
        time.sleep(0.5)
        a.postern("up")
    after = {name: one(rf"^postern daemon {name} ") for name in before}
    assert before == after, (before, after)
    assert not load.failures, load.failures[:3]


def fill_disk(path):
    with open(path, "wb", buffering=0) as file:  # a buffer that cannot be written would be tried again by close()
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


def test_09_full_disk(a):
    """No room for a write: it is refused and nothing else happens; with room again it goes on."""
    api = Api(a)
    assert api.create("before-full")
    filler = os.path.join(a.home, "filler")
    with Load(a.ingress[0], a.host) as load:
        try:
            fill_disk(filler)
            refused = eventually(lambda: next((name for name in (f"full-{time.monotonic()}",) if not api.create(name)), None),
                                 20, "a refused write")
            text = a.run(article_test.KUBECTL, "create", "configmap", "full", "--from-literal=a=" + "x" * 20000).stderr
        finally:
            os.unlink(filler)
        eventually(lambda: api.create(f"after-{time.monotonic()}"), 20, "writes again")
    assert re.search("disk|full|space", text), text
    present = a.kubectl("get", "configmaps", "-o", "name")
    assert "before-full" in present and refused not in present
    assert not load.failures, load.failures[:3]


def test_10_interrupted_install(a):
    """Ctrl-C in the middle of an install; the next one completes it."""
    a.postern("uninstall", "-a", "--purge", "--non-interactive")
    for pause in (0.05, 0.3):
        process = subprocess.Popen([os.path.join(BIN, "postern"), "install", "-a", "--non-interactive"], env=a.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
        assert process.returncode in (130, -signal.SIGINT), (process.returncode, output)
    a.postern("install", "-a", "--non-interactive")
    assert "Available" in a.kubectl("-n", "istio-system", "get", "istio", "mesh")


def expose_echo(a):
    """The echo service behind the main ingress gateway: it calls nobody, so an answer depends on proxies only."""
    a.host = "echo.example"
    a.apply(article_test.ECHO % "apps/v1")
    a.apply(GATEWAY % {"name": "echo", "ns": "default", "selector": "{istio: ingressgateway}", "port": 80, "hosts": f'["{a.host}"]'})
    a.apply(ROUTE % {"name": "echo", "ns": "default", "hosts": f'["{a.host}"]', "target": "echo.default.svc.cluster.local",
                     "target_port": 80})
    eventually(lambda: "200" in a.curl(a.ingress[0], a.host)[0], what="echo answers")


def inside():
    article = Article()
    passed = failed = 0
    try:
        article_test.row_00_up_and_install(article)
        article_test.row_01_the_mesh(article)
        expose_echo(article)
        for name, test in sorted(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test(article)
                passed += 1
                print("ok", modes.name(), name, flush=True)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", modes.name(), name, repr(error)[:1500], flush=True)
    except Exception as error:
        failed += 1
        print("FAILED setting up", repr(error)[:1500])
    finally:
        if failed:
            logs = os.path.join(article.home, ".local/share/postern/logs")
            for log in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
                with open(os.path.join(logs, log), errors="replace", encoding="utf-8") as file:
                    print(f"== {log}\n{file.read()[-1500:]}")
        article.run(os.path.join(BIN, "postern"), "down", "--purge")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(inside() if modes.inside() else modes.run(os.path.abspath(__file__), BIN, article_test.KUBECTL, 600, DISK_MEGABYTES))

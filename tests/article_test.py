#!/usr/bin/env python3
"""The article "Istio ingress and egress gateways", command by command, on a local cluster made for it: as root, and as an
ordinary user without any right (rootless). Each run has a network, process and mount namespace of its own, so ports and
addresses disturb nobody; nothing may be left in it at the end.

$KUBECTL chooses the kubectl. The kubectl's version, the uid and the mode are printed; the last line counts.
"""
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

import modes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")

GATEWAY = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: %(name)s, namespace: %(ns)s}
spec:
  selector: %(selector)s
  servers: [{port: {number: %(port)d, name: http, protocol: HTTP}, hosts: %(hosts)s}]
"""
ROUTE = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: %(name)s, namespace: %(ns)s}
spec:
  hosts: %(hosts)s
  gateways: [%(name)s]
  http: [{route: [{destination: {host: %(target)s, port: {number: %(target_port)d}}}]}]
"""
ECHO = """
apiVersion: %s
kind: Deployment
metadata: {name: echo, namespace: default, labels: {k8s-app: echo}}
spec:
  replicas: 1
  selector: {matchLabels: {k8s-app: echo}}
  template:
    metadata: {labels: {k8s-app: echo}}
    spec:
      terminationGracePeriodSeconds: 2
      containers: [{name: echo-service, image: "echoserver:1.10", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default, labels: {k8s-app: echo}}
spec: {ports: [{name: http, port: 80, targetPort: 8080}], selector: {k8s-app: echo}}
"""
MESH_GATEWAY = """
apiVersion: istio.banzaicloud.io/v1beta1
kind: MeshGateway
metadata: {name: %s, namespace: default}
spec: {maxReplicas: 1, minReplicas: 1, ports: [{name: http, port: %d, protocol: TCP, targetPort: %d}], serviceType: %s, type: %s}
"""
SERVICE_ENTRY = """
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: httpbin-ext, namespace: default}
spec: {hosts: [httpbin.org], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, location: MESH_EXTERNAL}
"""
EGRESS_ROUTE = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: httpbin-egress}
spec:
  hosts: [httpbin.org]
  gateways: [egress, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: egress.default.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [egress], port: 80}]
    route: [{destination: {host: httpbin.org, port: {number: 80}}}]
"""


def eventually(question, seconds=15, what=""):
    """The first true answer; the last one is shown when none came."""
    end = time.monotonic() + seconds
    answer = question()
    while not answer and time.monotonic() < end:
        time.sleep(0.1)
        answer = question()
    assert answer, f"did not come true in {seconds} s: {what or question}"
    return answer


class Article:
    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="postern-article-")
        self.environment = dict(os.environ, HOME=self.home, KUBECONFIG=os.path.join(self.home, "kubeconfig"))

    def run(self, *argv, stdin=None, timeout=90):
        return subprocess.run(argv, input=stdin, env=self.environment, cwd=self.home, text=True, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def postern(self, *arguments):
        done = self.run(os.path.join(BIN, "postern"), *arguments)
        assert done.returncode == 0, f"postern {' '.join(arguments)}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done.stdout + done.stderr

    def kubectl(self, *arguments, stdin=None):
        done = self.run(KUBECTL, *arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout[-800:]}{done.stderr[-800:]}"
        return done.stdout

    def apply(self, text):
        return self.kubectl("apply", "-f", "-", stdin=text)

    def curl(self, address, host, port=80):
        """Status line, fields in order, body."""
        port = self.port(port)
        done = self.run("curl", "-si", "-m", "5", "-H", f"Host: {host}", f"http://{address}:{port}/")
        head, _, body = done.stdout.partition("\n\n")
        lines = head.replace("\r", "").splitlines()
        return (lines[0] if lines else ""), lines[1:], body

    @classmethod
    def port(cls, number):
        """Where a gateway's port is found: without root the kernel may refuse the low ones."""
        return number if os.getuid() == 0 or number >= 1024 or cls.low_ports() else number + 10000

    @staticmethod
    def low_ports():
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read()) <= 80

    def outbound(self, url, tty=False):
        """The article's curl in the echo pod: exit code, kubectl's own words, answer's head."""
        argv = [KUBECTL, "-n", "default", "exec"] + (["-ti"] if tty else []) + [
            "deploy/echo", "--", "curl", "-m", "5", "-skD", "/dev/stderr", url, "-o/dev/null"]
        if tty:
            return self.on_terminal(argv)
        done = self.run(*argv)
        return done.returncode, done.stderr + done.stdout

    def on_terminal(self, argv):
        """Runs a command whose input and output are a terminal of 80 columns."""
        master, slave = pty.openpty()
        process = subprocess.Popen(argv, env=self.environment, cwd=self.home, stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True)
        os.close(slave)
        output = b""
        end = time.monotonic() + 30
        while time.monotonic() < end and select.select([master], [], [], 30)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the last one closed it
                break
            output += piece
        os.close(master)
        return process.wait(30), output.decode(errors="replace").replace("\r", "")

    def addresses(self, *what):
        text = self.kubectl(*what, "-o", "jsonpath={.status.GatewayAddress[*]}")
        return text.split()


def row_00_up_and_install(a):
    a.postern("up", "--external", "httpbin.org:80=demo:httpbin", "--external", "httpbin.org:443=demo:httpbin")
    assert a.run(os.path.join(BIN, "postern"), "up").returncode == 0
    out = a.postern("install", "-a", "--run-demo", "--non-interactive")
    assert "Ingress addresses:" in out, out
    a.postern("install", "-a", "--run-demo", "--non-interactive")


def row_01_the_mesh(a):
    lines = a.kubectl("-n", "istio-system", "get", "istio", "mesh").splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "ERROR", "GATEWAYS", "AGE"], lines
    assert re.match(r"mesh +Available +\[127\.\S+ 127\.\S+\] +\d+s", lines[1]), lines
    gateways = json.loads(a.kubectl("-n", "istio-system", "get", "istio", "mesh", "-o", "json"))["spec"]["gateways"]
    assert gateways["ingress"]["serviceType"] == "LoadBalancer" and gateways["egress"]["serviceType"] == "ClusterIP"
    a.ingress = a.addresses("-n", "istio-system", "get", "istio", "mesh")


def row_02_frontpage(a):
    hosts = [f"frontpage.{ip}.xip.io" for ip in a.ingress]
    a.apply(GATEWAY % {"name": "frontpage", "ns": "backyards-demo", "selector": "{istio: ingressgateway}", "port": 80,
                       "hosts": json.dumps(hosts)})
    a.apply(ROUTE % {"name": "frontpage", "ns": "backyards-demo", "hosts": json.dumps(hosts),
                     "target": "frontpage.backyards-demo.svc.cluster.local", "target_port": 8080})
    for ip, host in zip(a.ingress, hosts):
        eventually(lambda: "200 OK" in a.curl(ip, host)[0], what=f"{host} answers")
        _, fields, body = a.curl(ip, host)
        names = [field.split(":")[0] for field in fields]
        assert body == "frontpage" and "content-length: 9" in fields and "server: istio-envoy" in fields, (fields, body)
        assert "x-envoy-upstream-service-time" in names and "date" in names, fields
    assert "404" in a.curl(a.ingress[0], "other.example")[0]


def row_03_echo(a):
    for version, group in (("extensions/v1beta1", "extensions"), ("apps/v1", "apps")):
        out = a.apply(ECHO % version)
        assert out.splitlines() == [f"deployment.{group}/echo created", "service/echo created"], out
        eventually(lambda: re.search(r"echo-\S+ +2/2 +Running", a.kubectl("get", "pods", "-l", "k8s-app=echo")), what="echo 2/2")
        if group == "apps":
            break
        a.kubectl("delete", "deployment,service", "echo")
        eventually(lambda: a.kubectl("get", "pods", "-l", "k8s-app=echo", "-o", "name") == "", what="echo gone")
    pod = json.loads(a.kubectl("get", "pods", "-l", "k8s-app=echo", "-o", "json"))["items"][0]
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["istio-init"]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["echo-service", "istio-proxy"]
    a.pod = pod["metadata"]["name"]


def row_04_own_gateway(a):
    a.apply(MESH_GATEWAY % ("echo-ingress", 8000, 8000, "LoadBalancer", "ingress"))
    eventually(lambda: "Available" in a.kubectl("get", "meshgateways", "echo-ingress"), what="echo-ingress Available")
    lines = a.kubectl("-n", "default", "get", "meshgateways", "echo-ingress").splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == ["NAME", "TYPE", "SERVICE TYPE", "STATUS", "INGRESS IPS", "ERROR", "AGE"], lines
    for kind in ("deployment", "service", "serviceaccount", "role", "rolebinding", "hpa", "pdb"):
        assert "echo-ingress" in a.kubectl("get", kind, "-o", "name"), kind
    labels = json.loads(a.kubectl("get", "deployment", "echo-ingress", "-o", "json"))["metadata"]["labels"]
    assert labels["gateway-name"] == "echo-ingress" and labels["gateway-type"] == "ingress", labels


def row_05_echo_through_it(a):
    ips = a.addresses("get", "meshgateways", "echo-ingress")
    hosts = [f"echo.{ip}.xip.io" for ip in ips]
    a.apply(GATEWAY % {"name": "echo", "ns": "default", "selector": "{gateway-name: echo-ingress, gateway-type: ingress}",
                       "port": 8000, "hosts": json.dumps(hosts)})
    a.apply(ROUTE % {"name": "echo", "ns": "default", "hosts": json.dumps(hosts), "target": "echo.default.svc.cluster.local",
                     "target_port": 80})
    eventually(lambda: "200 OK" in a.curl(ips[0], f"{hosts[0]}:8000", 8000)[0], what="echo through its gateway")
    _, fields, body = a.curl(ips[0], f"{hosts[0]}:8000", 8000)
    assert "server: istio-envoy" in fields and body.startswith(f"Hostname: {a.pod}\n"), (fields, body)
    assert a.run("curl", "-s", "-m", "3", f"http://{a.ingress[0]}:8000/").returncode == 7


def row_06_policy(a):
    mode = "jsonpath={@.spec.outboundTrafficPolicy.mode}{\"\\n\"}"
    assert a.kubectl("-n", "istio-system", "get", "istio", "mesh", "-o", mode) == "ALLOW_ANY\n"


def row_07_outbound(a):
    for tty in (True, False):
        code, text = a.outbound("http://httpbin.org", tty)
        assert code == 0 and "HTTP/1.1 200 OK" in text, (code, text)
        assert re.search(r"Default(ing container name to echo-service\.|ed container \"echo-service\" out of: echo-service, "
                         r"istio-proxy, istio-init \(init\))", text), text
        answer = text[text.index("HTTP/1.1"):].splitlines()
        assert "server: envoy" in answer[:5], answer
    assert a.outbound("https://httpbin.org")[0] == 0


def row_08_registry_only(a):
    out = a.kubectl("-n", "istio-system", "patch", "istio", "mesh", "-p",
                    '{"spec":{"outboundTrafficPolicy":{"mode":"REGISTRY_ONLY"}}}', "--type=merge")
    assert out == "istio.istio.banzaicloud.io/mesh patched\n", out
    eventually(lambda: "HTTP/1.1 502 Bad Gateway" in a.outbound("http://httpbin.org")[1], what="502")
    text = a.outbound("http://httpbin.org")[1]
    assert "server: envoy" in text and "content-length: 0" in text and "location:" not in text, text
    assert a.outbound("https://httpbin.org")[0] != 0


def row_09_service_entry(a):
    assert a.outbound("http://httpbin.org")[1].count("502") == 1
    a.apply(SERVICE_ENTRY)
    eventually(lambda: "HTTP/1.1 200 OK" in a.outbound("http://httpbin.org")[1], what="httpbin.org allowed")
    assert "200 OK" not in a.outbound("http://198.18.0.77")[1]


def row_10_egress_gateway(a):
    a.apply(MESH_GATEWAY % ("egress", 80, 80, "ClusterIP", "egress"))
    a.apply(GATEWAY % {"name": "egress", "ns": "default", "selector": "{gateway-name: egress, gateway-type: egress}", "port": 80,
                       "hosts": '["*"]'})
    a.apply(EGRESS_ROUTE)
    logs = ("-n", "default", "logs", "-l", "gateway-name=egress,gateway-type=egress", "-c", "istio-proxy")
    eventually(lambda: "Available" in a.kubectl("get", "meshgateways", "egress"), what="egress Available")

    def through():
        code, text = a.outbound("http://httpbin.org/headers")
        return code == 0 and "HTTP/1.1 200 OK" in text and '"GET /headers HTTP/1.1" 200' in a.kubectl(*logs)
    eventually(through, what="a request through the egress gateway")
    assert "200 OK" in a.outbound("http://httpbin.org/headers")[1]
    time.sleep(0.1)
    line = a.kubectl(*logs).splitlines()[-1]
    pod_ip = json.loads(a.kubectl("get", "pods", a.pod, "-o", "json"))["status"]["podIP"]
    assert '"GET /headers HTTP/1.1" 200' in line and "outbound|80||httpbin.org" in line, line
    assert f'"{pod_ip}"' in line and re.search(r'"198\.18\.\d+\.\d+:80"', line), line
    identity = re.search(r'"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"', line).group(1)
    assert identity
    a.kubectl("scale", "deployment", "egress", "--replicas=0")
    eventually(lambda: "200 OK" not in a.outbound("http://httpbin.org/headers")[1], what="failure without the gateway")


def row_11_away_again(a):
    a.kubectl("delete", "virtualservice", "httpbin-egress")
    a.kubectl("delete", "gateway", "egress")
    a.kubectl("delete", "serviceentry", "httpbin-ext")
    a.kubectl("delete", "meshgateway", "egress", "echo-ingress")
    eventually(lambda: "gateway" not in a.kubectl("get", "deployment,service,serviceaccount,role,rolebinding,hpa,pdb", "-o", "name")
               .replace("gateways", ""), what="the gateways' objects gone")
    eventually(lambda: "egress" not in a.kubectl("get", "pods", "-o", "name"), what="their pods gone")
    out = a.postern("uninstall", "-a", "--non-interactive")
    assert "custom resource definitions stay" in out, out
    assert "echo" in a.kubectl("get", "gateways.networking.istio.io", "-o", "name")
    a.postern("uninstall", "-a", "--purge", "--non-interactive")
    a.postern("down", "--purge")
    assert not os.path.exists(os.path.join(a.home, ".local/share/postern"))
    left = [line for line in a.run("ps", "-eo", "pid,args").stdout.splitlines() if a.home in line and "article_test" not in line]
    assert not left, left
    assert a.run("nft", "list", "ruleset").stdout.strip() == ""


def inside():
    """In the namespaces: every row in order; what a failed row leaves may fail the next ones too."""
    article = Article()
    version = subprocess.run((KUBECTL, "version", "--client", "-o", "json"), stdout=subprocess.PIPE, text=True, check=True).stdout
    mode = modes.name()
    print("kubectl", re.search(r'"gitVersion": "(v[^"]*)"', version).group(1), "uid", os.getuid(), "mode", mode)
    passed = failed = 0
    try:
        for name, row in sorted(globals().items()):
            if not name.startswith("row_"):
                continue
            try:
                row(article)
                passed += 1
                print("ok", mode, name)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", mode, name, repr(error)[:1500])
    finally:
        if failed:
            logs = os.path.join(article.home, ".local/share/postern/logs")
            for log in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
                with open(os.path.join(logs, log), errors="replace", encoding="utf-8") as file:
                    print(f"== {log}\n{file.read()[-1500:]}")
        article.run(os.path.join(BIN, "postern"), "down", "--purge")
        shutil.rmtree(article.home, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(inside() if modes.inside() else modes.run(os.path.abspath(__file__), BIN, KUBECTL, 400))

#!/usr/bin/env python3
"""How long a person waits, and what it costs to hold: the local cluster from nothing to the first answer through the ingress
gateway, a pod with a sidecar to Ready, a change of a route to its effect, and memory. As root, in namespaces of its own.

usage: cluster_bench.py [--changes N]
"""
import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
import article_test  # pylint: disable=wrong-import-position
from article_test import Article, GATEWAY, eventually  # pylint: disable=wrong-import-position
from resilience_test import Api, processes  # pylint: disable=wrong-import-position

HOST = "bench.example"
ROUTES = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/bench"


def route(text):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "bench", "namespace": "default"},
            "spec": {"hosts": [HOST], "gateways": ["bench"], "http": [{"directResponse": {"status": 200, "body": {"string": text}}}]}}


def answer(address):
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=2)
        connection.request("GET", "/", headers={"Host": HOST})
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""


def memory(pattern):
    """(processes, resident, proportional) in MB, summed."""
    count = resident = proportional = 0
    for pid in processes(pattern):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            text = file.read()
        count += 1
        resident += int(re.search(r"^Rss: +(\d+)", text, re.M).group(1))
        proportional += int(re.search(r"^Pss: +(\d+)", text, re.M).group(1))
    return count, resident / 1000, proportional / 1000


def seconds(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def changes(a, api, address, number):
    """Seconds from sending a changed VirtualService to the first answer by it."""
    out = []
    for i in range(number):
        text = f"change {i}"
        request = urllib.request.Request(api.server + ROUTES, json.dumps(route(text)).encode(), method="PATCH",
                                         headers={"Content-Type": "application/merge-patch+json"})
        start = time.monotonic()
        urllib.request.urlopen(request, timeout=5, context=api.context).read()
        while answer(address) != text:
            assert time.monotonic() - start < 10, "a change took no effect"
        out.append(time.monotonic() - start)
    return sorted(out)


def measure(a, number):
    rows = []
    up = seconds(lambda: a.postern("up"))
    install = seconds(lambda: a.postern("install", "-a", "--non-interactive"))

    def first():
        a.address = a.addresses("-n", "istio-system", "get", "istio", "mesh")[0]
        a.apply(GATEWAY % {"name": "bench", "ns": "default", "selector": "{istio: ingressgateway}", "port": 80, "hosts": f'["{HOST}"]'})
        a.apply(json.dumps(route("first")))
        eventually(lambda: answer(a.address) == "first")
    rows.append(("`postern up` to ready API and node", up))
    rows.append(("`up` and `install` to the first 200 through the ingress, with two `kubectl apply`", up + install + seconds(first)))

    def echo():
        a.apply(article_test.ECHO % "apps/v1")
        a.kubectl("rollout", "status", "deployment/echo", "--timeout=30s")
    rows.append(("echo manifest applied to Ready 2/2, with `kubectl rollout status`", seconds(echo)))
    taken = changes(a, Api(a), a.address, number)
    rows.append((f"change of a VirtualService to its effect, median of {number}", taken[len(taken) // 2]))
    rows.append((f"the same, 99th of 100", taken[max(0, len(taken) * 99 // 100 - 1)]))
    rows.append(("demo application: ten workloads with sidecars Ready", seconds(lambda: a.postern("demoapp", "install"))))
    print("| what | seconds |\n|---|---|")
    for what, value in rows:
        print(f"| {what} | {value:.3f} |")
    print("\n| memory, with the demo application | processes | resident MB | proportional MB |\n|---|---|---|---|")
    for name, pattern in (("API server and controllers", r"^postern daemon api "), ("control plane", r"^\S*postern-control"),
                          ("node agent", r"^postern daemon node "), ("relay", r"^postern daemon relay"),
                          ("proxies", r"postern-proxy -c "), ("their agents", r"postern-proxy (sidecar|gateway)"),
                          ("pods' first processes", r"pod-shim")):
        count, resident, proportional = memory(pattern)
        print(f"| {name} | {count} | {resident:.1f} | {proportional:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=100)
    options = parser.parse_args()
    if not os.environ.get("POSTERN_BENCH_INSIDE"):
        environment = dict(os.environ, POSTERN_BENCH_INSIDE="1")
        shell = 'ip link set lo up && exec python3 "$0" "$@"'
        return subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", shell,
                               os.path.abspath(__file__)] + sys.argv[1:], env=environment, timeout=300, check=False).returncode
    a = Article()
    try:
        measure(a, options.changes)
    finally:
        a.run(os.path.join(article_test.BIN, "postern"), "down", "--purge")
        shutil.rmtree(a.home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

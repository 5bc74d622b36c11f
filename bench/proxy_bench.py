#!/usr/bin/env python3
"""CPU per request of postern-proxy beside nginx, HAProxy and Envoy.

The proxy runs alone on core 0, the origin (nginx) and the load (wrk) share core 1; the proxies take turns, and the least of
the rounds counts. A round counts only if wrk's requests, the origin's requests and the access-log lines agree and all answers
were 2xx. CPU is that of all processes of the proxy, user and system. Memory is resident after the load; start is from exec to
the first answer.

usage: proxy_bench.py [--rounds N] [--seconds N] [--connections N] [--peers a,b]
"""
import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from peers import Peer, ROUTES

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid):
    """A process and all below it."""
    out, queue = [], [pid]
    while queue:
        each = queue.pop()
        out.append(each)
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children", encoding="ascii") as file:
                    queue += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return out


def cpu_seconds(pid):
    total = 0.0
    for each in family(pid):
        with open(f"/proc/{each}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def resident_mb(pid):
    pages = 0
    for each in family(pid):
        with open(f"/proc/{each}/statm", encoding="ascii") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Origin:
    def __init__(self, folder):
        self.port = free_port()
        config = os.path.join(folder, "origin.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
worker_processes 1; daemon off; pid {folder}/origin.pid; error_log {folder}/origin.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/ob; proxy_temp_path {folder}/op; fastcgi_temp_path {folder}/of; uwsgi_temp_path {folder}/ou;
  scgi_temp_path {folder}/os;
  server {{ listen 127.0.0.1:{self.port} backlog=4096; location / {{ return 200 "hello, world"; }} location /status {{ stub_status; }} }} }}""")
        self.process = subprocess.Popen(["taskset", "-c", "1", shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p",
                                         folder], stdin=subprocess.DEVNULL)
        wait_for(f"http://127.0.0.1:{self.port}/")

    def requests(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5).read().decode()
        return int(re.search(r"\n\s*\d+\s+\d+\s+(\d+)", text).group(1))


def wait_for(url, seconds=10):
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return time.monotonic() - start
        except OSError:
            time.sleep(0.002)
    raise RuntimeError(f"{url} does not answer")


def one_round(peer, origin, options):
    if os.path.exists(peer.log):
        os.unlink(peer.log)
    process = peer.start(0)
    try:
        url = f"http://127.0.0.1:{peer.port}/r/{ROUTES - 1}"
        started = wait_for(url)
        time.sleep(0.2)
        before, cpu = origin.requests(), cpu_seconds(process.pid)
        wrk = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency",
                              url], stdout=subprocess.PIPE, text=True, check=True).stdout
        cpu = cpu_seconds(process.pid) - cpu
        # What was in flight at the end reached the origin but not wrk's count.
        served = origin.requests() - before - 1
        memory = resident_mb(process.pid)
    finally:
        process.terminate()
        process.wait(20)
    requests = int(re.search(r"(\d+) requests in", wrk).group(1))
    failed = [line for line in wrk.splitlines() if "Non-2xx" in line or "Socket errors" in line]
    lines = peer.lines() - 1
    slack = options.connections
    counts = not failed and abs(served - requests) <= slack and abs(lines - served) <= slack
    return {"us": cpu / served * 1e6, "rate": requests / options.seconds, "memory": memory, "start_ms": started * 1e3,
            "p99": re.search(r"99%\s+(\S+)", wrk).group(1),
            "counts": counts, "why": "; ".join(failed) or f"wrk {requests}, origin {served}, log {lines}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--peers", default="postern,nginx,haproxy,envoy")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="postern-bench-")
    origin = Origin(folder)
    best = {}
    try:
        names = options.peers.split(",")
        peers = [Peer(name, folder, free_port(), origin.port, free_port()) for name in names]
        for _ in range(options.rounds):
            for peer in peers:
                result = one_round(peer, origin, options)
                if not result["counts"]:
                    print(f"{peer.name}: a round does not count: {result['why']}", file=sys.stderr)
                elif peer.name not in best or result["us"] < best[peer.name]["us"]:
                    best[peer.name] = result
    finally:
        origin.process.terminate()
        origin.process.wait(10)
        shutil.rmtree(folder)
    print(f"HTTP/1.1 keep-alive, {options.connections} connections, {ROUTES} routes, access log; least of {options.rounds} rounds")
    print("| proxy | CPU µs per request | ratio to postern | requests/s | p99 | resident MB | start ms |")
    print("|---|---|---|---|---|---|---|")
    ours = best.get("postern", {}).get("us")
    for name in names:
        if name not in best:
            print(f"| {name} | no round counted | | | | | |")
            continue
        row = best[name]
        ratio = f"{row['us'] / ours:.2f}" if ours else ""
        print(f"| {name} | {row['us']:.1f} | {ratio} | {row['rate']:.0f} | {row['p99']} | {row['memory']:.1f} | {row['start_ms']:.0f} |")
    return 0 if len(best) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())

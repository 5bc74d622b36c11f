"""The figures: what each measures, of which peers, and what postern is to reach."""
import os
import re
import time

import load
from peers import ROUTES, Work

LAST = f"/r/{ROUTES - 1}"
TICKS = os.sysconf("SC_CLK_TCK")
ALL = ("relay", "postern", "nginx", "haproxy", "envoy")
PROXIES = ALL[1:]
IDLE = 2000  # connections held for F6
OPEN_RATE = 30000  # requests/s of F5


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


def memory_kb(pid, field):
    total = 0
    for each in family(pid):
        with open(f"/proc/{each}/status", encoding="ascii") as file:
            total += int(re.search(field + r":\s+(\d+)", file.read()).group(1))
    return total


class Aim:
    """`factor` times the value of `against`: a peer, "best" (of the peers), "one" (postern itself, row F8a) or a fixed value."""

    def __init__(self, against, factor):
        self.against, self.factor = against, factor


class Row:
    def __init__(self, key, title, aims, unit="µs", pick=min, higher=False):
        self.key, self.title, self.aims, self.unit, self.pick, self.higher = key, title, aims, unit, pick, higher


class Round:
    """One proxy started for one figure."""

    def __init__(self, peer, process, origin, options):
        self.peer, self.process, self.origin, self.options = peer, process, origin, options
        self.before = self.cpu_before = 0
        self.problem = ""

    def url(self, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.peer.port}{LAST}"

    def begin(self):
        # The proxy's first turns and the access-log line of the question whether it is there are no part of what is measured.
        time.sleep(0.3)
        self.before, self.cpu_before = self.origin.requests(), cpu_seconds(self.process.pid)

    def per_request(self, requests, failed, slack, logged=True):
        """µs per request; a round whose counts disagree has a problem."""
        cpu = cpu_seconds(self.process.pid) - self.cpu_before
        served = self.origin.requests() - self.before
        # What was in flight at the end reached the origin but not the load's count.
        if failed or abs(served - requests) > slack:
            self.problem = f"load {requests}, failed {failed}, origin {served}"
        elif cpu <= 0 or served <= 0:
            self.problem = "nothing was served"
        self.expected_lines = served + 1 if logged else None
        self.slack = slack
        return cpu / max(served, 1) * 1e6

    expected_lines = None
    slack = 0

    def check_log(self):
        """After the proxy's end, when all lines are written."""
        if self.expected_lines is None or not self.peer.logs:
            return
        lines = self.peer.lines()
        if abs(lines - self.expected_lines) > self.slack:
            self.problem = self.problem or f"origin {self.expected_lines}, log {lines}"


class Figure:
    def __init__(self, name, peers, work, kind, rows, measure):
        self.name, self.peers, self.work, self.kind, self.rows, self.measure = name, peers, work, kind, rows, measure


def by_wrk(connections, scheme="http", headers=None):
    def measure(r):
        r.begin()
        requests, failed = load.wrk(r.url(scheme), connections, r.options.seconds, headers)
        return [r.per_request(requests, failed, connections)]
    return measure


def full_handshakes(r):
    r.begin()
    return [r.per_request(load.handshakes(r.peer.port, LAST, r.options.seconds), 0, 2)]


def by_h2load(connections, streams, extra=()):
    def measure(r):
        r.begin()
        requests, failed = load.h2load(r.url(), connections, streams, r.options.seconds, extra)
        return [r.per_request(requests, failed, connections * streams)]
    return measure


def tcp_small(r):
    r.begin()
    requests, failed = load.wrk(r.url(), 32, r.options.seconds)
    return [r.per_request(requests, failed, 32, logged=False)]


def gigabytes(r):
    r.begin()
    moved = load.pull(r.peer.port, LAST, 3)
    return [moved / max(cpu_seconds(r.process.pid) - r.cpu_before, 1 / TICKS)]


def open_loop(mixed):
    def measure(r):
        time.sleep(0.3)
        seconds = max(2, r.options.seconds // 2)
        joins = []
        if mixed:
            joins = [load.beside(lambda: load.open_loop(r.peer.port, "/large", 16, 500, seconds)),
                     load.beside(lambda: load.open_loop(r.peer.port, LAST, 64, 500, seconds, close=True))]
        _, failed, *latency = load.open_loop(r.peer.port, LAST, 64, OPEN_RATE if not mixed else OPEN_RATE // 2, seconds)
        for join in joins:
            join()
        if failed:
            r.problem = f"{failed} requests failed"
        return latency
    return measure


def memory_at_start(r):
    time.sleep(0.3)
    return [memory_kb(r.process.pid, "RssAnon") / 1024, memory_kb(r.process.pid, "VmRSS") / 1024]


def idle_connections(r):
    """What a connection costs that has made a request and waits."""
    def hold(number):
        clients = [load.Client(r.peer.port, LAST, r.peer.work.front) for _ in range(number)]
        if not all(client.request() for client in clients):
            r.problem = "a request failed"
        return clients
    first = hold(200)  # warm: blocks, slabs and lists that every load needs
    before = memory_kb(r.process.pid, "RssAnon")
    clients = hold(IDLE)
    time.sleep(0.3)
    taken = (memory_kb(r.process.pid, "RssAnon") - before) / IDLE
    for client in first + clients:
        client.socket.close()
    return [taken]


def start_to_answer(r):
    return [r.started * 1e3]


def at_rate(r):
    r.begin()
    requests, failed, *_ = load.open_loop(r.peer.port, LAST, 64, 15000, r.options.seconds)
    return [r.per_request(requests, failed, 64)]


def far_upload(r):
    return [load.upload(r.peer.port, LAST, 64, 25)]


def median(values):
    return sorted(values)[len(values) // 2]


def figures(certificate, key):
    best, relay, haproxy = (lambda f: Aim("best", f)), (lambda f: Aim("relay", f)), (lambda f: Aim("haproxy", f))
    tls = lambda: Work("tls", certificate=certificate, key=key)
    latency = lambda name, what: [Row(name, f"{what}, {at}", [best(factor)], pick=median)
                                  for at, factor in (("p50", 1.05), ("p99", 1.10), ("p99.9", 1.25))]
    grpc = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    out = [
        Figure("F1a", ALL, Work(), "small", [Row("F1a", "HTTP/1.1, 32 connections, 13 B", [best(0.82), relay(1.12)])], by_wrk(32)),
        Figure("F1b", ALL, Work(), "headers", [Row("F1b", "14 request, 12 response headers", [best(0.75), relay(1.2)])],
               by_wrk(32, headers=load.FIELDS)),
        Figure("F1c", ALL, Work(), "small", [Row("F1c", "512 connections", [best(0.7)])], by_wrk(512)),
        Figure("F1d10", ALL, Work(), "kb10", [Row("F1d10", "10 KB", [best(0.8)])], by_wrk(32)),
        Figure("F1d100", ALL, Work(), "kb100", [Row("F1d100", "100 KB", [best(0.6)])], by_wrk(32)),
        Figure("F1e", PROXIES, Work(), "small", [Row("F1e", "a new client connection per request", [best(0.9)])],
               by_wrk(32, headers={"Connection": "close"})),
        Figure("F2a16", ("relay", "postern", "haproxy", "envoy"), Work("h2", "h2"), "h2",
               [Row("F2a16", "h2 → h2, 8 connections x 16 streams", [haproxy(0.6)])], by_h2load(8, 16)),
        Figure("F2a1", ("relay", "postern", "haproxy", "envoy"), Work("h2", "h2"), "h2",
               [Row("F2a1", "h2 → h2, 32 x 1", [haproxy(0.8)])], by_h2load(32, 1)),
        Figure("F2n", ("postern", "nginx"), Work("h2"), "small", [Row("F2n", "h2 → h1, 8 x 16, nginx's way", [])], by_h2load(8, 16)),
        Figure("F2b", ("postern", "haproxy", "envoy"), Work("h1", "h2"), "h2",
               [Row("F2b", "h1 → h2, 32 connections, multiplexed", [haproxy(0.75)])], by_wrk(32)),
        Figure("F2g", ("postern", "haproxy", "envoy"), Work("h2", "h2"), "grpc",
               [Row("F2g", "gRPC unary with trailers, 8 x 16", [haproxy(0.75)])], by_h2load(8, 16, grpc)),
        Figure("F3", PROXIES, tls(), "small", [Row("F3", "TLS 1.3 → h1, 32 connections", [best(0.9)])], by_wrk(32, "https")),
        Figure("F3h", PROXIES, tls(), "small", [Row("F3h", "full TLS handshake and request", [Aim("nginx", 1.0)])],
               full_handshakes),
        Figure("F4", ALL, Work("tcp", "tcp"), "small", [Row("F4", "TCP, small", [Aim("nginx", 1.0)])], tcp_small),
        Figure("F4t", ALL, Work("tcp", "tcp"), "big", [Row("F4t", "TCP, 1 GB", [haproxy(0.95)], "GB/CPU s", max, True)], gigabytes),
        Figure("F4h", PROXIES, Work(), "big", [Row("F4h", "HTTP, 1 GB", [haproxy(0.95)], "GB/CPU s", max, True)], gigabytes),
        Figure("F5", PROXIES, Work(), "small", latency("F5", "open loop 30 k/s"), open_loop(False)),
        Figure("F5m", PROXIES, Work(), "small", latency("F5m", "15 k/s beside 100 KB pulls and churn"), open_loop(True)),
        Figure("F6", PROXIES, Work(), "small", [Row("F6", "memory at start, RssAnon", [Aim(None, 4)], "MB"),
                                                Row("F6", "memory at start, RSS", [Aim(None, 16)], "MB")], memory_at_start),
        Figure("F6h1", PROXIES, Work(), "small", [Row("F6h1", "idle connection, h1", [Aim(None, 0.9)], "KB")], idle_connections),
        Figure("F6h2", PROXIES, Work("h2"), "small", [Row("F6h2", "idle connection, h2", [Aim(None, 4)], "KB")], idle_connections),
        Figure("F6tls", PROXIES, tls(), "small", [Row("F6tls", "idle connection, TLS", [Aim(None, 15)], "KB")], idle_connections),
        Figure("F7", PROXIES, Work(), "small", [Row("F7", "start to first 200", [Aim(None, 15)], "ms")], start_to_answer),
        Figure("F8a", ("postern",), Work(cores="0,1"), "small", [Row("F8a", "15 k/s, one worker", [])], at_rate),
        Figure("F8b", ("postern",), Work(workers=2, cores="0,1"), "small", [Row("F8b", "15 k/s, two workers", [Aim("F8a", 1.05)])], at_rate),
        Figure("F9", ("postern", "haproxy", "envoy"), Work("h2"), "sink",
               [Row("F9", "one upload of 64 MB over h2, 50 ms there and back", [], "MB/s", max, True)], far_upload)]
    return out

#!/usr/bin/env python3
"""Attacks through what surrounds requests: numbers in fields, regular expressions, names and their servers, resources of a control
plane, the admin port, tables that are hashed, local ports. Each prints what it cost: memory, CPU and the p99 of a client that
behaves, at the same moment.

Runs in a network and mount namespace of its own, where /etc/resolv.conf names a server of this test.
"""
import contextlib
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import operation_test  # its control plane
from attack_harness import Bystander, exchange, receive, split_answers, waited_ms
from attack_harness import Origin as Scripted
from operation_harness import Http2, Origin, Proxy, bootstrap, cluster, direct, http_listener, run_tests, socket_address, until

MB = 1024 * 1024
GOOD = {"match": {"path": "/bystander"}, "direct_response": {"status": 200, "body": {"inline_string": "/bystander"}}}


def enter_namespace():
    if not os.environ.get("POSTERN_IN_NETNS"):
        flags = "-nm" if os.getuid() == 0 else "-rnm"
        os.execvpe("unshare", ["unshare", flags, sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:],
                   dict(os.environ, POSTERN_IN_NETNS="1"))
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    with tempfile.NamedTemporaryFile("w", delete=False) as names:
        names.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    os.chmod(names.name, 0o644)
    subprocess.run(("mount", "--bind", names.name, os.path.realpath("/etc/resolv.conf")), check=True)
    os.unlink(names.name)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def memory(proxy):
    with open(f"/proc/{proxy.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def cpu(proxy):
    with open(f"/proc/{proxy.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def watched(proxy, what, memory_max=16 * MB):
    """Bounds what the body does to the process and to a client that behaves; the body may add to what is printed."""
    bystander = Bystander(proxy.port("web"))
    notes = []
    time.sleep(0.1)
    before, used, waited, begin = memory(proxy), cpu(proxy), waited_ms(proxy.pid), time.monotonic()
    try:
        yield notes
    finally:
        bystander.stop = True
        bystander.thread.join(10)
    grown, bound, p99 = memory(proxy) - before, bystander.bound_ms(waited_ms(proxy.pid) - waited), bystander.p99_ms()
    print(f"    {what}: {grown / MB:+.1f} MB, {time.monotonic() - begin:.1f} s, {cpu(proxy) - used:.2f} s of CPU, "
          f"bystander p99 {p99:.1f} ms{''.join(', ' + each for each in notes)}", flush=True)
    assert proxy.process.poll() is None, "the proxy died: " + proxy.log()[-500:]
    assert bystander.failed == 0, f"{bystander.failed} requests of the bystander failed"
    assert grown < memory_max, f"{grown / MB:.1f} MB"
    assert p99 < bound, f"p99 {p99:.1f} ms, bound {bound:.1f} ms"


def statuses(port, payload, answers=1):
    return [status for status, _, _ in split_answers(exchange(port, payload, answers))]


# ---- slowness (18) ----

def ended(client, seconds=10):
    """True when the proxy ends the connection in time, whatever it says before."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_class_18_slow_http1():
    shapes = {
        "say nothing": b"",
        "send half of a head": b"GET /bystander HTTP/1.1\r\nhost: a\r\nx-slow: ",
        "send one byte of a body": b"POST /delay/60000 HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nx",
        "send half of a chunk": b"POST /delay/60000 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n64\r\nxx",
        "ask and do not read": b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n" * 400,
    }
    big = {"match": {"path": "/big"}, "direct_response": {"status": 200, "body": {"inline_string": "b" * 4000}}}
    origin = Origin()
    config = bootstrap([http_listener(
        "web", 0, [GOOD, big, {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}], request_headers_timeout="1s",
        request_timeout="2s", stream_idle_timeout="2s", common_http_protocol_options={"idle_timeout": "3s"})], [cluster("app", origin.port)])
    with Proxy(config, "--concurrency", "1") as proxy:
        port = proxy.port("web")
        for name, payload in shapes.items():
            with watched(proxy, "400 clients that " + name, 64 * MB) as notes:
                clients = []
                for _ in range(400):
                    client = socket.socket()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    client.settimeout(0.2)
                    client.connect(("127.0.0.1", port))
                    with contextlib.suppress(OSError):
                        client.sendall(payload)
                    clients.append(client)
                begin = time.monotonic()
                until(lambda: proxy.stat("http.web.downstream_cx_active") <= 1, 90, 0.1)  # the kernel sends on, some bytes at a time
                notes.append(f"all gone {time.monotonic() - begin:.1f} s later")
                assert all(ended(client) for client in clients)
                for client in clients:
                    client.close()
    origin.close()


# ---- numbers (20) ----

def test_class_20_numbers():
    numbers = (b"99999999999999999999", b"18446744073709551616", b"9223372036854775808", b"4294967296", b"-1", b"+1", b"1e9", b"0x10",
               b"1_000", b"NaN", b"1" * 300, b"1;2", b"\xd9\xa1", b"0", b"00000000000000000000000001", b"99999999S", b"999999999999999999H")
    asked = (b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-upstream-rq-per-try-timeout-ms", b"x-envoy-max-retries", b"grpc-timeout",
             b"x-envoy-expected-rq-timeout-ms", b"x-envoy-attempt-count", b"max-forwards", b"range", b"x-forwarded-for",
             b"x-forwarded-port", b"x-request-id", b"age", b"x-envoy-original-dst-host")
    answered = (b"retry-after", b"grpc-status", b"content-length", b"x-envoy-upstream-service-time", b"x-envoy-ratelimited", b"age")
    origin = Scripted()
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "retry_policy": {"retry_on": "5xx,reset"}}}
    with Proxy(bootstrap([http_listener("web", 0, [GOOD, route])], [cluster("app", origin.port)]), "--concurrency", "1") as proxy:
        port = proxy.port("web")
        with watched(proxy, "numbers that are none, or too large"):
            for name in asked:
                for number in numbers:
                    payload = b"GET /a HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n%s: %s\r\nconnection: close\r\n\r\n" % (name, number)
                    assert statuses(port, payload) in ([200], [400]), (name, number, exchange(port, payload))
            for name in answered:
                for number in numbers:
                    origin.raws.append(b"HTTP/1.1 200 OK\r\n%s: %s\r\n%s\r\n" % (
                        name, number, b"" if name == b"content-length" else b"content-length: 0\r\n"))
                    path = b"/raw/%d" % (len(origin.raws) - 1)
                    payload = b"GET %s HTTP/1.1\r\nhost: a\r\nx-envoy-upstream-rq-timeout-ms: 300\r\nconnection: close\r\n\r\n" % path
                    data = exchange(port, payload)
                    assert data[9:12] in (b"200", b"502", b"503", b"504"), (name, number, data)
    origin.close()


# ---- regular expressions (21) ----

def test_class_21_expressions():
    evil = ("(/a*)*b", "/(a+)+c", "/(a|aa)+c", "/(.*a){12}c", "/([a-z]+)*[0-9]", "/(a?){50}a{50}c", "/" + "|".join("a" * n for n in range(1, 200)))
    routes = [{"match": {"safe_regex": {"regex": each}}, "direct_response": {"status": 404}} for each in evil]
    config = bootstrap([http_listener("web", 0, [GOOD] + routes + direct())])
    with Proxy(config, "--concurrency", "1") as proxy:
        port = proxy.port("web")

        def cost(size):
            begin = cpu(proxy)
            for _ in range(150):
                assert statuses(port, b"GET /%s! HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % (b"a" * size)) == [200]
            return cpu(proxy) - begin
        with watched(proxy, f"{len(evil)} expressions that backtrack elsewhere, 16 KB of path") as notes:
            cost(8000)
            half, whole = cost(8000), cost(16000)
            notes.append(f"CPU of 8 and of 16 KB {half:.2f} and {whole:.2f} s")
            assert whole < 5 * half + 0.5, "more than linear"
    large = bootstrap([http_listener("web", 0, [
        {"match": {"safe_regex": {"regex": "((a{1000}){1000}){1000}"}}, "direct_response": {"status": 200}}])])
    with Proxy(large, wait=False) as proxy:
        assert proxy.wait() == 1 and "routes[0].match.safe_regex.regex" in proxy.log(), proxy.log()


# ---- names (25) ----

class NameServer:
    """Answers as it is told: `how(query)` gives the datagram, or none; more than fits comes over TCP."""

    def __init__(self):
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 53))
        self.tcp = socket.create_server(("127.0.0.1", 53))
        self.how, self.queries = lambda query: self.answer(query, 1), 0
        threading.Thread(target=self.serve, daemon=True).start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()

    @staticmethod
    def answer(query, count, ttl=0, flags=0x8180):
        end = query.index(b"\0", 12) + 5
        wanted = struct.unpack("!H", query[end - 4:end - 2])[0] == 1
        records = b"".join(struct.pack("!HHHIH4s", 0xC00C, 1, 1, ttl, 4, bytes((127, 1, i // 250, i % 250 + 1))) for i in range(count)) if wanted else b""
        return query[:2] + struct.pack("!HHHHH", flags, 1, count if wanted else 0, 0, 0) + query[12:end] + records

    def serve(self):
        while True:
            query, sender = self.udp.recvfrom(4096)
            self.queries += 1
            reply = self.how(query)
            if reply and len(reply) > 1200:
                reply = self.answer(query, 0, flags=0x8380)  # truncated: ask over TCP
            if reply:
                self.udp.sendto(reply, sender)

    def serve_tcp(self):
        while True:
            connection, _ = self.tcp.accept()
            with connection:
                connection.settimeout(1)
                with contextlib.suppress(OSError, IndexError, ValueError):
                    query = connection.recv(4096)[2:]
                    reply = self.how(query)
                    connection.sendall(struct.pack("!H", len(reply)) + reply)


def test_class_25_names():
    server = NameServer()
    origin = Origin()
    named = {"name": "named", "type": "STRICT_DNS", "connect_timeout": "1s", "dns_refresh_rate": "0.1s", "respect_dns_ttl": True, "dns_lookup_family": "V4_ONLY",
             "load_assignment": {"cluster_name": "named", "endpoints": [{"lb_endpoints": [
                 {"endpoint": {"address": socket_address(origin.port, "app.example")}}]}]}}
    noise = random.Random(25)
    shapes = {
        "bytes at random": lambda query: query[:2] + noise.randbytes(noise.randrange(1, 500)),
        "a name that points to itself": lambda query: query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + b"\xc0\x0c\0\x01\0\x01" * 2,
        "another question": lambda query: server.answer(query, 1).replace(b"app", b"aqq"),
        "a wrong number": lambda query: b"\0\0" + server.answer(query, 1)[2:],
        "more records said than there": lambda query: query[:2] + struct.pack("!HHHHH", 0x8180, 1, 65535, 65535, 65535) + server.answer(query, 1)[12:],
        "a length beyond the end": lambda query: server.answer(query, 1)[:-6] + b"\xff\xff\x7f",
        "half of the answer": lambda query: server.answer(query, 20)[:60],
    }
    with Proxy(bootstrap([http_listener("web", 0, [GOOD])], [named]), "--concurrency", "1") as proxy:
        until(lambda: proxy.stat("cluster.named.membership_total") == 1)
        for name, how in shapes.items():
            with watched(proxy, "a name server that sends " + name) as notes:
                before, server.how = server.queries, how
                until(lambda: server.queries - before >= 2, 20)
                notes.append(f"{server.queries - before} queries")
            assert proxy.stat("cluster.named.membership_total") == 1
        with watched(proxy, "a name with 3,000 addresses") as notes:
            server.how = lambda query: server.answer(query, 3000)
            until(lambda: proxy.stat("cluster.named.membership_total") > 1, 60)
            notes.append(f"{proxy.stat('cluster.named.membership_total')} taken")
            assert proxy.stat("cluster.named.membership_total") <= 512
        with watched(proxy, "addresses that live for no time at all") as notes:
            server.how = lambda query: server.answer(query, 1)
            until(lambda: proxy.stat("cluster.named.membership_total") == 1, 60)
            before = server.queries
            time.sleep(1)
            notes.append(f"{server.queries - before} queries in a second, the refresh rate is 0.1 s")
            assert server.queries - before <= 40
    origin.close()


# ---- resources (28) ----

def test_class_28_resources():
    with tempfile.TemporaryDirectory() as folder:
        control = operation_test.Control(folder)
        listener, routes = operation_test.routed("web", "one")
        routes["virtual_hosts"][0]["routes"].insert(0, GOOD)
        good = {"listeners": [listener], "routes": [routes], "clusters": [cluster("app", 1)]}
        control.put(**good)
        control.start()
        try:
            with Proxy(control.bootstrap(), "--concurrency", "1", "--disable-hot-restart") as proxy:
                port = proxy.port("web")
                bad = [dict(cluster("app", 1), **wrong) for wrong in (
                    {"connect_timeout": "315576000001s"}, {"connect_timeout": "-1s"}, {"type": "EDS"}, {"lb_policy": "MAGLEV"},
                    {"load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(70000)}}]}]}},
                    {"circuit_breakers": {"thresholds": [{"priority": "HIGH"}, {"priority": "HIGH"}]}},
                    {"transport_socket": {"name": "x", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct"}}})]
                refused = 0
                with watched(proxy, f"{len(bad)} clusters that are wrong, 50 times over") as notes:
                    for i in range(50):
                        control.put(**dict(good, clusters=[dict(bad[i % len(bad)], alt_stat_name="v%d" % i)]))
                        time.sleep(0.03)
                    until(lambda: proxy.stat("cluster_manager.cds.update_rejected") >= len(bad))
                    refused = proxy.stat("cluster_manager.cds.update_rejected")
                    notes.append(f"{refused} responses refused")
                    assert statuses(port, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") == [200]
                # The admin port needs memory, too, to tell of so many, and what is free again is kept now here, now there: what counts
                # is that it does not grow from round to round (by 120 MB each, were they kept).
                begin, most = memory(proxy), []
                many = [cluster("c%d" % i, 1) for i in range(10_000)]
                for _ in range(6):
                    with watched(proxy, "10,000 clusters come and go", 400 * MB) as notes:
                        control.put(**dict(good, clusters=many))
                        until(lambda: proxy.stat("cluster_manager.active_clusters") >= 10_000, 60, 0.5)
                        control.put(**good)
                        until(lambda: proxy.stat("cluster_manager.active_clusters") < 10, 60, 0.5)
                        most.append(memory(proxy) - begin)
                        notes.append(f"{most[-1] // 10_000} bytes each kept")
                assert most[-1] < 3 * most[0], most
                assert statuses(port, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") == [200]
        finally:
            control.stop()


# ---- the admin port (29) ----

def test_class_29_admin():
    with Proxy(bootstrap([http_listener("web", 0, [GOOD])]), "--concurrency", "1") as proxy:
        admin = proxy.admin_port()
        paths = ("/", "//", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/stats?filter=((((", "/stats?filter=" + "(a*)*" * 50,
                 "/config_dump?resource=" + "x" * 5000, "/config_dump?mask=" + "a." * 500, "/logging?level=%00", "/stats?format=%s%n",
                 "/clusters\x7f", "/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/reset_counters", "/cpuprofiler", "/heapdump",
                 "/runtime_modify?a=b", "/listeners?format=../x", "/" + "a" * 20_000, "/stats/recentlookups/enable", "*", "http://a/stats")
        methods = ("GET", "HEAD", "POSTX", "PUT", "DELETE", "CONNECT", "TRACE", "get")
        asked = 0
        with watched(proxy, "the admin port, scanned") as notes:
            for path in paths:
                for method in methods:
                    data = exchange(admin, f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode("latin-1"), 1)
                    assert not data or data[9:12] in (b"200", b"400", b"403", b"404", b"405", b"431", b"501"), (method, path, data[:200])
                    assert b"root:" not in data
                    asked += 1
            for rubbish in (b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n",
                            b"GET /stats HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"):
                data = exchange(admin, rubbish, 1)
                assert not data.startswith(b"HTTP/1.1 200"), (rubbish, data[:100])
                asked += 1
            notes.append(f"{asked} requests")
            assert proxy.info()["state"] == "LIVE", "changed by what is no POST"


# ---- hashed tables (31) ----

def test_class_31_hash_flood():
    """Names that are alike where a table looks first: of fields, of cookies, of hosts and of paths."""
    hosts = [{"name": "h%d" % i, "domains": ["h%d.example" % i], "routes": direct("h")} for i in range(500)]
    routes = {"virtual_hosts": hosts + [{"name": "v", "domains": ["*"], "routes": [GOOD] + direct()}]}
    with Proxy(bootstrap([http_listener("web", 0, [], route_config=routes)]), "--concurrency", "1") as proxy:
        port = proxy.port("web")

        def cost(head):
            begin = cpu(proxy)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                for _ in range(300):
                    client.sendall(head * 20)
                    assert len(split_answers(receive(client, 20)[0])) == 20
            return cpu(proxy) - begin
        alike = [b"x-%06d-same-end" % i for i in range(90)]
        differ = [b"x-same-start-%06d" % i for i in range(90)]
        with watched(proxy, "90 names of fields that end alike, 6,000 requests") as notes:
            heads = [b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"%s: v\r\n" % name for name in names) + b"\r\n" for names in (differ, alike)]
            cost(heads[0])
            plain, flood = cost(heads[0]), cost(heads[1])
            notes.append(f"CPU {flood:.2f} s, of ordinary names {plain:.2f} s")
            assert flood < 4 * plain + 0.3
        with watched(proxy, "30,000 hosts and paths nobody configured"):
            for i in range(0, 30_000, 20):
                exchange(port, b"".join(b"GET /p%d/%d HTTP/1.1\r\nhost: h%d.example\r\ncookie: c%d=%d\r\n\r\n" % (j, j, j + 1000, j, j)
                                        for j in range(i, i + 20)), 20)


# ---- local ports (19) ----

def test_class_19_ports():
    """More connections to one origin wanted than there are local ports: what goes beyond is told so, and it passes."""
    origin = Origin()
    limits = {"circuit_breakers": {"thresholds": [{"max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000}]}}
    config = bootstrap([http_listener("web", 0, [GOOD, {"match": {"prefix": "/"}, "route": {"cluster": "app"}}])],
                       [dict(cluster("app", origin.port), **limits)])
    with Proxy(config, "--concurrency", "1") as proxy:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as ports:
            before = ports.read()
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as ports:
            ports.write("50000 50063")
        try:
            client = Http2(proxy.port("web"))
            with watched(proxy, "64 local ports, 90 slow requests at once") as notes:
                streams = [client.request("/delay/1500") for _ in range(90)]
                answers = [client.answer(stream, 20) for stream in streams]
                notes.append(f"{answers.count(200)} answered 200, {len(answers) - answers.count(200)} refused, connections "
                             f"{proxy.stat('cluster.app.upstream_cx_total')}, failed {proxy.stat('cluster.app.upstream_cx_connect_fail')}")
                assert 30 <= answers.count(200) <= 64 and 0 not in answers, answers
                assert proxy.info()["state"] == "LIVE"
            assert client.get("/after") == 200
        finally:
            with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as ports:
                ports.write(before)
    origin.close()


if __name__ == "__main__":
    enter_namespace()
    sys.exit(run_tests(list(globals().items()), sys.argv[1] if len(sys.argv) > 1 else None))

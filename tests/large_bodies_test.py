#!/usr/bin/env python3
"""Large bodies through the real proxy, HTTP/1, HTTP/2 and TCP, in clear and over TLS: whole and unchanged in both directions, beside
slow readers, with ends of all kinds in the middle, and without a pipe or memory left behind. Environment: POSTERN_BIN (default bin).
"""
import hashlib
import os
import re
import shutil
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time

import h2_raw as h2
from operation_harness import Http1, Proxy, bootstrap, cluster, http_listener, run_tests, tcp_listener, to_cluster, until
from side_by_side import certificates
from thread_server import ThreadServer

MB = 1 << 20
BLOCK = bytes((i * 131 >> 7) & 255 for i in range(MB))


RECORD = 16384  # what a TLS record holds at most, and a block of the proxy's


class BulkOrigin:
    """GET /SIZE (or /chunked/SIZE, /close/SIZE, /break/SIZE: a reset after half of it, /paced/SIZE: a record now and then) answers so
    many bytes; POST answers with the digest of what came, /late: a moment after it could have been read, /refuse: with 413 at once."""

    def __init__(self, context=None):
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.broken_off = 0  # answers that somebody did not want to its end
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as reader:
            try:
                while line := reader.readline():
                    fields = {}
                    while (field := reader.readline().rstrip()):
                        name, value = field.split(b": ", 1)
                        fields[name.lower()] = value
                    method, path, _ = line.decode().split(" ")
                    if path == "/refuse":  # before the body, which nobody reads: the kernel answers it with a reset
                        connection.sendall(b"HTTP/1.1 413 no\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!")
                        return
                    if method == "POST":
                        time.sleep(1 if path == "/late" else 0)
                        self.take(connection, reader, fields)
                    elif not self.give(connection, path):
                        return
            except OSError:
                self.broken_off += 1

    def take(self, connection, reader, fields):
        digest = hashlib.sha256()
        if b"content-length" in fields:
            left = int(fields[b"content-length"])
            while left and (piece := reader.read(min(left, MB))):
                digest.update(piece)
                left -= len(piece)
        else:
            while size := int(reader.readline().split(b";")[0], 16):
                digest.update(reader.read(size))
                reader.readline()
            while reader.readline().rstrip():
                pass
        text = digest.hexdigest().encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text)

    @staticmethod
    def give(connection, path):
        *how, size = path.strip("/").split("/")
        how, size = how[0] if how else "", int(size)
        framing = {"chunked": b"transfer-encoding: chunked\r\n", "close": b"connection: close\r\n"}
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing.get(how, b"content-length: %d\r\n" % size) + b"\r\n")
        end = size // 2 if how == "break" else size
        step = RECORD if how == "paced" else MB
        for at in range(0, end, step):
            time.sleep(0.003 if how == "paced" else 0)
            piece = BLOCK[at % MB:][:min(step, end - at)]
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n" if how == "chunked" else piece)
        if how == "chunked":
            connection.sendall(b"0\r\n\r\n")
        if how == "break":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return how not in ("close", "break")


def expected(size):
    digest = hashlib.sha256()
    for at in range(0, size, MB):
        digest.update(BLOCK[:min(MB, size - at)])
    return digest.hexdigest()


def start():
    origin = BulkOrigin()
    proxy = Proxy(bootstrap([http_listener("in", 0, to_cluster("a")), tcp_listener("tcp", 0, "a")], [cluster("a", origin.port)]),
                  "--concurrency", "1")
    return origin, proxy


def pipes(proxy):
    """Descriptors of pipes that the proxy has open."""
    folder = f"/proc/{proxy.pid}/fd"
    count = 0
    for each in os.listdir(folder):
        try:
            count += os.readlink(os.path.join(folder, each)).startswith("pipe:")
        except OSError:
            pass
    return count


def resident_mb(proxy):
    with open(f"/proc/{proxy.pid}/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read()).group(1)) / 1024


def read_digest(reader, size):
    digest, left = hashlib.sha256(), size
    while left and (piece := reader.read(min(left, MB))):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest(), left


def read_chunked(reader, size):
    digest, left = hashlib.sha256(), size
    while (line := reader.readline()) and (chunk := int(line, 16)):
        piece = reader.read(chunk)
        digest.update(piece)
        left -= len(piece)
        if len(piece) < chunk or reader.readline() != b"\r\n":
            break
    return digest.hexdigest(), left


def head(reader):
    lines = []
    while (line := reader.readline().rstrip()):
        lines.append(line)
    return lines


def ask(port, path, fields=""):
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n".encode())
    return client


def test_answers_whole_in_each_framing():
    _, proxy = start()
    with proxy:
        size = 50 * MB + 12345
        for path in (f"/{size}", f"/chunked/{size}", f"/close/{size}"):
            client = ask(proxy.port("in"), path, "connection: close\r\n")
            with client, client.makefile("rb") as reader:
                lines = head(reader)
                assert lines[0] == b"HTTP/1.1 200 OK", lines
                read = read_chunked if b"transfer-encoding: chunked" in lines else read_digest
                assert read(reader, size) == (expected(size), 0), path
        assert pipes(proxy) > 0, "nothing went by splice"
        print("pipes kept", pipes(proxy) // 2, "RssAnon", round(resident_mb(proxy), 1), "MB")
        assert resident_mb(proxy) < 16


def test_requests_whole_and_the_next_one_behind():
    _, proxy = start()
    with proxy:
        size = 30 * MB + 777
        body = BLOCK * 30 + BLOCK[:777]
        chunked = b"".join(b"%x\r\n" % len(p) + p + b"\r\n" for p in (body[:5], body[5:20 * MB], body[20 * MB:])) + b"0\r\n\r\n"
        for framing, bytes_ in ((b"content-length: %d" % size, body), (b"transfer-encoding: chunked", chunked)):
            client = socket.create_connection(("127.0.0.1", proxy.port("in")), timeout=20)
            with client, client.makefile("rb") as reader:
                post = b"POST / HTTP/1.1\r\nhost: test\r\n" + framing + b"\r\n\r\n" + bytes_
                client.sendall(post + b"GET /100000 HTTP/1.1\r\nhost: test\r\n\r\n" + post)
                head(reader)
                assert reader.read(64).decode() == expected(size), framing
                head(reader)
                assert read_digest(reader, 100000) == (expected(100000), 0), framing
                head(reader)
                assert reader.read(64).decode() == expected(size), framing
        assert resident_mb(proxy) < 16


def test_slow_readers_hold_little_and_others_are_served():
    origin, proxy = start()
    with proxy:
        port, size = proxy.port("in"), 100 * MB
        slow = [ask(port, f"/{size}") for _ in range(20)]
        time.sleep(1)
        begin = time.monotonic()
        fast = Http1(port)
        for _ in range(50):
            status, _, body = fast.get("/1000")
            assert status == 200 and len(body) == 1000
        print("50 small requests beside 20 stuck answers: %.0f ms; RssAnon %.1f MB; pipes %d" % (
            (time.monotonic() - begin) * 1e3, resident_mb(proxy), pipes(proxy) // 2))
        assert resident_mb(proxy) < 24 and pipes(proxy) // 2 <= 20 + 64
        # One goes on and gets all of it; the others leave in the middle.
        with slow[0].makefile("rb") as reader:
            head(reader)
            assert read_digest(reader, size) == (expected(size), 0)
        for each in slow:
            each.close()
        until(lambda: origin.broken_off == 19)
        until(lambda: proxy.stat("cluster.a.upstream_rq_active") == 0)
        assert pipes(proxy) // 2 <= 64, pipes(proxy)
        assert proxy.stat("http.in.downstream_cx_active") == 1, proxy.stat("http.in.downstream_cx_active")


def test_an_origin_that_breaks_off():
    _, proxy = start()
    with proxy:
        for _ in range(5):
            client = ask(proxy.port("in"), f"/break/{20 * MB}")
            with client, client.makefile("rb") as reader:
                lines = head(reader)
                assert b"content-length: %d" % (20 * MB) in lines, lines
                try:
                    _, left = read_digest(reader, 20 * MB)
                except ConnectionError:
                    left = -1
                assert left != 0, "the answer looks whole"
        assert Http1(proxy.port("in")).get("/10")[0] == 200
        assert proxy.stat("http.in.downstream_rq_active") == 0


def test_tcp_both_ways():
    _, proxy = start()
    with proxy:
        size = 200 * MB
        client = ask(proxy.port("tcp"), f"/close/{size}")
        with client, client.makefile("rb") as reader:
            head(reader)
            assert read_digest(reader, size) == (expected(size), 0)
        assert proxy.stat("tcp.tcp.downstream_cx_tx_bytes_total") > size
        assert resident_mb(proxy) < 16


# ---- over TLS ----

class Secure:
    """A proxy with TLS on every side: listeners "in" and "tcp" before an origin in clear, "out" and "tcp-out" in clear before one
    that speaks TLS."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-bulk-")
        certificates.make(os.path.join(self.folder, "made"))
        certificates.copy(os.path.join(self.folder, "made"), self.folder)
        files = {"certificate_chain": {"filename": f"{self.folder}/server.crt"}, "private_key": {"filename": f"{self.folder}/server.key"}}
        sockets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
        served = {"name": "tls", "typed_config": {"@type": sockets + "DownstreamTlsContext", "common_tls_context": {
            "tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}}}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{self.folder}/server.crt", f"{self.folder}/server.key")
        self.origin = BulkOrigin()
        secure = cluster("s", BulkOrigin(context).port)
        secure["transport_socket"] = {"name": "tls", "typed_config": {"@type": sockets + "UpstreamTlsContext"}}
        listeners = [http_listener("in", 0, to_cluster("a")), tcp_listener("tcp", 0, "a"),
                     http_listener("out", 0, to_cluster("s")), tcp_listener("tcp-out", 0, "s")]
        for each in listeners[:2]:
            each["filter_chains"][0]["transport_socket"] = served
        self.proxy = Proxy(bootstrap(listeners, [cluster("a", self.origin.port), secure]), "--concurrency", "1")
        return self

    def __exit__(self, *_):
        self.proxy.close()
        shutil.rmtree(self.folder)

    def client(self, listener, protocol="http/1.1", receive_bytes=None):
        plain = socket.socket()
        if receive_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", self.proxy.port(listener)))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listener in ("out", "tcp-out"):
            return plain
        context = ssl.create_default_context(cafile=f"{self.folder}/ca.crt")
        context.check_hostname = False
        context.set_alpn_protocols([protocol])
        return context.wrap_socket(plain)

    def h2(self, listener, **wanted):
        client = h2.Client(self.proxy.port(listener), start=False)
        client.socket.close()
        client.socket = self.client(listener, "h2")
        client.send(h2.PREFACE + h2.settings(**wanted))
        return client


def test_slow_tls_clients_get_the_last_bytes():
    """Sizes around what the kernel and the proxy hold: of some, nothing but records of the proxy waits when all is written."""
    with Secure() as place:
        for listener, how in (("in", ""), ("in", "/close"), ("tcp", "/close"), ("out", ""), ("tcp-out", "/close")):
            sizes = range(2 * MB, 8 * MB, 192 * 1024)
            clients = []
            for size in sizes:
                clients.append(place.client(listener, receive_bytes=16 * 1024))
                clients[-1].sendall(f"GET {how}/{size} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
            time.sleep(1.5)  # longer than a connection is left to linger
            for client, size in zip(clients, sizes):
                with client, client.makefile("rb") as reader:
                    chunked = b"transfer-encoding: chunked" in head(reader)
                    got = read_chunked(reader, size) if chunked else read_digest(reader, size)
                assert got == (expected(size), 0), (listener, how, size, got)


def test_an_early_answer_outlives_the_reset_behind_it():
    with Secure() as place:
        body = BLOCK * 4
        for listener in ("in", "out"):
            seen = []
            for _ in range(20):
                with place.client(listener) as client, client.makefile("rb") as reader:
                    try:
                        client.sendall(b"POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                    except OSError:
                        pass  # the answer ends the connection before all of it is taken
                    try:
                        seen.append(reader.readline().split(b" ")[1])
                    except (OSError, IndexError) as error:
                        seen.append(repr(error))
            assert seen == [b"413"] * 20, (listener, seen)


def test_records_as_large_as_a_block_wait_for_a_window():
    with Secure() as place:
        size = 40 * RECORD
        client = h2.Client(place.proxy.port("out"), window=0)
        client.send(h2.headers(1, h2.request(f"/paced/{size}")))
        assert client.wait(lambda: 1 in client.statuses)
        time.sleep(1)
        client.send(h2.window(0, 1 << 30) + h2.window(1, 1 << 30))
        assert client.wait(lambda: client.over(1), 10), len(client.bodies.get(1, b""))
        assert hashlib.sha256(client.bodies[1]).hexdigest() == expected(size)
        client.close()
        assert Http1(place.proxy.port("out")).get("/10")[0] == 200


def test_frames_as_large_as_a_record_wait_for_the_origin():
    with Secure() as place:
        client = place.h2("in")
        frame = BLOCK[:RECORD - 9]
        client.send(h2.headers(1, h2.request("/late", "POST", more=[("content-length", str(12 * len(frame)))]), end=False))
        for i in range(12):
            time.sleep(0.01)
            client.send(h2.data(1, frame, end=i == 11))
        assert client.wait(lambda: client.over(1), 10), "no answer"
        assert client.statuses[1] == 200 and client.bodies[1].decode() == hashlib.sha256(frame * 12).hexdigest()
        client.close()


def test_a_tunnel_goes_on_in_one_direction():
    """The client has ended its own; what the origin still sends, now and then, is no less wanted."""
    def serve(connection):
        while connection.recv(65536):
            pass
        for _ in range(6):
            time.sleep(0.5)
            connection.sendall(BLOCK[:1000])
    origin = ThreadServer(serve)
    routes = [{"match": {"connect_matcher": {}}, "route": {"cluster": "a", "upgrade_configs": [
        {"upgrade_type": "CONNECT", "connect_config": {}}]}}]
    listener = http_listener("in", 0, routes, upgrade_configs=[{"upgrade_type": "CONNECT"}])
    with Proxy(bootstrap([listener], [cluster("a", origin.port)])) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port("in")), timeout=20)
        with client, client.makefile("rb") as reader:
            client.sendall(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n")
            assert head(reader)[0].startswith(b"HTTP/1.1 200"), "refused"
            client.sendall(b"bytes")
            client.shutdown(socket.SHUT_WR)
            assert len(reader.read()) == 6000
    origin.close()


if __name__ == "__main__":
    sys.exit(run_tests(list(globals().items()), sys.argv[1] if len(sys.argv) > 1 else None))

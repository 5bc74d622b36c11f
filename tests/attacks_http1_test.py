#!/usr/bin/env python3
"""Attacks on HTTP/1, paths, hosts and headers, each against a running proxy with an origin that believes everything.

Every class tells how many variants it tried and what it saw: the growth of the proxy's memory and the p99 of a
well-behaved client at the same moment. A variant is either refused (one error, then the end of the connection) or
understood as exactly one request; in no case does the origin see a request that the proxy did not.
"""
import concurrent.futures
import json
import os
import socket
import struct
import sys
import time
from urllib.parse import unquote_to_bytes

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attack_harness import (Bystander, Origin, Proxy, TIMEOUT, exchange, manager, receive, split_answers, waited_ms)

TO_APP = {"route": {"cluster": "app"}}
DENY = {"direct_response": {"status": 403}}
UPGRADES = {"upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]}


def plain_routes():
    return [{"match": {"connect_matcher": {}}, **TO_APP}, {"match": {"prefix": "/"}, **TO_APP}]


def guarded_routes():
    return [{"match": {"prefix": "/admin"}, **DENY}, {"match": {"prefix": "/"}, **TO_APP}]


MANAGERS = {
    "edge": lambda log: manager(plain_routes(), log, use_remote_address=True, **UPGRADES),
    "inner": lambda log: manager(plain_routes(), log, delayed_close_timeout="0.3s"),
    "trailers": lambda log: manager(plain_routes(), log, http_protocol_options={"enable_trailers": True}),
    "paths": lambda log: manager(guarded_routes(), log, normalize_path=True, merge_slashes=True,
                                 path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD"),
    "strict": lambda log: manager(guarded_routes(), log, normalize_path=True, merge_slashes=True,
                                  path_with_escaped_slashes_action="REJECT_REQUEST"),
    "underscores": lambda log: manager(plain_routes(), log, common_http_protocol_options={
        "headers_with_underscores_action": "REJECT_REQUEST"}),
    "alone": lambda log: manager([{"match": {"prefix": "/"}, "route": {"cluster": "alone"}}], log),
    "hops": lambda log: manager(plain_routes(), log, use_remote_address=True, xff_num_trusted_hops=1),
}

CANARY = b"GET /canary HTTP/1.1\r\nHost: good\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


class Mesh:
    def __init__(self):
        self.origin = Origin()
        self.proxy = Proxy(self.origin, MANAGERS)
        self.ports = self.proxy.ports
        self.bystander = Bystander(self.ports["inner"])

    def close(self):
        self.bystander.stop = True
        self.proxy.close()
        self.origin.close()


def each(items, ask, workers=12):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, items))


def refused(answers, ended):
    return len(answers) == 1 and 400 <= answers[0][0] < 600 and ended


def try_request(port, data, expect):
    """None, or what is wrong. `expect`: "refuse", "one" (and the canary after it), or "either"."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(data + CANARY)
        got, ended = receive(connection, 2 if expect == "one" else None) if expect != "either" else receive(connection, 2)
    answers = split_answers(got)
    if expect != "one" and refused(answers, ended):
        return None
    fine = expect != "refuse" and len(answers) == 2 and answers[0][0] == 200 and answers[1][2] == b"/canary"
    return None if fine else f"{data[:160]!r}: {expect} expected, got {got[:200]!r} ended={ended}"


def check_all(mesh, port, variants):
    before = len(mesh.origin.paths)
    wrong = [w for w in each(variants, lambda v: try_request(port, v[1], v[0])) if w]
    paths = mesh.origin.paths[before:]
    assert not wrong, f"{len(wrong)} of {len(variants)} wrong: " + "; ".join(wrong[:4])
    assert not [p for p in paths if b"smuggled" in p], "a smuggled request reached the origin"
    return len(variants)


# ---- 1: framing ----

def framing_variants():
    def post(*fields, body=b"", method=b"POST", version=b"HTTP/1.1"):
        return b"%s /a %s\r\nHost: a\r\n%s\r\n%s" % (method, version, b"".join(f + b"\r\n" for f in fields), body)
    out = []
    one_chunk = b"2\r\nhi\r\n0\r\n\r\n"
    for coding in (b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked"):
        out.append(("one", post(b"Transfer-Encoding:" + coding, body=one_chunk)))
        out.append(("refuse", post(b"Content-Length: 6", b"Transfer-Encoding:" + coding, body=b"0\r\n\r\n" + SMUGGLED)))
        out.append(("refuse", post(b"Transfer-Encoding:" + coding, b"Content-Length: 50", body=b"0\r\n\r\n" + SMUGGLED)))
    for coding in (b"chunked,chunked", b"chunked, identity", b"identity, chunked", b"gzip, chunked", b"identity", b"xchunked",
                   b"chunked;q=1", b'"chunked"', b"chunke d", b"chunked,", b",chunked", b"chun\tked", b"", b"deflate",
                   b"x-chunked", b"chunked\x0b", b"\x0bchunked", b"chunked\x00", b"chunked\xa0", b"cow"):
        out.append(("refuse", post(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + SMUGGLED)))
        out.append(("refuse", post(b"Content-Length: 5", b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + SMUGGLED)))
    for first, second in ((b"chunked", b"chunked"), (b"chunked", b"identity"), (b"identity", b"chunked"), (b"gzip", b"chunked")):
        out.append(("refuse", post(b"Transfer-Encoding: " + first, b"Transfer-Encoding: " + second, body=b"0\r\n\r\n" + SMUGGLED)))
    for length in (b"+5", b"-5", b"5 5", b"5,5", b"5, 6", b"0x5", b"5_0", b"5\x0b", b"\x0b5", b"18446744073709551616",
                   b"99999999999999999999999999", b"", b"5;", b"five", b"5.0", b"5e0", b"\xd9\xa5", b"5\x00", b"1 000", b"[5]",
                   b"0b101", b"5-", b"0 5", b"5\t5"):
        out.append(("refuse", post(b"Content-Length: " + length, body=b"hello" + SMUGGLED)))
    for length in (b"5", b" 5", b"5 ", b"\t5", b"05", b"0000005"):
        out.append(("one", post(b"Content-Length:" + length, body=b"hello")))
    for pair in ((b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0")):
        out.append(("refuse", post(b"Content-Length: " + pair[0], b"Content-Length: " + pair[1], body=b"hello" + SMUGGLED)))
        out.append(("refuse", post(b"Content-Length: " + pair[0], b"content-length: " + pair[1], body=b"hello" + SMUGGLED)))
    for name in (b"Content-Length ", b" Content-Length", b"Content-Length\t", b"Content-Length\x00", b"Content\x01Length",
                 b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding", b"Transfer-Encoding\x0b",
                 b"Transfer\x00Encoding", b"Transfer-Encoding:", b"\xefTransfer-Encoding"):
        value = b": 5" if b"Length" in name else b": chunked"
        out.append(("either" if name.endswith(b":") else "refuse", post(name + value, body=b"")))
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"PUT", b"PATCH", b"PURGE"):
        out.append(("one" if method != b"HEAD" else "either", post(b"Content-Length: 5", body=b"hello", method=method)))
        out.append(("one" if method != b"HEAD" else "either",
                    post(b"Transfer-Encoding: chunked", body=one_chunk, method=method)))
        out.append(("refuse", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED, method=method)))
    for version in (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/11", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1.", b"HTTPS/1.1",
                    b"HTTP/1.10", b""):
        out.append(("refuse", post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED, version=version)))
    for line in (b"GET  /a HTTP/1.1", b"GET\t/a HTTP/1.1", b"GET /a\tHTTP/1.1", b"GET /a  HTTP/1.1", b" GET /a HTTP/1.1", b"GET /a b HTTP/1.1",
                 b"GET HTTP/1.1", b"/a HTTP/1.1", b"GET /a", b"GET /\x00 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\xff HTTP/1.1",
                 b"G\x00T /a HTTP/1.1", b"G(T /a HTTP/1.1", b"GET a HTTP/1.1", b"GET * HTTP/1.1", b"GET //\r HTTP/1.1",
                 b"GET file:///a HTTP/1.1", b"GET http:///a HTTP/1.1", b"GET http://u@h/a HTTP/1.1", b"\xef\xbb\xbfGET /a HTTP/1.1"):
        out.append(("refuse", line + b"\r\nHost: a\r\n\r\n"))
    return out


def test_class_1_framing(mesh):
    return check_all(mesh, mesh.ports["edge"], framing_variants())


# ---- 2: chunks ----

def chunk_variants():
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    good = (b"0\r\n\r\n", b"00000\r\n\r\n", b"2\r\nhi\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n",
            b"2;x\r\nhi\r\n0\r\n\r\n", b"2;x=y\r\nhi\r\n0;z\r\n\r\n", b'2;x="y z"\r\nhi\r\n0\r\n\r\n', b"0\r\nX: y\r\n\r\n",
            b"000000000000002\r\nhi\r\n0\r\n\r\n")
    bad = (b"2\nhi\r\n0\r\n\r\n", b"2\rhi\r\n0\r\n\r\n", b"2\r\nhi\n0\r\n\r\n", b"2\r\nhi0\r\n\r\n", b"2\r\nhix\r\n0\r\n\r\n",
           b"0x2\r\nhi\r\n0\r\n\r\n", b"+2\r\nhi\r\n0\r\n\r\n", b"-2\r\nhi\r\n0\r\n\r\n", b" 2\r\nhi\r\n0\r\n\r\n", b"2 \r\nhi\r\n0\r\n\r\n",
           b"2\t\r\nhi\r\n0\r\n\r\n", b"2_0\r\nhi\r\n0\r\n\r\n", b"\r\nhi\r\n0\r\n\r\n", b";x\r\nhi\r\n0\r\n\r\n", b"g\r\nhi\r\n0\r\n\r\n",
           b"2 ;x\r\nhi\r\n0\r\n\r\n", b"2,\r\nhi\r\n0\r\n\r\n", b"2.0\r\nhi\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"fffffffffffffffff\r\n",
           b"10000000000000002\r\nhi\r\n0\r\n\r\n", b"00000000000000000002\r\nhi\r\n0\r\n\r\n", b"2;\x00\r\nhi\r\n0\r\n\r\n",
           b"2;\r\nhi\r\n0\r\n\r\n", b"2;=\r\nhi\r\n0\r\n\r\n", b"2;a=\r\nhi\r\n0\r\n\r\n", b'2;a="b\r\nhi\r\n0\r\n\r\n',
           b"2;a b\r\nhi\r\n0\r\n\r\n", b"2;a\nb\r\nhi\r\n0\r\n\r\n", b"2;a\rb\r\nhi\r\n0\r\n\r\n", b"2;\x7f\r\nhi\r\n0\r\n\r\n", b"2;" + b"x" * 5000 + b"\r\nhi\r\n0\r\n\r\n",
           b"1;" + b"x" * 300 + b"\r\nh\r\n" + (b"1;" + b"x" * 300 + b"\r\nh\r\n") * 20 + b"0\r\n\r\n",
           b"2\r\nhi\r\n0\r\nX y\r\n\r\n", b"2\r\nhi\r\n0\r\n X: y\r\n\r\n", b"2\r\nhi\r\n0\r\nX : y\r\n\r\n", b"2\r\nhi\r\n0\r\nX: y\n\r\n",
           b"2\r\nhi\r\n0\r\n: y\r\n\r\n", b"2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n", b"2\r\nhi\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
           b"2\r\nhi\r\n0\r\nHost: evil\r\n\r\n", b"2\r\nhi\r\n0\r\nConnection: close\r\n\r\n", b"2\r\nhi\r\n0\r\nX: \x00\r\n\r\n",
           b"2\r\nhi\r\n0\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(110)) + b"\r\n", b"0\n\n", b"0\r\n\n", b"0\r\r\n\r\n",
           b"2\r\r\nhi\r\n0\r\n\r\n", b"2\r\nhi\r\n\r\n0\r\n\r\n", b"2\r\n\r\nhi0\r\n\r\n", b"\xb2\r\nhi\r\n0\r\n\r\n", b"2\x00\r\nhi\r\n0\r\n\r\n")
    return [("one", head + g) for g in good] + [("refuse", head + b + SMUGGLED) for b in bad]


def test_class_2_chunks(mesh):
    count = check_all(mesh, mesh.ports["edge"], chunk_variants())
    count += check_all(mesh, mesh.ports["trailers"], chunk_variants())
    # What leaves is framed anew: no extension, no odd size ever reaches the origin.
    assert b";x" not in mesh.origin.bytes and b"\r\n0000" not in mesh.origin.bytes
    return count


# ---- 3: header fields ----

def header_variants():
    def get(field):
        return b"GET /a HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n"
    bad = [b"X: a\r\n b", b"X: a\r\n\tb", b" X: a", b"\tX: a", b"X : a", b"X\t: a", b": a", b"X", b"X a", b"X\x00: a", b"X: a\x00b", b"X: a\x0bb",
           b"X: a\x0cb", b"X: a\x08b", b"X: a\x1bb", b"X: a\x7fb", b"X: a\rb", b"X: a\nY: b", b"X\r: a", b"X\n: a", b"X(: a", b"X\xe9: a", b'X": a',
           b"X/: a", b"X{: a", b"X@: a", b"X[: a", b"X;: a", b"X,: a", b"X=: a", b"X<: a", b"X?: a", b"X\\: a", b"X: \r", b"X: a\r\r", b"Host: b",
           b"Host: a", b"host:", b"HOST: a"]
    bad += [b"X%c: a" % c for c in range(0x20)] + [b"X: a%cb" % c for c in list(range(9)) + list(range(11, 32)) + [127]]
    bad += [b"X: " + b"y" * 62 * 1024, b"\r\n".join(b"h%d: v" % i for i in range(120))]
    good = [b"X: a", b"X:a", b"X:   a   ", b"X:\ta", b"X:", b"X: \xc3\xa9", b"X: \xff", b"!#$%&'*+-.^_`|~: a", b"X: a\tb", b"X" * 255 + b": a",
            b"X: " + b"y" * 8000]
    return [("refuse", get(b)) for b in bad] + [("one", get(g)) for g in good]


def test_class_3_header_fields(mesh):
    count = check_all(mesh, mesh.ports["edge"], header_variants())
    names = [b"X_Y", b"Content_Length", b"x_forwarded_for", b"_x", b"x_", b"Transfer_Encoding"]
    return count + check_all(mesh, mesh.ports["underscores"],
                             [("refuse", b"GET /a HTTP/1.1\r\nHost: a\r\n%s: 5\r\n\r\n" % n) for n in names])


# ---- 4: what HTTP/2 may carry and HTTP/1 may not ----

def h2_frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def h2_headers(fields, end=True):
    def text(value):
        size = len(value)
        return (bytes((size,)) if size < 127 else bytes((127, (size - 127) & 127 | 128, (size - 127) >> 7))) + value
    block = b"".join(b"\x10" + text(n) + text(v) for n, v in fields)
    return h2_frame(1, 5 if end else 4, 1, block)


def h2_verdict(port, fields, body=None):
    """The status, "reset", or "closed" when the connection ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0) + h2_headers(fields, body is None)
                           + (h2_frame(0, 1, 1, body) if body is not None else b""))
        data = b""
        try:
            while True:
                while len(data) >= 9:
                    size = int.from_bytes(data[:3], "big")
                    if len(data) < 9 + size:
                        break
                    kind, stream = data[3], int.from_bytes(data[5:9], "big")
                    payload, data = data[9:9 + size], data[9 + size:]
                    if kind == 1 and stream == 1:
                        return {0x88: 200, 0x8c: 400, 0x8d: 404}.get(payload[0], 0)
                    if kind == 3:
                        return "reset"
                    if kind == 7:
                        return "closed"
                piece = connection.recv(65536)
                if not piece:
                    return "closed"
                data += piece
        except OSError:
            return "silent"


def test_class_4_downgrade(mesh):
    base = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/h2")]

    def with_(name, value):
        return [(n, value if n == name else v) for n, v in base] + ([] if name.startswith(b":") else [(name, value)])
    assert h2_verdict(mesh.ports["edge"], base) == 200
    bad = [with_(b":method", b"GE T"), with_(b":method", b"GET / HTTP/1.1\r\nx:"), with_(b":method", b""),
           with_(b":path", b"/a b"), with_(b":path", b"/a HTTP/1.1\r\nHost: evil"), with_(b":path", b""), with_(b":path", b"/\x00"), with_(b":path", b"a"),
           with_(b":authority", b"a\r\nx: y"), with_(b":authority", b"a b"), with_(b":authority", b"a/b"), with_(b":scheme", b"http\r\nx"),
           with_(b"X-Upper", b"y"), with_(b"x\r\ny", b"z"), with_(b"x:y", b"z"), with_(b"x y", b"z"), with_(b"", b"z"), with_(b"x", b"a\r\nb: c"),
           with_(b"x", b"a\nb"), with_(b"x", b"a\x00b"), with_(b"x", b"a\rb"), with_(b"connection", b"close"), with_(b"transfer-encoding", b"chunked"),
           with_(b"keep-alive", b"5"), with_(b"proxy-connection", b"close"), with_(b"upgrade", b"h2c"), with_(b"te", b"gzip"),
           base + [(b":path", b"/two")], base + [(b":method", b"PUT")], [(b"x", b"y")] + base, base[:-1], base[1:], base + [(b":weird", b"z")]]
    verdicts = each(bad, lambda f: h2_verdict(mesh.ports["edge"], f))
    wrong = [(f, v) for f, v in zip(bad, verdicts) if v not in ("reset", "closed", 400, 404)]
    assert not wrong, wrong[:3]
    for length, body in ((b"5", b"hi"), (b"1", b"hi"), (b"0", b"hi"), (b"x", b"hi"), (b"2, 3", b"hi")):
        fields = with_(b":method", b"POST") + [(b"content-length", length)]
        assert h2_verdict(mesh.ports["edge"], fields, body) in ("reset", "closed", 400), length
    seen = len(mesh.origin.heads)
    assert h2_verdict(mesh.ports["edge"], base + [(b"host", b"evil")]) in (200, "reset", "closed", 400)
    assert not [h for h in mesh.origin.heads[seen:] if b"evil" in h], "host won over :authority"
    return len(bad) + 6


# ---- 5: upgrades, CONNECT, Expect ----

def test_class_5_tunnels(mesh):
    port, origin = mesh.ports["edge"], mesh.origin
    upgrade = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    statuses = (b"200 OK", b"400 Bad Request", b"404 Not Found", b"500 No", b"426 Upgrade Required", b"302 Found", b"204 No Content")
    first = len(origin.raws)
    origin.raws += [b"HTTP/1.1 %s\r\n%s\r\n" % (s, b"" if s.startswith(b"204") else b"content-length: 0\r\n") for s in statuses]
    origin.raws.append(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nWELCOME")

    def ask(number):
        got = exchange(port, upgrade % (b"/raw/%d" % (first + number)) + SMUGGLED)
        answers = split_answers(got)
        assert len(answers) == 1 and answers[0][1].startswith(b"HTTP/1.1 " + statuses[number][:3]), got
        assert b"connection: close" in answers[0][1], got
    each(range(len(statuses)), ask)
    assert b"/smuggled" not in origin.paths and b"GET /smuggled" not in origin.bytes, "bytes after Upgrade left before a 101"
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(upgrade % (b"/raw/%d" % (first + len(statuses))) + b"early")
        got = b""
        while b"WELCOME" not in got:
            piece = connection.recv(65536)
            assert piece, got
            got += piece
    assert got.startswith(b"HTTP/1.1 101 "), got
    end = time.monotonic() + 2
    while b"early" not in origin.bytes and time.monotonic() < end:
        time.sleep(0.01)
    assert b"early" in origin.bytes, "payload after the 101 was lost"
    # CONNECT: what follows waits for the 2xx, and never becomes a request when there is none.
    connects = [b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\n",
                b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"]
    for data in connects:  # this listener offers CONNECT, "inner" does not
        got = split_answers(exchange(mesh.ports["inner"], data + SMUGGLED))
        assert len(got) == 1 and got[0][0] in (400, 403, 404), (data, got)
    assert b"/smuggled" not in origin.paths
    # Expect: one 100, one answer, whatever the client does with its body.
    expect = b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    got = exchange(port, expect + b"hello" + CANARY, 2)
    assert got.count(b"HTTP/1.1 100 ") == 1 and [a[2] for a in split_answers(got)] == [b"/e", b"/canary"], got
    return len(statuses) + 1 + len(connects) + 1


# ---- 6: an answer before the request is over ----

def test_class_6_early_answer(mesh):
    origin = mesh.origin
    before = mesh.proxy.rss_kb()
    variants = [(size, framing) for size in (1_000, 100_000, 3_000_000) for framing in ("length", "chunked")]

    def ask(variant):
        size, framing = variant
        fields = b"Content-Length: %d" % size if framing == "length" else b"Transfer-Encoding: chunked"
        body = b"x" * (size // 2) if framing == "length" else b"%x\r\n" % size + b"x" * (size // 2)
        with socket.create_connection(("127.0.0.1", mesh.ports["paths"]), timeout=TIMEOUT) as connection:
            connection.sendall(b"POST /admin HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n")
            try:
                connection.sendall(body + SMUGGLED)
            except OSError:
                pass
            got, ended = receive(connection)
        answers = split_answers(got)
        assert len(answers) == 1 and answers[0][0] == 403 and b"connection: close" in answers[0][1] and ended, got[:200]
    each(variants, ask)
    assert b"/smuggled" not in origin.paths
    grown = mesh.proxy.rss_kb() - before
    assert grown < 16 * 1024, f"grew by {grown} kB"
    return len(variants)


# ---- 7: answers that lie ----

def test_class_7_answers(mesh):
    origin, port = mesh.origin, mesh.ports["inner"]
    first = len(origin.raws)
    ok = b"HTTP/1.1 200 OK\r\n"
    extra = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
    broken = [ok + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
              ok + b"Content-Length: +2\r\n\r\nhi", ok + b"Content-Length: 2,2\r\n\r\nhi", ok + b"Transfer-Encoding: gzip\r\n\r\n",
              ok + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", ok + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
              ok + b"X : a\r\nContent-Length: 0\r\n\r\n", ok + b": a\r\nContent-Length: 0\r\n\r\n", ok + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
              ok + b"X: a\rb\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
              b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 +20 OK\r\n\r\n",
              b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"hello\r\n\r\n", b"HTTP/1.1 099 X\r\n\r\n",
              ok + b"X: " + b"y" * 90_000 + b"\r\nContent-Length: 0\r\n\r\n", ok + b"".join(b"h%d: v\r\n" % i for i in range(120)) + b"Content-Length: 0\r\n\r\n",
              b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + ok + b"Content-Length: 0\r\n\r\n", b"HTTP/1.1 103 Hints\r\n\r\n" * 20 + ok + b"Content-Length: 0\r\n\r\n",
              b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + extra,
              b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
    # Whole answers with something behind them: the answer counts, the connection does not.
    spilled = [ok + b"Content-Length: 2\r\n\r\nhi" + extra, b"HTTP/1.1 204 No Content\r\n\r\n" + extra, b"HTTP/1.1 304 Not Modified\r\n\r\n" + extra,
               ok + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + extra]
    origin.raws += broken + spilled

    def ask(number):
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.sendall(b"GET /raw/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (first + number))
            got, _ = receive(connection, 1)
            connection.sendall(CANARY)
            more, _ = receive(connection, 1)
        answers = split_answers(got)
        wanted = (502, 503) if number < len(broken) else (200, 204, 304)
        if len(answers) != 1 or answers[0][0] not in wanted:
            return f"{number}: {got[:120]!r}"
        if split_answers(more)[0][2] != b"/canary" or b"poison" in got + more:
            return f"{number}: the next request got {more[:120]!r}"
        return None
    wrong = [w for w in each(range(len(broken) + len(spilled)), ask, 6) if w]
    assert not wrong, wrong[:4]
    # Unasked, on a connection that waits in the pool: nobody may be given that.
    origin.raws.append((ok + b"Content-Length: 2\r\n\r\nhi", 0.05, extra))
    with socket.create_connection(("127.0.0.1", mesh.ports["alone"]), timeout=TIMEOUT) as connection:
        connection.sendall(b"GET /raw/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (len(origin.raws) - 1))
        assert split_answers(receive(connection, 1)[0])[0][2] == b"hi"
        time.sleep(0.2)
        connection.sendall(CANARY)
        assert split_answers(receive(connection, 1)[0])[0][2] == b"/canary"
    # A body that breaks under way ends the client's connection: it cannot look whole.
    origin.raws += [ok + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", ok + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX"]
    for number in (len(origin.raws) - 2, len(origin.raws) - 1):
        got = exchange(port, b"GET /raw/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        assert b"0\r\n\r\n" not in got, got
    return len(broken) + len(spilled) + 3


# ---- 9: paths ----

def admin_spellings():
    dots = [b".", b"%2e", b"%2E"]
    slashes = [b"/", b"%2f", b"%2F", b"\\", b"%5c", b"%5C", b"//", b"/./", b"/%2e/", b"/x/../", b"/x/%2e%2e/", b"/x/.%2E/"]
    out = [lead + b"admin" + tail for lead in slashes for tail in (b"", b"/", b"/secret", b"?q=1", b"/..%2fadmin", b"//", b"/.")
           if lead[:1] in (b"/", b"\\", b"%")]
    out += [b"/" + d1 + d2 + b"/admin" for d1 in dots for d2 in dots] + [b"/" + d + b"/admin" for d in dots]
    out += [b"/a/" + d1 + d2 + s + b"admin" for d1 in dots for d2 in dots for s in (b"/", b"%2f", b"\\", b"//")]
    out += [b"/%61dmin", b"/ad%6din", b"/%61%64%6d%69%6e", b"/adm%69n/x", b"/%41/../admin", b"/a//../admin", b"/a/b/../../admin", b"/a/./../admin",
            b"/admin;x=y", b"/admin/;x", b"/admin%20", b"/admin%00", b"/admin%2f", b"/admin%5c", b"/admin%3f", b"/admin%23", b"/%2e%2e%2fadmin",
            b"/..%5cadmin", b"/..;/admin", b"/.;/admin", b"/a/..;/admin", b"//a/../../admin", b"/admin/../admin", b"/../admin", b"/../../admin",
            b"///admin", b"/./././admin", b"/a/../a/../admin", b"/%2E/%2e/admin", b"/x/..%2F..%2Fadmin", b"/x%2F..%2Fadmin", b"/x%5C..%5Cadmin"]
    out += [b"http://a" + p for p in (b"/admin", b"/x/../admin", b"/%61dmin", b"//admin", b"/%2e/admin", b"\\admin", b"/a\\..\\admin")]
    out += [b"/admin#x", b"/#/../admin", b"/x#/admin", b"/%c0%ae%c0%ae/admin", b"/%c0%afadmin", b"/%252e%252e/admin", b"/%25%36%31dmin", b"/x/%%32%65%%32%65/admin"]
    return [p if p[:1] in (b"/", b"h") else b"/" + p for p in dict.fromkeys(out)]


def reads_as_admin(path):
    """How the most eager origin reads a path: everything decoded once, backslashes as slashes, dots resolved, parameters cut."""
    text, parts = unquote_to_bytes(path.split(b"?")[0]), []
    for part in text.replace(b"\\", b"/").split(b"/"):
        part = part.split(b"\x00")[0]
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return bool(parts) and parts[0] == b"admin"


def test_class_9_paths(mesh):
    variants = admin_spellings()
    total = 0
    for name in ("paths", "strict"):
        seen = len(mesh.origin.paths)

        def ask(path, port=mesh.ports[name]):
            return split_answers(exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        answers = each(variants, ask)
        assert all(len(a) == 1 and a[0][0] in (200, 307, 400, 403, 404) for a in answers), \
            [(v, a) for v, a in zip(variants, answers) if len(a) != 1 or a[0][0] not in (200, 307, 400, 403, 404)][:3]
        reached = [p for p in mesh.origin.paths[seen:] if p not in (b"/bystander",) and reads_as_admin(p)]
        assert not reached, f"{name}: the origin saw {reached[:5]}"
        total += len(variants)
    return total


# ---- 10: hosts ----

def test_class_10_hosts(mesh):
    def get(host, target=b"/h"):
        return b"GET " + target + b" HTTP/1.1\r\n" + host + b"\r\n\r\n"
    bad = [b"Host: a\r\nHost: b", b"Host: a\r\nHost: a", b"Host: a, b", b"Host: a,b", b"Host: a b", b"Host: a@b", b"Host: u:p@a", b"Host: a/b", b"Host: a\\b",
           b"Host: a?b", b"Host: a#b", b"Host: a:b", b"Host: a:80:90", b"Host: a:999999", b"Host: a:-1", b"Host: a:8 0", b"Host: [::1", b"Host: ::1",
           b"Host: [::1%25eth0]", b"Host: [fe80::1%eth0]", b"Host: []", b"Host: [::1]x", b"Host: \xe9", b'Host: "a"', b"Host: <a>", b"Host: a\x00",
           b"Host: a\tb", b"Host: {a}", b"Host: a|b", b"Host: a^b", b"Host: http://a", b"X: y", b"Connection: host\r\nHost: a"]
    good = [b"Host: a", b"HOST: a", b"Host: A.Example", b"Host: a:80", b"Host: [::1]", b"Host: [::1]:80", b"Host: 1.2.3.4", b"Host: a.", b"Host: a_b", b"Host: a-b.c"]
    count = check_all(mesh, mesh.ports["edge"], [("refuse", get(h)) for h in bad] + [("one", get(h)) for h in good])
    targets = [(b"http://inside/h", b"inside"), (b"HTTP://inside:8080/h", b"inside:8080"), (b"https://inside/h", b"inside"), (b"http://[::1]/h", b"[::1]")]
    for target, host in targets:  # the target's authority counts, Host is replaced (RFC 9112 3.2.2)
        seen = len(mesh.origin.heads)
        assert split_answers(exchange(mesh.ports["edge"], get(b"Host: evil", target), 1))[0][0] == 200
        heads = [h for h in mesh.origin.heads[seen:] if b"/bystander" not in h]
        assert heads and b"\r\nhost: " + host + b"\r\n" in heads[-1] + b"\r\n" and b"evil" not in heads[-1], heads
    return count + len(targets)


# ---- 11: headers only we may write ----

def test_class_11_spoofing(mesh):
    port, origin = mesh.ports["edge"], mesh.origin
    removed = ["x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries",
               "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
               "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url",
               "x-envoy-hedge-on-per-try-timeout", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
               "x-envoy-original-path", "x-envoy-original-host", "x-envoy-internal", "x-forwarded-client-cert", "keep-alive", "proxy-connection"]
    replaced = ["x-forwarded-proto", "x-envoy-external-address", "x-envoy-expected-rq-timeout-ms", "x-request-id"]
    for name in removed + replaced:
        seen = len(origin.heads)
        data = f"GET /spoof HTTP/1.1\r\nHost: a\r\n{name}: spoofed\r\n{name.upper()}: spoofed\r\n\r\n".encode()
        assert split_answers(exchange(port, data, 1))[0][0] == 200
        head = [h for h in origin.heads[seen:] if b"/spoof" in h][-1]
        assert b"spoofed" not in head, (name, head)
        assert name in replaced or f"\r\n{name}:".encode() not in head, (name, head)
    lists = [("edge", b"9.9.9.9", b"9.9.9.9,", b"127.0.0.1"), ("edge", b"9.9.9.9, 8.8.8.8", b"9.9.9.9, 8.8.8.8,", b"127.0.0.1"),
             ("hops", b"9.9.9.9", b"9.9.9.9,", b"9.9.9.9"), ("hops", b"9.9.9.9, 8.8.8.8", b"9.9.9.9, 8.8.8.8,", b"8.8.8.8"), ("hops", b"junk", b"junk,", b"127.0.0.1")]
    for name, sent, begins, external in lists:
        seen = len(origin.heads)
        exchange(mesh.ports[name], b"GET /spoof HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s\r\n\r\n" % sent, 1)
        head = [h for h in origin.heads[seen:] if b"/spoof" in h][-1] + b"\r\n"
        assert b"\r\nx-forwarded-for: " + begins in head, head
        assert b"\r\nx-envoy-external-address: " + external + b"\r\n" in head, head
    nominated = [b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b":path", b"host", b",".join(b"a%d" % i for i in range(40))]
    for names in nominated:  # nobody strips with Connection what others rely on
        got = split_answers(exchange(port, b"GET /spoof HTTP/1.1\r\nHost: a\r\nConnection: " + names + b"\r\n\r\n"))
        assert len(got) == 1 and got[0][0] == 400, (names, got)
    return len(removed) + len(replaced) + len(lists) + len(nominated)


# ---- 26: h2c and pretended switches ----

def test_class_26_switches(mesh):
    port, origin = mesh.ports["edge"], mesh.origin
    offers = [(b"Upgrade", b"h2c"), (b"Upgrade, HTTP2-Settings", b"h2c"), (b"upgrade,http2-settings", b"H2C"), (b"HTTP2-Settings", b"h2c"), (b"close", b"h2c")]
    for connection, upgrade in offers:
        seen = len(origin.heads)
        got = exchange(port, b"GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: " + connection + b"\r\nUpgrade: " + upgrade
                       + b"\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", 1)
        assert split_answers(got)[0][0] == 200, got
        head = [h for h in origin.heads[seen:] if b"/h2c" in h][-1].lower()
        assert b"upgrade" not in head and b"http2-settings" not in head, head
    first = len(origin.raws)
    origin.raws += [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n"]
    for number in (first, first + 1):
        got = exchange(port, b"GET /raw/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number + CANARY, 2)
        assert [a[0] for a in split_answers(got)] in ([502, 200], [503, 200]), got
    others = [b"TLS/1.0", b"foo", b"websocket, h2c", b"HTTP/2.0"]
    for upgrade in others:
        got = split_answers(exchange(port, b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\n" + SMUGGLED))
        assert len(got) == 1 and got[0][0] == 403, (upgrade, got)
    assert b"/smuggled" not in origin.paths
    return len(offers) + 2 + len(others)


# ---- 27: logs ----

def test_class_27_logs(mesh):
    port = mesh.ports["inner"]
    evil = [b'"', b'","code":"200', b"\\", b'\\"', b"\x09", b"\xff\xfe", b"\xe2\x80\xa8", b"%0a", b"%s%n", b"}{", b"</script>", b"\xc2\x9b31m", b"${jndi:x}"]
    for text in evil:
        exchange(port, b"GET /log HTTP/1.1\r\nHost: a\r\nUser-Agent: x" + text + b"y\r\n\r\n", 1)
        assert len(split_answers(exchange(port, b"GET /log HTTP/1.1\r\nHost: a\r\nUser-Agent: " + text + b"\nforged: 1\r\n\r\n"))) == 1
    end, lines = time.monotonic() + 3, []
    while len(lines) < len(evil) and time.monotonic() < end:
        time.sleep(0.1)
        with open(mesh.proxy.log, "rb") as file:
            lines = [line for line in file.read().split(b"\n") if b'"/log"' in line]
    assert len(lines) == len(evil), (len(lines), len(evil))
    for line in lines:
        entry = json.loads(line.decode("utf-8", "replace"))
        assert entry["code"] == 200 and "forged" not in entry, line
    # Names a client chooses make no statistics: their number is the configuration's.
    series = exchange(mesh.proxy.admin, b"GET /stats HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").count(b"\n")
    each(range(300), lambda i: exchange(port, b"GET /c%d HTTP/1.1\r\nHost: h%d.example\r\nX-%d: y\r\n\r\n" % (i, i, i), 1))
    more = exchange(mesh.proxy.admin, b"GET /stats HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").count(b"\n")
    assert more - series < 10, f"{more - series} new statistics"
    return len(evil) + 300


def main():
    passed, failed = 0, 0
    mesh = Mesh()
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_") or (len(sys.argv) > 1 and sys.argv[1] not in name):
                continue
            before, start = mesh.proxy.rss_kb(), time.monotonic()
            mesh.bystander.forget()
            waited = waited_ms(mesh.proxy.process.pid)
            try:
                count = test(mesh)
                assert mesh.proxy.alive(), "the proxy is gone: " + mesh.proxy.said()
                grown, p99, lost = mesh.proxy.rss_kb() - before, mesh.bystander.p99_ms(), mesh.bystander.failed
                assert grown < 64 * 1024, f"grew by {grown} kB"
                assert lost == 0 and p99 < mesh.bystander.bound_ms(waited_ms(mesh.proxy.process.pid) - waited), f"a bystander lost {lost} requests, p99 {p99:.1f} ms"
                passed += 1
                print(f"ok {name}: {count} variants in {time.monotonic() - start:.1f} s, memory {grown:+} kB, bystander p99 {p99:.1f} ms")
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", name, repr(error)[:1500])
                if not mesh.proxy.alive():
                    print(mesh.proxy.said())
                    break
                mesh.bystander.failed = 0
    finally:
        mesh.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())

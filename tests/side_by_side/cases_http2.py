"""HTTP/2 on either side, whole requests and single frames; gRPC."""
import struct

from . import http2
from .case import case, http2_cluster, route_to
from .client import exchange, get
from .http2 import (CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, PUSH, RST, SETTINGS, WINDOW, ask,
                    client, frame, reply, request)
from .origin import Close, Hang, Reset, ok

R = request


def h2(name, *steps, **options):
    quiet = options.pop("quiet", None)
    case(f"h2_{name}", client(*steps, quiet=quiet), **options)


h2("get", ask(1, R("/a?b=c", "x-one: 1")), origin=[ok(b"hello", "x-answer: yes", "Content-Type: text/plain")])
h2("head", ask(1, R(method="HEAD")), origin=[b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n"])
h2("post", ask(1, R(method="POST"), b"0123456789"))
h2("post_length", ask(1, R("/", "content-length: 10", method="POST"), b"0123456789"))
h2("post_empty", ask(1, R(method="POST"), b""))
h2("trailers", ask(1, R("/", "te: trailers", method="POST"), b"abc", [("x-t", "1")]))
h2("three_streams", ask(1, R("/1")), ask(3, R("/2")), ask(5, R("/3")), sort_log=True, ignore=["origin*", "counters.cluster*"])
h2("answer_chunked", ask(1, R()), origin=[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"])
h2("answer_204", ask(1, R()), origin=[b"HTTP/1.1 204 No Content\r\n\r\n"])
h2("no_route", ask(1, R("/x")), routes=[route_to(prefix="/a")])
h2("redirect", ask(1, R("/x")), routes=[{"match": {"prefix": "/"}, "redirect": {"https_redirect": True}}])
h2("direct", ask(1, R("/x")), routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x"}}}])
h2("cookies_joined", ask(1, [*R(), ("cookie", "a=1"), ("cookie", "b=2")]))
h2("host_and_authority", ask(1, [*R(), ("host", "other.example")]))
h2("host_only", ask(1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "h.example")]))
h2("no_authority", ask(1, [(":method", "GET"), (":scheme", "http"), (":path", "/")]))
h2("upstream_refused", ask(1, R()), origin=None)
h2("upstream_closes_in_body", ask(1, R()), origin=[Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")])
h2("timeout", ask(1, R()), origin=[Hang()], routes=[route_to(timeout="0.3s")])
h2("idle_timeout", ask(1, R()), origin=[Hang()], hcm={"stream_idle_timeout": "0.3s"})
h2("idle_timeout_of_request", lambda p: (p.headers(1, R(method="POST"), end=False), p.asked.append(1)), origin=[Hang()],
   hcm={"stream_idle_timeout": "0.3s"})
h2("early_answer", lambda p: (p.headers(1, R(method="POST"), end=False), p.asked.append(1)), routes=[
    {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x"}}}])
h2("reset_by_client", lambda p: (p.headers(1, R(method="POST"), end=False), p.send(frame(RST, 0, 1, struct.pack(">I", 8)))), ask(3, R("/2")),
   counters=["http.$case.downstream_rq_rx_reset"], ignore=["origin*", "counters.cluster*", "log[[]0[]].host", "log[[]0[]].attempts"])
h2("goaway_of_client", ask(1, R("/1")), frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)), quiet=0.5)
h2("ping", frame(PING, 0, 0, b"12345678"), ask(1, R()), quiet=0.5)
h2("unknown_frame", frame(99, 0, 0, b"x"), ask(1, R()))
h2("padding", lambda p: (p.send(frame(HEADERS, END_HEADERS | END_STREAM | 8, 1, b"\x04" + p.block(R()) + b"\0\0\0\0")), p.asked.append(1)))
h2("priority_flag", lambda p: (p.send(frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, b"\0\0\0\0\x10" + p.block(R()))), p.asked.append(1)))
h2("continuation", lambda p: (lambda b: (p.send(frame(HEADERS, END_STREAM, 1, b[:10]) + frame(CONTINUATION, END_HEADERS, 1, b[10:])),
                                         p.asked.append(1)))(p.block(R())))
h2("stream_duration", ask(1, R()), origin=[Hang()], hcm={"common_http_protocol_options": {"max_stream_duration": "0.3s"}})
h2("big_body", ask(1, R()), origin=[ok(b"x" * 300000)])
h2("big_upload", lambda p: (p.asked.append(1), p.headers(1, R(method="POST"), end=False), p.data(1, b"y" * 16000, end=False),
                            p.data(1, b"y" * 16000)))
# ---- wrong frames
BAD = {
    "even_stream": lambda p: p.headers(2, R()), "stream_zero": lambda p: p.headers(0, R()),
    "data_on_idle": lambda p: p.data(1, b"x"), "data_on_zero": lambda p: p.send(frame(DATA, 0, 0, b"x")),
    # In one write, so that both find the request in the same state.
    "window_zero": lambda p: p.send(frame(HEADERS, 4, 1, p.block(R())) + frame(WINDOW, 0, 1, b"\0\0\0\0")),
    "window_zero_connection": lambda p: p.send(frame(WINDOW, 0, 0, b"\0\0\0\0")),
    "window_overflow": lambda p: p.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7fffffff))),
    "settings_length": lambda p: p.send(frame(SETTINGS, 0, 0, b"abc")),
    "settings_on_stream": lambda p: p.send(frame(SETTINGS, 0, 1, b"")),
    "settings_ack_payload": lambda p: p.send(frame(SETTINGS, 1, 0, b"\0\1\0\0\0\0")),
    "settings_window": lambda p: p.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x80000000))),
    "settings_frame_size": lambda p: p.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1))),
    "ping_length": lambda p: p.send(frame(PING, 0, 0, b"1234")), "ping_on_stream": lambda p: p.send(frame(PING, 0, 1, b"12345678")),
    "rst_on_idle": lambda p: p.send(frame(RST, 0, 1, b"\0\0\0\x08")), "push": lambda p: p.send(frame(PUSH, 4, 1, b"\0\0\0\2")),
    "continuation_alone": lambda p: p.send(frame(CONTINUATION, 4, 1, b"")), "priority_length": lambda p: p.send(frame(PRIORITY, 0, 1, b"\0")),
    "frame_too_large": lambda p: p.send(frame(DATA, 0, 1, b"x" * 20000)), "hpack": lambda p: p.send(frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff")),
    "upper_case": lambda p: p.headers(1, [*R(), ("X-Upper", "1")]), "pseudo_after": lambda p: p.headers(1, [("x", "1"), *R()]),
    "pseudo_unknown": lambda p: p.headers(1, [*R(), (":x", "1")]), "pseudo_twice": lambda p: p.headers(1, [*R(), (":path", "/2")]),
    "pseudo_missing": lambda p: p.headers(1, [(":method", "GET"), (":path", "/")]),
    "no_path": lambda p: p.headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
    "empty_path": lambda p: p.headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")]),
    "connection_header": lambda p: p.headers(1, [*R(), ("connection", "close")]), "te_gzip": lambda p: p.headers(1, [*R(), ("te", "gzip")]),
    "transfer_encoding": lambda p: p.headers(1, [*R(), ("transfer-encoding", "chunked")]),
    "bad_name": lambda p: p.headers(1, [*R(), ("x y", "1")]), "bad_value": lambda p: p.headers(1, [*R(), ("x", "a\nb")]),
    # In one write: the request ends before anybody has passed it on.
    "length_too_long": lambda p: p.send(frame(HEADERS, 4, 1, p.block([*R(method="POST"), ("content-length", "3")])) + frame(DATA, 1, 1, b"abcdef")),
    "length_too_short": lambda p: p.send(frame(HEADERS, 4, 1, p.block([*R(method="POST"), ("content-length", "9")])) + frame(DATA, 1, 1, b"abcdef")),
    "bad_scheme": lambda p: p.headers(1, R(scheme="ftp")), "relative_path": lambda p: p.headers(1, R("x")),
    # In one write: what comes later finds the request passed on, or not yet.
    "trailers_without_end": lambda p: p.send(frame(HEADERS, 4, 1, p.block(R(method="POST"))) + frame(HEADERS, 4, 1, p.block([("x", "1")]))),
    "headers_too_big": lambda p: [p.send(frame(HEADERS, 1, 1, p.block(R())))] + [p.send(frame(
        CONTINUATION, 4 if i == 9 else 0, 1, p.block([(f"x{i}", "y" * 9000)]))) for i in range(10)],
    "too_many_headers": lambda p: p.headers(1, R() + [(f"x{i}", "1") for i in range(110)]),
    "goaway_on_stream": lambda p: p.send(frame(GOAWAY, 0, 1, struct.pack(">II", 0, 0)))}
for kind, step in BAD.items():
    h2(f"bad_{kind}", step, quiet=1.6)  # Envoy closes a second later
case("h2_bad_preface", exchange(b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"))
case("h2_preface_to_http1", exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), hcm={"codec_type": "HTTP1"})
case("h1_to_http2_listener", exchange(get("/")), hcm={"codec_type": "HTTP2"})

# ---- HTTP/2 towards the origin
UP = http2_cluster()


def up(name, run, answer, **options):
    case(f"up_h2_{name}", run, cluster=UP, origin=http2.origin(answer), **options)


up("get", exchange(get("/a?b")), reply(headers=[("x-o", "1")]))
up("post", exchange(get("/", method="POST", body=b"hello")), reply())
up("from_h2", client(ask(1, R("/", "te: trailers", method="POST"), b"abc", [("x-t", "1")])), reply(trailers=[("x-o", "2")]))
up("trailers_to_h1", exchange(get("/")), reply(trailers=[("x-o", "2")]))
up("reset", exchange(get("/")), lambda p, s: p.send(frame(RST, 0, s, struct.pack(">I", 2))), counters=["cluster.$case.upstream_rq_rx_reset"])
up("refused", exchange(get("/", method="POST", body=b"x")), lambda p, s: p.send(frame(RST, 0, s, struct.pack(">I", 7))))
up("reset_in_body", exchange(get("/")), lambda p, s: (p.headers(s, [(":status", "200")], end=False), p.data(s, b"abc", end=False),
                                                      p.send(frame(RST, 0, s, struct.pack(">I", 2)))), ignore=["client*.body", "log*.sent"])
up("refused_retried", exchange(get("/")), lambda p, s: p.send(frame(RST, 0, s, struct.pack(">I", 7))) if s == 1 else reply()(p, s),
   routes=[route_to(retry_policy={"retry_on": "refused-stream"})])
up("bad_answer", exchange(get("/")), lambda p, s: p.headers(s, [("x", "1")]))
up("upper_case_answer", exchange(get("/")), lambda p, s: p.headers(s, [(":status", "200"), ("X-Y", "1")]))
up("two_requests", exchange(get("/1"), get("/2")), reply())
up("closes", exchange(get("/")), lambda p, s: p.wire.close())
up("status_only", exchange(get("/")), lambda p, s: p.headers(s, [(":status", "304")]))

# ---- gRPC
GRPC = ("content-type: application/grpc", "te: trailers")
MESSAGE = b"\0\0\0\0\5hello"


def grpc(name, *more, answer=reply(body=MESSAGE, headers=[("content-type", "application/grpc")], trailers=[("grpc-status", "0")]), **options):
    case(f"grpc_{name}", client(ask(1, R("/s.S/m", *GRPC, *more, method="POST"), MESSAGE)), **{
        "cluster": UP, "origin": http2.origin(answer), "log_fields": {"status_number": "%GRPC_STATUS_NUMBER%"}, **options})


grpc("unary")
grpc("error", answer=reply(body=b"", headers=[("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no")]))
grpc("error_in_trailers", answer=reply(body=MESSAGE, headers=[("content-type", "application/grpc")], trailers=[("grpc-status", "13")]))
grpc("http_error", answer=reply(status="503", body=b"plain"))
grpc("no_route", routes=[route_to(prefix="/x")])
grpc("unreachable", origin=None)
grpc("timeout", origin=http2.origin(lambda p, s: None), routes=[route_to(timeout="0.3s")])
grpc("timeout_header", "grpc-timeout: 300m", origin=http2.origin(lambda p, s: None), routes=[route_to(
    max_stream_duration={"grpc_timeout_header_max": "5s"})])
grpc("timeout_header_max", "grpc-timeout: 50S", origin=http2.origin(lambda p, s: None), routes=[route_to(
    max_stream_duration={"grpc_timeout_header_max": "0.3s"})])
grpc("timeout_by_route", routes=[route_to(max_stream_duration={"max_stream_duration": "5s"})])
grpc("timeout_header_not_used", "grpc-timeout: 300m", routes=[route_to()])
grpc("timeout_offset", "grpc-timeout: 400m", routes=[route_to(max_stream_duration={
    "grpc_timeout_header_max": "5s", "grpc_timeout_header_offset": "0.1s"})])
grpc("retry", answer=lambda p, s: reply(body=b"", headers=[("content-type", "application/grpc"), ("grpc-status", "14")])(p, s)
     if s == 1 else reply(body=MESSAGE, headers=[("content-type", "application/grpc")], trailers=[("grpc-status", "0")])(p, s),
     routes=[route_to(retry_policy={"retry_on": "unavailable"})])
case("grpc_over_http1", exchange(get("/s.S/m", *GRPC, method="POST", body=MESSAGE)), routes=[route_to(prefix="/x")])

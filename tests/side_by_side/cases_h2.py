"""HTTP/2 and gRPC, both ways, and the conversion between the versions."""

import h2_raw as raw

from .case import case, http2_cluster, route_to
from .client import exchange as h1_exchange
from .client import get
from .h2_peers import Http2, exchange, ok, origin
from .origin import Close
from .origin import ok as h1_ok

H2 = http2_cluster()
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
DIRECT = {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "direct"}}}

# ---- requests of HTTP/2 to an origin of HTTP/1

case("two_post_with_length", exchange({"method": "POST", "body": b"01234", "more": [("content-length", "5")]}))
case("two_answer_to_the_end", exchange({}), origin=[Close(b"HTTP/1.1 200 OK\r\n\r\nall of it")])
case("two_204", exchange({}), origin=[b"HTTP/1.1 204 No Content\r\n\r\n"])
case("two_304", exchange({}), origin=[b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"])
case("two_trailers_to_http1", exchange({"method": "POST", "body": b"abc", "trailers": [("x-end", "1")]}),
     cluster={"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
         "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
         "explicit_http_config": {"http_protocol_options": {}}}}})
case("two_te_trailers", exchange({"more": [("te", "trailers")]}))
case("two_origin_closes", exchange({}), origin=[Close(b"")])


# ---- messages that are no HTTP

def wrong(*more, **ask):
    """A wrong request; whether the connection lives on is shown by the next one."""

    def run(client):
        h2 = Http2(client)
        h2.answers(h2.ask(more=more, **ask))
        if not h2.ended and h2.goaway is None:
            h2.answers(h2.ask("/direct/after"))
    return run


def fields(**changed):
    every = {"method": "GET", "scheme": "http", "path": "/", "authority": "example.com", **changed}
    return [(":" + name, value) for name, value in every.items() if value is not None]


WRONG = {
    "connection": wrong(("connection", "close")),
    "transfer_encoding": wrong(("transfer-encoding", "chunked")),
    "te_gzip": wrong(("te", "gzip")),
    "upper_case": wrong(("X-Upper", "1")),
    "empty_path": wrong(fields=fields(path="")),
    "no_path": wrong(fields=fields(path=None)),
    "no_scheme": wrong(fields=fields(scheme=None)),
    "line_feed": wrong(("x", "a\nb")),
    "nul": wrong(("x", "a\0b")),
    "unknown_pseudo": wrong(fields=[*fields(), (":x", "1")]),
    "pseudo_at_the_end": wrong(fields=[("x", "1"), *fields()]),
    "too_much_body": wrong(("content-length", "2"), method="POST", body=b"abc"),
    "too_little_body": wrong(("content-length", "5"), method="POST", body=b"abc"),
}
for name, client in WRONG.items():
    case("two_stream_only_" + name, client, routes=[DIRECT, route_to()],
         hcm={"http2_protocol_options": {"override_stream_error_on_invalid_http_message": True}})
case("two_host_equals_authority", exchange({"more": [("host", "example.com")]}))
case("two_host_differs", exchange({"more": [("host", "other.com")]}))
case("two_path_with_space", exchange({"path": "/a b"}))
case("two_path_with_fragment", exchange({"path": "/a#b"}))
case("two_absolute_path", exchange({"path": "http://example.com/x"}))
case("two_scheme_ftp", exchange({"fields": fields(scheme="ftp")}))
case("two_underscore", exchange({"more": [("a_b", "1")]}))
case("two_underscore_rejected", exchange({"more": [("a_b", "1")]}),
     hcm={"common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"}})
case("two_connect", exchange({"fields": [(":method", "CONNECT"), (":authority", "example.com:80")], "end": False}))


# ---- ends


def many(client):
    h2 = Http2(client)
    for i in range(3):
        h2.answers(h2.ask(f"/direct/{i}"))
    h2.finish()


case("two_requests_per_connection", many, routes=[DIRECT], hcm={
    "common_http_protocol_options": {"max_requests_per_connection": 2}}, ignore=["client[0][[]*].goaway"])


# ---- origins of HTTP/2

case("two_up_h2", exchange({"path": "/a", "more": [("x-one", "1")]}), origin=origin(ok), cluster=H2)
case("two_up_chunked", h1_exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
     origin=origin(ok), cluster=H2)
case("two_up_te_and_connection", h1_exchange(get("/", "te: trailers", "connection: te", "keep-alive: 1")), origin=origin(ok), cluster=H2)
case("two_up_head", h1_exchange(get("/", method="HEAD")), origin=origin(lambda s, i, m: s.respond(i, ("content-length", "9"))), cluster=H2)
case("two_up_trailers", exchange({}), origin=origin(lambda s, i, m: s.respond(i, body=b"abc", trailers=[("x-end", "1")])), cluster=H2)
case("two_up_early_hints", exchange({}), cluster=H2, origin=origin(
    lambda s, i, m: (s.send(raw.headers(i, raw.block([(":status", "103"), ("link", "x")]), end=False)), s.respond(i, body=b"abc"))))
case("two_up_too_much_body", exchange({}), cluster=H2, origin=origin(
    lambda s, i, m: s.respond(i, ("content-length", "2"), body=b"abc")))


# ---- gRPC

UNARY = b"\0\0\0\0\3abc"
case("two_grpc_direct", exchange({"path": "/direct", "method": "POST", "more": GRPC, "body": UNARY}), routes=[
    {"match": {"prefix": "/"}, "direct_response": {"status": 429, "body": {"inline_string": "slow down, 100 %"}}}])
case("two_grpc_web_is_http", exchange({"path": "/x", "method": "POST", "more": [("content-type", "application/grpc-web")], "body": b"x"}),
     routes=[])


# ---- upgrades

def websocket(client):
    h2 = Http2(client)
    stream = h2.ask(fields=[(":method", "CONNECT"), (":protocol", "websocket"), *fields()[1:], ("sec-websocket-version", "13"),
                            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], end=False)
    h2.until(lambda: h2.message(stream).headers is not None or h2.ended)
    h2.send(raw.data(stream, b"ping", end=False))
    h2.until(lambda: b"pong" in h2.message(stream).body or h2.message(stream).reset is not None or h2.ended)
    h2.connection.record.append(h2.message(stream).seen())


def switch(message, wire):
    wire.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n")
    wire.record.append({"tunnel": wire.exactly(4).decode()})
    wire.send(b"pong")
    wire.rest()
    return False


WEBSOCKET = {"upgrade_configs": [{"upgrade_type": "websocket"}], "http2_protocol_options": {"allow_connect": True}}
FOR_EVER = [route_to(timeout="0s")]
case("two_websocket", websocket, origin=[switch], routes=FOR_EVER, hcm=WEBSOCKET)
case("two_websocket_refused", websocket, origin=[h1_ok(b"no", status="403 Forbidden")], routes=FOR_EVER, hcm=WEBSOCKET)
case("two_websocket_not_allowed", websocket, hcm={"http2_protocol_options": {"allow_connect": True}})

"""Every timeout that can run out, and what is told then."""
import time

from .case import case, route_to
from .client import exchange, get
from .origin import After, Hang, ok

SLOW_BODY = [lambda message, wire: (wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), wire.rest()) and False]
HALF = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc"


def options(**fields):
    return {"common_http_protocol_options": fields}


case("timeout_route", exchange(get("/")), routes=[route_to(timeout="0.4s")], origin=[Hang()])
case("timeout_route_in_body", exchange(get("/")), routes=[route_to(timeout="0.4s")], origin=SLOW_BODY)
case("timeout_route_none", exchange(get("/")), routes=[route_to(timeout="0s")], origin=[After(0.3, ok())])
case("timeout_route_not_yet_sent", exchange(HALF), routes=[route_to(timeout="0.3s")], origin=[Hang()],
     hcm={"stream_idle_timeout": "1s"})
INSIDE = {"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}
case("timeout_by_header", exchange(get("/", "x-envoy-upstream-rq-timeout-ms: 300", "x-forwarded-for: 10.0.0.1")), origin=[Hang()], hcm=INSIDE)
case("timeout_by_header_and_try", exchange(get("/", "x-envoy-upstream-rq-timeout-ms: 900", "x-envoy-upstream-rq-per-try-timeout-ms: 300",
                                               "x-forwarded-for: 10.0.0.1")), origin=[Hang()], hcm=INSIDE)
case("timeout_alternative_answer", exchange(get("/", "x-envoy-upstream-rq-timeout-ms: 300", "x-envoy-upstream-rq-timeout-alt-response: 1",
                                                "x-forwarded-for: 10.0.0.1")), origin=[Hang()], hcm=INSIDE)
case("timeout_expected_header", exchange(get("/", "x-envoy-expected-rq-timeout-ms: 300", "x-forwarded-for: 10.0.0.1")), origin=[Hang()],
     hcm=INSIDE, router={"respect_expected_rq_timeout": True})
case("timeout_idle_stream", exchange(get("/")), hcm={"stream_idle_timeout": "0.4s"}, origin=[Hang()],
     counters=["http.$case.downstream_rq_idle_timeout"])
case("timeout_idle_stream_request", exchange(HALF), hcm={"stream_idle_timeout": "0.4s"}, origin=[Hang()])
case("timeout_idle_stream_in_body", exchange(get("/")), hcm={"stream_idle_timeout": "0.4s"}, origin=SLOW_BODY)
case("timeout_idle_route", exchange(get("/")), routes=[route_to(idle_timeout="0.4s")], origin=[Hang()])
case("timeout_request", exchange(HALF), hcm={"request_timeout": "0.4s"}, origin=[Hang()], counters=["http.$case.downstream_rq_timeout"])
case("timeout_request_headers", exchange(b"GET / HTTP/1.1\r\nhost: a\r\n"), hcm={"request_headers_timeout": "0.4s"},
     counters=["http.$case.downstream_rq_header_timeout"])
case("timeout_stream_duration", exchange(get("/")), hcm=options(max_stream_duration="0.4s"), origin=[Hang()],
     counters=["http.$case.downstream_rq_max_duration_reached"])
case("timeout_stream_duration_request", exchange(HALF), hcm=options(max_stream_duration="0.4s"), origin=[Hang()])
case("timeout_stream_duration_in_body", exchange(get("/")), hcm=options(max_stream_duration="0.4s"), origin=SLOW_BODY)
case("timeout_stream_duration_route", exchange(get("/")), routes=[route_to(max_stream_duration={"max_stream_duration": "0.4s"})], origin=[Hang()])
case("timeout_idle_connection", lambda c: exchange(get("/"), linger=2)(c), hcm=options(idle_timeout="0.4s"),
     counters=["http.$case.downstream_cx_idle_timeout"])
case("timeout_idle_connection_unused", lambda c: c.connect().end(2), hcm=options(idle_timeout="0.4s"))
case("timeout_connection_duration", lambda c: (lambda x: (x.send(get("/1")), x.response(), time.sleep(0.6), x.send(get("/2")),
                                                          x.response(), x.end(2)))(c.connect()) and None,
     hcm={**options(max_connection_duration="0.4s"), "drain_timeout": "0.1s"}, counters=["http.$case.downstream_cx_max_duration_reached"])
case("timeout_requests_per_connection", exchange(get("/1"), get("/2"), get("/3")), hcm=options(max_requests_per_connection=2),
     counters=["http.$case.downstream_cx_max_requests_reached"])
case("client_leaves", lambda c: (lambda x: (x.send(get("/")), time.sleep(0.4), x.close()))(c.connect()) and None, origin=[Hang()])
case("client_leaves_in_request", lambda c: (lambda x: (x.send(HALF), time.sleep(0.4), x.close()))(c.connect()) and None, origin=[Hang()])
case("client_leaves_in_answer", lambda c: (lambda x: (x.send(get("/")), time.sleep(0.4), x.close()))(c.connect()) and None, origin=SLOW_BODY)
case("client_half_closes", lambda c: (lambda x: (x.send(get("/")), time.sleep(0.1), x.half_close(), x.response(), x.end()))(c.connect()) and None,
     origin=[After(0.3, ok())])

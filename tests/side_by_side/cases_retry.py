"""Attempts: when another one is made, what the origin sees of it, what the client is told; limits of a cluster."""
import time

from .case import case, endpoints, merged, route_to
from .client import exchange, get
from .origin import BLACK_HOLE, After, Close, Hang, Reset, ok

E500, E503 = ok(b"no", status="500 Internal Server Error"), ok(b"no", status="503 Service Unavailable")
COUNT = {"include_request_attempt_count": True, "include_attempt_count_in_response": True}
FAST = {"retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}


def retry(name, *requests, on="5xx", policy=None, origin=(E503, ok()), action=None, **options):
    requests = requests or (get("/"),)
    policy = {"retry_on": on, **FAST, **(policy or {})}
    case(f"retry_{name}", exchange(*requests), origin=list(origin) if isinstance(origin, tuple) else origin,
         routes=[route_to(retry_policy=policy, **(action or {}))], **merged({"vhost": COUNT}, options))


retry("on_5xx")
retry("on_5xx_exhausted", origin=(E503,))
retry("three_times", policy={"num_retries": 3}, origin=(E503, E500, E503, ok()))
retry("three_times_exhausted", policy={"num_retries": 3}, origin=(E503,))
retry("no_retries", policy={"num_retries": 0}, origin=(E503,))
retry("not_on_200", origin=(ok(),))
retry("not_on_404", origin=(ok(status="404 Not Found"),))
retry("gateway_error", get("/1"), get("/2"), on="gateway-error", origin=(E500, E503, ok()))
retry("reset", on="reset", origin=(Reset(), ok()))
retry("closed", on="reset", origin=(Close(), ok()))
retry("closed_not_asked", on="connect-failure", origin=(Close(), ok()))
retry("connect_failure", on="connect-failure", origin=None)
retry("connect_failure_of_5xx", on="5xx", origin=None)
retry("retriable_4xx", get("/1"), get("/2"), on="retriable-4xx", origin=(ok(status="409 Conflict"), ok(status="404 Not Found")))
retry("status_codes", on="retriable-status-codes", policy={"retriable_status_codes": [418]}, origin=(ok(status="418 Teapot"), ok()))
retry("headers", on="retriable-headers", policy={"retriable_headers": [{"name": "x-again", "present_match": True}]},
      origin=(ok(b"", "x-again: 1"), ok()))
retry("request_headers", get("/1"), get("/2", "x-idempotent: 1"), policy={"retriable_request_headers": [
    {"name": "x-idempotent", "present_match": True}]}, origin=(E503, E503, ok()))
retry("ratelimited_not", origin=(ok(b"", "x-envoy-ratelimited: 1", status="503 Service Unavailable"), ok()))
retry("ratelimited", on="envoy-ratelimited", origin=(ok(b"", "x-envoy-ratelimited: 1", status="429 Too Many Requests"), ok()))
retry("post_replayed", get("/", method="POST", body=b"x" * 3000))
retry("chunked_replayed", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
retry("two_policies_of_headers", get("/", "x-envoy-retry-on: 5xx", "x-envoy-max-retries: 2", "x-envoy-internal: true",
                                     "x-forwarded-for: 10.0.0.1"), on="connect-failure", origin=(E503, E503, ok()),
      hcm={"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}})
case("retry_by_header_alone", exchange(get("/", "x-envoy-retry-on: 5xx", "x-forwarded-for: 10.0.0.1")), origin=[E503, ok()],
     hcm={"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}})
case("retry_by_header_from_outside", exchange(get("/", "x-envoy-retry-on: 5xx")), origin=[E503, ok()],
     hcm={"use_remote_address": True})
retry("per_try_timeout", on="5xx", policy={"per_try_timeout": "0.3s"}, origin=(Hang(), ok()),
      counters=["cluster.$case.upstream_rq_per_try_timeout"])
retry("per_try_timeout_of_reset", on="reset", policy={"per_try_timeout": "0.3s"}, origin=(Hang(), ok()))
retry("per_try_timeout_exhausted", policy={"per_try_timeout": "0.3s"}, origin=(Hang(),))
retry("per_try_idle_timeout", on="reset", policy={"per_try_idle_timeout": "0.3s"}, origin=(Hang(), ok()))
retry("global_timeout_ends_it", policy={"per_try_timeout": "0.4s", "num_retries": 9}, action={"timeout": "1s"}, origin=(Hang(),))
retry("timeout_header", policy={"per_try_timeout": "0.3s"}, origin=(Hang(), ok()),
      vhost={"include_is_timeout_retry_header": True})
retry("other_host", policy={"retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
    "host_selection_retry_max_attempts": 5}, origins={"b": [E503]}, origin=(E503,), cluster=endpoints("", "b"),
    log_fields={"host": "x"}, ignore=["origin*"])
retry("budget", get("/"), cluster={"circuit_breakers": {"thresholds": [{"max_retries": 0}]}}, origin=(E503,),
      counters=["cluster.$case.upstream_rq_retry_overflow"])
retry("vhost_policy", vhost={**COUNT, "retry_policy": {"retry_on": "5xx", "num_retries": 2, **FAST}}, policy={"num_retries": 0},
      origin=(E503, E503, ok()))
case("retry_of_vhost", exchange(get("/")), origin=[E503, E503, ok()],
     vhost={**COUNT, "retry_policy": {"retry_on": "5xx", "num_retries": 2, **FAST}})

# ---- failures without a retry
case("upstream_refused", exchange(get("/")), origin=None)
case("upstream_closes", exchange(get("/")), origin=[Close()])
case("upstream_resets", exchange(get("/")), origin=[Reset()])
case("upstream_closes_in_head", exchange(get("/")), origin=[Close(b"HTTP/1.1 200 OK\r\ncontent-")])
case("upstream_closes_in_body", exchange(get("/")), origin=[Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")])
case("upstream_resets_in_body", exchange(get("/")), origin=[Reset(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")],
     ignore=["client*.body", "log*.sent"])  # whether the bytes before the RST arrive is the kernel's affair
case("upstream_closes_in_chunk", exchange(get("/")), origin=[Close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")])
case("upstream_no_hosts", exchange(get("/")), cluster={"load_assignment": {"cluster_name": "$case", "endpoints": []}})
case("upstream_connect_timeout", exchange(get("/")), origin=BLACK_HOLE, cluster={"connect_timeout": "0.4s"},
     counters=["cluster.$case.upstream_cx_connect_timeout", "cluster.$case.upstream_cx_connect_fail"])
case("upstream_says_close", exchange(get("/1"), get("/2")), origin=[ok(b"1", "connection: close"), ok(b"2")])
case("upstream_max_requests", exchange(get("/1"), get("/2"), get("/3")), cluster={"typed_extension_protocol_options": {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 2}, "explicit_http_config": {"http_protocol_options": {}}}}})
case("upstream_second_closed_while_idle", lambda c: (exchange(get("/1"))(c), time.sleep(0.3), exchange(get("/2"))(c)) and None,
     origin=[Close(ok(b"1")), ok(b"2")])
BAD = {"status": b"HTTP/1.1 abc OK\r\n\r\n", "version": b"HTTQ/1.1 200 OK\r\n\r\n", "garbage": b"hello\r\n\r\n",
       "two_lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
       "length_and_chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
       "nul": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n", "name": b"HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 0\r\n\r\n",
       "chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
       "lf_only": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n", "early_hints": b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + ok(b"x"),
       "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x"), "switching": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
       "no_content": b"HTTP/1.1 204 No Content\r\n\r\n", "not_modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
       "no_content_length": b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
       "http10": b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", "status_999": b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
       "fold": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
       "trailers": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: 1\r\n\r\n"}
for kind, data in BAD.items():
    case(f"answer_{kind}", exchange(get("/"), responses=2 if kind in ("early_hints",) else None), origin=[Close(data)])
case("answer_more_than_asked", exchange(get("/1"), get("/2")), origin=[ok(b"1") + b"HTTP/1.1 200 OK\r\n", ok(b"2")])
case("answer_big_head", exchange(get("/")), origin=[ok(b"x", "x-big: " + "y" * 70000)])
case("answer_before_request_ends", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhello"),
     origin=lambda wire: (wire.until(b"\r\n\r\n"), wire.send(ok(b"early")), wire.rest()))


# ---- limits
def at_once(count, path="/"):
    """So many requests on connections of their own; the first has 0.3 s alone."""

    def run(client):
        connections = []
        for i in range(count):
            connections.append(client.connect())
            connections[-1].send(get(f"{path}{i}", "connection: close"))
            time.sleep(0.3)
        for each in connections:
            each.response()
    return run


def limits(**values):
    return {"circuit_breakers": {"thresholds": [values]}}


case("limit_pending", at_once(3), cluster=limits(max_connections=1, max_pending_requests=1), origin=[After(2, ok())], sort_log=True,
     counters=["cluster.$case.upstream_rq_pending_total", "cluster.$case.upstream_cx_overflow"])
case("limit_requests", at_once(2), cluster=limits(max_requests=1), origin=[After(2, ok())], sort_log=True)
case("limit_connections_waits", at_once(2), cluster=limits(max_connections=1), origin=[After(1, ok())], sort_log=True)
case("limit_no_pending", at_once(1), cluster=limits(max_pending_requests=0))

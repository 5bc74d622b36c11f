"""The connection manager where several of its parts meet: deadlines of streams that live on, values of headers that depend on
one another, what is counted of an attempt, answers of its own on a route that forwards, CORS."""
import time

from .case import case, route_to, typed
from .cases_reply import ALWAYS, CORS, FAULT, status_is
from .cases_rewrite import add
from .client import exchange, get
from .http2 import ask, client
from .http2 import request as R
from .origin import After, Close, Hang, Origin, ok

INSIDE = {"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}
E503 = ok(b"no", status="503 Service Unavailable")
FAST = {"retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n"
GRPC = "content-type: application/grpc"


# ---- deadlines


def early(wire):
    wire.until(b"\r\n\r\n")
    wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
    time.sleep(1.2)
    wire.send(b"def")
    wire.rest()


def upload(client_):
    """Goes on for longer than a request may take, while its answer comes."""
    connection = client_.connect()
    connection.send(POST + b"123")
    time.sleep(0.9)
    connection.send(b"456")
    connection.response()
    connection.end()


case("request_timeout_answer_began", upload, hcm={"request_timeout": "0.4s"}, origin=early, routes=[route_to(timeout="0s")],
     counters=["http.$case.downstream_rq_timeout"])
case("grpc_timeout_too_long", client(ask(1, R("/", "content-type: application/grpc", "grpc-timeout: 99999999H", "te: trailers", method="POST"))),
     routes=[route_to(max_stream_duration={"grpc_timeout_header_max": "0s"})])


# ---- paths, hosts, schemes
def regex(pattern, to):
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": to}}


case("rewrite_regex_to_nothing", exchange(get("/old/page"), get("/old?a=b")), routes=[route_to(**regex("^/.*$", ""))])
case("rewrite_regex_to_no_path", exchange(get("/old/page"), get("/old?a=b")), routes=[route_to(**regex("^/", ""))])
case("redirect_regex_to_nothing", exchange(get("/old/page"), get("/old?a=b")), routes=[
    {"match": {"prefix": "/"}, "redirect": regex("^/.*$", "")}])
case("redirect_prefix_to_nothing", exchange(get("/old/page"), get("/old"), get("/old?a=b")), routes=[
    {"match": {"prefix": "/old"}, "redirect": {"prefix_rewrite": ""}}])
HOSTS = {"request_headers_to_add": [add("x-h", "%REQ(HOST)%"), add("x-i", "%REQ(none?Host)%")]}
case("host_as_value", exchange(get("/")), routes=[{**route_to(), **HOSTS}], log_fields={"h": "%REQ(HOST)%", "i": "%REQ(host?:path)%"})
case("host_as_value_http2", client(ask(1, R("/"))), routes=[{**route_to(), **HOSTS}], log_fields={"h": "%REQ(HOST)%"})
case("host_as_matcher", exchange(get("/"), get("/", host="b")), routes=[
    {"match": {"prefix": "/", "headers": [{"name": "host", "string_match": {"exact": "b"}}]},
     "direct_response": {"status": 200, "body": {"inline_string": "b"}}}, route_to()])
case("host_as_cluster", exchange(get("/", host="host_as_cluster")), routes=[{"match": {"prefix": "/"}, "route": {"cluster_header": "host"}}])
case("host_as_rewrite", exchange(get("/", host="a.b")), routes=[route_to(host_rewrite_header="host")])
case("host_removed", exchange(get("/")), routes=[{**route_to(), "request_headers_to_remove": ["x-a"], "request_headers_to_add": [
    add("x-a", "%REQ(:authority)%")]}])
case("host_response_value", exchange(get("/")), origin=[ok(b"x", "host: origin")], routes=[{**route_to(), "response_headers_to_add": [
    add("x-h", "%RESP(HOST)%"), add("x-i", "%REQ(HOST)%")]}])
CONNECTS = {"upgrade_configs": [{"upgrade_type": "CONNECT"}]}
TUNNEL = [{"match": {"connect_matcher": {}}, "route": {"cluster": "$case", "timeout": "0s"}}]
NO_TUNNEL = [b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"]
STRIPPED = exchange(b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n")
case("connect_port_stripped", STRIPPED, routes=TUNNEL, hcm={**CONNECTS, "strip_any_host_port": True}, origin=NO_TUNNEL)
case("connect_matching_port_stripped", lambda c: exchange(
    b"CONNECT a.example:%d HTTP/1.1\r\nhost: a.example:%d\r\n\r\n" % (c.port, c.port))(c), routes=TUNNEL,
     hcm={**CONNECTS, "strip_matching_host_port": True}, origin=NO_TUNNEL)
case("connect_port_stripped_rewritten", STRIPPED, routes=[{"match": {"connect_matcher": {}}, "route": {
    "cluster": "$case", "timeout": "0s", "host_rewrite_literal": "other"}}], hcm={**CONNECTS, "strip_any_host_port": True}, origin=NO_TUNNEL)
case("connect_port_stripped_virtual_host", STRIPPED, routes=TUNNEL, vhost={"domains": ["a.example"]},
     hcm={**CONNECTS, "strip_any_host_port": True}, origin=NO_TUNNEL)


case("connect_stripped_websocket", exchange(get("/", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: abc",
                                               host="a.example:443")),
     routes=[route_to(timeout="0s")], hcm={"upgrade_configs": [{"upgrade_type": "websocket"}], "strip_any_host_port": True},
     origin=NO_TUNNEL)
WEBSOCKET = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a.example:443"),
             ("sec-websocket-key", "abc")]
case("connect_stripped_http2", client(lambda peer: (peer.asked.append(1), peer.headers(1, WEBSOCKET, end=False))), routes=[route_to(timeout="0s")], origin=NO_TUNNEL,
     hcm={"upgrade_configs": [{"upgrade_type": "websocket"}], "strip_any_host_port": True, "http2_protocol_options": {"allow_connect": True}})
case("connect_stripped_vhost_header", exchange(get("/", host="a")), route_config={"vhost_header": "host"}, vhost={"domains": ["a"]})


def scheme_of(scheme, *more, path="/"):
    return ask(1, [(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", "a:80"), *more])


SCHEME = {"request_headers_to_add": [add("x-s", "%REQ(:SCHEME)%"), add("x-p", "%REQ(X-FORWARDED-PROTO)%")]}
TO_B = [{"match": {"prefix": "/"}, "redirect": {"path_redirect": "/b"}}]
TO_HTTPS = [{"match": {"prefix": "/"}, "redirect": {"scheme_redirect": "https"}}]
for remote in (True, False):
    HCM = {"use_remote_address": remote}
    LABEL = "edge" if remote else "inside"
    case(f"scheme_{LABEL}_https", client(scheme_of("https")), routes=[{**route_to(), **SCHEME}], hcm=HCM)
    case(f"scheme_{LABEL}_http", client(scheme_of("http", ("x-forwarded-proto", "https"))), routes=[{**route_to(), **SCHEME}], hcm=HCM)
    case(f"scheme_{LABEL}_upper", client(scheme_of("HTTPS")), routes=[{**route_to(), **SCHEME}], hcm=HCM)
    case(f"scheme_{LABEL}_redirect", client(scheme_of("https")), routes=TO_B, hcm=HCM)
    case(f"scheme_{LABEL}_redirect_port", client(scheme_of("https")), routes=TO_HTTPS, hcm=HCM)
    case(f"scheme_{LABEL}_redirect_http", client(scheme_of("http", ("x-forwarded-proto", "https"))), routes=TO_HTTPS, hcm=HCM)
    case(f"scheme_{LABEL}_tls", client(scheme_of("https")), vhost={"require_tls": "ALL"}, hcm=HCM)
    case(f"scheme_{LABEL}_http1", exchange(get("/", "x-forwarded-proto: https")), routes=[{**route_to(), **SCHEME}], hcm=HCM)
    case(f"scheme_{LABEL}_http1_redirect", exchange(get("/", "x-forwarded-proto: https", host="a:80")), routes=TO_B, hcm=HCM)
    case(f"scheme_{LABEL}_ftp", client(scheme_of("ftp")), routes=[{**route_to(), **SCHEME}], hcm=HCM)
    case(f"scheme_{LABEL}_odd_proto_redirect", exchange(get("/", "x-forwarded-proto: ftp", host="a:80")), routes=TO_HTTPS, hcm=HCM)
    case(f"scheme_{LABEL}_odd_proto", exchange(get("/", "x-forwarded-proto: ftp")), routes=[{**route_to(), **SCHEME}], hcm=HCM)
case("scheme_overwritten", client(scheme_of("https")), routes=[{**route_to(), **SCHEME}],
     hcm={"scheme_header_transformation": {"scheme_to_overwrite": "http"}})
case("tls_required_no_route", exchange(get("/x")), routes=[route_to(prefix="/a")], vhost={"require_tls": "ALL"})
case("tls_required_no_host", exchange(get("/x")), vhost={"require_tls": "ALL", "domains": ["other"]})
case("tls_required_headers", exchange(get("/x")), vhost={"require_tls": "ALL", "response_headers_to_add": [add("x-v", "1")]},
     route_config={"response_headers_to_add": [add("x-t", "1")]})
case("tls_required_upgrade", exchange(get("/x", "connection: upgrade", "upgrade: websocket")), vhost={"require_tls": "ALL"})
case("tls_required_connect", exchange(b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n"), vhost={"require_tls": "ALL"},
     routes=TUNNEL, hcm=CONNECTS)
case("tls_required_fault", exchange(get("/x")), vhost={"require_tls": "ALL"}, http_filters=[
    {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, abort={"http_status": 418, "percentage": ALWAYS})}])
case("tls_required_direct", exchange(get("/x")), vhost={"require_tls": "ALL"}, routes=[
    {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x"}}}])


# ---- headers
OVERWRITE, ABSENT, EXISTS = "OVERWRITE_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS"


def both(*ops, remove=(), requests=(get("/", "x-a: old", "x-r: gone"), get("/")), **options):
    """The same operations on a request and on its answer."""
    answer = [{**op, "header": {**op["header"], "value": op["header"]["value"].replace("%REQ(", "%RESP(")}} for op in ops]
    return {"client": exchange(*requests), "origin": [ok(b"x", "x-a: old", "x-r: gone"), ok(b"y")], "routes": [{
        **route_to(), "request_headers_to_add": list(ops), "response_headers_to_add": answer,
        "request_headers_to_remove": list(remove), "response_headers_to_remove": list(remove)}], **options}


case("ops_value_of_overwritten", **both(add("x-a", "new", OVERWRITE), add("x-b", "%REQ(x-a)%")))
case("ops_value_of_added", **both(add("x-a", "new"), add("x-b", "%REQ(x-a)%"), add("x-c", "%REQ(x-b)%", OVERWRITE)))
case("ops_value_of_removed", **both(add("x-b", "%REQ(x-r)%"), remove=["x-r"]))
case("ops_absent_twice", **both(add("x-n", "1", ABSENT), add("x-n", "2", ABSENT)))
case("ops_absent_after_append", **both(add("x-n", "1"), add("x-n", "2", ABSENT)))
case("ops_absent_after_overwrite", **both(add("x-n", "1", OVERWRITE), add("x-n", "2", ABSENT)))
case("ops_absent_after_removal", **both(add("x-r", "new", ABSENT), remove=["x-r"]))
case("ops_exists_after_overwrite", **both(add("x-n", "1", OVERWRITE), add("x-n", "2", EXISTS)))
case("ops_exists_twice", **both(add("x-a", "1", EXISTS), add("x-a", "2", EXISTS)))
case("ops_overwrite_twice", **both(add("x-a", "1", OVERWRITE), add("x-a", "2", OVERWRITE)))
case("ops_overwrite_and_append", **both(add("x-a", "1"), add("x-a", "2", OVERWRITE), add("x-a", "3")))
case("ops_swap", **both(add("x-a", "%REQ(x-r)%", OVERWRITE), add("x-r", "%REQ(x-a)%", OVERWRITE)))
case("ops_levels_see", exchange(get("/", "x-a: old")), routes=[{**route_to(), "request_headers_to_add": [add("x-a", "new", OVERWRITE)]}],
     vhost={"request_headers_to_add": [add("x-b", "%REQ(x-a)%")]}, route_config={"request_headers_to_add": [add("x-c", "%REQ(x-b)%")]})
case("ops_empty_overwrites", **both(add("x-a", "%REQ(none)%", OVERWRITE), add("x-r", "", OVERWRITE, keep_empty_value=True)))


# ---- what headers of a route ask for
def adds(*pairs):
    return {"request_headers_to_add": [add(key, value) for key, value in pairs]}


case("asked_by_route_retry", exchange(get("/", "x-forwarded-for: 10.0.0.1")), hcm=INSIDE, origin=[E503, ok(b"second")], routes=[
    {**route_to(), **adds(("x-envoy-retry-on", "5xx"))}])
case("asked_by_route_retry_outside", exchange(get("/")), origin=[E503, ok(b"second")], routes=[
    {**route_to(), **adds(("x-envoy-retry-on", "5xx"))}])
case("asked_by_route_max", exchange(get("/")), origin=[E503, E503, E503, ok(b"fourth")], routes=[
    {**route_to(retry_policy={"retry_on": "5xx", **FAST}), **adds(("x-envoy-max-retries", "3"))}])
case("asked_by_route_codes", exchange(get("/")), origin=[ok(b"1", status="418 x"), ok(b"second")], routes=[
    {**route_to(retry_policy={"retry_on": "retriable-status-codes", **FAST}), **adds(("x-envoy-retriable-status-codes", "418"))}])
case("asked_by_route_grpc", exchange(get("/", GRPC, method="POST")), origin=[ok(b"", "grpc-status: 1"), ok(b"", "grpc-status: 0")], routes=[
    {**route_to(), **adds(("x-envoy-retry-grpc-on", "cancelled"))}])
case("asked_by_route_names", exchange(get("/")), origin=[ok(b"1", "x-again: 1"), ok(b"second")], routes=[
    {**route_to(retry_policy={"retry_on": "retriable-headers", **FAST}), **adds(("x-envoy-retriable-header-names", "x-again"))}])
case("asked_by_route_timeout", exchange(get("/")), origin=[After(0.5, ok())], routes=[
    {**route_to(timeout="3s"), **adds(("x-envoy-upstream-rq-timeout-ms", "100"))}])
case("asked_by_route_per_try", exchange(get("/")), origin=[After(0.5, ok())], routes=[
    {**route_to(timeout="3s"), **adds(("x-envoy-upstream-rq-per-try-timeout-ms", "100"))}])
case("asked_by_route_alternative", exchange(get("/")), origin=[Hang()], routes=[
    {**route_to(timeout="0.3s"), **adds(("x-envoy-upstream-rq-timeout-alt-response", "1"))}])
case("asked_by_client_names", exchange(get("/", "x-forwarded-for: 10.0.0.1", "x-envoy-retry-on: retriable-headers",
                                           "x-envoy-retriable-header-names: x-again")),
     hcm=INSIDE, origin=[ok(b"1", "x-again: 1"), ok(b"second")])


# ---- counters and logs
CODES = [f"cluster.$case.{prefix}{name}" for prefix in ("", "retry.") for name in (
    "upstream_rq_200", "upstream_rq_503", "upstream_rq_504", "upstream_rq_2xx", "upstream_rq_5xx", "upstream_rq_completed")]
COUNTS = [*CODES, "cluster.$case.upstream_rq_cancelled", "cluster.$case.upstream_rq_retry_success", "cluster.$case.upstream_cx_none_healthy",
          "cluster.$case.upstream_rq_retry_limit_exceeded"]
RETRIED = [route_to(retry_policy={"retry_on": "5xx,connect-failure,reset", **FAST})]
case("counts_retried", exchange(get("/")), origin=[E503, ok()], routes=RETRIED, counters=COUNTS)
case("counts_retried_in_vain", exchange(get("/")), origin=[E503], routes=RETRIED, counters=COUNTS)
case("counts_reset_retried", exchange(get("/")), origin=[Close(), ok()], routes=RETRIED, counters=COUNTS)
case("counts_reset_retried_in_vain", exchange(get("/")), origin=[Close()], routes=RETRIED, counters=COUNTS)
case("counts_refused", exchange(get("/")), origin=None, counters=COUNTS)
case("counts_no_hosts", exchange(get("/")), cluster={"load_assignment": {"cluster_name": "$case", "endpoints": []}}, counters=COUNTS)
case("counts_timeout", exchange(get("/")), origin=[Hang()], routes=[route_to(timeout="0.3s")], counters=COUNTS)
case("counts_maintained", exchange(get("/")), cluster={"circuit_breakers": {"thresholds": [{"max_pending_requests": 0}]}}, counters=COUNTS)


def waits(client_):
    """The second waits for the only connection until its time is over."""
    first, second = client_.connect(), client_.connect()
    first.send(get("/first", "connection: close"))
    time.sleep(0.2)
    second.send(get("/second", "x-envoy-upstream-rq-timeout-ms: 300", "connection: close", "x-forwarded-for: 10.0.0.1"))
    second.response()
    first.response()


case("counts_wait_timed_out", waits, origin=[After(1.2, ok())], hcm=INSIDE, cluster={"circuit_breakers": {"thresholds": [{"max_connections": 1}]}},
     counters=COUNTS, sort_log=True)
case("counts_wait_tried_out", exchange(get("/")), origin=[Hang()], counters=COUNTS, routes=[
    route_to(retry_policy={"retry_on": "5xx", "per_try_timeout": "0.3s", "num_retries": 1, **FAST})])
UPSTREAM = {"failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "local": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "proto": "%UPSTREAM_PROTOCOL%",
            "tls": "%UPSTREAM_TLS_VERSION%", "host": "%UPSTREAM_HOST%"}


def once(*answers, then_gone):
    """An origin of the client's own: before it or after it connections are refused, so the order of attempts is certain."""

    def run(client_):
        connection = client_.connect()
        origin = None
        if then_gone:
            def script(wire):
                wire.until(b"\r\n\r\n")
                origin.close()
                wire.send(answers[0])
            origin = Origin(client_.case.origin_port, script)
        connection.send(get("/"))
        if not then_gone:
            time.sleep(0.3)
            origin = Origin(client_.case.origin_port, list(answers))
        connection.response()
        if not then_gone:
            origin.close()
    return run


PATIENT = {"retry_on": "5xx,connect-failure", "num_retries": 30, "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.1s"}}
LAST = {"origin": None, "log_fields": UPSTREAM, "ignore": ["log*.attempts", "counters*.upstream_cx_total", "counters*.upstream_rq_retry"]}
case("log_refused_then_answered", once(ok(), then_gone=False), routes=[route_to(retry_policy=PATIENT)], **LAST)
case("log_answered_then_refused", once(ok(b"no", "connection: close", status="503 No"), then_gone=True), **LAST, routes=[
    route_to(retry_policy={"retry_on": "5xx", **FAST})])
case("log_closed_then_refused", once(b"", then_gone=True), routes=[route_to(retry_policy={"retry_on": "5xx", **FAST})], **LAST)


# ---- answers of the proxy itself
def local(name, *mappers, body_format=None, requests=(get("/x"),), **options):
    config = {"mappers": list(mappers)}
    if body_format:
        config["body_format"] = body_format
    options = {"routes": [route_to(prefix="/nothing")], **options}
    case(f"own_{name}", exchange(*requests), hcm={"local_reply_config": config}, **options)


JSON = {"json_format": {"code": "%RESPONSE_CODE%", "text": "%LOCAL_REPLY_BODY%"}}
AS_GRPC = (get("/", GRPC, method="POST"),)
HTML = add("content-type", "text/html", OVERWRITE)
local("type_of_mapper", {"filter": status_is(404), "body": {"inline_string": "gone"}, "headers_to_add": [HTML]})
local("type_of_mapper_and_format", {"filter": status_is(404), "headers_to_add": [HTML]}, body_format=JSON)
local("type_appended", {"filter": status_is(404), "body": {"inline_string": "gone"}, "headers_to_add": [add("content-type", "text/html")]})
local("type_of_empty", {"filter": status_is(404), "headers_to_add": [HTML]})
local("type_of_route", {"filter": status_is(404), "body": {"inline_string": "gone"}}, routes=[{
    "match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": "x"}}, "response_headers_to_add": [HTML]}])
local("type_of_route_and_format", body_format=JSON, routes=[{
    "match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": "x"}}, "response_headers_to_add": [HTML]}])
local("type_of_route_same_body", {"filter": status_is(404), "body": {"inline_string": "x"}}, routes=[{
    "match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": "x"}}, "response_headers_to_add": [HTML]}])
local("length_of_mapper", {"filter": status_is(404), "body": {"inline_string": "gone"}, "headers_to_add": [add("content-length", "1", OVERWRITE)]})
local("status_of_mapper", {"filter": status_is(404), "body": {"inline_string": "gone"}, "headers_to_add": [add("x-s", "%RESP(:status)% %RESP(content-type)% %RESPONSE_CODE%")]})
local("grpc_json", body_format=JSON, requests=AS_GRPC)
local("grpc_text_newline", body_format={"text_format_source": {"inline_string": "a\nb 100%% %RESPONSE_CODE%\n"}}, requests=AS_GRPC)
local("grpc_two_newlines", body_format={"text_format_source": {"inline_string": "a\n\n"}}, requests=AS_GRPC)
case("own_grpc_head", client(ask(1, R("/", GRPC, method="HEAD"))), routes=[route_to(prefix="/nothing")], hcm={"local_reply_config": {
    "mappers": [{"filter": status_is(404), "body": {"inline_string": "what"}}]}})
local("grpc_long", {"filter": status_is(404), "body": {"inline_string": "x\x01\x7f~ \xe4" + "y" * 300}}, requests=AS_GRPC)
case("own_direct_omits_empty", exchange(get("/")), routes=[{"match": {"prefix": "/"}, "direct_response": {
    "status": 200, "body": {"inline_string": "x"}, "body_format": {"omit_empty_values": True, "text_format_source": {
        "inline_string": "[%REQ(none)%] %LOCAL_REPLY_BODY%"}}}}])
case("own_direct_keeps_empty", exchange(get("/")), routes=[{"match": {"prefix": "/"}, "direct_response": {
    "status": 200, "body": {"inline_string": "x"}, "body_format": {"text_format_source": {
        "inline_string": "[%REQ(none)%] %LOCAL_REPLY_BODY%"}}}}])
case("own_direct_code", exchange(get("/")), routes=[{"match": {"prefix": "/"}, "direct_response": {
    "status": 418, "body": {"inline_string": "x"}, "body_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE%"}}}}])
NO_ROOM = {"circuit_breakers": {"thresholds": [{"max_pending_requests": 0}]}}
case("own_overloaded", exchange(get("/")), cluster=NO_ROOM)
case("own_overloaded_suppressed", exchange(get("/")), cluster=NO_ROOM, router={"suppress_envoy_headers": True})

LEVELS = {"routes": lambda route: [{**route, "response_headers_to_add": [add("x-r", "%RESPONSE_CODE%"), add("x-n", "%RESP(x-envoy-attempt-count)%")]}],
          "vhost": {"response_headers_to_add": [add("x-v", "1")], "include_attempt_count_in_response": True},
          "route_config": {"response_headers_to_add": [add("x-t", "1")]}}


def headed(name, *requests, route=None, vhost=None, **options):
    """An answer of the proxy on a route whose answers get headers."""
    run = requests[0] if requests and callable(requests[0]) else exchange(*(requests or (get("/"),)))
    case(f"headed_{name}", run, routes=LEVELS["routes"](route or route_to()), vhost={**LEVELS["vhost"], **(vhost or {})},
         route_config=LEVELS["route_config"], **options)


ABORT = [{"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, abort={"http_status": 418, "percentage": ALWAYS})}]
DIRECT = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x"}}}
UPGRADE = get("/", "connection: upgrade", "upgrade: websocket")
HALF = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc"
BAD_CHUNK = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
NO_CLUSTER = {"match": {"prefix": "/"}, "route": {"cluster_header": "x-c"}}
headed("fault", http_filters=ABORT)
headed("fault_direct", http_filters=ABORT, route=DIRECT)
headed("no_cluster", get("/", "x-c: none"), route=NO_CLUSTER)
headed("idle", hcm={"stream_idle_timeout": "0.3s"}, origin=[Hang()])
headed("request_timeout", HALF, hcm={"request_timeout": "0.3s"}, origin=[Hang()])
headed("duration", hcm={"common_http_protocol_options": {"max_stream_duration": "0.3s"}}, origin=[Hang()])
headed("upgrade", UPGRADE)
headed("upgrade_direct", UPGRADE, route=DIRECT)
headed("tls", vhost={"require_tls": "ALL"})
headed("bad_chunk", BAD_CHUNK, origin=[Hang()])
headed("refused", origin=None)
headed("refused_twice", origin=None, route=route_to(retry_policy={"retry_on": "connect-failure", **FAST}))
headed("timeout", origin=[Hang()], route=route_to(timeout="0.3s"))
headed("no_hosts", cluster={"load_assignment": {"cluster_name": "$case", "endpoints": []}})
headed("overflow", cluster=NO_ROOM)
headed("answered")
headed("direct", route=DIRECT)
headed("redirect", route={"match": {"prefix": "/"}, "redirect": {"path_redirect": "/b"}})
headed("delayed_idle", hcm={"stream_idle_timeout": "0.3s"}, http_filters=[
    {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, delay={"fixed_delay": "2s", "percentage": ALWAYS})}])
headed("refused_suppressed", origin=None, router={"suppress_envoy_headers": True})


# ---- faults
def limited(client_):
    """The first is delayed, so the second finds no room."""
    first, second = client_.connect(), client_.connect()
    first.send(get("/first", "x: 1"))
    time.sleep(0.2)
    second.send(get("/second"))
    second.response()
    second.send(get("/third", "x: 1"))
    second.response()
    first.response()


FAULTS = [f"http.$case.fault.{name}" for name in ("aborts_injected", "delays_injected", "faults_overflow", "active_faults")]
case("fault_limit", limited, counters=FAULTS, sort_log=True, http_filters=[{"name": "envoy.filters.http.fault", "typed_config": typed(
    FAULT, delay={"header_delay": {}, "percentage": ALWAYS}, max_active_faults=1)}])


def limited_by_share(client_):
    first, second = client_.connect(), client_.connect()
    first.send(get("/first", "x-envoy-fault-delay-request: 1000"))
    time.sleep(0.2)
    for share in ("0", "100"):
        second.send(get("/second", "x-envoy-fault-delay-request: 1", f"x-envoy-fault-delay-request-percentage: {share}"))
        second.response()
    second.send(get("/none"))
    second.response()
    first.response()


case("fault_limit_drawn_first", limited_by_share, counters=FAULTS, sort_log=True, http_filters=[
    {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, delay={"header_delay": {}, "percentage": ALWAYS}, max_active_faults=1)}])
case("fault_limit_delay_and_abort", exchange(get("/")), counters=FAULTS, http_filters=[
    {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, delay={"fixed_delay": "0.1s", "percentage": ALWAYS}, max_active_faults=1,
                                                               abort={"http_status": 418, "percentage": ALWAYS})}])
case("fault_limit_of_none", exchange(get("/")), counters=FAULTS, http_filters=[
    {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, abort={"http_status": 418, "percentage": ALWAYS}, max_active_faults=0)}])


# ---- CORS
CORS_FILTER = {"name": "envoy.filters.http.cors", "typed_config": typed(CORS + ".Cors")}
PREFLIGHT = ("origin: http://a", "access-control-request-method: PUT", "access-control-request-headers: x-one,x-two")
PRE = get("/", *PREFLIGHT, method="OPTIONS")
SIMPLE = get("/", "origin: http://a")


def policy(**fields):
    return {"typed_per_filter_config": {"envoy.filters.http.cors": typed(CORS + ".CorsPolicy", **fields)}}


def cors(name, *requests, route=None, filters=(CORS_FILTER,), of_route=None, **options):
    case(f"cors_{name}", exchange(*(requests or (PRE, SIMPLE))), http_filters=list(filters), routes=[
        {**(route or route_to()), **(policy(**of_route) if of_route is not None else {})}], **{
            "origin": [ok(b"x", "access-control-allow-origin: *", "access-control-expose-headers: y")],
            "counters": ["http.$case.cors.origin_valid", "http.$case.cors.origin_invalid"], **options})


ANY, A = [{"exact": "*"}], [{"exact": "http://a"}]
OFF = {"default_value": {"numerator": 0}}
ON = {"default_value": {"numerator": 100}}
cors("any", of_route={"allow_origin_string_match": ANY, "allow_methods": "GET"})
cors("any_with_credentials", of_route={"allow_origin_string_match": ANY, "allow_credentials": True})
cors("prefix_star", of_route={"allow_origin_string_match": [{"prefix": "*"}]})
cors("methods_star", of_route={"allow_origin_string_match": A, "allow_methods": "*", "allow_headers": "*"})
cors("methods_star_no_headers", get("/", *PREFLIGHT[:2], method="OPTIONS"), of_route={
    "allow_origin_string_match": A, "allow_methods": "*", "allow_headers": "*"})
cors("methods_star_invalid", PRE, of_route={"allow_origin_string_match": [{"exact": "http://b"}], "allow_methods": "*",
                                            "allow_headers": "*", "forward_not_matching_preflights": False})
cors("invalid_not_forwarded", PRE, of_route={"allow_origin_string_match": [{"exact": "http://b"}], "allow_methods": "GET",
                                             "allow_headers": "x", "max_age": "1", "expose_headers": "e", "allow_credentials": True,
                                             "forward_not_matching_preflights": False})
cors("invalid_forwarded", PRE, of_route={"allow_origin_string_match": [{"exact": "http://b"}]})
cors("all_star", of_route={"allow_origin_string_match": A, "allow_methods": "*", "allow_headers": "*", "expose_headers": "*", "max_age": "5"})
cors("merged_fields", of_route={"allow_origin_string_match": A}, vhost=policy(allow_methods="PUT", max_age="7"),
     route_config=policy(allow_headers="x-t", expose_headers="x-e", allow_credentials=True, max_age="9"))
cors("merged_origin", of_route={"allow_methods": "PUT"}, vhost=policy(allow_origin_string_match=A))
cors("merged_credentials_off", of_route={"allow_origin_string_match": A, "allow_credentials": False}, vhost=policy(allow_credentials=True))
cors("merged_origins_replace", get("/", "origin: http://b"), SIMPLE, of_route={"allow_origin_string_match": A},
     vhost=policy(allow_origin_string_match=[{"exact": "http://b"}]))
cors("merged_enabled", of_route={"filter_enabled": OFF}, vhost=policy(allow_origin_string_match=A, filter_enabled=ON))
cors("merged_enabled_other", of_route={"allow_origin_string_match": A}, vhost=policy(filter_enabled=OFF))
cors("merged_enabled_route_on", of_route={"allow_origin_string_match": A, "filter_enabled": ON}, vhost=policy(filter_enabled=OFF))
cors("merged_forward", PRE, of_route={"allow_origin_string_match": [{"exact": "http://b"}]}, vhost=policy(forward_not_matching_preflights=False))
cors("only_vhost", vhost=policy(allow_origin_string_match=A, allow_methods="PUT"))
cors("only_table", route_config=policy(allow_origin_string_match=A, allow_methods="PUT"))
cors("weighted", route={"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
    {"name": "$case", "weight": 1, **policy(allow_origin_string_match=A, allow_methods="GET")}]}}}, vhost=policy(allow_headers="x-v"))
cors("no_policy")
cors("empty_policy", of_route={})
cors("origin_removed", SIMPLE, of_route={"allow_origin_string_match": A}, vhost={"request_headers_to_remove": ["origin"]})
cors("origin_changed", SIMPLE, of_route={"allow_origin_string_match": A}, vhost={"request_headers_to_add": [add("origin", "http://c", OVERWRITE)]})
cors("empty_origin", get("/", "origin:", "access-control-request-method: PUT", method="OPTIONS"), get("/", "origin:"),
     of_route={"allow_origin_string_match": ANY})
cors("direct", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, route={"match": {"prefix": "/"}, "direct_response": {
    "status": 200, "body": {"inline_string": "x"}}})
cors("redirect", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, route={"match": {"prefix": "/"}, "redirect": {"path_redirect": "/b"}})
cors("no_route", route=route_to(prefix="/none"), vhost=policy(allow_origin_string_match=A, allow_methods="GET"))
cors("tls", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, vhost={"require_tls": "ALL"})
cors("no_cluster", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, route=NO_CLUSTER)
cors("refused", SIMPLE, of_route={"allow_origin_string_match": A, "expose_headers": "e"}, origin=None)
cors("headed", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, vhost={"response_headers_to_add": [add("x-v", "1")]})
cors("then_fault", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, filters=(CORS_FILTER, *ABORT))
cors("after_fault", of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, filters=(*ABORT, CORS_FILTER))
cors("idle", SIMPLE, of_route={"allow_origin_string_match": A}, origin=[Hang()], hcm={"stream_idle_timeout": "0.3s"})
cors("local_mapped", PRE, of_route={"allow_origin_string_match": A, "allow_methods": "GET"}, hcm={"local_reply_config": {"mappers": [
    {"filter": status_is(200), "status_code": 204, "body": {"inline_string": "x"}}]}})

"""Fields of routes, connection managers, logs and clusters that no other case sets: each with a request that shows what it does.

`side_by_side_test.py --without-fields` takes each named field out of our side's configuration and wants to see a difference.
"""
import struct
import time
import urllib.request

from . import http2
from .case import ADMIN_PORT, UPSTREAM_HTTP, case, endpoint, endpoints, route_to, typed
from .client import exchange, get
from .h2_peers import ok as h2_ok
from .h2_peers import origin as h2_origin
from .origin import After, Hang, ok

FILE_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
CORS = "envoy.extensions.filters.http.cors.v3."
PRESERVE = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
FAULT_FILTER = {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT)}


def aborting(status=418, **more):
    return {"envoy.filters.http.fault": typed(FAULT, abort={"http_status": status, "percentage": {"numerator": 100}}, **more)}


def header(key, value="", **more):
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD", **more}


def answers(name, match=None, **more):
    return {"name": name, "match": match or {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": name}},
            **more}


# ---- routes

HEADERS = dict(request_headers_to_add=[header("x-added", "1")], request_headers_to_remove=["x-gone"],
               response_headers_to_add=[header("x-answer", "1")], response_headers_to_remove=["x-theirs"])
ASK = exchange(get("/", "x-gone: 1"))
THEIRS = [ok(b"", "x-theirs: 1")]
case("fields_headers_of_table", ASK, origin=THEIRS, route_config=HEADERS)
case("fields_headers_of_host", ASK, origin=THEIRS, vhost=HEADERS)
case("fields_headers_of_route", ASK, origin=THEIRS, routes=[{**route_to(), **HEADERS}])
case("fields_headers_of_weight", ASK, origin=THEIRS, routes=[{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
    {"name": "$case", "weight": 1, "host_rewrite_literal": "weighted.example", **HEADERS}]}}}])
case("fields_weight_by_header", exchange(get("/", "x-to: $case_b".replace("$case", "fields_weight_by_header"))), origins={"b": [ok(b"b")]},
     routes=[{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"cluster_header": "x-to", "weight": 1}]}}}])
case("fields_internal_only", exchange(get("/", "x-secret: 1")), hcm={"use_remote_address": True},
     route_config={"internal_only_headers": ["x-secret"]})
case("fields_direct_body_size", exchange(get("/")), route_config={"max_direct_response_body_size_bytes": 6000},
     routes=[answers("x" * 5000)])
case("fields_direct_body_format", exchange(get("/a/b")), routes=[{"match": {"prefix": "/"}, "direct_response": {
    "status": 200, "body_format": {"text_format_source": {"inline_string": "%REQ(:PATH)% of %ROUTE_NAME%"},
                                   "content_type": "text/x-mine"}}}], ignore=["client*headers"])  # their order
case("fields_host_header", exchange(get("/", "x-host: a.example"), get("/")), route_config={"vhost_header": "x-host", "virtual_hosts": [
    {"name": "a", "domains": ["a.example"], "routes": [answers("a")]}, {"name": "any", "domains": ["*"], "routes": [answers("any")]}]})
case("fields_path_parameters", exchange(get("/a;p=1/b"), get("/a/b")), routes=[answers("exact", {"path": "/a/b"}), answers("other")],
     route_config={"ignore_path_parameters_in_path_matching": True})
case("fields_filter_of_table", exchange(get("/")), http_filters=[FAULT_FILTER], route_config={"typed_per_filter_config": aborting()})
case("fields_filter_of_host", exchange(get("/")), http_filters=[FAULT_FILTER], vhost={"typed_per_filter_config": aborting()})
case("fields_filter_of_route", exchange(get("/")), http_filters=[FAULT_FILTER], routes=[
    {**route_to(), "typed_per_filter_config": aborting()}])
case("fields_filter_of_weight", exchange(get("/")), http_filters=[FAULT_FILTER], routes=[{"match": {"prefix": "/"}, "route": {
    "weighted_clusters": {"clusters": [{"name": "$case", "weight": 1, "typed_per_filter_config": aborting()}]}}}])
NAMED = {"mine": aborting()["envoy.filters.http.fault"]}
case("fields_filter_name", exchange(get("/mine"), get("/other")), http_filters=[{**FAULT_FILTER, "name": "mine"}], routes=[
    {**route_to(prefix="/mine"), "typed_per_filter_config": NAMED}, {**route_to(prefix="/other"), "typed_per_filter_config": aborting()}])
for kind, value in {"exact": "v", "prefix": "v", "suffix": "v", "contains": "v", "safe_regex": {"regex": "v+", "google_re2": {}}}.items():
    case(f"fields_old_header_{kind}", exchange(get("/", "x: v"), get("/", "x: avb"), get("/", "x: va"), get("/", "x: av"), get("/", "x: w")), routes=[
        answers("yes", {"prefix": "/", "headers": [{"name": "x", f"{kind}_match": value}]}), answers("no")])
case("fields_fraction_of_a_million", exchange(get("/")), routes=[answers("rare", {"prefix": "/", "runtime_fraction": {
    "default_value": {"numerator": 100, "denominator": "MILLION"}}}), answers("usual")])
case("fields_query_absent", exchange(get("/?c=1"), get("/?d")), routes=[
    answers("absent", {"prefix": "/", "query_parameters": [{"name": "c", "present_match": False}]}), answers("other")])
case("fields_retry_elsewhere", exchange(*[get(f"/{i}") for i in range(30)]), origin=[ok(b"", status="503 No")], origins={"b": [ok(b"b")]},
     cluster={**endpoints("", "b"), "lb_policy": "RANDOM"}, ignore=["origin*", "counters*", "log*"],  # which is asked first is chance
     routes=[route_to(retry_policy={"retry_on": "5xx", "host_selection_retry_max_attempts": 30, "retry_host_predicate": [
         {"name": "x", "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}]})])
case("fields_priority", exchange(get("/high"), get("/")), cluster={"circuit_breakers": {"thresholds": [
    {"priority": "HIGH", "max_pending_requests": 0}]}}, routes=[route_to(prefix="/high", priority="HIGH"), route_to()])
case("fields_body_of_environment", exchange(get("/")), routes=[{"match": {"prefix": "/"}, "direct_response": {
    "status": 200, "body": {"environment_variable": "PATH"}}}])
case("fields_keep_empty", exchange(get("/")), routes=[{**route_to(), "request_headers_to_add": [
    header("x-empty", "%REQ(x-none)%"), header("x-kept", "%REQ(x-none)%", keep_empty_value=True)]}])
case("fields_append_old", exchange(get("/", "x-a: 1")), routes=[{**route_to(), "request_headers_to_add": [
    {"header": {"key": "x-a", "value": "2"}, "append": False}]}])
case("fields_total_weight", exchange(get("/")), routes=[{"match": {"prefix": "/"}, "route": {"weighted_clusters": {
    "total_weight": 3, "clusters": [{"name": "$case", "weight": 1}, {"name": "$case", "weight": 2}]}}}])

# ---- filters

case("fields_no_active_faults", exchange(get("/")), http_filters=[{"name": "envoy.filters.http.fault", "typed_config": typed(
    FAULT, abort={"http_status": 418, "percentage": {"numerator": 100}}, max_active_faults=0)}])
PREFLIGHT = exchange(get("/", "origin: http://other.example", "access-control-request-method: GET", method="OPTIONS"))


def cors(**fields):
    return {"http_filters": [{"name": "envoy.filters.http.cors", "typed_config": typed(CORS + "Cors")}],
            "vhost": {"typed_per_filter_config": {"envoy.filters.http.cors": typed(CORS + "CorsPolicy", **fields)}}}


MINE = {"allow_origin_string_match": [{"exact": "http://mine.example"}], "allow_methods": "GET"}
OTHERS = {"allow_origin_string_match": [{"exact": "http://other.example"}], "allow_methods": "GET"}
case("fields_cors_not_matching_kept", PREFLIGHT, **cors(**MINE, forward_not_matching_preflights=False))
case("fields_cors_off", PREFLIGHT, **cors(**OTHERS, filter_enabled={"default_value": {"numerator": 0}}))

# ---- the connection manager


def continued(message, wire):
    wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"after"))


def waiting(client):
    connection = client.connect()
    connection.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    time.sleep(0.3)
    connection.send(b"ok")
    connection.response()


case("fields_100_continue_forwarded", waiting, origin=[ok()], hcm={"proxy_100_continue": True})
case("fields_upgrade_off", exchange(get("/", "connection: upgrade", "upgrade: mine")), hcm={"upgrade_configs": [
    {"upgrade_type": "mine", "enabled": False}]})
case("fields_upgrade_off_at_route", exchange(get("/", "connection: upgrade", "upgrade: mine")), hcm={"upgrade_configs": [
    {"upgrade_type": "mine"}]}, routes=[route_to(upgrade_configs=[{"upgrade_type": "mine", "enabled": False}])])
case("fields_upgrade_on", exchange(get("/", "connection: upgrade", "upgrade: mine")), hcm={"upgrade_configs": [{"upgrade_type": "mine"}]},
     origin=[b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: mine\r\n\r\n"], ignore=["log*"])  # who ended the tunnel
case("fields_upgrade_on_at_route", exchange(get("/", "connection: upgrade", "upgrade: mine")),
     routes=[route_to(upgrade_configs=[{"upgrade_type": "mine"}])], origin=[
         b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: mine\r\n\r\n"], ignore=["log*"])  # who ended the tunnel
for name, field in {"details": "remove_details", "flags": "remove_response_flags",
                    "termination": "remove_connection_termination_details"}.items():
    case(f"fields_proxy_status_no_{name}", exchange(get("/")), origin=None, hcm={"proxy_status_config": {field: True}})
PROPER = {"header_key_format": {"stateful_formatter": {"name": "p", "typed_config": typed(
    PRESERVE, formatter_type_on_envoy_headers="PROPER_CASE")}}}
case("fields_proper_case_of_our_own", exchange(get("/", "fOO-bar: 1")), origin=[ok(b"", "FOO-bar-baZ: 1")], hcm={
    "http_protocol_options": PROPER}, cluster={"typed_extension_protocol_options": {UPSTREAM_HTTP: typed(
        UPSTREAM_HTTP, explicit_http_config={"http_protocol_options": PROPER})}})
case("fields_bad_message_ends_stream", exchange(b"GET / HTTP/1.1\r\nbad header\r\n\r\n"), hcm={
    "stream_error_on_invalid_http_message": True})
case("fields_bad_message_overridden", exchange(b"GET / HTTP/1.1\r\nbad header\r\n\r\n"), hcm={
    "http_protocol_options": {"override_stream_error_on_invalid_http_message": True}})
case("fields_ignored_upgrade", exchange(get("/", "connection: upgrade", "upgrade: TLS/1.3")), hcm={"http_protocol_options": {
    "ignore_http_11_upgrade": [{"prefix": "TLS"}]}})


def at_unix_listener(client):
    import socket
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect("\0" + client.case.name)
    sock.sendall(get("/", "x-envoy-expected-rq-timeout-ms: 7000", "x-secret: 1"))
    client.note("answer", sock.recv(65536).split(b"\r\n")[0].decode())


case("fields_unix_is_internal", at_unix_listener, hcm={"use_remote_address": True, "internal_address_config": {"unix_sockets": True}},
     route_config={"internal_only_headers": ["x-secret"]}, listener=lambda each: {
         "filter_chains": [{"filters": each.network_filters()}], "address": {"socket_address": None, "pipe": {"path": "@$case"}}})

case("fields_old_log_of_new_requests", exchange(get("/1")), hcm={"flush_access_log_on_new_request": True},
     log_fields={"type": "%ACCESS_LOG_TYPE%"}, sort_log=True)
case("fields_old_log_in_between", exchange(get("/1")), origin=[After(1.5, ok())], hcm={"access_log_flush_interval": "1s"},
     log_fields={"type": "%ACCESS_LOG_TYPE%"}, sort_log=True)


def lingering(client):
    """How long the proxy reads what a client still sends after it was told to go away."""
    connection = client.connect()
    connection.send(b"nonsense\r\n\r\n")
    connection.socket.settimeout(3)
    while connection.socket.recv(4096):
        pass
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < 2:
            connection.socket.send(b"x")
            time.sleep(0.02)
    except OSError:
        pass
    client.note("gone soon", time.monotonic() - begin < 0.7)


case("fields_delayed_close", lingering, hcm={"delayed_close_timeout": "0.2s"}, ignore=["log*", "counters*"])

# ---- logs


def log(name, client=None, filter=None, **fields):
    """A log of its own, whose lines are compared as they are."""
    entry = {"name": "log", "typed_config": typed(FILE_LOG, path="logs/$case", **fields)}
    if filter:
        entry["filter"] = filter
    case(name, client or exchange(get("/p?q", "x: 1")), hcm={"access_log": [entry]}, log_text="unused")


log("fields_log_format", format="%REQ(:METHOD)% %RESPONSE_CODE% %REQ(none)%\n")
log("fields_log_json", json_format={"code": "%RESPONSE_CODE%", "none": "%REQ(none)%", "text": "%RESPONSE_CODE% x"})
log("fields_log_typed_json", typed_json_format={"code": "%RESPONSE_CODE%", "none": "%REQ(none)%", "text": "%RESPONSE_CODE% x"})
log("fields_log_text_format", log_format={"text_format": "%REQ(:METHOD)% %RESPONSE_CODE% %REQ(none)%\n"})
log("fields_log_text_omits", log_format={"text_format_source": {"inline_string": "[%REQ(none)%] %RESPONSE_CODE%\n"}, "omit_empty_values": True})
log("fields_log_json_omits", log_format={"json_format": {"none": "%REQ(none)%", "code": "%RESPONSE_CODE%"}, "omit_empty_values": True})
log("fields_log_json_sorted", log_format={"json_format": {"z": "%RESPONSE_CODE%", "a": "%REQ(x)%", "m": {"y": "1", "b": "2"}},
                                          "json_format_options": {"sort_properties": True}})
case("fields_log_other_flag", exchange(get("/none")), routes=[route_to(prefix="/a")], log_filter={"response_flag_filter": {"flags": ["UF"]}})
GRPC = [ok(b"", "content-type: application/grpc", "grpc-status: 5"), ok(b"", "content-type: application/grpc", "grpc-status: 0")]
case("fields_log_grpc_excluded", exchange(get("/1", "content-type: application/grpc"), get("/2", "content-type: application/grpc")),
     origin=GRPC, log_filter={"grpc_status_filter": {"statuses": ["NOT_FOUND"], "exclude": True}})
SAMPLED = exchange(*[get(f"/{i}", f"x-request-id: {i * 7:08x}-0000-4000-8000-000000000000") for i in range(20)])
case("fields_log_sampled_by_id", SAMPLED, hcm={"preserve_external_request_id": True}, log_fields={"id": "%REQ(:PATH)%"},
     log_filter={"runtime_filter": {"runtime_key": "none", "percent_sampled": {"numerator": 50}}})

# ---- clusters


def http(**options):
    return {"typed_extension_protocol_options": {UPSTREAM_HTTP: typed(UPSTREAM_HTTP, **options)}}


def localities(*each, **policy):
    """For `cluster=`; each (fields of the locality, [(suffix of the origin, fields of the endpoint)…])."""
    out = {"cluster_name": "$case", "endpoints": [{**fields, "lb_endpoints": [
        endpoint("$origin" + (f"_{suffix}" if suffix else ""), **more) for suffix, more in hosts]} for fields, hosts in each]}
    if policy:
        out["policy"] = policy
    return {"load_assignment": out}


def many(count=12):
    return exchange(*[get(f"/{i}") for i in range(count)])


def balanced(name, cluster, count=12, **options):
    """Two origins; which of them answers is seen."""
    case("fields_" + name, many(count), cluster=cluster, origin=[ok(b"first")], origins={"b": [ok(b"second")]}, **options)


case("fields_stat_name", exchange(get("/")), cluster={"alt_stat_name": "$case_other"}, counters=[
    "cluster.$case_other.upstream_rq_total", "cluster.$case.upstream_rq_200"])
case("fields_source_address", exchange(get("/")), cluster={"upstream_bind_config": {"source_address": {
    "address": "127.0.0.7", "port_value": 0}}}, log_fields={"from": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"})
case("fields_localhost_by_4", exchange(get("/")), cluster={"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY", "load_assignment": {
    "cluster_name": "$case", "endpoints": [{"lb_endpoints": [endpoint("$origin", "localhost")]}]}})
balanced("priority_of_hosts", localities(({"priority": 1}, [("", {})]), ({}, [("b", {})])))
balanced("unhealthy_host", localities(({}, [("", {"health_status": "UNHEALTHY"}), ("b", {})])))
balanced("weight_of_hosts", localities(({}, [("", {}), ("b", {"load_balancing_weight": 60000})])), 8)
balanced("weight_of_localities", {**localities(({"locality": {"zone": "a"}}, [("", {})]), (
    {"locality": {"zone": "b"}, "load_balancing_weight": 1}, [("b", {})])), "common_lb_config": {"locality_weighted_lb_config": {}}})
case("fields_overprovisioning", many(24), origin=[ok(b"first")], origins={"b": [ok(b"second")], "c": [ok(b"third")]}, cluster=localities(
    ({}, [("", {}), ("b", {"health_status": "UNHEALTHY"})]), ({"priority": 1}, [("c", {})]), overprovisioning_factor=200))
balanced("no_panic", {**localities(({}, [("", {"health_status": "UNHEALTHY"}), ("b", {"health_status": "UNHEALTHY"})])),
                      "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}, 2)
case("fields_connection_for_few", many(4), cluster={"max_requests_per_connection": 2})
case("fields_old_common_options", exchange(get("/")), origin=[ok(b"", *[f"h{i}: v" for i in range(20)])], cluster={
    "common_http_protocol_options": {"max_headers_count": 10}})
case("fields_old_http1_options", exchange(get("/", "foo-bar: 1")), cluster={"http_protocol_options": {
    "header_key_format": {"proper_case_words": {}}}})
case("fields_old_http2_options", exchange(get("/")), origin=h2_origin(h2_ok), cluster={"http2_protocol_options": {}})
case("fields_no_requests", exchange(get("/")), origin=h2_origin(h2_ok), cluster={
    **http(explicit_http_config={"http2_protocol_options": {}}), "circuit_breakers": {"thresholds": [{"max_requests": 0}]}})
case("fields_downstream_protocol", exchange(get("/", "foo-bar: 1")), cluster=http(use_downstream_protocol_config={
    "http_protocol_options": {"header_key_format": {"proper_case_words": {}}}}))


def kept_alive(message, wire):
    """What the kernel says of the proxy's end: 02 is a keep-alive timer."""
    ours, theirs = wire.socket.getsockname(), wire.socket.getpeername()
    ends = [f":{theirs[1]:04X}", f":{ours[1]:04X}"]
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file]
    timers = [row[5] for row in rows if row[1][8:] == ends[0] and row[2][8:] == ends[1]]
    kind, _, left = timers[0].partition(":")
    wire.send(ok(f"{kind} {-(-int(left, 16) // 10000)}".encode()))  # in hundreds of seconds


def keepalive(name, **fields):
    case("fields_keepalive_" + name, exchange(get("/")), origin=[kept_alive], cluster={
        "upstream_connection_options": {"tcp_keepalive": fields}})


keepalive("time", keepalive_time=500)
keepalive("defaults")
case("fields_no_answer_in_time", exchange(get("/")), origin=[Hang()], cluster=http(
    common_http_protocol_options={"max_stream_duration": "0.3s"}, explicit_http_config={"http_protocol_options": {}}))


# ---- hosts that connections name

PROXY = [{"name": "p", "typed_config": typed("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")}]
ORIGINAL = {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "load_assignment": None}


def to_where(destination, rest=0.0):
    """A connection whose PROXY header says where it wanted to."""
    def run(client):
        connection = client.connect()
        port = client.case.origin_port if destination == "origin" else destination
        connection.send(b"PROXY TCP4 127.0.0.2 127.0.0.1 5555 %d\r\n" % port + get("/"))
        connection.response()
        connection.close()
        time.sleep(rest)
    return run


case("fields_original_port", to_where(1), listener={"listener_filters": PROXY}, cluster={
    **ORIGINAL, "original_dst_lb_config": {"upstream_port_override": "$origin"}})


def forgotten(client):
    """How many hosts there are well before an interval of 5 s, the default, has passed."""
    to_where("origin", 1.5)(client)
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/stats?filter=fields_original_forgotten.membership_total", timeout=10) as answer:
        client.note("members", answer.read().decode())


case("fields_original_forgotten", forgotten, listener={"listener_filters": PROXY}, hcm={
    "common_http_protocol_options": {"idle_timeout": "1s"}}, cluster={
    **ORIGINAL, "cleanup_interval": "0.2s", **http(common_http_protocol_options={"idle_timeout": "0.2s"},
                                                   explicit_http_config={"http_protocol_options": {}})},
     counters=["cluster.$case.membership_total", "cluster.$case.membership_change"])

# ---- a client that does not read

SHUT = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE
case("fields_flush_timeout", http2.client(lambda peer: peer.headers(1, http2.request("/")), quiet=1.5, settings=SHUT),
     hcm={"stream_flush_timeout": "0.4s"}, routes=[answers("never taken")])

# ---- which chain


def from_ports(*ports):
    def run(client):
        import socket
        for port in ports:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(10)
            sock.bind(("127.0.0.1", port))
            sock.connect(("127.0.0.1", client.port))
            sock.sendall(get("/", "connection: close"))
            client.note(f"from {port}", sock.recv(65536).split(b"\r\n")[0].decode())
            sock.close()
    return run


def by_source_port(each):
    chain = lambda match, status: {"name": str(status), "filter_chain_match": match, "filters": [each.http_manager(
        route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": status}}]}]})]}
    return {"filter_chains": [chain({"source_ports": [9991, 9992]}, 201), chain({}, 202)]}


case("fields_source_ports", from_ports(9991, 9992, 9993), listener=by_source_port, ignore=["client*end"])

# ---- what the TLS inspector does with what is none

INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"


def garbage(client):
    connection = client.connect()
    connection.send(b"\x16\x03\x01\x00\x05hello" + get("/"))
    connection.response()
    connection.end(1.0)


def hello(client):
    """The begin of a ClientHello of 4 KB."""
    connection = client.connect()
    connection.send(b"\x16\x03\x01\x0f\xff\x01\x00\x0f\xfb\x03\x03" + b"r" * 3000)
    connection.end(1.0)


for label, run, fields, ignored in [
        ("bad_hello_goes_on", garbage, {}, ["log*", "client*end"]),  # of what is no request
        ("bad_hello_closes", garbage, {"close_connection_on_client_hello_parsing_errors": True}, ["log*", "client*end"]),
        ("long_hello_waits", hello, {}, []), ("long_hello_ends", hello, {"max_client_hello_size": 2048}, [])]:
    case("fields_" + label, run, listener={"listener_filters": [{"name": "i", "typed_config": typed(INSPECTOR, **fields)}]}, ignore=ignored)

# ---- what a layer of the runtime says stands for defaults

LAYER = {"layered_runtime": {"layers": [{"name": "s", "static_layer": {"fields": {
    "none": 0, "few": {"numerator": 0, "denominator": "MILLION"}, "status": 404}}}]}}


def share(key):
    return {"default_value": {"numerator": 100}, "runtime_key": "fields." + key}


case("fields_runtime_route", exchange(get("/none"), get("/few"), get("/unset")), bootstrap=LAYER, routes=[
    answers("none", {"prefix": "/none", "runtime_fraction": share("none")}), answers("few", {"prefix": "/few", "runtime_fraction": share("few")}),
    answers("unset", {"prefix": "/unset", "runtime_fraction": share("unset")}), answers("other")])
for label, value in {"number": {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 200, "runtime_key": "fields.status"}}}},
                     "share": {"runtime_filter": {"runtime_key": "fields.none", "percent_sampled": {"numerator": 100}}}}.items():
    case("fields_runtime_log_" + label, exchange(get("/1"), get("/none")), bootstrap=LAYER, log_filter=value, routes=[route_to(prefix="/1")])

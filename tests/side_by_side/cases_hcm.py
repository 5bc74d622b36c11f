"""The fields of a connection manager: addresses, headers, request ids, paths, upgrades, limits, times."""
from .case import case, route_to, typed
from .client import exchange, get
from .origin import Close, ok

ORIGIN_SEES = "x-forwarded-for: 1.2.3.4, 5.6.7.8"
EARLY = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
XFF = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"
CUSTOM = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"
PRESERVE = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LOOPBACK = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}
ENVOY_HEADERS = ["x-envoy-retry-on: 5xx", "x-envoy-internal: true", "x-envoy-original-path: /o", "x-envoy-decorator-operation: d",
                 "x-envoy-expected-rq-timeout-ms: 7", "x-envoy-max-retries: 2", "x-envoy-foo: kept", "x-envoy-external-address: 9.9.9.9"]
TWICE = exchange(get("/1"), get("/2", ORIGIN_SEES, "x-forwarded-proto: https", "x-request-id: mine", "referer: http://x y"))


def upstream(**options):
    return {"typed_extension_protocol_options": {UPSTREAM: typed(UPSTREAM, explicit_http_config={"http_protocol_options": options})}}


# ---- whose address

case("hcm_edge", TWICE, hcm={"use_remote_address": True})
case("hcm_edge_hops", TWICE, hcm={"use_remote_address": True, "xff_num_trusted_hops": 1})
case("hcm_edge_skip_append", TWICE, hcm={"use_remote_address": True, "skip_xff_append": True})
case("hcm_inner_hops", TWICE, hcm={"xff_num_trusted_hops": 1})
case("hcm_internal", exchange(get("/", *ENVOY_HEADERS)), hcm={"use_remote_address": True, "internal_address_config": LOOPBACK})
case("hcm_external_scrubbed", exchange(get("/", *ENVOY_HEADERS)), hcm={"use_remote_address": True})
case("hcm_inner_scrubbed", exchange(get("/", *ENVOY_HEADERS)))
case("hcm_detect_xff", TWICE, hcm={"original_ip_detection_extensions": [
    {"name": "x", "typed_config": typed(XFF, xff_num_trusted_hops=1)}]})
case("hcm_detect_xff_cidrs", TWICE, hcm={"original_ip_detection_extensions": [{"name": "x", "typed_config": typed(
    XFF, xff_trusted_cidrs={"cidrs": [{"address_prefix": "127.0.0.0", "prefix_len": 8}, {"address_prefix": "5.6.7.0", "prefix_len": 24}]},
    skip_xff_append=False)}]})
case("hcm_detect_custom", exchange(get("/", "x-real: 7.7.7.7"), get("/", "x-real: nonsense"), get("/")), hcm={
    "original_ip_detection_extensions": [{"name": "x", "typed_config": typed(
        CUSTOM, header_name="x-real", reject_with_status={"code": "Unauthorized"})}]},
     counters=["http.$case.downstream_rq_rejected_via_ip_detection"])

# ---- headers

case("hcm_user_agent", exchange(get("/"), get("/", "user-agent: mine")), hcm={"add_user_agent": True})
case("hcm_via_and_port", exchange(get("/", "via: 1.0 before")), hcm={"via": "here", "append_x_forwarded_port": True})
case("hcm_request_id_kept", exchange(get("/", "x-request-id: mine")), hcm={
    "use_remote_address": True, "preserve_external_request_id": True, "always_set_request_id_in_response": True})
case("hcm_request_id_none", exchange(get("/")), hcm={"generate_request_id": False})
case("hcm_server_append", exchange(get("/"), get("/")), origin=[ok(b"1", "server: own"), ok(b"2")], hcm={
    "server_name": "us", "server_header_transformation": "APPEND_IF_ABSENT"})
case("hcm_server_pass", exchange(get("/"), get("/")), origin=[ok(b"1", "server: own"), ok(b"2")], hcm={
    "server_name": "us", "server_header_transformation": "PASS_THROUGH"})
case("hcm_scheme_overwrite", exchange(get("/")), hcm={"scheme_header_transformation": {"scheme_to_overwrite": "https"}},
     log_fields={"scheme": "%REQ(:SCHEME)%"}, cluster=upstream(send_fully_qualified_url=True))
case("hcm_scheme_of_upstream", exchange(get("/", "x-forwarded-proto: https")), hcm={"scheme_header_transformation": {"match_upstream": True}},
     cluster=upstream(send_fully_qualified_url=True))
case("hcm_early_mutation", exchange(get("/", "x-old: 1", "x-drop-a: 1", "referer: /r")), hcm={
    "use_remote_address": True, "early_header_mutation_extensions": [{"name": "x", "typed_config": typed(EARLY, mutations=[
        {"append": {"header": {"key": "x-new", "value": "%REQ(X-OLD)%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
        {"remove": "x-old"}])}]})
case("hcm_hop_by_hop", exchange(get("/", "connection: x-mine, keep-alive", "x-mine: 1", "keep-alive: 5", "proxy-connection: x", "te: gzip, trailers"),
                                get("/", "te: trailers")), origin=[ok(b"", "connection: x-their", "x-their: 1", "keep-alive: 9", "upgrade: h2")])
case("hcm_nominated_refused", exchange(get("/", "connection: x-forwarded-for", "x-forwarded-for: 1.1.1.1")))
case("hcm_nominated_too_many", exchange(get("/", "connection: " + ",".join(f"a{i}" for i in range(30)))))
case("hcm_underscores_rejected", exchange(get("/", "x_y: 1")), hcm={
    "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"}},
     counters=["http1.requests_rejected_with_underscores_in_headers"])
case("hcm_underscores_dropped", exchange(get("/", "x_y: 1", "x-z: 1")), hcm={
    "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"}})
case("hcm_proper_case", exchange(get("/", "foo-bar: 1")), origin=[ok(b"", "FOO_bar-baZ: 1")], hcm={
    "http_protocol_options": {"header_key_format": {"proper_case_words": {}}}},
     cluster=upstream(header_key_format={"proper_case_words": {}}))
case("hcm_preserve_case", exchange(get("/", "fOO-bar: 1")), origin=[ok(b"", "FOO-bar-baZ: 1")], hcm={
    "http_protocol_options": {"header_key_format": {"stateful_formatter": {"name": "p", "typed_config": typed(PRESERVE)}}}},
     cluster=upstream(header_key_format={"stateful_formatter": {"name": "p", "typed_config": typed(PRESERVE)}}))

# ---- what is not understood

case("hcm_http10_refused", exchange(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n"))
case("hcm_http10", exchange(b"GET / HTTP/1.0\r\n\r\n"), hcm={"http_protocol_options": {
    "accept_http_10": True, "default_host_for_http_10": "dflt"}})
case("hcm_http10_keep_alive", exchange(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"), hcm={
    "http_protocol_options": {"accept_http_10": True}})
case("hcm_http12", exchange(b"GET / HTTP/1.2\r\nhost: a\r\n\r\n"))
case("hcm_no_host", exchange(b"GET / HTTP/1.1\r\n\r\n"))
case("hcm_absolute_url", exchange(get("http://other.example/p?q")))
case("hcm_absolute_url_off", exchange(get("http://other.example/p?q")), hcm={"http_protocol_options": {"allow_absolute_url": False}})
case("hcm_scheme_unknown", exchange(get("ftp://other.example/p")))
case("hcm_options_star", exchange(get("*", method="OPTIONS")))
case("hcm_length_and_chunked", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"))
case("hcm_length_and_chunked_allowed", exchange(
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
     hcm={"http_protocol_options": {"allow_chunked_length": True}})
case("hcm_coding_unknown", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"))
case("hcm_headers_too_large", exchange(get("/", "x: " + "y" * 70000)))
case("hcm_headers_own_limit", exchange(get("/", "x: " + "y" * 2000)), hcm={"max_request_headers_kb": 1})
case("hcm_headers_too_many", exchange(get("/", *[f"h{i}: v" for i in range(20)])), hcm={
    "common_http_protocol_options": {"max_headers_count": 10}})
case("hcm_bad_chunk", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"))
case("hcm_garbage", exchange(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"))
case("hcm_answer_headers_too_large", exchange(get("/")), origin=[ok(b"", "x: " + "y" * 3000)], cluster={
    "typed_extension_protocol_options": {UPSTREAM: typed(UPSTREAM, common_http_protocol_options={"max_response_headers_kb": 1},
                                                         explicit_http_config={"http_protocol_options": {}})}})
case("hcm_refusal_mapped", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"), hcm={"local_reply_config": {"mappers": [{
    "filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 501, "runtime_key": "x"}}}},
    "status_code": 505, "body": {"inline_string": "no"},
    "body_format_override": {"json_format": {"was": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%"}},
    "headers_to_add": [{"header": {"key": "x-mapped", "value": "%RESPONSE_CODE_DETAILS%"}}]}]}},
     ignore=["client*headers"])  # the place of the mapper's headers

case("hcm_proxy_status_route", exchange(get("/")), routes=[route_to(prefix="/a")], hcm={"proxy_status_config": {"literal_proxy_name": "me"}})
case("hcm_proxy_status_origin", exchange(get("/", method="POST", body=b"x")), origin=[Close()], hcm={
    "proxy_status_config": {"use_node_id": True, "set_recommended_response_code": True}})

# ---- bodies

case("hcm_trailers", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-up: 1\r\n\r\n"),
     origin=[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nyo\r\n0\r\nx-down: 1\r\n\r\n"],
     hcm={"http_protocol_options": {"enable_trailers": True}}, cluster=upstream(enable_trailers=True))
case("hcm_trailers_dropped", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-up: 1\r\n\r\n"),
     origin=[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nyo\r\n0\r\nx-down: 1\r\n\r\n"])
case("hcm_continue_own", exchange(get("/", "expect: 100-continue", method="POST", body=b"hi"), responses=2))
case("hcm_early_answer", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\npart"),
     routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 403}}], counters=["http.$case.downstream_rq_response_before_rq_complete"])
case("hcm_answer_length_and_chunked", exchange(get("/")), origin=[
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"])
case("hcm_answer_bytes_behind", exchange(get("/1"), get("/2")), origin=[ok(b"1") + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", ok(b"2")])
case("hcm_answer_switch_unasked", exchange(get("/")), origin=[b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"])
case("hcm_answer_cut", exchange(get("/")), origin=[Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")])

# ---- times and numbers

PART = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\npart"
case("hcm_request_headers_timeout", exchange(b"GET / HTTP/1.1\r\nho"), hcm={"request_headers_timeout": "0.3s"},
     counters=["http.$case.downstream_rq_header_timeout"])
case("hcm_request_timeout", exchange(PART), hcm={"request_timeout": "0.3s"})
case("hcm_stream_idle_timeout", exchange(PART), hcm={"stream_idle_timeout": "0.3s"}, counters=["http.$case.downstream_rq_idle_timeout"])
case("hcm_max_stream_duration", exchange(PART), hcm={"common_http_protocol_options": {"max_stream_duration": "0.3s"}},
     counters=["http.$case.downstream_rq_max_duration_reached"])
case("hcm_idle_timeout", exchange(get("/"), linger=2), hcm={"common_http_protocol_options": {"idle_timeout": "0.3s"}},
     counters=["http.$case.downstream_cx_idle_timeout"])
case("hcm_requests_per_connection", exchange(get("/1") + get("/2") + get("/3"), responses=2), hcm={
    "common_http_protocol_options": {"max_requests_per_connection": 2}}, counters=["http.$case.downstream_cx_max_requests_reached"])

# ---- upgrades and tunnels

WEBSOCKET = get("/", "connection: Upgrade", "upgrade: websocket")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"


def tunnel(request):
    def run(client):
        connection = client.connect()
        connection.send(request)
        connection.response(connect=True)
        connection.send(b"ping")
        connection.raw(4)
        connection.close()
    return run


def echo_tunnel(head):
    def serve(message, wire):
        wire.send(head)
        wire.send(wire.exactly(4))
        return False
    return serve


case("hcm_upgrade_refused", exchange(WEBSOCKET), counters=["http.$case.downstream_rq_ws_on_non_ws_route"])
case("hcm_upgrade_refused_by_route", exchange(WEBSOCKET), hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]},
     routes=[route_to(upgrade_configs=[{"upgrade_type": "websocket", "enabled": False}])])
case("hcm_upgrade_not_taken", exchange(WEBSOCKET), hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
case("hcm_upgrade_h2c_stripped", exchange(get("/", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")))
case("hcm_connect_no_route", exchange(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"))
case("hcm_connect_refused", exchange(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"),
     routes=[{"match": {"connect_matcher": {}}, "route": {"cluster": "$case"}}])

# ---- paths and hosts

PATHS = ["/a/../b", "/a//b", "/a%2Fb", "/a%5cb", "/%61%2e/x", "/a/./b?x=/../y", "/a\\b", "/..", "//x"]
for name, action in (("keep", "KEEP_UNCHANGED"), ("reject", "REJECT_REQUEST"), ("redirect", "UNESCAPE_AND_REDIRECT"), ("forward", "UNESCAPE_AND_FORWARD")):
    case(f"hcm_path_{name}", exchange(*[get(p) for p in PATHS if name != "reject" or "%2F" not in p and "%5c" not in p]), hcm={
        "normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": action})
case("hcm_path_rejected", exchange(get("/a%2fb")), hcm={"path_with_escaped_slashes_action": "REJECT_REQUEST"},
     counters=["http.$case.downstream_rq_failed_path_normalization"])
case("hcm_path_fragment", exchange(get("/a#b")))
case("hcm_host_port_stripped", exchange(get("/", host="a.example:81"), get("/", host="a.example")), hcm={"strip_any_host_port": True})
case("hcm_host_port_kept", exchange(get("/", host="a.example:81")), hcm={"strip_matching_host_port": True})
case("hcm_host_dot_stripped", exchange(get("/", host="a.example."), get("/", host="a.example.:81")), hcm={"strip_trailing_host_dot": True})

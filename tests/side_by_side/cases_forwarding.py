"""Forwarding headers, request ids, server header, scrubbing, hosts and paths."""
from .case import case, route_to
from .client import exchange, get
from .origin import ok

XFF = (get("/"), get("/", "x-forwarded-for: 10.0.0.1"), get("/", "x-forwarded-for: 1.2.3.4, 5.6.7.8"),
       get("/", "x-forwarded-for: 1.2.3.4", "x-forwarded-for: 9.9.9.9"), get("/", "x-forwarded-for: nonsense"),
       get("/", "x-forwarded-for: 1.2.3.4,10.0.0.1", "x-forwarded-proto: https", "x-envoy-internal: true",
           "x-envoy-max-retries: 3", "x-envoy-upstream-rq-timeout-ms: 500"))
MODES = {
    "default": {}, "remote": {"use_remote_address": True}, "hop": {"xff_num_trusted_hops": 1},
    "remote_hop": {"use_remote_address": True, "xff_num_trusted_hops": 1},
    "remote_two_hops": {"use_remote_address": True, "xff_num_trusted_hops": 2},
    "skip": {"use_remote_address": True, "skip_xff_append": True},
    "internal": {"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8},
                                                             {"address_prefix": "127.0.0.0", "prefix_len": 8}]}},
    "remote_internal": {"use_remote_address": True, "internal_address_config": {"cidr_ranges": [
        {"address_prefix": "127.0.0.0", "prefix_len": 8}]}},
    "port": {"use_remote_address": True, "append_x_forwarded_port": True},
    "via": {"via": "side"}, "scheme": {"scheme_header_transformation": {"scheme_to_overwrite": "https"}}}
for name, hcm in MODES.items():
    case(f"forward_{name}", exchange(*XFF), hcm=hcm, log_fields={
        "external": "%REQ(X-ENVOY-EXTERNAL-ADDRESS)%", "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"})
IDS = (get("/"), get("/", "x-request-id: mine"), get("/", "x-request-id: 7b674932-635d-4ceb-b907-12674f8c7267"),
       get("/", "x-request-id: mine", "x-forwarded-for: 8.8.8.8"))
for name, hcm in {"default": {}, "edge": {"use_remote_address": True}, "none": {"generate_request_id": False},
                  "preserved": {"use_remote_address": True, "preserve_external_request_id": True},
                  "answered": {"always_set_request_id_in_response": True}}.items():
    case(f"request_id_{name}", exchange(*IDS), hcm=hcm)
for name, hcm in {"overwrite": {}, "named": {"server_name": "mine"}, "absent": {"server_header_transformation": "APPEND_IF_ABSENT"},
                  "pass": {"server_header_transformation": "PASS_THROUGH"}}.items():
    case(f"server_header_{name}", exchange(get("/1"), get("/2"), get("/none")), hcm=hcm, routes=[
        route_to(prefix="/1"), route_to(prefix="/2")], origin=[ok(b"1", "server: origin", "date: then"), ok(b"2")])
case("scrub_hop_by_hop", exchange(
    get("/", "connection: x-drop, keep-alive", "x-drop: 1", "keep-alive: 5", "proxy-connection: close", "te: trailers, gzip",
        "x-envoy-original-path: /evil", "x-envoy-decorator-operation: op", "x-envoy-expected-rq-timeout-ms: 5"),
    get("/", "te: gzip"), get("/", "te: trailers")), hcm={"use_remote_address": True},
    origin=[ok(b"1", "connection: keep-alive", "keep-alive: timeout=5", "proxy-connection: x", "x-envoy-upstream-service-time: 7")])
case("scrub_nominated", exchange(get("/", "connection: x-a, x-b", "x-a: 1", "x-b: 2"), get("/", "connection: x-forwarded-for",
                                                                                      "x-forwarded-for: 1.1.1.1")))
case("scrub_answer_nominated", exchange(get("/")), origin=[ok(b"1", "connection: x-a", "x-a: 1", "upgrade: x", "te: trailers")])
case("user_agent_added", exchange(get("/"), get("/", "user-agent: mine")), hcm={"add_user_agent": True})
case("referer", exchange(get("/", "referer: http://a/b"), get("/", "referer: a b"), get("/", "referer: //x")))
for name, hcm in {"matching": {"strip_matching_host_port": True}, "any": {"strip_any_host_port": True},
                  "dot": {"strip_trailing_host_dot": True}}.items():
    case(f"strip_host_{name}", lambda c: exchange(*[get("/", host=h) for h in (
        "a.example", f"a.example:{c.port}", "a.example:81", "a.example.", "a.example.:81", "[::1]:81")])(c), hcm=hcm)
case("strip_host_bad_port", exchange(get("/", host="a:b")), hcm={"strip_any_host_port": True})

PATHS = [get(path) for path in (
    "/a/../b", "/a/./b/", "/a//b", "/a%2fb", "/a%2Fb/../c", "/%61bc%7e", "/a%5cb", "/a\\b", "/a/..", "/../x", "/a?b=/../c", "/a%zz",
    "/a%00b", "/a;p=1/../b", "/%2e%2e/x", "/a%20b", "/..%2fx", "//", "/a///b?x//y", "/.%2e/", "/a%2f%2fb")]
for name, hcm in {
        "kept": {}, "normal": {"normalize_path": True}, "merged": {"merge_slashes": True},
        "both": {"normalize_path": True, "merge_slashes": True},
        "rejected": {"path_with_escaped_slashes_action": "REJECT_REQUEST"},
        "redirected": {"path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT", "normalize_path": True},
        "unescaped": {"path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD", "normalize_path": True,
                      "merge_slashes": True}}.items():
    case(f"path_{name}", lambda c: [exchange(each)(c) for each in PATHS] and None, hcm=hcm)
case("path_fragment", lambda c: [exchange(get(p))(c) for p in ("/a#b", "/a?b#c", "/#")] and None)
case("path_absolute", lambda c: [exchange(b"GET %s HTTP/1.1\r\nhost: b.example\r\n\r\n" % p)(c) for p in (
    b"http://a.example/x?y", b"http://a.example", b"https://a.example:8443/x", b"HTTP://a.example/x", b"ftp://a.example/x",
    b"http:///x", b"http://", b"//a/x")] and None)
case("path_absolute_user", exchange(b"GET http://u@a.example/ HTTP/1.1\r\nhost: b.example\r\n\r\n"))
case("path_forms", lambda c: [exchange(b"%s HTTP/1.1\r\nhost: b.example\r\n\r\n" % p)(c) for p in (
    b"OPTIONS *", b"GET *", b"GET x", b"GET ", b"GET")] and None)

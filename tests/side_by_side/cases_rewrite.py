"""What a request becomes on its way: paths, hosts, headers; and the answer."""
from .case import case, merged, route_to
from .client import exchange, get
from .origin import ok


def add(key, value, action=None, **more):
    out = {"header": {"key": key, "value": value}, **more}
    if action:
        out["append_action"] = action
    return out


def rewrite(name, *requests, route=None, **options):
    case(name, exchange(*requests), routes=[{"match": {"prefix": options.pop("prefix", "/old")}, "route": {"cluster": "$case",
                                                                                                           **(route or {})}}],
         **options)


PAGES = (get("/old/page?a=b"), get("/old"), get("/older?x"), get("/old//a?b=/old"))
rewrite("rewrite_prefix", *PAGES, route={"prefix_rewrite": "/new"})
rewrite("rewrite_prefix_to_root", *PAGES, route={"prefix_rewrite": "/"})
rewrite("rewrite_regex", *PAGES, route={"regex_rewrite": {"pattern": {"regex": "old/?"}, "substitution": "n-\\0-"}})
rewrite("rewrite_regex_no_match", *PAGES, route={"regex_rewrite": {"pattern": {"regex": "zzz"}, "substitution": "x"}})
rewrite("rewrite_host", *PAGES[:2], route={"host_rewrite_literal": "new.example"})
rewrite("rewrite_host_forwarded", get("/old", "x-forwarded-host: a"), PAGES[0],
        route={"host_rewrite_literal": "new.example", "append_x_forwarded_host": True})
rewrite("rewrite_host_same", get("/old", host="new.example"),
        route={"host_rewrite_literal": "new.example", "append_x_forwarded_host": True})
rewrite("rewrite_host_by_header", get("/old", "x-host: h.example"), get("/old"), route={"host_rewrite_header": "x-host"})
rewrite("rewrite_host_by_path", get("/old/h.example/x"), get("/old"),
        route={"host_rewrite_path_regex": {"pattern": {"regex": "^/old/([^/]+)/.*$"}, "substitution": "\\1"}})
rewrite("rewrite_host_auto", get("/old"), route={"auto_host_rewrite": True}, cluster={"load_assignment": {
    "cluster_name": "$case", "endpoints": [{"lb_endpoints": [{"endpoint": {"hostname": "origin.example", "address": {
        "socket_address": {"address": "127.0.0.1", "port_value": "$origin"}}}}]}]}})
rewrite("rewrite_host_and_path_suppressed", get("/old/x"), router={"suppress_envoy_headers": True},
        route={"host_rewrite_literal": "new.example", "prefix_rewrite": "/new"})

LEVELS = ("route", "vhost", "table")


def at_levels(**fields):
    """The same additions at each level, with the level as value."""
    fill = lambda level: {k: [merged(e, {"header": {"value": level}}) if isinstance(e, dict) else e for e in v]
                          for k, v in fields.items()}
    return {"routes": [{**route_to(), **fill("route")}], "vhost": fill("vhost"), "route_config": fill("table")}


for action in ("APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"):
    case(f"headers_{action.lower()}", exchange(get("/", "x-a: client"), get("/")), origin=[ok(b"", "x-b: origin"), ok()],
         **at_levels(request_headers_to_add=[add("x-a", "", action)], response_headers_to_add=[add("x-b", "", action)]))
case("headers_most_specific_wins", exchange(get("/", "x-a: client"), get("/")), origin=[ok(b"", "x-b: origin")],
     **{**at_levels(request_headers_to_add=[add("x-a", "", "OVERWRITE_IF_EXISTS_OR_ADD")],
                    response_headers_to_add=[add("x-b", "", "OVERWRITE_IF_EXISTS_OR_ADD")]),
        "route_config": {"most_specific_header_mutations_wins": True, "request_headers_to_add": [
            add("x-a", "table", "OVERWRITE_IF_EXISTS_OR_ADD")]}})
case("headers_removed", exchange(get("/", "x-a: 1", "X-B: 2", "x-a: 3", "x-c: 4")), origin=[ok(b"", "x-d: 1", "x-e: 2", "x-d: 3")],
     routes=[{**route_to(), "request_headers_to_remove": ["x-a"], "response_headers_to_remove": ["X-D"]}],
     vhost={"request_headers_to_remove": ["x-b"], "response_headers_to_remove": ["server"]})
case("headers_removed_before_added", exchange(get("/", "x-a: 1")), routes=[{
    **route_to(), "request_headers_to_remove": ["x-a"], "request_headers_to_add": [add("x-a", "new")]}])
case("headers_empty_values", exchange(get("/")), routes=[{**route_to(), "request_headers_to_add": [
    add("x-none", "%REQ(nothing)%"), add("x-kept", "%REQ(nothing)%", keep_empty_value=True), add("x-empty", "")]}])
FORMATS = ("%PROTOCOL%", "%REQ(:METHOD)% %REQ(x?:path)%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "%DOWNSTREAM_LOCAL_ADDRESS%",
           "%DOWNSTREAM_LOCAL_PORT%", "%ROUTE_NAME%", "%UPSTREAM_HOST%", "100%% of it", "%REQ(long):3%", "%RESPONSE_CODE%",
           "%REQUEST_HEADERS_BYTES%", "%UPSTREAM_CLUSTER%", "%RESPONSE_FLAGS%", "%CONNECTION_TERMINATION_DETAILS%",
           "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "%QUERY_PARAM(a)%", "%PATH(NQ)%", "%PATH(WQ:ORIG)%")
for i, text in enumerate(FORMATS):
    case(f"headers_format_{i}", exchange(get("/p?a=b", "long: abcdef")), routes=[{
        **route_to(), "name": "named", "request_headers_to_add": [add("x-f", text)], "response_headers_to_add": [add("x-f", text)]}])
case("headers_on_direct_response", exchange(get("/")), routes=[{
    "match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x"}},
    "response_headers_to_add": [add("x-a", "1"), add("content-type", "text/html", "OVERWRITE_IF_EXISTS_OR_ADD")]}])
case("headers_on_redirect", exchange(get("/")), routes=[{
    "match": {"prefix": "/"}, "redirect": {"path_redirect": "/a"}, "response_headers_to_add": [add("x-a", "1")]}])
case("headers_on_local_reply", exchange(get("/")), origin=None, routes=[{**route_to(), "response_headers_to_add": [add("x-a", "1")]}])
case("headers_attempt_count", exchange(get("/")), routes=[{**route_to(), "request_headers_to_add": [add("x-a", "1")],
                                                           "response_headers_to_add": [add("x-a", "1")]}], vhost={"include_request_attempt_count": True,
                                                         "include_attempt_count_in_response": True})

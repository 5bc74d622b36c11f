"""Access logs: operators, formats, filters. Lines are compared as they are written."""
from .case import case, route_to
from .client import exchange, get
from .origin import ok

OPERATORS = (
    "%REQ(:METHOD)% %REQ(x-a)% %REQ(x-none?x-a)% %REQ(x-a):2% %REQ(:SCHEME)% %REQ(HOST?:AUTHORITY)%",
    "%RESP(x-o)% %RESP(:STATUS)% %TRAILER(x)% %RESP(x-none?x-o)% %RESPONSE_CODE_DETAILS%",
    "%PROTOCOL% %UPSTREAM_PROTOCOL% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%",
    "%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
    "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%BYTES_RECEIVED% %BYTES_SENT% %REQUEST_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%",
    "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %ROUTE_NAME% %FILTER_CHAIN_NAME% %VIRTUAL_CLUSTER_NAME%",
    "%PATH% %PATH(NQ)% %PATH(WQ)% %PATH(WQ:ORIG)% %PATH(NQ:PATH)% %QUERY_PARAM(q)% %QUERY_PARAM(none)% %QUERY_PARAMS(ORIG)%",
    "%REQUESTED_SERVER_NAME% %CONNECTION_TERMINATION_DETAILS% %GRPC_STATUS%",
    "%START_TIME(%Y)% %ACCESS_LOG_TYPE% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %LOCAL_REPLY_BODY%",
    "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_VERSION%",
    "100%% \"quoted\" plain %HOSTNAME%|", "%RESPONSE_CODE% %DYNAMIC_METADATA(a:b)% %FILTER_STATE(x)% %TRACE_ID%",
    "%UPSTREAM_TRANSPORT_FAILURE_REASON% %DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "%REQUEST_HEADER(x-a)% %RESPONSE_HEADER(x-o)%",
    "%ENVIRONMENT(HOME)% %STREAM_ID%")
for i, text in enumerate(OPERATORS):
    case(f"log_operators_{i}", exchange(get("/p/x?q=1&r", "x-a: value", method="POST", body=b"12345")), log_text=text + "\n",
         origin=[ok(b"answer", "x-o: origin")], routes=[{**route_to(prefix_rewrite="/p2/"), "match": {"prefix": "/p/"}, "name": "route"}])
case("log_default_format", exchange(get("/p?q", "user-agent: a \"b\"")), log_text="%REQ(USER-AGENT)%\n")
case("log_escapes", exchange(get("/p?q", "x: a\"b\\c\xe9d\te")), log_fields={"x": "%REQ(x)%"})
case("log_json_types", exchange(get("/p")), log_fields={"n": "%BYTES_SENT%", "s": "%BYTES_SENT% bytes", "none": "%REQ(none)%",
                                                       "nested": {"code": "%RESPONSE_CODE%", "more": {"m": "%REQ(:METHOD)%"}}})
REQUESTS = (get("/1"), get("/2", "x: 1"), get("/none"))
ROUTES = [route_to(prefix="/1"), route_to(prefix="/2")]


def compare(op, value):
    return {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "none"}}}


FILTERS = {
    "status": {"status_code_filter": compare("GE", 400)}, "status_le": {"status_code_filter": compare("LE", 200)},
    "duration": {"duration_filter": compare("GE", 100000)}, "not_health": {"not_health_check_filter": {}},
    "header": {"header_filter": {"header": {"name": "x", "present_match": True}}},
    "flags": {"response_flag_filter": {"flags": ["NR"]}}, "any_flag": {"response_flag_filter": {}},
    "and": {"and_filter": {"filters": [{"status_code_filter": compare("EQ", 200)}, {"header_filter": {"header": {
        "name": "x", "present_match": True}}}]}},
    "or": {"or_filter": {"filters": [{"status_code_filter": compare("EQ", 404)}, {"header_filter": {"header": {
        "name": "x", "present_match": True}}}]}},
    "never": {"runtime_filter": {"runtime_key": "none", "percent_sampled": {"numerator": 0}}},
    "grpc": {"grpc_status_filter": {"statuses": ["UNIMPLEMENTED"]}}}
for name, value in FILTERS.items():
    case(f"log_filter_{name}", exchange(*REQUESTS), log_filter=value, routes=ROUTES)

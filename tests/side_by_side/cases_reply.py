"""Answers of the proxy itself: faults, CORS, mapping of local replies."""
from .case import case, route_to, typed
from .client import exchange, get
from .origin import ok

FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
CORS = "envoy.extensions.filters.http.cors.v3"


def fault(name, *requests, route=None, **fields):
    case(f"fault_{name}", exchange(*(requests or (get("/"),))), http_filters=[
        {"name": "envoy.filters.http.fault", "typed_config": typed(FAULT, **fields)}], routes=[{**route_to(), **(route or {})}],
        counters=["http.$case.fault.aborts_injected", "http.$case.fault.delays_injected"])


ALWAYS = {"numerator": 100, "denominator": "HUNDRED"}
fault("abort", abort={"http_status": 418, "percentage": ALWAYS})
fault("abort_never", abort={"http_status": 418, "percentage": {"numerator": 0}})
fault("abort_grpc", abort={"grpc_status": 5, "percentage": ALWAYS})
fault("abort_grpc_asked", get("/", "content-type: application/grpc", method="POST"), abort={"grpc_status": 5, "percentage": ALWAYS})
fault("abort_http_for_grpc", get("/", "content-type: application/grpc", method="POST"), abort={"http_status": 503, "percentage": ALWAYS})
fault("delay", delay={"fixed_delay": "0.3s", "percentage": ALWAYS})
fault("delay_and_abort", delay={"fixed_delay": "0.2s", "percentage": ALWAYS}, abort={"http_status": 500, "percentage": ALWAYS})
fault("by_header", get("/", "x-envoy-fault-abort-request: 410"), get("/"), get("/", "x-envoy-fault-delay-request: 50"),
      get("/", "x-envoy-fault-abort-request: 410", "x-envoy-fault-abort-request-percentage: 0"),
      get("/", "x-envoy-fault-abort-request: 999"), abort={"header_abort": {}, "percentage": ALWAYS},
      delay={"header_delay": {}, "percentage": ALWAYS})
fault("matching_headers", get("/", "x: 1"), get("/"), abort={"http_status": 418, "percentage": ALWAYS}, headers=[
    {"name": "x", "present_match": True}])
fault("of_route", abort={"http_status": 418, "percentage": ALWAYS}, route={"typed_per_filter_config": {
    "envoy.filters.http.fault": typed(FAULT, abort={"http_status": 419, "percentage": ALWAYS})}})
fault("other_cluster", abort={"http_status": 418, "percentage": ALWAYS}, upstream_cluster="other")
fault("head", get("/", method="HEAD"), abort={"http_status": 418, "percentage": ALWAYS})

PREFLIGHT = ("origin: http://a.example", "access-control-request-method: PUT")
case("cors", exchange(get("/", *PREFLIGHT, method="OPTIONS"), get("/", "origin: http://a.example"), get("/", "origin: http://b"), get("/"),
                      get("/", "origin: http://b", "access-control-request-method: PUT", method="OPTIONS"),
                      get("/", "origin: http://a.example", method="OPTIONS")),
     http_filters=[{"name": "envoy.filters.http.cors", "typed_config": typed(CORS + ".Cors")}],
     origin=[ok(b"x", "access-control-allow-origin: *", "access-control-expose-headers: y")],
     routes=[{**route_to(), "typed_per_filter_config": {"envoy.filters.http.cors": typed(
         CORS + ".CorsPolicy", allow_origin_string_match=[{"suffix": "a.example"}], allow_methods="GET,PUT", allow_headers="x-a",
         expose_headers="x-b", max_age="60", allow_credentials=True)}}],
     counters=["http.$case.cors.origin_valid", "http.$case.cors.origin_invalid"])

NONE = [route_to(prefix="/nothing")]


def status_is(code, op="EQ"):
    return {"status_code_filter": {"comparison": {"op": op, "value": {"default_value": code, "runtime_key": "none"}}}}


def mapped(name, *mappers, body_format=None, requests=(get("/x"),), **options):
    config = {"mappers": list(mappers)}
    if body_format:
        config["body_format"] = body_format
    case(f"local_{name}", exchange(*requests), **{"routes": NONE, **options}, hcm={"local_reply_config": config})


TEXT = {"text_format_source": {"inline_string": "%RESPONSE_CODE% %LOCAL_REPLY_BODY% %REQ(:PATH)% %RESPONSE_FLAGS%\n"}}
mapped("format_text", body_format=TEXT)
mapped("format_html", body_format={**TEXT, "content_type": "text/html; charset=UTF-8"})
mapped("format_json", body_format={"json_format": {"code": "%RESPONSE_CODE%", "text": "%LOCAL_REPLY_BODY%", "path": "%REQ(:path)%",
                                                  "none": "%REQ(none)%", "nested": {"flags": "%RESPONSE_FLAGS%"}}})
mapped("new_status", {"filter": status_is(404), "status_code": 410})
mapped("new_body", {"filter": status_is(404), "body": {"inline_string": "gone"}})
mapped("body_override", {"filter": status_is(404), "body_format_override": TEXT}, body_format={
    "text_format_source": {"inline_string": "general"}})
mapped("headers", {"filter": status_is(404), "headers_to_add": [
    {"header": {"key": "x-l", "value": "%RESPONSE_CODE_DETAILS%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
    {"header": {"key": "server", "value": "me"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]})
mapped("first_match", {"filter": status_is(500, "GE"), "body": {"inline_string": "first"}},
       {"filter": status_is(400, "GE"), "body": {"inline_string": "second"}}, {"filter": status_is(404), "body": {"inline_string": "third"}})
mapped("by_flag", {"filter": {"response_flag_filter": {"flags": ["UF"]}}, "body": {"inline_string": "unreachable"}}, routes=[route_to()],
       origin=None)
mapped("by_header", {"filter": {"header_filter": {"header": {"name": "x", "present_match": True}}}, "body": {"inline_string": "x"}},
       requests=(get("/", "x: 1"), get("/")))
mapped("not_of_origin", {"filter": status_is(404), "body": {"inline_string": "mine"}}, routes=[route_to()],
       origin=[ok(b"theirs", status="404 Not Found")])
mapped("direct_response", {"filter": status_is(404), "body": {"inline_string": "mine"}}, routes=[
    {"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": "theirs"}}}])
mapped("grpc", {"filter": status_is(404), "status_code": 503, "body": {"inline_string": "what %"}},
       requests=(get("/", "content-type: application/grpc", method="POST"),))
mapped("head", body_format=TEXT, requests=(get("/x", method="HEAD"),))

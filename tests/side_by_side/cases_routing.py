"""Which route a request takes, and what a route without a cluster answers."""
from .case import case, route_to
from .client import exchange, get
from .origin import ok

STRING = {"exact": {"exact": "v"}, "prefix": {"prefix": "v"}, "suffix": {"suffix": "v"}, "contains": {"contains": "v"},
          "ignore_case": {"exact": "V", "ignore_case": True}, "regex": {"safe_regex": {"regex": "v+"}}}


def answers(name, match=None, **more):
    """A direct response with the route's name as body."""
    return {"name": name, "match": match or {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": name}},
            **more}


def direct(name, *requests, **options):
    case(name, exchange(*requests), **options)


case("route_none", exchange(get("/x")), routes=[route_to(prefix="/a")])
case("route_first_that_matches", exchange(get("/b/c"), get("/b"), get("/")), origins={"b": [ok(b"b")]},
     routes=[route_to("$case_b", prefix="/b"), route_to()])
direct("route_direct_response", get("/x"), get("/x", method="HEAD"),
       routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 418, "body": {"inline_string": "teapot"}}}])
direct("route_direct_response_empty", get("/x"), routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 204}}])
direct("route_direct_response_to_post", get("/x", method="POST", body=b"x" * 70000), get("/y"), routes=[answers("one")])
direct("route_paths", get("/exact"), get("/exact/"), get("/exact?q"), get("/re/12"), get("/re/12x"), get("/sep"), get("/sep/a"),
       get("/separate"), get("/CASE/x"), get("/"), routes=[
           answers("path", {"path": "/exact"}), answers("regex", {"safe_regex": {"regex": "/re/[0-9]+"}}),
           answers("separated", {"path_separated_prefix": "/sep"}), answers("case", {"prefix": "/case", "case_sensitive": False})])
for kind, value in STRING.items():
    direct(f"route_header_{kind}", get("/", "x: v"), get("/", "x: avb"), get("/", "x: va"), get("/", "x: av"), get("/", "x: vv"),
           get("/"), get("/", "x: V"), routes=[
               answers("yes", {"prefix": "/", "headers": [{"name": "x", "string_match": value}]}), answers("no")])
direct("route_header_inverted", get("/", "x: v"), get("/", "x: w"), get("/"), routes=[answers("yes", {"prefix": "/", "headers": [
    {"name": "x", "string_match": {"exact": "v"}, "invert_match": True}]}), answers("no")])
direct("route_header_missing_as_empty", get("/", "x: v"), get("/"), routes=[answers("yes", {"prefix": "/", "headers": [
    {"name": "x", "string_match": {"exact": ""}, "treat_missing_header_as_empty": True}]}), answers("no")])
direct("route_header_present", get("/", "x: v"), get("/", "x:"), get("/"), routes=[
    answers("yes", {"prefix": "/", "headers": [{"name": "x", "present_match": True}]}), answers("no")])
direct("route_header_absent", get("/", "x: v"), get("/"), routes=[
    answers("yes", {"prefix": "/", "headers": [{"name": "x", "present_match": False}]}), answers("no")])
direct("route_header_range", get("/", "x: 9"), get("/", "x: 10"), get("/", "x: 19"), get("/", "x: 20"), get("/", "x: 1x"),
       get("/", "x: -1"), routes=[
           answers("yes", {"prefix": "/", "headers": [{"name": "x", "range_match": {"start": 10, "end": 20}}]}), answers("no")])
direct("route_header_twice", get("/", "x: a", "x: b"), routes=[
    answers("joined", {"prefix": "/", "headers": [{"name": "x", "string_match": {"exact": "a,b"}}]}),
    answers("first", {"prefix": "/", "headers": [{"name": "x", "string_match": {"exact": "a"}}]}), answers("no")])
direct("route_method_and_authority", get("/", method="PUT"), get("/", host="b"), get("/"), routes=[
    answers("put", {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "PUT"}}]}),
    answers("b", {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "b"}}]}), answers("no")])
direct("route_query", get("/?a=1"), get("/?a=2"), get("/?a"), get("/?b=1&a=1"), get("/?b=x%20y"), get("/?c"), get("/"), routes=[
    answers("a1", {"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "1"}}]}),
    answers("b", {"prefix": "/", "query_parameters": [{"name": "b", "string_match": {"exact": "x y"}}]}),
    answers("c", {"prefix": "/", "query_parameters": [{"name": "c", "present_match": True}]}), answers("no")])
direct("route_fraction", get("/"), routes=[
    answers("never", {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 0}}}),
    answers("always", {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 100}}})])
direct("route_grpc_only", get("/", "content-type: application/grpc"), get("/", "content-type: application/grpc+proto"),
       get("/", "content-type: application/grpc-web"), routes=[answers("grpc", {"prefix": "/", "grpc": {}}), answers("no")])
HOSTS = {"virtual_hosts": [
    {"name": "exact", "domains": ["a.example.com", "p.example.com:8080"], "routes": [answers("exact")]},
    {"name": "long", "domains": ["*.b.example.com"], "routes": [answers("long suffix")]},
    {"name": "suffix", "domains": ["*.example.com", "*-x.org"], "routes": [answers("suffix")]},
    {"name": "prefix", "domains": ["pre.*"], "routes": [answers("prefix")]},
    {"name": "any", "domains": ["*"], "routes": [answers("any")]}]}
direct("route_domains", *[get("/", host=host) for host in (
    "a.example.com", "A.Example.COM", "z.a.example.com", "c.b.example.com", "example.com", "foo-x.org", "-x.org", "pre.fix",
    "pre.", "a.example.com:80", "p.example.com:8080", "else")], route_config=HOSTS)
direct("route_domains_without_port", get("/", host="a.example.com:80"), get("/", host="p.example.com:8080"),
       route_config={**HOSTS, "ignore_port_in_host_matching": True})
direct("route_no_domain", get("/", host="b"), vhost={"domains": ["a"]})
direct("route_cluster_missing", get("/"), routes=[route_to("nowhere")], route_config={"validate_clusters": False})
direct("route_cluster_missing_404", get("/"), routes=[route_to("nowhere", cluster_not_found_response_code="NOT_FOUND")],
       route_config={"validate_clusters": False})
direct("route_cluster_missing_500", get("/"), routes=[route_to("nowhere", cluster_not_found_response_code="INTERNAL_SERVER_ERROR")],
       route_config={"validate_clusters": False})
direct("route_cluster_by_header", get("/", "x-to: route_cluster_by_header_b"), get("/", "x-to: nowhere"), get("/"),
       origins={"b": [ok(b"b")]}, routes=[{"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}}])
direct("route_weighted", get("/"), get("/"), origins={"b": [ok(b"b")]}, routes=[{"match": {"prefix": "/"}, "route": {
    "weighted_clusters": {"clusters": [{"name": "$case", "weight": 0}, {"name": "$case_b", "weight": 5, "request_headers_to_add": [
        {"header": {"key": "x-of", "value": "weighted"}}]}]}}}])
direct("route_requires_tls", get("/x?y"), get("/", host="b:81"), vhost={"require_tls": "ALL"})
direct("route_requires_tls_external", get("/x"), get("/x", "x-forwarded-for: 1.2.3.4"), vhost={"require_tls": "EXTERNAL_ONLY"})

REDIRECTS = {
    "host": {"host_redirect": "other.example"}, "port": {"port_redirect": 8443}, "path": {"path_redirect": "/new"},
    "path_with_query": {"path_redirect": "/new?z=1"}, "prefix": {"prefix_rewrite": "/new"}, "https": {"https_redirect": True},
    "scheme": {"scheme_redirect": "HTTPS"}, "strip_query": {"path_redirect": "/new", "strip_query": True},
    "regex": {"regex_rewrite": {"pattern": {"regex": "/old/(.*)"}, "substitution": "/\\1/new"}},
    "302": {"response_code": "FOUND"}, "303": {"response_code": "SEE_OTHER"}, "307": {"response_code": "TEMPORARY_REDIRECT"},
    "308": {"response_code": "PERMANENT_REDIRECT"}, "all": {"https_redirect": True, "host_redirect": "o", "port_redirect": 1}}
for kind, value in REDIRECTS.items():
    direct(f"redirect_{kind}", get("/old/page?a=b"), get("/old", host="example.com:8080"), get("/old", host="[::1]:80"),
           routes=[{"match": {"prefix": "/old"}, "redirect": value}])

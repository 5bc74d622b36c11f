"""HTTP/1: bytes that are wrong, on the way in."""
from .case import case
from .client import exchange

case("h1_no_host", exchange(b"GET / HTTP/1.1\r\n\r\n"))
case("h1_bad_version", exchange(b"GET / HTTP/3.7\r\nhost: a\r\n\r\n"))
case("h1_bad_method", exchange(b"G<T / HTTP/1.1\r\nhost: a\r\n\r\n"))
case("h1_bad_header_name", exchange(b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n"))
case("h1_nul_in_value", exchange(b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"))
case("h1_length_and_chunked", exchange(
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"))
case("h1_two_lengths", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"))


def raw(name, *pieces, **options):
    case(f"bytes_{name}", exchange(*pieces), **options)


HEAD = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"
raw("leading_crlf", b"\r\n\r\n" + HEAD + b"\r\n")
raw("lf_only", b"GET / HTTP/1.1\nhost: a\n\n")
raw("bare_cr", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n")
raw("two_spaces", b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n")
raw("tab_in_line", b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n")
raw("space_at_end", b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n")
raw("no_version", b"GET /\r\nhost: a\r\n\r\n")
raw("lower_case_method", b"get / HTTP/1.1\r\nhost: a\r\n\r\n")
raw("unknown_method", b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n")
raw("fold", HEAD + b"x: a\r\n b\r\n\r\n")
raw("space_before_colon", HEAD + b"x : a\r\n\r\n")
raw("no_colon", HEAD + b"nocolon\r\n\r\n")
raw("empty_name", HEAD + b": a\r\n\r\n")
raw("value_spaces", HEAD + b"x:   a b \t \r\ny:\r\n\r\n")
raw("high_bytes", HEAD + b"x: \xe4\xf6\xff\r\n\r\n")
raw("control_byte", HEAD + b"x: a\x01b\r\n\r\n")
raw("two_hosts", HEAD + b"host: b\r\n\r\n")
raw("empty_host", b"GET / HTTP/1.1\r\nhost:\r\n\r\n")
raw("bad_host", b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n")
raw("chunk_extension", POST + b"transfer-encoding: chunked\r\n\r\n3;a=\"b c\"\r\nabc\r\n0\r\n\r\n")
raw("chunk_bad_size", POST + b"transfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n")
raw("chunk_huge_size", POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n")
raw("chunk_no_crlf", POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n")
raw("chunk_lf", POST + b"transfer-encoding: chunked\r\n\r\n3\nabc\n0\n\n")
raw("chunked_trailers", POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n")
raw("chunked_trailers_on", POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n", hcm={
    "http_protocol_options": {"enable_trailers": True}})
raw("encoding_gzip", POST + b"transfer-encoding: gzip\r\n\r\n")
raw("encoding_gzip_chunked", POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
raw("encoding_chunked_twice", POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
raw("encoding_upper_case", POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n")
raw("encoding_of_get", HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
raw("length_plus", POST + b"content-length: +5\r\n\r\nhello")
raw("length_negative", POST + b"content-length: -5\r\n\r\nhello")
raw("length_list_same", POST + b"content-length: 5, 5\r\n\r\nhello")
raw("length_twice_same", POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello")
raw("length_huge", POST + b"content-length: 99999999999999999999\r\n\r\nhello")
raw("length_hex", POST + b"content-length: 0x5\r\n\r\nhello")
raw("length_of_get", HEAD + b"content-length: 5\r\n\r\nhello")
raw("head_too_big", HEAD + b"x: " + b"y" * 70000 + b"\r\n\r\n")
raw("too_many_headers", HEAD + b"".join(b"x%d: 1\r\n" % i for i in range(110)) + b"\r\n")
raw("path_with_high_bytes", b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n")
raw("path_with_control", b"GET /\x07 HTTP/1.1\r\nhost: a\r\n\r\n")
raw("path_with_quote", b"GET /\"<>^`{|} HTTP/1.1\r\nhost: a\r\n\r\n")
raw("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n")
raw("second_request_bad", b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n", b"GE T /2 HTTP/1.1\r\nhost: a\r\n\r\n")
raw("expect_continue", POST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n", b"hello")
raw("expect_other", POST + b"content-length: 5\r\nexpect: cookies\r\n\r\nhello")
raw("underscore_rejected", HEAD + b"x_y: 1\r\n\r\n", hcm={"common_http_protocol_options": {
    "headers_with_underscores_action": "REJECT_REQUEST"}})
raw("underscore_dropped", HEAD + b"x_y: 1\r\n\r\n", hcm={"common_http_protocol_options": {
    "headers_with_underscores_action": "DROP_HEADER"}})
for method in ("OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "POST", "PROPFIND"):
    raw(f"bodiless_{method.lower()}", b"%s / HTTP/1.1\r\nhost: a\r\n\r\n" % method.encode())
TEN = {"http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "default.example"}}
raw("http10_refused", b"GET / HTTP/1.0\r\nhost: a\r\n\r\n")
raw("http10", b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", hcm=TEN)
raw("http10_no_host", b"GET / HTTP/1.0\r\n\r\n", hcm=TEN)
raw("http10_keep_alive", b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n", hcm=TEN)
raw("http10_answer_chunked", b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", hcm=TEN, origin=[
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"])
raw("http09", b"GET /\r\n\r\n", hcm=TEN)

"""The differences from Envoy. A name is "CASE: PATH" as the suite prints it; `*` stands for anything.

DIFFERENCES are meant, each with the reason why ours is right. FAULTS are not meant: they are known, printed in every run, no such
case counts as passed, and they wait to be mended. What is named in neither fails the suite, and so does a meant difference that is met no
more.
"""

LINE = ("Stricter: a request line has single spaces and lines end with CRLF (RFC 9112 2.2, 3). What one hop forgives and the "
        "next reads differently is how requests are smuggled.")
FOLD = "Stricter: a folded line is refused, as RFC 9112 5.2 lets a proxy choose; Envoy joins the lines."
METHODS = "Any token is a method (RFC 9110 9.1); Envoy wants allow_custom_methods for those it does not know."
REFUSED = ("A stream that the origin refused was not processed (RFC 9113 8.7): it is sent again without a retry policy, which "
           "spares the client the error. Envoy does it only when asked.")
GOAWAY = "Before the connection ends GOAWAY says why (RFC 9113 5.4.1); Envoy mostly only closes."
CANCEL = "An upstream stream we give up is reset with CANCEL, which says what happened (RFC 9113 7); Envoy says INTERNAL_ERROR."

ALERT = ("A pinned certificate that does not match is answered by certificate_unknown; the alert Envoy sends belongs to certificate "
         "URLs (RFC 6066 9) and TLS 1.3 does not know it.")

NOT_THERE = "Envoy knows the field and does not honour it yet; what its documentation says of it is done here."

DIFFERENCES = {
    "secure_sni_required: *": NOT_THERE,
    "secure_system_roots: *": NOT_THERE,
    "secure_hash_mismatch: client*.tls": ALERT,
    "secure_spki_mismatch: client*.tls": ALERT,
    "hcm_answer_switch_unasked: *": "a 101 that nobody asked for is a protocol error: what follows it would be anybody's",
    "hcm_bad_chunk: counters.cluster.$case.upstream_rq_total": "a body is read when its origin is there, Envoy reads on ahead",
    "hcm_upgrade_not_taken: *": "what an origin answers instead of switching is passed on, Envoy empties it",
    "hcm_path_rejected: log[0].path": "the path is logged as it came, Envoy has unescaped it by then",
    # Envoy takes a TCP connection whose PROXY header tells of datagrams, and ignores the addresses. Who sends that is broken.
    "proxy_v2_datagrams: *": "a header that contradicts the connection closes it, as other broken ones do",
    # Envoy counts a line of version 1 without an end as no header at all.
    "proxy_v1_endless: counters.proxy_proto.*": "it began as a header, so it is counted as a broken one",
    "bytes_lf_only: *": LINE,
    "bytes_bare_cr: *": "Stricter: a CR inside a value is refused (RFC 9112 2.2); Envoy takes it out.",
    "bytes_two_spaces: *": LINE,
    "bytes_tab_in_line: *": LINE,
    "bytes_space_at_end: *": LINE,
    "bytes_fold: *": FOLD,
    "answer_fold: *": FOLD,
    "answer_lf_only: *": LINE,
    "bytes_two_hosts: *": "Stricter: two Host fields are refused (RFC 9112 3.2); Envoy forwards them joined by a comma.",
    "bytes_chunk_no_crlf: *": "Stricter: a chunk longer than it says is refused (RFC 9112 7.1); Envoy drops what is too much.",
    "bytes_http09: *": "Stricter: HTTP/0.9 is not spoken, also where HTTP/1.0 is.",
    "bytes_lower_case_method: *": METHODS,
    "bytes_unknown_method: *": METHODS,
    "h2_bad_*: client*.control": GOAWAY,
    "h2_bad_length_*: *": "Stricter: a body of another length than was announced is a malformed message like any other: the "
                          "connection ends, unless override_stream_error_on_invalid_http_message says otherwise.",
    "up_h2_refused: *": REFUSED,
    "grpc_timeout*: origin*.reset": CANCEL,
    "path_rejected: log*.path": "The log shows the path as it was sent; Envoy shows what it would have become.",
    "path_merged: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
    "path_both: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
    "path_unescaped: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
}


def faults(groups):
    """What is wrong → the cases that show it, as names of differences."""
    return {f"{name}: *": what for what, names in groups.items() for name in names.split()}


FAULTS = faults({
    "The log of a listener has no line for a connection that a filter chain took; UPSTREAM_CLUSTER is not alt_stat_name.":
        "secure_listener_log_no_cipher secure_listener_log_no_version secure_listener_log_stranger secure_listener_log_good "
        "fields_stat_name",
    "Refusals of the HTTP/1 codec: its own texts, no access log line, not counted; some messages are let through.":
        "h1_bad_method bytes_no_version bytes_chunk_bad_size bytes_chunk_huge_size bytes_chunk_lf "
        "bytes_path_with_control h2_bad_preface h2_preface_to_http1 h1_to_http2_listener",
    "Forwarding headers and scrubbing differ in detail.":
        "forward_default forward_hop forward_skip forward_internal forward_via forward_scheme scrub_hop_by_hop "
        "scrub_answer_nominated strip_host_any",
    "Normalisation of paths differs in detail.":
        "path_normal path_both path_redirected path_unescaped path_absolute",
    "HTTP/2: streams that are refused early have no log line; resets are told apart otherwise.":
        "h2_no_authority h2_goaway_of_client h2_bad_window_zero h2_bad_hpack h2_bad_headers_too_big "
        "h2_bad_too_many_headers grpc_unreachable grpc_timeout_header grpc_timeout_header_max "
        "grpc_timeout_header_not_used grpc_timeout_offset",
    "Details, see the output.":
        "answer_chunk answer_switching answer_big_head answer_before_request_ends limit_requests stream_client_resets "
        "stream_no_hosts",
    "Upgrades and CONNECT: headers of the answer, refusals, connect_config.":
        "upgrade_allowed upgrade_refused_by_origin upgrade_enabled_by_route connect_forwarded "
        "connect_refused_by_origin connect_ended_here connect_without_port",
    "Seen when the parts met: which side ended an HTTP/2 stream, how a connection closes, what is counted.":
        "two_stream_only_too_much_body two_stream_only_too_little_body two_path_with_space two_absolute_path "
        "two_underscore_rejected two_requests_per_connection two_websocket two_websocket_refused "
        "hcm_underscores_rejected secure_key_by_client strip_host_matching strip_host_dot",
    "Seen in some runs only; whether the proxy or the case is late is not known.":
        "up_h2_reset_in_body stream_origin_speaks_first",
})

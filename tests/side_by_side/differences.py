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

DIFFERENCES = {
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
    "up_h2_refused_retried: *": REFUSED,
    "grpc_timeout*: origin*.reset": CANCEL,
    "path_rejected: log*.path": "The log shows the path as it was sent; Envoy shows what it would have become.",
    "path_redirected: log*.path": "The log shows the path as it was sent; Envoy shows what it would have become.",
    "path_merged: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
    "path_both: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
    "path_unescaped: *[17]*": "A path of slashes only is merged like any other; Envoy leaves it.",
}


def faults(groups):
    """What is wrong → the cases that show it, as names of differences."""
    return {f"{name}: *": what for what, names in groups.items() for name in names.split()}


FAULTS = faults({
    "Refusals of the HTTP/1 codec: its own texts, no access log line, not counted; some messages are let through.":
        "h1_no_host h1_bad_version h1_bad_method h1_bad_header_name h1_nul_in_value h1_length_and_chunked h1_two_lengths "
        "bytes_no_version bytes_space_before_colon bytes_no_colon bytes_empty_name bytes_control_byte bytes_empty_host "
        "bytes_bad_host bytes_chunk_bad_size bytes_chunk_huge_size bytes_chunk_lf bytes_chunked_trailers_on "
        "bytes_encoding_gzip bytes_encoding_gzip_chunked bytes_encoding_chunked_twice bytes_length_plus "
        "bytes_length_negative bytes_length_list_same bytes_length_twice_same bytes_length_huge bytes_length_hex "
        "bytes_head_too_big bytes_too_many_headers bytes_path_with_high_bytes bytes_path_with_control bytes_garbage "
        "bytes_second_request_bad bytes_expect_continue bytes_underscore_rejected bytes_http10_refused bytes_http10 "
        "bytes_http10_no_host bytes_http10_keep_alive bytes_http10_answer_chunked h2_bad_preface h2_preface_to_http1 "
        "h1_to_http2_listener timeout_request_headers",
    "Forwarding headers and scrubbing differ in detail.":
        "forward_default forward_hop forward_skip forward_internal forward_via forward_scheme scrub_hop_by_hop "
        "scrub_nominated scrub_answer_nominated user_agent_added referer strip_host_any",
    "Normalisation of paths differs in detail.":
        "path_normal path_both path_rejected path_redirected path_unescaped path_fragment path_absolute path_forms",
    "HTTP/2: streams that are refused early have no log line; resets are told apart otherwise.":
        "h2_trailers h2_answer_chunked h2_host_and_authority h2_no_authority h2_upstream_closes_in_body "
        "h2_goaway_of_client h2_stream_duration h2_bad_even_stream h2_bad_stream_zero h2_bad_data_on_idle "
        "h2_bad_data_on_zero h2_bad_window_zero h2_bad_window_zero_connection h2_bad_window_overflow "
        "h2_bad_settings_length h2_bad_settings_on_stream h2_bad_settings_ack_payload h2_bad_settings_window "
        "h2_bad_settings_frame_size h2_bad_ping_length h2_bad_ping_on_stream h2_bad_rst_on_idle h2_bad_push "
        "h2_bad_continuation_alone h2_bad_priority_length h2_bad_frame_too_large h2_bad_hpack h2_bad_upper_case "
        "h2_bad_pseudo_after h2_bad_pseudo_unknown h2_bad_pseudo_twice h2_bad_pseudo_missing h2_bad_no_path "
        "h2_bad_empty_path h2_bad_connection_header h2_bad_te_gzip h2_bad_transfer_encoding h2_bad_bad_name "
        "h2_bad_bad_value h2_bad_relative_path h2_bad_trailers_without_end h2_bad_headers_too_big h2_bad_too_many_headers "
        "h2_bad_goaway_on_stream up_h2_reset up_h2_reset_in_body grpc_unreachable grpc_timeout_header "
        "grpc_timeout_header_max grpc_timeout_header_not_used grpc_timeout_offset grpc_over_http1",
    "Details, see the output.":
        "log_operators_9 fault_delay upstream_closes_in_body upstream_closes_in_chunk answer_chunk answer_switching "
        "answer_no_content_length answer_big_head answer_before_request_ends limit_requests rewrite_host_forwarded "
        "rewrite_host_same headers_on_direct_response headers_attempt_count route_direct_response_to_post "
        "route_requires_tls route_requires_tls_external stream_connect_timeout stream_client_resets stream_no_hosts",
    "Flags and closing after timeouts of the connection manager.":
        "timeout_route_not_yet_sent timeout_idle_stream_request timeout_request timeout_stream_duration "
        "timeout_stream_duration_request timeout_stream_duration_in_body timeout_stream_duration_route "
        "timeout_idle_connection timeout_idle_connection_unused timeout_connection_duration",
    "Upgrades and CONNECT: headers of the answer, refusals, connect_config.":
        "upgrade_allowed upgrade_not_allowed upgrade_other_type upgrade_refused_by_origin upgrade_disabled_by_route "
        "upgrade_enabled_by_route connect_not_allowed connect_forwarded connect_refused_by_origin connect_ended_here "
        "connect_no_route connect_without_port",
})

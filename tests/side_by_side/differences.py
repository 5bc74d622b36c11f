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

HOP = "What an answer's Connection names, and TE, is of one hop (RFC 9110 7.6.1); Envoy passes both on."
TIMEOUT = ("A tunnel has no time limit for its answer, so none is announced: an upstream that believed the header would end the tunnel "
           "early.")
NOT_TAKEN = "What an origin answers instead of switching is passed on; Envoy empties it."
USER = "Stricter: user information in a target is an error (RFC 9110 4.2.4); Envoy drops it."
PORT = "Stricter: a port is a number (RFC 3986 3.2.3); Envoy takes anything."
LEAVES = "Who says GOAWAY opens no more streams (RFC 9113 6.8): the connection ends after the last answer. Envoy keeps it until it is idle."
STREAM = "An increment of 0 is an error of the stream (RFC 9113 6.9): it is reset. Envoy ends the connection."
BLOCK = "A header block above the limit is not read to its end: the connection ends. Envoy decodes on and resets the stream."
MANY = "Too many fields are answered by 431 (RFC 6585 5), which says why; Envoy resets the stream, and calls it the client's reset."
VERSION = "A request line without a version is malformed (RFC 9112 3): 400. Envoy takes it for an old version: 426."
SWITCH = "a 101 that nobody asked for is a protocol error: what follows it would be anybody's"
LENGTH = "The details name what was wrong; Envoy's say that the client reset the stream."
BY_US = "It was refused by us, for what the client sent; Envoy's flag says that the client reset the stream."
LAST = "What comes after the last stream that GOAWAY names is not processed (RFC 9113 6.8): the maximum is one. Envoy answers on while it drains."
RESET = "A client's reset is told apart from its end; Envoy's log shows neither."
AHEAD = "A body is read when its origin is there, Envoy reads on ahead."
SLASHES = "A path of slashes only is merged like any other; Envoy leaves it."

ALERT = ("A pinned certificate that does not match is answered by certificate_unknown; the alert Envoy sends belongs to certificate "
         "URLs (RFC 6066 9) and TLS 1.3 does not know it.")
NOT_THERE = "Envoy knows the field and does not honour it yet; what its documentation says of it is done here."


def at(case, reason, *paths):
    """The same reason for several paths of a case."""
    return {f"{case}: {path}": reason for each in paths for path in each.split()}


# What differs where one side answers by itself and the other asks its origin, in a case of one request.
ANSWERED = ("client[0][0].body client[0][0].headers client[0][0].start client[0][1].end counters.cluster.$case.upstream_cx_total "
            "counters.cluster.$case.upstream_rq_total counters.http.$case.downstream_cx_protocol_error "
            "counters.http.$case.downstream_rq_2xx counters.http.$case.downstream_rq_4xx log[0].attempts log[0].authority "
            "log[0].cluster log[0].code log[0].details log[0].flags log[0].host log[0].method log[0].path log[0].sent origin")
# What differs where an origin's answer is refused or passed on.
BAD_ANSWER = ("client[0][0].body client[0][0].headers client[0][0].start counters.http.$case.downstream_rq_2xx "
              "counters.http.$case.downstream_rq_5xx log[0].code log[0].details log[0].flags log[0].sent")
SWITCHED = BAD_ANSWER.replace("2xx", "1xx") + " client[0][0].framing"

DIFFERENCES = {
    "secure_sni_required: *": NOT_THERE,
    "secure_system_roots: *": NOT_THERE,
    "secure_depth_of_one: *": "Stricter: the depth counts the anchor, as its documentation says, so 0 leaves room for none; Envoy takes any.",
    "secure_up_key_usage_ignored: *": "Envoy's library looks at the usage of a key whatever the field says; here the field decides.",
    **at("secure_up_key_usage_enforced", "What looks at the usage is part of the check of the certificate: so are its words and its alert.",
         "log[0].details log[0].failure origin[0][0].tls"),
    "fields_upgrade_on*: origin[0][0].headers": TIMEOUT,
    **at("strip_host_bad_port", PORT, ANSWERED),
    **at("path_absolute_user", USER, ANSWERED),
    "scrub_answer_nominated: client[0][0].headers": HOP,
    **at("hcm_hop_by_hop", HOP, "client[0][0].headers client[0][1].headers"),
    **at("bytes_no_version", VERSION, "client[0][0].body client[0][0].headers client[0][0].start log[0].code log[0].details log[0].sent"),
    "bytes_chunk_bad_size: counters.cluster.$case.upstream_rq_total": AHEAD,
    "bytes_chunk_huge_size: counters.cluster.$case.upstream_rq_total": AHEAD,
    "bytes_chunk_lf: counters.cluster.$case.upstream_rq_total": AHEAD,
    "h2_bad_preface: client[0][0].bytes": GOAWAY,
    "h1_to_http2_listener: client[0][0].bytes": GOAWAY,
    "two_path_with_space: client[0][1].goaway": GOAWAY,
    "two_absolute_path: client[0][1].goaway": GOAWAY,
    "two_stream_only_too_much_body: log[0].details": LENGTH,
    "two_stream_only_too_little_body: log[0].details": LENGTH,
    "two_underscore_rejected: log[0].flags": BY_US,
    **at("two_requests_per_connection", LAST, "client[0][3].body client[0][3].headers client[0][3].unfinished client[0][4].connection",
         "client[0][5].connection counters.http.$case.downstream_rq_2xx counters.http.$case.downstream_rq_total log"),
    "stream_client_resets: log[0].flags": RESET,
    "listener_log_tcp_reset: log[0].flags": RESET,
    "h2_no_authority: client[0][0].control": GOAWAY,
    "h2_goaway_of_client: client[0][0].end": LEAVES,
    **at("h2_bad_window_zero", STREAM, "client[0][0].1 client[0][0].end log[0].details"),
    "h2_bad_hpack: log[0].details": "Envoy shows the words of its library.",
    **at("h2_bad_headers_too_big", BLOCK, "client[0][0].1 client[0][0].end counters.http.$case.downstream_cx_protocol_error log[0].flags"),
    **at("h2_bad_too_many_headers", MANY, "client[0][0].1.headers client[0][0].1.body client[0][0].1.reset",
         "counters.http.$case.downstream_rq_4xx log[0].code log[0].flags log[0].sent"),
    "grpc_unreachable: log[0].received": AHEAD,
    "upgrade_with_timeout: origin[0][0]": TIMEOUT,
    **at("upgrade_refused_by_origin", NOT_TAKEN, "client[0][0].body client[0][0].headers log[0].details log[0].sent"),
    "secure_hash_mismatch: client[0][0].tls": ALERT,
    "secure_spki_mismatch: client[0][0].tls": ALERT,
    **at("hcm_answer_switch_unasked", SWITCH, SWITCHED),
    **at("answer_switching", SWITCH, SWITCHED),
    "headed_bad_chunk: counters.cluster.$case.upstream_rq_total": AHEAD,
    "hcm_bad_chunk: counters.cluster.$case.upstream_rq_total": AHEAD,
    **at("hcm_upgrade_not_taken", NOT_TAKEN, "client[0][0].body client[0][0].headers log[0].details log[0].sent"),
    "hcm_upgrade_not_taken: origin[0][0].headers": TIMEOUT,
    "hcm_path_rejected: log[0].path": "the path is logged as it came, Envoy has unescaped it by then",
    # Envoy takes a TCP connection whose PROXY header tells of datagrams, and ignores the addresses. Who sends that is broken.
    **at("proxy_v2_datagrams", "a header that contradicts the connection closes it, as other broken ones do",
         "client[0][0].end counters.http.$case.downstream_cx_total counters.proxy_proto.$case.versions.v2.error",
         "counters.proxy_proto.$case.versions.v2.found"),
    # Envoy counts a line of version 1 without an end as no header at all.
    **at("proxy_v1_endless", "it began as a header, so it is counted as a broken one",
         "counters.proxy_proto.$case.not_found_disallowed counters.proxy_proto.$case.versions.v1.error"),
    **at("bytes_lf_only", LINE, ANSWERED),
    **at("bytes_bare_cr", "Stricter: a CR inside a value is refused (RFC 9112 2.2); Envoy takes it out.", ANSWERED),
    **at("bytes_two_spaces", LINE, ANSWERED),
    **at("bytes_tab_in_line", LINE, ANSWERED),
    **at("bytes_space_at_end", LINE, ANSWERED),
    **at("bytes_fold", FOLD, ANSWERED),
    **at("answer_fold", FOLD, BAD_ANSWER),
    **at("answer_lf_only", LINE, BAD_ANSWER),
    **at("bytes_two_hosts", "Stricter: two Host fields are refused (RFC 9112 3.2); Envoy forwards them joined by a comma.", ANSWERED),
    **at("bytes_chunk_no_crlf", "Stricter: a chunk longer than it says is refused (RFC 9112 7.1); Envoy drops what is too much.",
         "client[0][0].body client[0][0].headers client[0][0].start client[0][1].end counters.http.$case.downstream_cx_protocol_error",
         "counters.http.$case.downstream_rq_2xx counters.http.$case.downstream_rq_4xx log[0].code log[0].details log[0].flags",
         "log[0].received log[0].sent origin[0]"),
    **at("bytes_http09", "Stricter: HTTP/0.9 is not spoken, also where HTTP/1.0 is.",
         ANSWERED.replace("client[0][1].end ", ""), "log[0].protocol"),
    **at("bytes_lower_case_method", METHODS, ANSWERED),
    **at("bytes_unknown_method", METHODS, ANSWERED),
    "h2_bad_*: client[0][0].control": GOAWAY,
    **at("h2_bad_length_*", "Stricter: a body of another length than was announced is a malformed message like any other: the connection "
         "ends, unless override_stream_error_on_invalid_http_message says otherwise.",
         "client[0][0].1 client[0][0].end counters.http.$case.downstream_cx_protocol_error log[0].details"),
    **at("up_h2_refused", REFUSED, "counters.cluster.$case.upstream_rq_total origin[0][0].3 origin[0][0].5 origin[0][0].7"),
    "grpc_timeout: origin[0][0].1.reset": CANCEL,
    "grpc_timeout_header: origin[0][0].1.reset": CANCEL,
    "grpc_timeout_header_max: origin[0][0].1.reset": CANCEL,
    **at("path_rejected", "The log shows the path as it was sent; Envoy shows what it would have become.",
         "log[3].path log[4].path log[6].path log[16].path log[20].path"),
    **at("path_merged", SLASHES, "log[17].path origin[0][17].start"),
    **at("path_both", SLASHES, "log[17].path origin[0][16].start"),
    **at("path_unescaped", SLASHES, "log[17].path origin[0][16].start"),
}


def faults(groups):
    """What is wrong → where it shows, each as CASE or, better, as CASE:PATH, so that the rest of the case is still watched."""
    out = {}
    for what, names in groups.items():
        for name in names.split():
            case, _, path = name.partition(":")
            out[f"{case}: {path or '*'}"] = what
    return out


FAULTS = faults({})

"""The differences from Envoy that are meant, each with its reason. A name is "CASE: PATH" as the suite prints it; `*` stands
for anything. What is not named here fails the suite, and so does a name that is met by no difference any more.
"""

DIFFERENCES = {
    # Envoy takes a TCP connection whose PROXY header tells of datagrams, and ignores the addresses. Who sends that is broken.
    "proxy_v2_datagrams: *": "a header that contradicts the connection closes it, as other broken ones do",
    # Envoy counts a line of version 1 without an end as no header at all.
    "proxy_v1_endless: counters.proxy_proto.*": "it began as a header, so it is counted as a broken one",
}

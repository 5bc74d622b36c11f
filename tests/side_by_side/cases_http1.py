"""HTTP/1: framing, pipelining, both ways."""
from .case import case
from .client import exchange, get
from .origin import Close, ok

case("h1_get", exchange(get("/a?b=c", "x-one: 1", "X-Two: 2")), origin=[ok(b"hello", "x-answer: yes", "Content-Type: text/plain")])
case("h1_head", exchange(get("/", method="HEAD")), origin=[b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n"])
case("h1_post_length", exchange(get("/", method="POST", body=b"0123456789")))
case("h1_post_chunked", exchange(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"))
case("h1_answer_chunked", exchange(get()), origin=[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"])
case("h1_answer_to_the_end", exchange(get()), origin=[Close(b"HTTP/1.1 200 OK\r\n\r\nall of it")])
case("h1_two_requests", exchange(get("/1"), get("/2")))
case("h1_pipelined", exchange(get("/1") + get("/2") + get("/3"), responses=3), origin=[ok(b"1"), ok(b"2"), ok(b"3")])
case("h1_connection_close", exchange(get("/", "connection: close")))

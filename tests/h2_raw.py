"""HTTP/2 by hand for tests: frames, header blocks without compression, a blocking client that may send anything."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL, STREAM_CLOSED, REFUSED, CANCEL, CALM = 0, 1, 3, 5, 7, 8, 11
HEADER_TABLE, ENABLE_PUSH, STREAMS, INITIAL_WINDOW, FRAME_SIZE, LIST_SIZE, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8

STATIC_STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
STATIC_NAMES = (b":authority :method :method :path :path :scheme :scheme :status :status :status :status :status :status :status "
                b"accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow "
                b"authorization cache-control content-disposition content-encoding content-language content-length "
                b"content-location content-range content-type cookie date etag expect expires from host if-match "
                b"if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
                b"proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
                b"strict-transport-security transfer-encoding user-agent vary via www-authenticate").split()


def integer(first, bits, value):
    mask = (1 << bits) - 1
    if value < mask:
        return bytes([first | value])
    out = [first | mask]
    value -= mask
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def literal(name, value, indexed=False):
    name, value = (x if isinstance(x, bytes) else x.encode() for x in (name, value))
    return (b"\x40" if indexed else b"\x00") + integer(0, 7, len(name)) + name + integer(0, 7, len(value)) + value


def block(fields):
    return b"".join(literal(name, value) for name, value in fields)


def request(path="/", method="GET", authority="a", scheme="http", more=()):
    return block([(":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *more])


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    names = {"table": HEADER_TABLE, "streams": STREAMS, "window": INITIAL_WINDOW, "push": ENABLE_PUSH, "frame": FRAME_SIZE,
             "connect": CONNECT_PROTOCOL}
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", names[k], v) for k, v in values.items()))


def headers(stream, payload, end=True, more=False):
    return frame(HEADERS, (END_STREAM if end else 0) | (0 if more else END_HEADERS), stream, payload)


def data(stream, payload, end=True):
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def reset(stream, code=CANCEL):
    return frame(RST, 0, stream, struct.pack(">I", code))


def window(stream, increment):
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def digits(raw):
    """The digits of a Huffman-coded number."""
    bits = "".join(f"{byte:08b}" for byte in raw)
    out = ""
    while len(out) < 3:
        if bits[:5] in ("00000", "00001", "00010"):
            out, bits = out + str(int(bits[:5], 2)), bits[5:]
        else:
            out, bits = out + str(int(bits[:6], 2) - 0b011001 + 3), bits[6:]
    return out


class Decoder:
    """HPACK without Huffman decoding of anything but the status: names and raw values."""

    def __init__(self):
        self.table = []

    def number(self, raw, at, bits):
        mask = (1 << bits) - 1
        value = raw[at] & mask
        at += 1
        if value < mask:
            return value, at
        shift = 0
        while True:
            byte = raw[at]
            at += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at

    def text(self, raw, at):
        huffman = raw[at] & 128
        size, at = self.number(raw, at, 7)
        return (raw[at:at + size], bool(huffman)), at + size

    def field(self, index):
        if index <= 61:
            return ((STATIC_NAMES[index - 1], False), (str(STATIC_STATUS.get(index, "")).encode(), False))
        return self.table[index - 62]

    def decode(self, raw):
        out, at = [], 0
        while at < len(raw):
            first = raw[at]
            if first & 128:
                index, at = self.number(raw, at, 7)
                out.append(self.field(index))
                continue
            if first & 0xe0 == 0x20:
                _, at = self.number(raw, at, 5)
                continue
            index, at = self.number(raw, at, 6 if first & 64 else 4)
            if index:
                name = self.field(index)[0]
            else:
                name, at = self.text(raw, at)
            value, at = self.text(raw, at)
            out.append((name, value))
            if first & 64:
                self.table.insert(0, (name, value))
        return out

    def status(self, raw):
        name, value = self.decode(raw)[0]
        assert name[0] == b":status", name
        return int(digits(value[0]) if value[1] else value[0])


class Client:
    """One connection. Reads into `statuses`, `bodies`, `resets`, `ended`, `goaway`; `closed` once the peer ends."""

    def __init__(self, port, start=True, seconds=10, unsent_max=None, **wanted):
        self.socket = socket.socket()
        self.socket.settimeout(seconds)
        if unsent_max:  # before connecting: what the kernel takes and the peer does not, about
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, unsent_max)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.decoder = Decoder()
        self.statuses, self.bodies, self.resets, self.ended = {}, {}, {}, set()
        self.settings, self.goaway, self.closed, self.frames, self.last = {}, None, False, 0, None
        self.ack = True
        if start:
            self.send(PREFACE + settings(**wanted))

    def send(self, payload):
        """False once the peer does not take it any more; what it said before can still be read."""
        try:
            self.socket.sendall(payload)
            return True
        except OSError:
            return False

    def read_once(self, seconds=0.2):
        self.socket.settimeout(seconds)
        try:
            got = self.socket.recv(262144)
        except socket.timeout:
            return False
        except OSError:
            got = b""
        if not got:
            self.closed = True
            return False
        self.buffer += got
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
            payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
            self.on_frame(kind, flags, stream, payload)
        return True

    def on_frame(self, kind, flags, stream, payload):
        self.frames += 1
        if kind == HEADERS:
            if stream not in self.statuses or self.statuses[stream] < 200:
                self.statuses[stream] = self.decoder.status(payload)
            else:
                self.decoder.decode(payload)
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        elif kind == RST:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaway, self.last = int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[:4], "big")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                self.settings[int.from_bytes(payload[at:at + 2], "big")] = int.from_bytes(payload[at + 2:at + 6], "big")
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and not flags & ACK and self.ack:
            self.send(frame(PING, ACK, 0, payload))
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.ended.add(stream)

    def wait(self, done, seconds=5.0):
        """Reads until done(); False when the time is over."""
        end = time.monotonic() + seconds
        while not done():
            if self.closed or time.monotonic() > end:
                return done()
            self.read_once(min(0.2, max(0.01, end - time.monotonic())))
        return True

    def over(self, stream):
        return stream in self.ended or stream in self.resets

    def close(self):
        self.socket.close()

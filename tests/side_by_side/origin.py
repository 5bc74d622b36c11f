"""Scripted origins. They record what every connection brought, byte by byte, and answer what the case says.

A case's `origin` is one of
  a list of answers (the n-th request of the case gets the n-th answer, later ones the last):
      bytes                 sent as they are; `ok(...)` makes usual ones
      Close(bytes)          sent, then the connection is closed; Reset() ends it with RST
      Hang()                no answer
      After(seconds, answer)
      a function (message, wire): sends what it wants
  a function (wire): has the connection to itself, whatever the protocol
  None: nothing listens, a connection is refused
  BLACK_HOLE: connection attempts are never answered
"""
import socket
import threading
import time

from . import wire as wires

BLACK_HOLE = "black hole"
BLACK_HOLE_ADDRESS = "127.0.9.9"


class Close:
    def __init__(self, data=b""):
        self.data = data


class Reset:
    def __init__(self, data=b""):
        self.data = data


class Hang:
    pass


class After:
    def __init__(self, seconds, answer):
        self.seconds, self.answer = seconds, answer


def ok(body=b"ok", *headers, status="200 OK"):
    """An answer with a length. Headers as "name: value"."""
    lines = [f"HTTP/1.1 {status}".encode(), *[h.encode("latin1") for h in headers], b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Origin:
    """Listens on one port of 127.0.0.1 until closed. A thread for each connection."""

    def __init__(self, port, script, address="127.0.0.1", prepare=None):
        self.script, self.prepare = script, prepare
        self.connections, self.count, self.lock = [], 0, threading.Lock()
        self.listener = None
        if script is None or script == BLACK_HOLE:
            return
        self.listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            record = []
            with self.lock:
                self.connections.append(record)
            threading.Thread(target=self.serve, args=(sock, record), daemon=True).start()

    def serve(self, sock, record):
        try:
            if self.prepare:
                sock = self.prepare(sock, record)
            wire = wires.Wire(sock, 30)
            wire.record = record
            if callable(self.script):
                self.script(wire)
            else:
                self.answer_requests(wire, record)
        except wires.Ended as end:
            if end.how != "closed" and end.how != "silent":
                pass
        except OSError as error:
            record.append({"error": type(error).__name__})
        finally:
            sock.close()

    def answer_requests(self, wire, record):
        while True:
            message = wires.Message()
            try:
                message = wires.read_request(wire)
            except wires.Ended:
                if wire.buffer:
                    record.append({"cut": wires.show(wire.buffer)})
                return
            record.append(message.seen())
            if message.cut:
                return
            with self.lock:
                answer = self.script[min(self.count, len(self.script) - 1)]
                self.count += 1
            if not self.give(answer, message, wire):
                return

    def give(self, answer, message, wire):
        """False: the connection is at its end."""
        if isinstance(answer, After):
            time.sleep(answer.seconds)
            return self.give(answer.answer, message, wire)
        if isinstance(answer, (Close, Reset)):
            if answer.data:
                wire.send(answer.data)
            if isinstance(answer, Reset):
                wire.reset()
            return False
        if isinstance(answer, Hang):
            wire.rest()
            return False
        if callable(answer):
            return answer(message, wire) is not False
        wire.send(answer)
        return True

    def close(self):
        if self.listener:
            # A thread that waits in accept() would keep the port.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

"""Runs a server that listens on all addresses in a network namespace of its own.

    unshare [-r] -n python sandbox.py SOCKET PORT COMMAND...

The namespace has a loopback and nothing else; what arrives on the UNIX socket SOCKET is
handed to 127.0.0.1:PORT inside. The server ends when this process does: on the end of its
standard input, or with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP, PR_SET_PDEATHSIG = 0x8913, 0x8914, 1, 1


def main() -> None:
    path, port, *command = sys.argv[1:]
    raise_loopback()
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=accept, args=(listener, int(port)), daemon=True).start()
    sys.stdin.read()
    server.terminate()
    server.wait(5)


def raise_loopback() -> None:
    with socket.socket() as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def accept(listener: socket.socket, port: int) -> None:
    while True:
        outside, _ = listener.accept()
        try:
            inside = socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            outside.close()
            continue
        for source, sink in ((outside, inside), (inside, outside)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        os.sched_yield()


if __name__ == "__main__":
    main()

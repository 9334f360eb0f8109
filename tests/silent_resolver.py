#!/usr/bin/env python3
"""Runs a command where the only name server there is never answers: a socket on 127.0.0.1:53, in a network of its own.

    silent_resolver.py COMMAND…

It needs namespaces (`unshare --map-root-user --net --mount`), in which it starts itself again; ends with 125 where a user may
not make them. What the command's name look-ups do is then what they do in the field: libc sends, waits and sends again."""
import ctypes
import fcntl
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

SIOCSIFFLAGS, IFF_UP, MS_BIND = 0x8914, 1, 4096
RESOLV = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"
FILES = {"/etc/resolv.conf": RESOLV, "/etc/nsswitch.conf": "hosts: dns\n", "/etc/hosts": "127.0.0.1 localhost\n"}


def mount_over(path, text, folder):
    """A file of ours in the place of one of the system's, as far as this namespace goes."""
    ours = pathlib.Path(folder, path.replace("/", "-"))
    ours.write_text(text)
    if ctypes.CDLL(None, use_errno=True).mount(str(ours).encode(), os.path.realpath(path).encode(), None, MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount over {path}")


def loopback_up(probe):
    fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def inside(command):
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            loopback_up(server)
            server.bind(("127.0.0.1", 53))
            for path, text in FILES.items():
                if os.path.exists(path):
                    mount_over(path, text, folder)
        except OSError as error:
            print(f"silent_resolver: {error}", file=sys.stderr)
            return 125
        status = subprocess.call(command)
        server.setblocking(False)
        try:
            server.recvfrom(512)
        except BlockingIOError:
            print("silent_resolver: nobody asked for a name", file=sys.stderr)
            return 124
        return status


def main():
    if os.environ.pop("SILENT_RESOLVER", None):
        return inside(sys.argv[1:])
    unshare = shutil.which("unshare")
    probe = [unshare, "--map-root-user", "--net", "--mount"] if unshare else ["false"]
    if not unshare or subprocess.call(probe + ["true"], stderr=subprocess.DEVNULL) != 0:
        return 125
    return subprocess.call(probe + sys.argv, env={**os.environ, "SILENT_RESOLVER": "1"})


if __name__ == "__main__":
    sys.exit(main())

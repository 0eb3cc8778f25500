"""What the tests share: a running example server, and stubs of the original messages."""

import atexit
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from grpc_tools import protoc

HERE = Path(__file__).parent
#: More than anything here takes; only a broken test waits so long.
LONG = 30


def _generate_stubs():
    folder = tempfile.TemporaryDirectory(prefix="interop-stubs-")
    protos = ["solpipe.proto", "relay.proto"]
    flags = [f"-I{HERE}", f"--python_out={folder.name}", f"--grpc_python_out={folder.name}"]
    if protoc.main(["protoc", *flags, *protos]) != 0:
        raise RuntimeError("the original messages could not be compiled")
    sys.path.insert(0, folder.name)
    atexit.register(folder.cleanup)


_generate_stubs()

import relay_pb2  # noqa: E402
import relay_pb2_grpc  # noqa: E402
import solpipe_pb2  # noqa: E402
import solpipe_pb2_grpc  # noqa: E402

__all__ = [
    "LONG",
    "Server",
    "eventually",
    "relay_pb2",
    "relay_pb2_grpc",
    "solpipe_pb2",
    "solpipe_pb2_grpc",
]


class Server:
    """The example `serve` as a child process. Its standard input is its lifeline."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [os.environ["WORKER_POOL_SERVE"], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._expect("listening on ")

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _expect(self, start):
        line = self._lines.get(timeout=LONG)
        if line is None or not line.startswith(start):
            raise RuntimeError(f"serve said {line!r}, not {start!r}")
        return line[len(start) :]

    def say(self, command, answer):
        """Gives a command and waits for its answer."""
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._expect(answer)

    def channel(self, **options):
        return grpc.insecure_channel(self.address, options=list(options.items()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=LONG)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()


def eventually(what, so):
    """Waits until it is so, and returns what it was."""
    until = time.monotonic() + LONG
    while True:
        value = so()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)

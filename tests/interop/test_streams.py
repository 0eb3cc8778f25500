"""Both streams, read with stubs that know the utilisation alone."""

import threading
import time
import unittest

import grpc

from support import LONG, Server, relay_pb2, relay_pb2_grpc, solpipe_pb2, solpipe_pb2_grpc


def solpipe(channel):
    call = solpipe_pb2_grpc.WorkerStatusStub(channel).OnStatus(solpipe_pb2.Empty(), timeout=LONG)
    return call, lambda message: message.capacity


def relay(channel):
    call = relay_pb2_grpc.CapacityStub(channel).OnStatus(relay_pb2.CapacityRequest(), timeout=LONG)
    return call, lambda message: message.utilization_ratio


class Streams(unittest.TestCase):
    def test_a_snapshot_comes_at_once_and_then_the_changes(self):
        for stream in (solpipe, relay):
            with self.subTest(stream.__name__):
                with Server("--workers", "4", "--busy", "0") as server, server.channel() as channel:
                    call, value = stream(channel)
                    start = time.monotonic()
                    self.assertEqual(value(next(call)), 0.0)
                    # Far below the 30 seconds between two ticks.
                    self.assertLess(time.monotonic() - start, 5)
                    server.say("busy 2", "busy")
                    self.assertIn(0.5, (value(message) for message in call))
                    call.cancel()

    def test_a_short_interval_ticks_without_a_change(self):
        with Server("--busy", "0", "--interval-ms", "50") as server, server.channel() as channel:
            call, value = solpipe(channel)
            self.assertEqual([value(next(call)) for _ in range(4)], [0.0] * 4)
            call.cancel()

    def test_the_end_of_the_server_is_a_clean_end_of_the_stream(self):
        with Server("--busy", "0") as server, server.channel() as channel:
            call, _ = solpipe(channel)
            next(call)
            ended = threading.Thread(target=lambda: list(call))
            ended.start()
            server.__exit__()
            ended.join(LONG)
            self.assertFalse(ended.is_alive())
            self.assertEqual(call.code(), grpc.StatusCode.OK)


class Token(unittest.TestCase):
    def test_only_the_right_one_is_let_in(self):
        with Server("--busy", "0", "--token", "right") as server, server.channel() as channel:
            stub = solpipe_pb2_grpc.WorkerStatusStub(channel)

            def ask(*metadata):
                return next(stub.OnStatus(solpipe_pb2.Empty(), metadata=metadata, timeout=LONG))

            self.assertEqual(ask(("authorization", "Bearer right")).capacity, 0.0)
            for wrong in ((), (("authorization", "Bearer righ"),), (("authorization", "Bearer "),)):
                with self.subTest(wrong), self.assertRaises(grpc.RpcError) as refused:
                    ask(*wrong)
                self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)


if __name__ == "__main__":
    unittest.main()

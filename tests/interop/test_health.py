"""grpc.health.v1 with grpcio-health-checking's stubs."""

import unittest

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from support import LONG, Server

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


class Health(unittest.TestCase):
    def test_check_and_watch_follow_the_pool(self):
        with Server("--busy", "1") as server, server.channel() as channel:
            health = HealthStub(channel)

            def check(service):
                return health.Check(HealthCheckRequest(service=service), timeout=LONG).status

            names = ("", "solpipe.WorkerStatus", "relay.Capacity")
            for name in names:
                self.assertEqual(check(name), SERVING, name)
            watch = health.Watch(HealthCheckRequest(service=""), timeout=LONG)
            self.assertEqual(next(watch).status, SERVING)
            server.say("drain", "draining")
            self.assertEqual(next(watch).status, NOT_SERVING)
            for name in names:
                self.assertEqual(check(name), NOT_SERVING, name)
            watch.cancel()

    def test_a_service_that_is_not_there(self):
        with Server() as server, server.channel() as channel:
            health = HealthStub(channel)
            request = HealthCheckRequest(service="no.such.Service")
            with self.assertRaises(grpc.RpcError) as failed:
                health.Check(request, timeout=LONG)
            self.assertEqual(failed.exception.code(), grpc.StatusCode.NOT_FOUND)
            watch = health.Watch(request, timeout=LONG)
            self.assertEqual(next(watch).status, HealthCheckResponse.SERVICE_UNKNOWN)
            self.assertTrue(watch.is_active())
            watch.cancel()


if __name__ == "__main__":
    unittest.main()

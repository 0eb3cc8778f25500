"""Server reflection with grpcio-reflection, which knows v1alpha."""

import unittest

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support import Server


class Reflection(unittest.TestCase):
    def test_services_are_listed_and_their_messages_described(self):
        with Server() as server, server.channel() as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = set(database.get_services())
            self.assertLessEqual(
                {
                    "solpipe.WorkerStatus",
                    "relay.Capacity",
                    "grpc.health.v1.Health",
                    "xds.service.orca.v3.OpenRcaService",
                },
                services,
            )
            pool = DescriptorPool(database)
            for service in services:
                self.assertEqual(pool.FindServiceByName(service).full_name, service)
            stream = pool.FindServiceByName("solpipe.WorkerStatus").methods_by_name["OnStatus"]
            self.assertEqual(stream.input_type.full_name, "solpipe.Empty")
            fields = {field.name: field.number for field in stream.output_type.fields}
            self.assertEqual(
                fields, {"capacity": 1, "busy": 2, "total": 3, "waiting": 4}
            )


if __name__ == "__main__":
    unittest.main()

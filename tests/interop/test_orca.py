"""ORCA load reports with the messages of xds-protos."""

import unittest

from google.protobuf.duration_pb2 import Duration
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from support import LONG, Server

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"


def reports(channel, seconds):
    stream = channel.unary_stream(
        METHOD,
        request_serializer=OrcaLoadReportRequest.SerializeToString,
        response_deserializer=OrcaLoadReport.FromString,
    )
    interval = Duration(seconds=seconds)
    return stream(OrcaLoadReportRequest(report_interval=interval), timeout=LONG)


class Orca(unittest.TestCase):
    def test_reports_show_the_mean_load_and_the_rate(self):
        load = ("--workers", "4", "--busy", "2", "--job-ms", "20")
        with Server(*load, "--orca-ms", "100") as server, server.channel() as channel:
            call = reports(channel, 0)
            seen = None
            for seen in call:
                # Two workers, 50 jobs a second each; the window may still hold the start.
                steady = abs(seen.application_utilization - 0.5) < 0.05
                if steady and 60 < seen.rps_fractional < 110:
                    break
            self.assertIn("waiting", " ".join(seen.named_metrics))
            call.cancel()

    def test_the_first_report_comes_at_once(self):
        with Server() as server, server.channel() as channel:
            call = reports(channel, 3600)
            next(call)
            call.cancel()


if __name__ == "__main__":
    unittest.main()

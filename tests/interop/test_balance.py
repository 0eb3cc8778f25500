"""A stock client with weighted_round_robin in front of two servers."""

import json
import threading
import time
import unittest
from collections import Counter
from contextlib import ExitStack

import grpc

from support import LONG, Server, eventually

CONFIG = {
    "loadBalancingConfig": [
        {
            "weighted_round_robin": {
                "enableOobLoadReport": True,
                "oobReportingPeriod": "0.1s",
                "blackoutPeriod": "0s",
                "weightUpdatePeriod": "0.1s",
                "weightExpirationPeriod": "60s",
            }
        }
    ],
    "healthCheckConfig": {"serviceName": ""},
}


class Balance(unittest.TestCase):
    def setUp(self):
        # Different sizes at different load: two of two busy, and four of eight. Jobs of the same
        # length, so that completions per utilisation, the weight, go as the sizes: 2 to 8. By
        # completions alone, or by utilisation alone, it would be 1 to 2.
        stack = ExitStack()
        self.addCleanup(stack.close)
        every = ("--job-ms", "20", "--orca-ms", "100")
        self.small = stack.enter_context(
            Server("--name", "small", "--workers", "2", "--busy", "2", *every)
        )
        self.large = stack.enter_context(
            Server("--name", "large", "--workers", "8", "--busy", "4", *every)
        )
        channel = grpc.insecure_channel(
            f"ipv4:{self.small.address},{self.large.address}",
            options=[("grpc.service_config", json.dumps(CONFIG)), ("grpc.enable_http_proxy", 0)],
        )
        stack.enter_context(channel)
        # Bytes in, bytes out: the answer is the name of the backend.
        self.ask = channel.unary_unary("/demo.Who/Ask")

    def name(self):
        return self.ask(b"", timeout=LONG, wait_for_ready=True).decode()

    def share(self, calls=400):
        count = Counter(self.name() for _ in range(calls))
        return count["large"] / calls

    def test_the_share_of_calls_follows_the_weights(self):
        right = 8 / 10

        def follows():
            return abs(self.share() / right - 1) < 0.1

        eventually("the weights are known", follows)
        # Not by accident, and not for a moment.
        total = sum(self.share() for _ in range(5)) / 5
        self.assertLess(abs(total / right - 1), 0.1, f"large got {total:.3f}, not {right}")

    def test_a_drained_backend_gets_no_call_and_no_call_fails(self):
        eventually("both are asked", lambda: {self.name(), self.name()} == {"small", "large"})
        done = threading.Event()
        failures = []
        asked = []

        def keep_asking():
            while not done.is_set():
                try:
                    asked.append((time.monotonic(), self.name()))
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.large.say("drain", "draining")
        # The news has to travel; from some call on there is only the other one.
        eventually("calls go to the other alone", lambda: _all_small(asked[-200:]))
        since = len(asked)
        eventually("many more calls", lambda: len(asked) > since + 1000)
        done.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertTrue(_all_small(asked[since:]), Counter(name for _, name in asked[since:]))


def _all_small(calls):
    return len(calls) >= 200 and all(name == "small" for _, name in calls)


if __name__ == "__main__":
    unittest.main()

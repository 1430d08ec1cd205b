"""Calls with more and more metadata, each on a connection that also has a stream: prints how the call ends, and whether the
stream has gone with it.
"""

import json
import sys

import grpc


def call(channel, metadata):
    try:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", metadata=metadata, timeout=5)
    except grpc.RpcError as err:
        return err.code().name
    return "OK"


def trial(address, kib, values):
    # The channel has its own pool: otherwise channels to one address share connections.
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        next(watch)
        code = call(channel, [("x-value-%d" % i, "v" * (kib * 1024 // values)) for i in range(values)])
        after = call(channel, [])
        stream = "goes on" if watch.is_active() else watch.code().name
        print(json.dumps({"kib": kib, "values": values, "code": code, "after": after, "stream": stream}))
        watch.cancel()


for size in sys.argv[2:]:
    trial(sys.argv[1], int(size), 1)
    trial(sys.argv[1], int(size), 8)

"""Follows the mode of one service by gRPC, as a Python service does, with code made from our own .proto.

    modes.py ADDRESS SERVICE INSTANCE LAST

Acknowledges each mode, prints it as a line of JSON, and ends when it is told the mode LAST.
"""

import json
import pathlib
import sys
import tempfile

import grpc
from grpc_tools import protoc

address, service, instance, last = sys.argv[1:]
root = pathlib.Path(__file__).resolve().parents[3]
made = tempfile.mkdtemp()
arguments = ["protoc", f"-I{root / 'proto'}", f"--python_out={made}", f"--grpc_python_out={made}"]
assert protoc.main(arguments + ["tidewatch/v1/modes.proto"]) == 0
sys.path.insert(0, made)

from tidewatch.v1 import modes_pb2, modes_pb2_grpc  # noqa: E402

with grpc.insecure_channel(address) as channel:
    modes = modes_pb2_grpc.ModesStub(channel)
    try:
        modes.Ack(modes_pb2.AckRequest(service="nobody", mode="normal"))
        sys.exit("an unknown service was acknowledged")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    before = modes.Get(modes_pb2.GetRequest(service=service))
    assert before.service == service, before
    for mode in modes.Watch(modes_pb2.WatchRequest(service=service)):
        answer = modes.Ack(
            modes_pb2.AckRequest(
                service=service, instance=instance, mode=mode.mode, sequence=mode.sequence
            )
        )
        assert answer.mode.sequence >= mode.sequence, answer
        told = {
            "mode": mode.mode,
            "level": mode.level,
            "sequence": mode.sequence,
            "features": {name: json.loads(value) for name, value in mode.features.items()},
            "priority_floor": mode.priority_floor,
            "quality": mode.quality,
            "shed": mode.shed,
        }
        print(json.dumps(told), flush=True)
        if mode.mode == last:
            break

"""The messages of `lnd.proto`, for protobuf at run time; their types are in `lnd_pb2.pyi`.

Not protoc's own module: that would put LND's names into the pool that the whole process shares, where the embedding app
may have the complete files, and it works with two major versions of protobuf only. The descriptors live in a pool of
their own here.
"""

from __future__ import annotations

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    files("wallet_actions.lightning").joinpath("lnd.binpb").read_bytes()
).file:
    _pool.AddSerializedFile(_file.SerializeToString())

DESCRIPTOR = _pool.FindFileByName("lnd.proto")
PaymentFailureReason = EnumTypeWrapper(DESCRIPTOR.enum_types_by_name["PaymentFailureReason"])
globals().update(PaymentFailureReason.items())
globals().update({name: message_factory.GetMessageClass(it) for name, it in DESCRIPTOR.message_types_by_name.items()})

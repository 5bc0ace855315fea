"""The doors between rooms: what every Triton model takes and gives, and how a caller speaks to it.

    tensors.py  TensorSpec, ModelSpec        specs.py   every model of the house, declared once
    config.py   ModelSpec -> config.pbtxt    context.py whose work a request is: session, turn, epoch
    faults.py   typed errors across Triton   wire.py    arrays <-> KServe messages
    client.py   a streaming client on those messages

Only `client` and `wire` need gRPC and the KServe messages: the rooms' images hold neither.
"""

from services.shared.triton.context import RequestContext
from services.shared.triton.specs import MODELS, POOLS
from services.shared.triton.tensors import DType, ModelKind, ModelSpec, TensorSpec

__all__ = ["MODELS", "POOLS", "DType", "ModelKind", "ModelSpec", "RequestContext", "TensorSpec"]

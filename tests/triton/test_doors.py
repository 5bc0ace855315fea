"""What the live servers say of their models is what the specs say."""

import pytest

from services.shared.errors import InvalidInputError, RoomUnavailableError
from services.shared.triton import MODELS, ModelSpec, TensorSpec
from services.shared.triton.client import TritonClient
from services.shared.triton.tensors import DType, ModelKind
from tests.triton.conftest import Rooms

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_a_live_servers_metadata_is_the_spec(rooms: Rooms, spec: ModelSpec) -> None:
    said = rooms.ask(spec.pool, lambda client: client.metadata(spec, timeout_s=5))
    batch = [-1] if spec.has_batch_dimension else []
    for tensors, live in ((spec.inputs, said.inputs), (spec.outputs, said.outputs)):
        declared = [(tensor.name, tensor.dtype.value, [*batch, *tensor.shape]) for tensor in tensors]
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in live] == declared


def test_a_model_that_is_not_served_is_a_typed_error(rooms: Rooms) -> None:
    ghost = ModelSpec("ghost", "lm", ModelKind.SINGLE, "no such model", (TensorSpec("x", DType.INT32, (1,), "x"),), ())
    with pytest.raises(RoomUnavailableError, match="ghost"):
        rooms.ask("lm", lambda client: client.infer(ghost, {"x": [1]}, timeout_s=5))


def test_a_server_that_is_not_there_is_a_typed_error(rooms: Rooms) -> None:
    async def ask(_: TritonClient) -> None:
        async with TritonClient("127.0.0.1:1") as nobody:
            await nobody.metadata(MODELS[0], timeout_s=5)

    with pytest.raises(RoomUnavailableError):
        rooms.ask("lm", ask)


def test_a_tensor_that_triton_itself_refuses_is_invalid_input(rooms: Rooms) -> None:
    narrow = ModelSpec(
        "speaker_encoder", "vocoder", ModelKind.SINGLE, "half a door", (TensorSpec("pcm", DType.INT32, (1,), "x"),), ()
    )
    with pytest.raises(InvalidInputError, match="speaker_encoder"):
        rooms.ask("vocoder", lambda client: client.infer(narrow, {"pcm": [1]}, timeout_s=5))

"""Every message survives the wire and JSON; options know what was set; JSON looks as its readers expect."""

import json

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.gen.stepaudio.v1 import (
    audio_pb2,
    chat_pb2,
    conversation_pb2,
    errors_pb2,
    events_pb2,
    metrics_pb2,
    options_pb2,
    session_pb2,
    speech_pb2,
    tools_pb2,
    turn_taking_pb2,
    voice_pb2,
)

pytestmark = pytest.mark.unit

FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        audio_pb2,
        chat_pb2,
        conversation_pb2,
        errors_pb2,
        events_pb2,
        metrics_pb2,
        options_pb2,
        session_pb2,
        speech_pb2,
        tools_pb2,
        turn_taking_pb2,
        voice_pb2,
    )
]
MESSAGES = [message for file in FILES for message in file.message_types_by_name.values()]
VALUES = {
    FieldDescriptor.CPPTYPE_INT32: 2**31 - 1,
    FieldDescriptor.CPPTYPE_INT64: 2**53 + 1,
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
}


def filled(descriptor: Descriptor, choice: int) -> Message:
    """A message with every field set; of a oneof, its field number `choice` counted in a circle."""
    message = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        json_format.Parse('"2026-11-22T15:00:00.250Z"', message)
        return message
    for field in descriptor.fields:
        chosen = (
            field.containing_oneof.fields[choice % len(field.containing_oneof.fields)]
            if field.containing_oneof
            else field
        )
        if chosen.number == field.number:
            fill(message, field, choice)
    return message


def fill(message: Message, field: FieldDescriptor, choice: int) -> None:
    repeated = field.is_repeated
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)["clé"] = "值"
    elif field.message_type is not None and field.message_type.full_name == "google.protobuf.Any":
        return
    elif field.message_type is not None:
        target = getattr(message, field.name)
        (target.add() if repeated else target).CopyFrom(filled(field.message_type, choice))
    elif repeated:
        getattr(message, field.name).append(value_of(field))
    else:
        setattr(message, field.name, value_of(field))


def value_of(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"\x00\xff" if field.type == FieldDescriptor.TYPE_BYTES else "你好 🙂"
    return VALUES[field.cpp_type]


def choices(descriptor: Descriptor) -> int:
    return max([1, *(len(oneof.fields) for oneof in descriptor.oneofs)])


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.name)
def test_a_full_message_survives_the_wire_and_json(descriptor: Descriptor) -> None:
    for choice in range(choices(descriptor)):
        message = filled(descriptor, choice)
        parsed = GetMessageClass(descriptor)()
        parsed.ParseFromString(message.SerializeToString())
        assert parsed == message
        assert json_format.Parse(json_format.MessageToJson(message), GetMessageClass(descriptor)()) == message


@pytest.mark.parametrize(
    "descriptor",
    [
        *options_pb2.DESCRIPTOR.message_types_by_name.values(),
        *turn_taking_pb2.DESCRIPTOR.message_types_by_name.values(),
    ],
    ids=lambda descriptor: descriptor.name,
)
def test_every_option_tells_unset_from_zero(descriptor: Descriptor) -> None:
    """An update keeps what is not set: presence says it, or the UNSPECIFIED value."""
    assert [field.name for field in descriptor.fields if not field.has_presence and field.enum_type is None] == []


def test_a_start_in_json_reads_as_its_fields() -> None:
    written = {
        "start": {
            "inputAudio": {"encoding": "AUDIO_ENCODING_OPUS", "sampleRateHz": 48000},
            "replyAudio": {"encoding": "AUDIO_ENCODING_PCM16", "sampleRateHz": 24000},
            "replyChunkMs": 20,
            "options": {
                "voice": {"voiceId": "Tingting", "speed": 1.5},
                "turnTaking": {
                    "mode": "ENDPOINTING_MODE_SILENCE",
                    "whileIdle": {"completeSilenceMs": 500},
                    "bargeIn": {"enabled": False},
                },
                "partialTranscripts": True,
            },
            "labels": {"call": "42"},
        }
    }
    request = json_format.ParseDict(written, conversation_pb2.ConverseRequest())
    assert request.start.options.turn_taking.barge_in.HasField("enabled")
    assert not request.start.options.HasField("system_prompt")
    assert json_format.MessageToDict(request) == written


def test_positions_are_text_in_json_and_audio_is_base64() -> None:
    audio = conversation_pb2.ConverseResponse(
        sequence=2**53 + 1,
        turn=3,
        epoch=2,
        reply_audio=events_pb2.ReplyAudio(audio=audio_pb2.AudioChunk(data=b"\x00\xff", first_sample=38400)),
    )
    assert json.loads(json_format.MessageToJson(audio)) == {
        "sequence": "9007199254740993",
        "turn": 3,
        "epoch": 2,
        "replyAudio": {"audio": {"data": "AP8=", "firstSample": "38400"}},
    }


def test_an_event_that_a_client_does_not_know_is_no_event_and_is_passed_on_whole() -> None:
    known = conversation_pb2.ConverseResponse(sequence=7, turn=1, epoch=1)
    newer = known.SerializeToString() + bytes([0xC2, 0x3E, 2, 8, 1])  # field 1000: a message with one number
    event = conversation_pb2.ConverseResponse.FromString(newer)
    assert event.WhichOneof("event") is None
    assert (event.sequence, event.turn) == (7, 1)
    assert event.SerializeToString() == newer

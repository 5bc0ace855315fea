"""What the API promises about the order of its events, held against what a client got; the numbers are those of
conversation.proto."""

from collections.abc import Sequence

from protos.gen.stepaudio.v1 import conversation_pb2

Event = conversation_pb2.ConverseResponse


def kind_of(event: Event) -> str:
    return str(event.WhichOneof("event"))


def check_order(events: Sequence[Event]) -> None:
    """Events of one session, of all its streams, to the end of the last one."""
    assert kind_of(events[0]) == "session_started"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1)), "2"
    epochs = [event.epoch for event in events]
    assert epochs == sorted(epochs), "3"
    ended = [event.turn for event in events if kind_of(event) == "turn_ended"]
    begun = [event.turn for event in events if kind_of(event) == "reply_started"]
    assert ended == sorted(set(ended)), "5"
    assert set(begun) <= set(ended), "10"
    for turn in begun:
        _check_turn([event for event in events if event.turn == turn])


def _check_turn(events: Sequence[Event]) -> None:
    kinds = [kind_of(event) for event in events]
    reply = [kind for kind in kinds if kind.startswith("reply_")]
    assert reply[0] == "reply_started", "4"
    assert "reply_ended" not in reply[:-1], "4"
    assert kinds[-1] == "turn_ended", "4"
    text, position = "", 0
    for event in events:
        if event.HasField("reply_text"):
            text += event.reply_text.text
        elif event.HasField("reply_audio"):
            assert event.reply_audio.spoken_characters <= len(text), "6"
            assert event.reply_audio.audio.first_sample == position, "7"
            position += len(event.reply_audio.audio.data) // 4
    if "speech_started" in kinds:
        assert kinds.index("speech_started") < kinds.index("speech_stopped") < kinds.index("reply_started"), "8"

"""All rooms without a server or a network: scripted timing, scripted faults, the same output for the same input.

    rooms = FakeRooms(sleep=clock.sleep)                  in virtual time; without `sleep`, nothing ever waits
    rooms.chat.answers = ["Hello. How are you?"]          the next replies, in turn
    rooms.chat.faults.append(Fault(error, after=2))       the next call: two outputs, then the error
    rooms.vocoder.faults.append(Fault(None))              … or never an output again
    rooms.live                                            what has not ended, by room: {} when nothing leaks

    benchmarks: FakeRooms(PACED, sleep=asyncio.sleep).rooms is a paced set whose delays are those of small models.

What comes out is made up and says nothing about the real rooms, but keeps their rules: whole groups of five tokens,
any cut of the input gives the same output, the same seed gives the same speech, every await can be cancelled.
"""

from services.orchestrator.ports.rooms import Rooms
from tests.fakes.rooms.chat import FakeChatModel
from tests.fakes.rooms.hearing import FakeTokenizer, FakeUtterance
from tests.fakes.rooms.made_up import (
    EMBEDDING_SIZE,
    GROUP_SAMPLES,
    INPUT_RATE_HZ,
    MEL_CHANNELS,
    OUTPUT_RATE_HZ,
    group_of,
    made_up_voice,
    tokens_of,
    wave_of,
)
from tests.fakes.rooms.room import INSTANT, PACED, FakeRoom, Fault, Pace, Paces, Sleep, meet
from tests.fakes.rooms.speech import FakeBuiltInVoices, FakeSpeechModel, FakeSpeechStream, FakeVocoder, FakeVoiceMaker

__all__ = [
    "EMBEDDING_SIZE",
    "GROUP_SAMPLES",
    "INPUT_RATE_HZ",
    "INSTANT",
    "MEL_CHANNELS",
    "OUTPUT_RATE_HZ",
    "PACED",
    "FakeBuiltInVoices",
    "FakeChatModel",
    "FakeRoom",
    "FakeRooms",
    "FakeSpeechModel",
    "FakeSpeechStream",
    "FakeTokenizer",
    "FakeUtterance",
    "FakeVocoder",
    "FakeVoiceMaker",
    "Fault",
    "Pace",
    "Paces",
    "Sleep",
    "group_of",
    "made_up_voice",
    "meet",
    "tokens_of",
    "wave_of",
]


class FakeRooms:
    """One of each.

    Attributes:
        rooms: all of them as the ports' bundle.
    """

    def __init__(self, paces: Paces = INSTANT, *, sleep: Sleep | None = None, context_tokens: int = 4096) -> None:
        """Args: paces: delays. sleep: waits so long in the caller's time; without it nothing waits."""
        self.tokenizer = FakeTokenizer(paces, sleep)
        self.chat = FakeChatModel(paces, sleep, context_tokens=context_tokens)
        self.speech = FakeSpeechModel(paces, sleep)
        self.vocoder = FakeVocoder(paces, sleep)
        self.voices = FakeVoiceMaker(paces, sleep)
        self.built_in = FakeBuiltInVoices(paces, sleep)
        self.rooms = Rooms(self.tokenizer, self.chat, self.speech, self.vocoder, self.voices, self.built_in)

    @property
    def live(self) -> dict[str, int]:
        """What has begun and not ended, by room; empty when nothing leaks."""
        rooms: dict[str, FakeRoom] = {
            "tokenizer": self.tokenizer,
            "chat": self.chat,
            "speech": self.speech,
            "vocoder": self.vocoder,
            "voices": self.voices,
            "built_in": self.built_in,
        }
        return {name: room.live for name, room in rooms.items() if room.live}

"""The user's turn: when it begins, pauses and ends."""

from itertools import pairwise

import pytest

from services.orchestrator.conversation.effects import (
    DropUtterance,
    EndUtterance,
    OpenUtterance,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import EndOfTurn, OptionsChanged
from services.orchestrator.conversation.options import (
    EndpointingMode,
    EndpointingOptions,
    Options,
    TurnTakingOptions,
    VoiceActivityOptions,
)
from services.orchestrator.conversation.outputs import (
    InputReleased,
    Refused,
    ReplyStarted,
    SpeechStarted,
    SpeechStopped,
)
from services.shared.errors import InputEndedError, TooManyWaitingTurnsError
from tests.orchestrator.conversation.talk import FRAME_SAMPLES, Talk, all_of, names, one

pytestmark = pytest.mark.unit
MANUAL = Options(turn_taking=TurnTakingOptions(mode=EndpointingMode.MANUAL))
MS = 16


def test_speech_opens_an_utterance_with_its_pre_roll() -> None:
    talk = Talk()
    talk.hush(640)
    effects = talk.speak(96)
    assert names(effects) == ["OpenUtterance", "SpeechStarted"]
    assert one(effects, OpenUtterance) == OpenUtterance(1, (640 - 320) * MS)
    assert one(effects, SpeechStarted).first_sample == 640 * MS


def test_a_pre_roll_never_reaches_before_the_session() -> None:
    assert one(Talk().speak(96), OpenUtterance).first_sample == 0


def test_a_pre_roll_never_reaches_into_the_utterance_before() -> None:
    options = Options(turn_taking=TurnTakingOptions(while_idle=EndpointingOptions(50, 100, 200)))
    talk = Talk(options)
    talk.speak()
    end = one(talk.hush(128), EndUtterance).end_sample
    assert one(talk.speak(96), OpenUtterance).first_sample == end


def test_a_pause_is_told_and_speech_goes_on_in_the_same_utterance() -> None:
    talk = Talk()
    talk.speak(640)
    effects = talk.hush(224)
    assert names(effects) == ["SpeechStopped"]
    assert one(effects, SpeechStopped).end_sample == 640 * MS
    effects = talk.speak(96)
    assert names(effects) == ["SpeechStarted"]
    assert one(effects, SpeechStarted).first_sample == (640 + 224) * MS


def test_a_click_in_a_pause_neither_resumes_the_speech_nor_puts_the_end_off() -> None:
    talk = Talk()
    talk.speak(640)
    talk.hush(320)
    assert talk.speak(32) == ()
    assert "EndUtterance" in names(talk.hush(352))


def test_speech_that_begins_just_before_the_end_of_silence_is_not_cut_off() -> None:
    talk = Talk()
    talk.speak(640)
    talk.hush(672)
    assert names(talk.speak(96)) == ["SpeechStarted"]


def test_silence_ends_the_turn_and_the_utterance_has_a_tail_of_it() -> None:
    talk = Talk()
    talk.speak(640)
    assert "EndUtterance" not in names(talk.hush(672))
    effects = talk.hush(32)
    assert one(effects, EndUtterance).end_sample == (640 + 160) * MS
    assert names(effects)[:3] == ["EndUtterance", "StartReply", "ReplyStarted"]


def test_settled_audio_is_never_taken_out_of_the_utterance_again() -> None:
    talk = Talk()
    settled = 0
    for _ in range(20):
        talk.speak(32)
        assert talk.state.settled_sample >= settled
        settled = talk.state.settled_sample
    talk.hush(320)
    assert talk.state.settled_sample == (640 + 160) * MS
    talk.tell(OptionsChanged(talk.now_s, MANUAL))
    talk.hush(32)
    settled = talk.state.settled_sample
    assert settled == talk.heard
    talk.tell(OptionsChanged(talk.now_s, Options()))
    assert one(talk.hush(640), EndUtterance).end_sample == settled


def test_each_state_of_the_agent_has_its_own_silence() -> None:
    taking = TurnTakingOptions(
        while_idle=EndpointingOptions(50, 320, 640), while_replying=EndpointingOptions(50, 960, 2000)
    )
    talk = Talk(Options(turn_taking=taking))
    talk.speak()
    assert "EndUtterance" in names(talk.hush(320))
    talk.speak()
    assert "EndUtterance" not in names(talk.hush(640))
    assert "EndUtterance" in names(talk.hush(320))


def test_changed_turn_taking_holds_from_the_next_frame() -> None:
    talk = Talk()
    talk.speak()
    talk.hush(320)
    talk.tell(
        OptionsChanged(talk.now_s, Options(turn_taking=TurnTakingOptions(while_idle=EndpointingOptions(50, 100, 200))))
    )
    assert "StartReply" in names(talk.hush(32))


def test_the_longest_utterance_ends_the_turn_there_and_speech_beyond_it_is_the_next_turn() -> None:
    options = Options(turn_taking=TurnTakingOptions(max_utterance_ms=1000))
    talk = Talk(options)
    effects = talk.speak(1024)
    assert one(effects, EndUtterance).end_sample == 1000 * MS
    assert names(effects)[2:] == ["SpeechStopped", "EndUtterance", "StartReply", "ReplyStarted", "SaveOpenTurn"]
    assert one(effects, SpeechStopped).end_sample == 1000 * MS
    effects = talk.speak(96)
    assert one(effects, OpenUtterance) == OpenUtterance(2, 1000 * MS)
    assert one(effects, SpeechStarted).first_sample >= 1000 * MS


@pytest.mark.parametrize("mode", list(EndpointingMode))
def test_the_client_ends_the_turn_in_every_mode(mode: EndpointingMode) -> None:
    talk = Talk(Options(turn_taking=TurnTakingOptions(mode=mode)))
    talk.speak(640)
    effects = talk.end_turn()
    assert names(effects)[:4] == ["SpeechStopped", "EndUtterance", "StartReply", "ReplyStarted"]
    assert one(effects, EndUtterance).end_sample == 640 * MS


@pytest.mark.parametrize("options", [Options(), MANUAL])
def test_end_of_turn_without_speech_since_the_last_turn_does_nothing(options: Options) -> None:
    talk = Talk(options)
    talk.hush(640)
    assert talk.end_turn() == ()
    talk.speak()
    talk.end_turn()
    assert talk.end_turn() == ()


def test_in_manual_mode_silence_ends_nothing_but_is_told() -> None:
    talk = Talk(MANUAL)
    talk.speak(640)
    assert names(talk.hush(6400)) == ["SpeechStopped"]
    effects = talk.end_turn()
    assert one(effects, EndUtterance).end_sample == talk.heard
    assert one(effects, StartReply).reply.turn == 1


def test_a_manual_utterance_is_all_the_audio_since_the_last_turn() -> None:
    talk = Talk(MANUAL)
    talk.hush(1600)
    assert one(talk.speak(640), OpenUtterance).first_sample == 0
    end = one(talk.end_turn(), EndUtterance).end_sample
    talk.hush(1600)
    assert one(talk.speak(640), OpenUtterance).first_sample == end


def test_a_manual_utterance_has_no_silence_that_was_released() -> None:
    talk = Talk(MANUAL)
    released = all_of(talk.hush(16_000), InputReleased)[-1].before_sample
    assert one(talk.speak(96), OpenUtterance).first_sample >= released > 0


def test_the_end_of_input_makes_unfinished_speech_a_turn() -> None:
    talk = Talk()
    talk.speak()
    assert "StartReply" in names(talk.end_input())


def test_audio_after_the_end_of_input_is_refused() -> None:
    talk = Talk()
    talk.text()
    talk.end_input()
    assert isinstance(one(talk.hush(32), Refused).error, InputEndedError)


def test_silence_is_released_every_five_seconds() -> None:
    talk = Talk()
    released = []
    for second in range(1, 31):
        released += [(second, event.before_sample) for event in all_of(talk.hush(992), InputReleased)]
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(released)]
    assert len(released) == 6
    assert released[0][0] <= 5
    assert max(gaps) <= 5000 * MS


def test_no_audio_is_released_that_an_open_or_waiting_utterance_has() -> None:
    talk = Talk()
    talk.text()
    talk.hush(2000)
    first = one(talk.speak(), OpenUtterance).first_sample
    talk.hush(9600)
    assert talk.state.released_sample <= first
    talk.reply()
    talk.heard_all()
    assert "InputReleased" in names(talk.hush(6400))
    assert talk.state.released_sample > first


def test_speech_carries_the_number_that_its_turn_will_get() -> None:
    talk = Talk()
    talk.text("a")
    talk.text("b", after_reply=True)
    turns = {effect.turn for effect in talk.say_turn() if hasattr(effect, "turn")}
    assert turns == {3}


def test_speech_during_a_reply_waits_until_the_reply_was_heard() -> None:
    talk = Talk()
    talk.text()
    assert "StartReply" not in names(talk.say_turn())
    talk.reply()
    effects = talk.heard_all()
    assert one(effects, ReplyStarted).request_id == ""
    assert one(effects, StartReply).reply.turn == 2


def test_more_spoken_turns_than_may_wait_are_refused_and_told() -> None:
    talk = Talk()
    talk.text()
    for _ in range(8):
        assert "Refused" not in names(talk.say_turn())
    effects = talk.say_turn()
    assert isinstance(one(effects, Refused).error, TooManyWaitingTurnsError)
    assert one(effects, DropUtterance).utterance == 9


def test_a_written_turn_drops_unfinished_speech() -> None:
    talk = Talk()
    talk.speak()
    effects = talk.text()
    assert names(effects)[:3] == ["SpeechStopped", "DropUtterance", "StartReply"]
    assert talk.hush() == ()
    assert not all_of(talk.effects, Transcribe)


def test_having_something_said_drops_no_speech() -> None:
    talk = Talk()
    talk.speak()
    assert "DropUtterance" not in names(talk.say())


def test_a_frame_that_was_heard_before_changes_nothing() -> None:
    talk = Talk()
    talk.hush(320)
    before = talk.state
    talk.heard -= FRAME_SAMPLES * 2
    talk.speak(32)
    assert talk.state == before


def test_the_shortest_utterance_still_has_room_for_its_speech() -> None:
    activity = VoiceActivityOptions(min_speech_ms=320, pre_roll_ms=1000)
    talk = Talk(Options(turn_taking=TurnTakingOptions(voice_activity=activity, max_utterance_ms=1000)))
    talk.hush(3200)
    opened = one(talk.speak(320), OpenUtterance).first_sample
    assert opened == (3200 - 500) * MS


def test_speech_after_a_written_turn_has_nothing_of_the_speech_that_was_dropped() -> None:
    talk = Talk()
    talk.speak()
    talk.text()
    dropped_before = talk.heard
    assert one(talk.speak(96), OpenUtterance).first_sample == dropped_before


def test_a_manual_utterance_has_the_audio_that_no_frame_has_judged_yet() -> None:
    talk = Talk(MANUAL)
    talk.speak()
    talk.hush(320)
    assert one(talk.tell(EndOfTurn(talk.now_s, talk.heard + 100)), EndUtterance).end_sample == talk.heard + 100
    assert one(talk.speak(96), OpenUtterance).first_sample == talk.heard - 3 * FRAME_SAMPLES + 100

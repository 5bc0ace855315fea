"""How long the silence is that ends a turn: the model's verdict, the caller's pauses, the words."""

from dataclasses import replace

import pytest

from services.orchestrator.conversation.effects import AskTurnModel, EndUtterance, Transcribe
from services.orchestrator.conversation.events import OptionsChanged, ToolCallMade, Transcribed, TurnJudged
from services.orchestrator.conversation.options import (
    EndpointingMode,
    EndpointingOptions,
    Options,
    Tool,
    TurnTakingOptions,
)
from services.orchestrator.conversation.outputs import Transcript
from services.orchestrator.conversation.record import ToolCall
from tests.orchestrator.conversation.talk import Talk, all_of, names, one

pytestmark = pytest.mark.unit
MODEL = Options(turn_taking=TurnTakingOptions(mode=EndpointingMode.TURN_MODEL))
FRAME_MS = 32


def options(**knobs: int | float | bool) -> Options:
    """Silence alone, with these knobs while the agent is idle."""
    return Options(turn_taking=TurnTakingOptions(while_idle=EndpointingOptions(**knobs)))  # type: ignore[arg-type]  # their own types


def paused(chosen: Options) -> Talk:
    """A user who has just begun to pause."""
    talk = Talk(chosen)
    talk.speak()
    talk.hush(224)
    return talk


def silence_until_the_end(talk: Talk, limit_ms: int = 4000) -> int:
    """How long the silence is, after the 224 ms of the pause, in whole frames."""
    silent_ms = 224
    while silent_ms < limit_ms:
        silent_ms += FRAME_MS
        if all_of(talk.hush(FRAME_MS), EndUtterance):
            return silent_ms
    return 0


def frames(ms: int) -> int:
    return -(-ms // FRAME_MS) * FRAME_MS


def judge(talk: Talk, probability: float, end_sample: int | None = None) -> bool:
    """The model's verdict; whether it ended the turn at once."""
    heard = talk.heard if end_sample is None else end_sample
    return bool(all_of(talk.tell(TurnJudged(talk.now_s, 1, heard, probability)), EndUtterance))


def words(talk: Talk, text: str) -> bool:
    """The words so far; whether they ended the turn at once."""
    event = Transcribed(talk.now_s, 1, text, is_final=False, end_sample=talk.heard)
    return bool(all_of(talk.tell(event), EndUtterance))


def test_the_turn_model_is_asked_once_at_each_pause() -> None:
    talk = paused(MODEL)
    assert one(talk.effects, AskTurnModel) == AskTurnModel(1, talk.state.ears.end_sample)
    talk.hush(96)
    talk.speak(96)
    talk.hush(224)
    assert len(all_of(talk.effects, AskTurnModel)) == 2


def test_silence_alone_asks_no_model() -> None:
    assert not all_of(paused(Options()).effects, AskTurnModel)


@pytest.mark.parametrize(("probability", "silence_ms"), [(0.9, 700), (0.5, 700), (0.49, 2000)])
def test_a_sentence_that_sounds_finished_ends_sooner(probability: float, silence_ms: int) -> None:
    talk = paused(MODEL)
    assert not judge(talk, probability)
    assert silence_until_the_end(talk) == frames(silence_ms)


def test_a_verdict_that_comes_late_ends_the_turn_when_it_comes() -> None:
    talk = paused(MODEL)
    talk.hush(800)
    assert judge(talk, 0.9)


def test_without_a_verdict_the_longest_silence_ends_the_turn() -> None:
    assert silence_until_the_end(paused(MODEL)) == frames(2000)


def test_a_verdict_about_an_earlier_pause_is_none() -> None:
    talk = paused(MODEL)
    early = talk.heard
    talk.speak(96)
    talk.hush(224)
    judge(talk, 0.9, early)
    assert silence_until_the_end(talk) == frames(2000)


def test_a_verdict_about_another_utterance_is_none() -> None:
    talk = paused(MODEL)
    talk.tell(TurnJudged(talk.now_s, 7, talk.heard, 0.9))
    assert silence_until_the_end(talk) == frames(2000)


def test_speech_that_goes_on_puts_off_even_a_finished_turn() -> None:
    talk = paused(MODEL)
    judge(talk, 0.9)
    talk.speak(640)
    assert not all_of(talk.effects, EndUtterance)


def test_the_hard_cap_holds_whatever_the_model_says() -> None:
    taking = replace(MODEL.turn_taking, max_utterance_ms=1000)
    talk = paused(replace(MODEL, turn_taking=taking))
    judge(talk, 0.0)
    assert one(talk.hush(320), EndUtterance).end_sample == 1000 * 16


def test_every_knob_holds_from_the_next_frame_of_a_live_session() -> None:
    talk = paused(MODEL)
    judge(talk, 0.2)
    talk.hush(320)
    quick = replace(MODEL.turn_taking, while_idle=EndpointingOptions(complete_threshold=0.1, complete_silence_ms=500))
    talk.tell(OptionsChanged(talk.now_s, Options(turn_taking=quick)))
    assert one(talk.hush(FRAME_MS), EndUtterance)


def pauses(talk: Talk, *lengths_ms: int) -> None:
    """The user speaks with these pauses and goes on speaking."""
    for length_ms in lengths_ms:
        talk.hush(length_ms)
        talk.speak(320)


@pytest.mark.parametrize(
    ("lengths_ms", "silence_ms"),
    [((), 700), ((640,), 861), ((640,) * 3, 1058), ((320,) * 5, 761), ((224,) * 5, 609)],
)
def test_the_silence_follows_the_pauses_that_the_caller_makes(lengths_ms: tuple[int, ...], silence_ms: int) -> None:
    talk = Talk(options(adapt_to_caller=True))
    talk.speak()
    pauses(talk, *lengths_ms)
    talk.hush(224)
    assert silence_until_the_end(talk) == frames(silence_ms)


def test_the_learned_silence_is_bounded_and_only_for_who_asks_for_it() -> None:
    slow = Talk(options(adapt_to_caller=True, complete_silence_ms=1500))
    slow.speak()
    pauses(slow, *(1472,) * 5)
    slow.hush(224)
    assert silence_until_the_end(slow) == frames(2000)
    quick = Talk(options(adapt_to_caller=True, complete_silence_ms=1500, pause_ms=50))
    quick.speak()
    pauses(quick, *(64,) * 20)
    quick.hush(224)
    assert silence_until_the_end(quick) == frames(750)
    plain = Talk(options())
    plain.speak()
    pauses(plain, *(320,) * 6)
    plain.hush(224)
    assert silence_until_the_end(plain) == frames(700)


def test_a_turn_that_was_cut_off_teaches_a_longer_pause() -> None:
    talk = Talk(options(adapt_to_caller=True))
    for _ in range(4):
        talk.speak()
        talk.hush(960)
        talk.speak(96)
        talk.text(f"r{len(talk.effects)}")
        talk.reply()
        talk.heard_all()
    talk.speak()
    talk.hush(224)
    assert silence_until_the_end(talk) == frames(1416)


@pytest.mark.parametrize(("heard_ms", "is_learned"), [(0, True), (224, True), (288, False)])
def test_speech_that_goes_on_before_an_answer_can_have_been_listened_to_shows_that_the_turn_was_cut_off(
    heard_ms: int, is_learned: bool
) -> None:
    talk = Talk(options(adapt_to_caller=True))
    talk.speak()
    talk.hush(704)
    talk.make_text("It rains today.")
    talk.make_audio(0, 1000, 15)
    talk.hush(heard_ms)
    talk.speak(96)
    assert talk.state.pauses_ms == ((704 + heard_ms,) if is_learned else ())


@pytest.mark.parametrize(("spoken_ms", "turns", "silence_ms"), [(1600, 0, 700), (1600, 3, 592), (960, 3, 700)])
def test_who_never_pauses_is_answered_sooner_after_some_turns(spoken_ms: int, turns: int, silence_ms: int) -> None:
    talk = Talk(options(adapt_to_caller=True))
    for _ in range(turns):
        talk.speak(spoken_ms)
        talk.hush(960)
        talk.reply()
        talk.heard_all()
    talk.speak()
    talk.hush(224)
    assert silence_until_the_end(talk) == frames(silence_ms)


@pytest.mark.parametrize(
    ("text", "silence_ms"), [("Yes.", 320), ("是的", 320), ("yes but", 700), ("the number is 4 1", 1500), ("", 700)]
)
def test_one_known_word_ends_soon_and_spelling_is_waited_for(text: str, silence_ms: int) -> None:
    talk = paused(options(one_word_silence_ms=300, spelling_silence_ms=1500))
    assert one(talk.effects, Transcribe) == Transcribe(1, (640 + 160) * 16)
    assert not words(talk, text)
    assert silence_until_the_end(talk) == frames(silence_ms)


def test_a_known_word_that_is_written_down_late_ends_the_turn_when_it_is() -> None:
    talk = paused(options(one_word_silence_ms=250))
    talk.hush(96)
    assert words(talk, "yes")


def test_words_of_speech_before_the_newest_are_no_clue() -> None:
    talk = paused(options(one_word_silence_ms=250))
    heard = talk.heard
    talk.speak(96)
    talk.hush(224)
    talk.tell(Transcribed(talk.now_s, 1, "yes", is_final=False, end_sample=heard))
    assert silence_until_the_end(talk) == frames(700)


def test_words_are_asked_for_only_where_they_are_of_use() -> None:
    assert not all_of(paused(Options()).effects, Transcribe)
    talk = paused(Options(partial_transcripts=True))
    assert len(all_of(talk.effects, Transcribe)) == 1
    said = one(talk.tell(Transcribed(talk.now_s, 1, "rain", is_final=False, end_sample=100)), Transcript)
    assert said == Transcript("rain", False, 0, 100)


def test_partial_words_are_not_told_to_who_did_not_ask() -> None:
    talk = paused(options(one_word_silence_ms=300))
    assert talk.tell(Transcribed(talk.now_s, 1, "rain", is_final=False, end_sample=talk.heard)) == ()


def test_while_tools_run_their_own_silence_ends_the_turn() -> None:
    taking = TurnTakingOptions(while_tool_running=EndpointingOptions(complete_silence_ms=400))
    talk = Talk(Options(turn_taking=taking, tools=(Tool("weather", "w"),)))
    talk.text()
    talk.tell(ToolCallMade(talk.now_s, talk.live, ToolCall("c1", "weather", "{}")))
    talk.speak()
    talk.hush(224)
    assert silence_until_the_end(talk) == frames(400)


def test_a_pause_is_told_as_before() -> None:
    assert names(paused(MODEL).effects) == ["OpenUtterance", "SpeechStarted", "SpeechStopped", "AskTurnModel"]

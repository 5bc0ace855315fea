"""Both models of the vocoder over the wire: the samples of the room itself, also when callers share a pass."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import FIRST_FLOW_STEPS
from services.shared.audio.files import read_audio
from services.shared.errors import (
    EmptyAudioError,
    InvalidInputError,
    InvalidOptionError,
    MissingFileError,
    NonFiniteAudioError,
    StepAudioError,
    UnknownTokenError,
)
from services.shared.paths import MUSIC_VOCODER_FOLDER, SPEAKERS_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.shared.triton.client import TritonClient
from services.shared.triton.context import RequestContext
from services.shared.triton.specs import SPEAKER_ENCODER, TOKEN_TO_WAVE
from services.shared.triton.tensors import Array
from services.vocoder import Vocoder, VoiceFeatures, load_vocoder
from services.vocoder.streaming import Push, StreamSettings
from tests.conftest import NANO, report
from tests.triton.conftest import Rooms
from tests.vocoder.engine.toy import write_folder

pytestmark = pytest.mark.integration

Samples = NDArray[np.float32]
Pieces = Sequence[NDArray[np.int64]]
POOL = TOKEN_TO_WAVE.pool
SEED = 11
TOLERANCE = 2e-4
"""Passes of several streams multiply in another order than passes of one."""
PIECES = [np.random.default_rng(place).integers(0, 5120, 20) for place in range(4)]


@pytest.fixture(scope="module")
def room() -> Vocoder:
    settings = StreamSettings(first_steps=FIRST_FLOW_STEPS)
    return load_vocoder(NANO / TTS_FOLDER / VOCODER_FOLDER, stream_settings=settings)


@pytest.fixture(scope="module")
def clip() -> tuple[Samples, int]:
    audio = read_audio(NANO / TTS_FOLDER / SPEAKERS_FOLDER / "Nano_prompt.wav")
    return audio.samples[: 1 * audio.sample_rate_hz], audio.sample_rate_hz


@pytest.fixture(scope="module")
def voice(room: Vocoder, clip: tuple[Samples, int]) -> VoiceFeatures:
    return room.voice_features(*clip, tokens=np.arange(40) * 31)


def wire(voice: VoiceFeatures) -> dict[str, object]:
    return {
        "voice_tokens": voice.tokens,
        "voice_mel": np.asarray(voice.mel)[0],
        "voice_embedding": voice.embedding,
    }


async def speak(
    client: TritonClient, voice: VoiceFeatures, pieces: Pieces, *, seed: int = SEED, music: bool = False
) -> list[Samples]:
    """The chunks of a stream; the state goes to and fro."""
    chunks: list[Samples] = []
    state: dict[str, Array] = {}
    for place, tokens in enumerate(pieces):
        request = {**wire(voice), **state, "speech_tokens": tokens, "seed": [seed], "last": [place == len(pieces) - 1]}
        request |= {"music": [True]} if music else {}
        answer = await client.infer(TOKEN_TO_WAVE, request, timeout_s=60)
        chunks.append(answer.pop("pcm"))
        state = answer
    return chunks


def in_process(room: Vocoder, voice: VoiceFeatures, pieces: Pieces, *, seed: int = SEED) -> list[Samples]:
    chunks, state = [], room.initial_state(seed)
    for place, tokens in enumerate(pieces):
        samples, state = room.chunk(tokens, voice, state, final=place == len(pieces) - 1)
        chunks.append(samples)
    return chunks


def test_chunks_are_those_of_the_room(rooms: Rooms, room: Vocoder, voice: VoiceFeatures) -> None:
    streamed = rooms.ask(POOL, lambda client: speak(client, voice, PIECES))
    wanted = in_process(room, voice, PIECES)
    assert [len(chunk) for chunk in streamed] == [len(chunk) for chunk in wanted]
    assert sum(map(len, streamed)) == 256 * room.flow.frame_count(80)
    report("token_to_wave over Triton", np.concatenate(streamed), np.concatenate(wanted), max_abs=TOLERANCE)


def test_callers_that_share_a_pass_hear_what_they_would_hear_alone(
    rooms: Rooms, room: Vocoder, voice: VoiceFeatures
) -> None:
    async def all_at_once(client: TritonClient) -> list[list[Samples]]:
        return await asyncio.gather(*(speak(client, voice, PIECES[:2], seed=seed) for seed in range(4)))

    passes, requests = (rooms.metric(TOKEN_TO_WAVE, f"batch_requests_{what}") for what in ("count", "sum"))
    together = rooms.ask(POOL, all_at_once)
    for seed, chunks in enumerate(together):
        wanted = in_process(room, voice, PIECES[:2], seed=seed)
        report(f"stream {seed} of 4", np.concatenate(chunks), np.concatenate(wanted), max_abs=TOLERANCE)
    passes = rooms.metric(TOKEN_TO_WAVE, "batch_requests_count") - passes
    requests = rooms.metric(TOKEN_TO_WAVE, "batch_requests_sum") - requests
    assert requests == 8
    assert passes < requests


def test_fewer_steps_and_a_shorter_first_hop_are_taken_on_request(
    rooms: Rooms, room: Vocoder, voice: VoiceFeatures
) -> None:
    request = {**wire(voice), "speech_tokens": np.concatenate(PIECES)[:20], "seed": [SEED], "last": [False]}
    saved = {"flow_steps": [2], "first_hop_frames": [15]}

    async def both(client: TritonClient) -> list[Samples]:
        asked = (request, {**request, **saved})
        return [(await client.infer(TOKEN_TO_WAVE, tensors, timeout_s=60))["pcm"] for tensors in asked]

    usual, sooner = rooms.ask(POOL, both)
    tokens = np.concatenate(PIECES)[:20]
    push = Push(tokens, voice, room.initial_state(SEED), final=False, steps=2, first_hop_frames=15)
    (wanted,) = room.chunks([push])
    assert not isinstance(wanted, StepAudioError)
    assert len(usual) == 0
    report("two steps over Triton", sooner.copy(), wanted[0], max_abs=TOLERANCE)


def test_of_requests_that_wait_those_due_first_are_taken_first(rooms: Rooms, voice: VoiceFeatures) -> None:
    """One pass runs and one more may be formed already; of all the others, what has no slack goes first."""
    patient, urgent, passed = 40, 8, 8
    answered: list[int] = []

    async def ask(client: TritonClient, tokens: NDArray[np.int64], slack_ms: int) -> None:
        request = {**wire(voice), "speech_tokens": tokens, "seed": [SEED], "last": [True]}
        context = RequestContext(slack_ms=slack_ms)
        await client.infer(TOKEN_TO_WAVE, request, timeout_s=60, context=context)
        answered.append(slack_ms)

    async def all_at_once(client: TritonClient) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(client, np.tile(np.concatenate(PIECES), 8), 0))
            await asyncio.sleep(0.05)
            for slack_ms in (2000,) * patient + (50,) * urgent:
                tasks.create_task(ask(client, PIECES[0], slack_ms))

    rooms.ask(POOL, all_at_once)
    last_urgent = max(place for place, slack_ms in enumerate(answered) if slack_ms == 50)
    assert last_urgent <= urgent + 2 * passed
    assert len(answered) == 1 + patient + urgent


def test_a_wrong_request_does_not_spoil_the_pass_of_its_neighbours(
    rooms: Rooms, room: Vocoder, voice: VoiceFeatures
) -> None:
    async def mixed(client: TritonClient) -> tuple[object, ...]:
        return tuple(
            await asyncio.gather(
                speak(client, voice, PIECES[:1]),
                speak(client, voice, [np.array([5120])]),
                speak(client, voice, PIECES[:1]),
                return_exceptions=True,
            )
        )

    first, refused, last = rooms.ask(POOL, mixed)
    assert isinstance(refused, UnknownTokenError)
    for chunks in (first, last):
        assert isinstance(chunks, list)
        report("beside a refused one", chunks[0].copy(), in_process(room, voice, PIECES[:1])[0], max_abs=TOLERANCE)


def test_the_vocoder_for_music_speaks_where_it_is_asked_for(tmp_path: Path, voice: VoiceFeatures) -> None:
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(NANO / TTS_FOLDER / VOCODER_FOLDER, checkpoints / TTS_FOLDER / VOCODER_FOLDER)
    music = write_folder(checkpoints / TTS_FOLDER / MUSIC_VOCODER_FOLDER)
    settings = LocalSettings(run_folder=tmp_path / "run", checkpoints=checkpoints, engine="torch")
    system = LocalSystem(settings, notify=lambda step: None, pools=(POOL,))

    async def both_at_once() -> list[list[Samples]]:
        await system.start()
        async with TritonClient(system.servers[POOL].address) as client:
            return await asyncio.gather(*(speak(client, voice, PIECES, music=music) for music in (True, False)))

    try:
        sung, spoken = asyncio.run(both_at_once())
    finally:
        system.stop()
    steps = StreamSettings(first_steps=FIRST_FLOW_STEPS)
    for name, chunks, folder in (("sung", sung, music), ("spoken", spoken, NANO / TTS_FOLDER / VOCODER_FOLDER)):
        wanted = in_process(load_vocoder(folder, stream_settings=steps), voice, PIECES)
        report(name, np.concatenate(chunks), np.concatenate(wanted), max_abs=1e-3)
    assert not np.allclose(np.concatenate(sung)[:1000], np.concatenate(spoken)[:1000], atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"music": [True]}, MissingFileError, "nothing can be rapped or hummed; download it or leave out the tag"),
        ({"speech_tokens": [-1]}, UnknownTokenError, "outside"),
        ({"seed": [-1]}, InvalidOptionError, "seed"),
        ({"voice_mel": np.zeros((0, 80))}, InvalidInputError, "give both or neither"),
        ({"voice_embedding": np.full(192, np.nan)}, InvalidInputError, "NaN"),
        ({"state_places": [0, 0, 0, 0, 0]}, InvalidInputError, "all of it or none"),
        ({"flow_steps": [0]}, InvalidOptionError, "1 to 10"),
        ({"flow_steps": [11]}, InvalidOptionError, "1 to 10"),
        ({"first_hop_frames": [0]}, InvalidOptionError, "1 to 172"),
    ],
)
def test_a_wrong_tensor_gets_the_rooms_own_error(
    rooms: Rooms, voice: VoiceFeatures, wrong: dict[str, object], error: type[StepAudioError], said: str
) -> None:
    request = {**wire(voice), "speech_tokens": PIECES[0], "seed": [1], "last": [True], **wrong}
    with pytest.raises(error, match=said):
        rooms.ask(POOL, lambda client: client.infer(TOKEN_TO_WAVE, request, timeout_s=30))


def test_a_state_that_the_room_never_gave_is_refused(rooms: Rooms, voice: VoiceFeatures) -> None:
    async def forge(client: TritonClient) -> None:
        request = {**wire(voice), "speech_tokens": PIECES[0], "seed": [1], "last": [False]}
        answer = await client.infer(TOKEN_TO_WAVE, request, timeout_s=30)
        state = {name: value for name, value in answer.items() if name != "pcm"}
        await client.infer(TOKEN_TO_WAVE, {**request, **state, "state_places": [0, 99, 1, 0, 3]}, timeout_s=30)

    with pytest.raises(InvalidInputError, match="send back what the last response gave"):
        rooms.ask(POOL, forge)


def test_a_voice_over_the_wire_is_the_rooms(rooms: Rooms, voice: VoiceFeatures, clip: tuple[Samples, int]) -> None:
    samples, rate_hz = clip
    request = {"pcm": samples, "sample_rate_hz": [rate_hz]}
    answer = rooms.ask(POOL, lambda client: client.infer(SPEAKER_ENCODER, request, timeout_s=30))
    report("voice mel", answer["voice_mel"].copy(), np.asarray(voice.mel)[0], max_abs=1e-5)
    report("voice embedding", answer["voice_embedding"].copy(), voice.embedding, max_abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"pcm": np.zeros(0)}, EmptyAudioError),
        ({"pcm": np.full(16_000, np.inf)}, NonFiniteAudioError),
        ({"sample_rate_hz": [0]}, InvalidOptionError),
    ],
)
def test_a_clip_without_a_voice_is_refused(rooms: Rooms, wrong: dict[str, object], error: type[StepAudioError]) -> None:
    request = {"pcm": np.zeros(16_000), "sample_rate_hz": [16_000], **wrong}
    with pytest.raises(error):
        rooms.ask(POOL, lambda client: client.infer(SPEAKER_ENCODER, request, timeout_s=30))

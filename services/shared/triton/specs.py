"""Every Triton model of the house, declared once; config.pbtxt, servers and callers are held to this.

    pool        model             kind
    tokenizer   speech_tokenizer  sequence: 16 kHz samples -> speech tokens
    lm          step1_chat        decoupled: ids -> ids, text
    tts         step1_tts         decoupled: ids -> ids, speech
    vocoder     token_to_wave     batched: speech tokens and the stream's state -> samples and the next state
    vocoder     speaker_encoder   single: a clip -> what the flow needs to know of its voice

The order of ids, the state's tensors and the ranges are the rooms' own business; here stands only what passes the door.
"""

from typing import Final

from services.shared.triton.tensors import ANY, DType, ModelKind, ModelSpec, TensorSpec

MEL_CHANNELS: Final = 80
WAVE_RATE_HZ: Final = 22_050
"""Of the samples that token_to_wave gives."""
EMBEDDING_SIZE: Final = 192

SPEECH_TOKENIZER: Final = ModelSpec(
    name="speech_tokenizer",
    pool="tokenizer",
    kind=ModelKind.SEQUENCE,
    doc="Speech to speech tokens, while it is spoken: one sequence an utterance.",
    inputs=(
        TensorSpec("pcm", DType.FP32, (ANY,), "samples at 16 kHz, one channel, -1..1; may be empty"),
        TensorSpec("peek", DType.BOOL, (1,), "give all tokens of the utterance if it ended now", optional=True),
        TensorSpec("segmented", DType.BOOL, (1,), "with START: tokens are final as speech arrives", optional=True),
    ),
    outputs=(
        TensorSpec(
            "speech_tokens",
            DType.INT32,
            (ANY,),
            "codec values 0..5119 in whole groups: those that became final, or with peek all",
        ),
    ),
    max_batch=32,
)


def _step1(name: str, pool: str, doc: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        pool=pool,
        kind=ModelKind.DECOUPLED,
        doc=doc,
        inputs=(
            TensorSpec("input_ids", DType.INT32, (ANY,), "prompt, ids of the checkpoint"),
            TensorSpec("max_new_tokens", DType.INT32, (1,), "tokens to generate at most"),
            TensorSpec("temperature", DType.FP64, (1,), "0 takes the likeliest token", optional=True),
            TensorSpec("top_k", DType.INT32, (1,), "likeliest tokens to choose among; 0 is all", optional=True),
            TensorSpec("top_p", DType.FP64, (1,), "probability of the tokens to choose among", optional=True),
            TensorSpec("seed", DType.INT64, (1,), "the same seed gives the same ids", optional=True),
            TensorSpec("stop_ids", DType.INT32, (ANY,), "ids that end the reply", optional=True),
            TensorSpec("repetition_aware", DType.BOOL, (1,), "forbid a token that repeats", optional=True),
            TensorSpec("allowed_ids", DType.INT32, (2,), "first id and end of the ids allowed", optional=True),
            TensorSpec("ids_per_response", DType.INT32, (1,), "ids gathered before a response", optional=True),
        ),
        outputs=(
            TensorSpec("output_ids", DType.INT32, (ANY,), "ids that follow the earlier ones; no stop id"),
            TensorSpec("finish_reason", DType.BYTES, (1,), "stop or length with the last response; else empty"),
        ),
    )


STEP1_CHAT: Final = _step1("step1_chat", "lm", "The chat model: a prompt of ids to a stream of ids.")
STEP1_TTS: Final = _step1("step1_tts", "tts", "The speech model: a prompt of ids to a stream of speech ids.")

VOICE: Final = (
    TensorSpec("voice_tokens", DType.INT32, (ANY,), "codec values of the voice's clip"),
    TensorSpec("voice_mel", DType.FP32, (ANY, MEL_CHANNELS), "log-mel of the clip, from speaker_encoder"),
    TensorSpec("voice_embedding", DType.FP32, (EMBEDDING_SIZE,), "embedding of the clip, from speaker_encoder"),
)

STREAM_STATE: Final = (
    TensorSpec("state_tokens", DType.INT32, (ANY,), "tokens that the encoder still reads", optional=True),
    TensorSpec("state_places", DType.INT64, (5,), "where tokens, mel, passes and wave stand", optional=True),
    TensorSpec("state_cycles", DType.FP64, (1,), "phase of the harmonic source", optional=True),
    TensorSpec("state_overlap", DType.FP32, (MEL_CHANNELS, ANY), "mel to fade from", optional=True),
    TensorSpec("state_mel", DType.FP32, (MEL_CHANNELS, ANY), "mel that the wave still reads", optional=True),
)
"""All of it or, with the first tokens of a stream, none; a response gives it back under the same names."""

TOKEN_TO_WAVE: Final = ModelSpec(
    name="token_to_wave",
    pool="vocoder",
    kind=ModelKind.BATCHED,
    doc="Speech tokens to samples, chunk by chunk; the caller keeps the stream's state.",
    inputs=(
        TensorSpec("speech_tokens", DType.INT32, (ANY,), "codec values that follow the earlier ones; may be empty"),
        TensorSpec("seed", DType.INT64, (1,), "of all noise, the same for the whole stream"),
        TensorSpec("last", DType.BOOL, (1,), "no tokens follow: everything that is left goes out"),
        TensorSpec("flow_steps", DType.INT32, (1,), "steps from noise to mel, at most; 1 to 10", optional=True),
        TensorSpec("first_hop_frames", DType.INT32, (1,), "mel frames that a first pass waits for", optional=True),
        TensorSpec("music", DType.BOOL, (1,), "through the vocoder for music, if there is one", optional=True),
        *VOICE,
        *STREAM_STATE,
    ),
    outputs=(
        TensorSpec("pcm", DType.FP32, (ANY,), "samples at 22.05 kHz; empty while tokens gather"),
        *(TensorSpec(spec.name, spec.dtype, spec.shape, spec.doc) for spec in STREAM_STATE),
    ),
    max_batch=8,
)

SPEAKER_ENCODER: Final = ModelSpec(
    name="speaker_encoder",
    pool="vocoder",
    kind=ModelKind.SINGLE,
    doc="A clip of a voice to what the flow needs to know of it; run once when a voice is made.",
    inputs=(
        TensorSpec("pcm", DType.FP32, (ANY,), "samples of the clip as recorded, one channel"),
        TensorSpec("sample_rate_hz", DType.INT32, (1,), "their rate"),
    ),
    outputs=(
        TensorSpec("voice_mel", DType.FP32, (ANY, MEL_CHANNELS), "log-mel at 22.05 kHz, frames of 11.6 ms"),
        TensorSpec("voice_embedding", DType.FP32, (EMBEDDING_SIZE,), "speaker embedding, of any length"),
    ),
)

MODELS: Final = (SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS, TOKEN_TO_WAVE, SPEAKER_ENCODER)
POOLS: Final = ("tokenizer", "lm", "tts", "vocoder")

"""The vocoder room: speech tokens and a voice -> wave at 22.05 kHz, whole or in chunks.

`Vocoder` joins flow, HiFT and speaker network of one folder. Nothing random is hidden: a seed decides all noise, and
the same seed gives a stream and an offline run the same noise, frame by frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.shared.errors import InvalidOptionError, StepAudioError
from services.shared.graphs.opening import GraphSettings
from services.vocoder.config import MEL_CHANNELS, SAMPLE_RATE_HZ
from services.vocoder.flow import Flow, load_flow
from services.vocoder.hift import HiFT, load_hift
from services.vocoder.noise import mel_noise, prompt_noise
from services.vocoder.onnx_networks import with_graphs
from services.vocoder.speaker import SpeakerEncoder, analyse_clip, load_speaker
from services.vocoder.streaming import (
    Chunk,
    Push,
    Streamer,
    StreamSettings,
    StreamState,
    excitation,
    initial_state,
)
from services.vocoder.voice import ArrayLike, VoiceFeatures


@dataclass(frozen=True, slots=True, eq=False)
class Vocoder:
    """Token to wave. Build it with `load_vocoder`; it keeps no state between calls."""

    flow: Flow
    hift: HiFT
    speaker: SpeakerEncoder
    stream_settings: StreamSettings = field(default_factory=StreamSettings)
    sample_rate_hz: int = SAMPLE_RATE_HZ

    def voice_features(self, samples: ArrayLike, sample_rate_hz: int, tokens: ArrayLike) -> VoiceFeatures:
        """What the flow needs to know of a voice.

        Args:
            samples: [N] or [C, N] of the prompt clip at any rate, neither trimmed nor normalised.
            sample_rate_hz: their rate.
            tokens: [P] codec values of the clip (of its trimmed form, as released; the flow stretches them).

        Returns:
            the features, as arrays on the CPU.

        Raises:
            EmptyAudioError, NonFiniteAudioError, AudioError: the clip cannot be used.
        """
        mel, embedding = analyse_clip(self.speaker, samples, sample_rate_hz)
        return VoiceFeatures(np.asarray(tokens, dtype=np.int64).reshape(-1), mel, embedding)

    def wave(self, tokens: ArrayLike, voice: VoiceFeatures, *, seed: int) -> NDArray[np.float32]:
        """Speak a whole utterance.

        Args:
            tokens: [N] codec values.
            voice: from `voice_features`.
            seed: of all noise; equal seeds give equal waves.

        Returns:
            [256 M] float32 samples at 22.05 kHz, M = `flow.frame_count(N)`.

        Raises:
            UnknownTokenError: a token, of the utterance or of the voice, is outside the codec.
            InvalidInputError: no tokens, too few for one frame, or a voice that does not fit.
            InvalidOptionError: a seed outside 0 .. 2^63 - 1.
        """
        self.flow.check_tokens(tokens)
        self.flow.check_tokens(voice.tokens)
        frames = self.flow.frame_count(torch.as_tensor(tokens).numel())
        prompt_frames = torch.as_tensor(voice.mel).shape[-2]
        noise = np.concatenate(
            [prompt_noise(seed, MEL_CHANNELS, prompt_frames), mel_noise(seed, MEL_CHANNELS, start=0, end=frames)],
            axis=2,
        )
        mel = self.flow.mel(tokens, voice, noise=noise)
        random = excitation(seed, self.hift.config.harmonics, 0, frames)
        return self.hift.wave(mel, phase=random.phase, noise=random.noise)[0].cpu().numpy()

    def initial_state(self, seed: int) -> StreamState:
        """The state of a stream before its first token. Raises InvalidOptionError for a seed outside 0 .. 2^63 - 1."""
        return initial_state(seed)

    def chunk(
        self, tokens: ArrayLike, voice: VoiceFeatures, state: StreamState, *, final: bool
    ) -> tuple[NDArray[np.float32], StreamState]:
        """Push tokens of a stream and take out the wave that is ready.

        Args:
            tokens: [K] codec values that follow the earlier ones; K may be 0.
            voice: the same at every call of a stream.
            state: what the last call returned; it is not changed.
            final: no tokens follow: everything that is left goes out.

        Returns:
            samples [N] float32 at 22.05 kHz, N may be 0 while tokens gather, and the next state. All chunks together
            are as long as `wave` of all tokens; without tokens at all they are empty.

        Raises:
            UnknownTokenError, InvalidInputError: as `wave`.
        """
        (result,) = self.chunks([Push(tokens, voice, state, final)])
        if isinstance(result, StepAudioError):
            raise result
        return result

    def chunks(self, pushes: Sequence[Push]) -> list[Chunk | StepAudioError]:
        """`chunk` for streams of different callers at once; see `Streamer.chunks`."""
        return Streamer(self.flow, self.hift, self.stream_settings).chunks(pushes)


def load_vocoder(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    stream_settings: StreamSettings | None = None,
    graphs: GraphSettings | None = None,
) -> Vocoder:
    """Load a vocoder folder: `cosyvoice.yaml`, `flow.pt`, `hift.pt`, `campplus.onnx`.

    Args:
        folder: the vocoder's.
        device: where the networks compute.
        dtype: of the flow's networks; bfloat16 is what the release runs. HiFT always runs in float32.
        stream_settings: how a stream is cut; the usual ones if left out.
        graphs: run the networks as exported graphs, which are float32; by torch if left out.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError, CheckpointError: the folder cannot be used, or its
            graphs were not exported.
        InvalidOptionError: graphs in another dtype, or on a device that is not there.
    """
    flow, hift = load_flow(folder, device=device, dtype=dtype), load_hift(folder, device=device)
    if graphs:
        if dtype != torch.float32:
            raise InvalidOptionError(f"exported graphs run in float32, not {dtype}; choose one of both")
        flow, hift = with_graphs(flow, hift, folder, graphs)
    return Vocoder(flow, hift, load_speaker(folder), stream_settings or StreamSettings())

"""HiFT on a mel that arrives piece by piece; the wave equals that of the whole mel in one run.

One frame of the wave depends on `reach` frames of mel and source to each side, and F0 on `reach_f0` more. So the stream
keeps that many frames of the past and holds back the wave of the newest ones:

    mel   |-- f0 reach --|-- trunk reach --|== wave goes out now ==|-- trunk reach --|-- f0 reach --|
          first_frame    ^ source starts here, at `cycles`          ^ sent_frames afterwards

Nothing is faded: the past is computed again, from the same mel, the same F0 and the same noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.vocoder.config import MEL_CHANNELS
from services.vocoder.hift.model import HiFT
from services.vocoder.hift.source import Excitation

ExcitationOf = Callable[[int, int], Excitation]
"""(first frame, end frame) -> phase, and noise of these frames."""


@dataclass(frozen=True, slots=True, eq=False)
class HiftState:
    """Where a stream stands; about 13 KB.

    Attributes:
        mel: [80, K] float32, the frames still needed.
        first_frame: place of mel[:, 0] in the utterance.
        cycles: cycles of the fundamental where the source starts, see the module's picture.
        sent_frames: frames whose wave went out.
    """

    mel: NDArray[np.float32]
    first_frame: int
    cycles: float
    sent_frames: int


def initial_hift_state() -> HiftState:
    """The state before the first frame."""
    return HiftState(np.zeros((MEL_CHANNELS, 0), np.float32), 0, 0.0, 0)


def held_frames(hift: HiFT) -> int:
    """Frames of mel that must follow a frame before its wave goes out."""
    return hift.reach_frames + hift.f0_predictor.reach_frames


@torch.inference_mode()
def push_mel(
    hift: HiFT, mel: Tensor, state: HiftState, excitation: ExcitationOf, *, final: bool
) -> tuple[NDArray[np.float32], HiftState]:
    """Add frames and take out the wave that has become certain.

    Args:
        hift: the network.
        mel: [80, F] new frames; F may be 0.
        state: where the stream stands.
        excitation: the randomness of frames, equal for equal frames.
        final: nothing follows: the rest goes out.

    Returns:
        [N] float32 samples, N a multiple of the hop and possibly 0, and the next state.
    """
    known = torch.cat([torch.from_numpy(state.mel), mel.cpu().float()], dim=1)
    end = state.first_frame + known.shape[1]
    certain = end if final else end - held_frames(hift)
    if certain <= state.sent_frames:
        return np.zeros(0, np.float32), replace(state, mel=known.numpy())
    frames = hift.checked_mel(known[None])
    warm = hift.f0_predictor.reach_frames if state.first_frame else 0
    start = state.first_frame + warm
    f0 = hift.predict_f0(frames)[:, warm:]
    source = hift.m_source(f0, excitation(start, end), state.cycles)
    wave = hift.render(frames[:, :, warm:], source)[0]
    hop = hift.config.hop_samples
    samples = wave[(state.sent_frames - start) * hop : (certain - start) * hop].cpu().numpy()
    first = max(certain - held_frames(hift), 0)
    next_start = first + hift.f0_predictor.reach_frames if first else 0
    passed = f0[:, : next_start - start] if next_start > start else f0[:, :0]
    cycles = hift.m_source.cycles_after(passed, state.cycles)
    kept = known[:, first - state.first_frame :].numpy().copy()
    return samples, HiftState(kept, first, cycles, certain)

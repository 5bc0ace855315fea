"""The turn model by smart-turn v3: whether a speaker has finished, from how the last 8 s sounded.

    the turn's audio    ·······▒▒▒▒▒▒▒ ▒▒▒▒▒▒▒▒▒ ▒▒▒▒▒──|      8 s, silence put in front of a shorter one
    log-mel             [80, 800]
    the network         one number, 0 to 1

One thread of its own judges turns one after another, so that neither the event loop nor voice activity waits for it;
who does not wait any more is not judged. It decides nothing: what the number means is the conversation's business.

The weights are no part of the project. They are a file of 8.7 MB that an operator gets and names (docs/turn-taking.md);
its checksum is compared before it is opened, for a file is code of a kind.

Source: smart-turn v3.2 of Daily (BSD-2-Clause), the variant in integers for processors; the file and the form of its
input are those of the wheel pipecat-ai 1.14.0.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from services.orchestrator.adapters.log_mel import BANDS, HOP_SAMPLES, log_mel
from services.orchestrator.ports.hearing import TURN_SAMPLES
from services.shared.audio.pcm import Samples
from services.shared.errors import AudioError, CorruptFileError, MissingFileError, OverloadedError

_INPUT: Final = "input_features"
_INPUT_SHAPE: Final = [BANDS, TURN_SAMPLES // HOP_SAMPLES]
_LEAST_VARIANCE: Final = 1e-7


class SmartTurnModel:
    """Judges turns, on one thread of its own.

    Args:
        path: the ONNX file.
        sha256: of the file, in hex.
        max_waiting: judgements that may wait.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: it has another checksum, or is no turn model.
    """

    def __init__(self, path: Path, *, sha256: str, max_waiting: int = 64) -> None:
        self._session = _load(path, sha256)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turn-model")

    async def judge(self, samples: Samples) -> float:
        """How likely it is that the turn is complete, 0 to 1.

        Raises:
            AudioError: no samples, or more than 8 s.
            OverloadedError: too many turns wait to be judged.
        """
        if not 0 < len(samples) <= TURN_SAMPLES:
            raise AudioError(f"a turn is judged by 1 to {TURN_SAMPLES} samples, not {len(samples)}")
        if self._waiting >= self._max_waiting:
            raise OverloadedError("more turns wait to be judged than can be in time", limit=str(self._max_waiting))
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, samples)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the thread end; what waits is not judged."""
        self._thread.shutdown(cancel_futures=True)

    def _judge(self, samples: Samples) -> float:
        features = log_mel(normalized(samples))[None]  # [1, 80, 800]
        (probability,) = self._session.run(None, {_INPUT: features})  # [1, 1]
        return float(np.clip(probability[0, 0], 0.0, 1.0))


def normalized(samples: Samples) -> Samples:
    """8 s of mean 0 and variance 1, silence in front where there is less."""
    padded = np.pad(np.asarray(samples, np.float32), (TURN_SAMPLES - len(samples), 0))
    centred = padded - padded.mean()
    scaled: Samples = centred / np.sqrt(centred.var() + _LEAST_VARIANCE)
    return scaled


def _load(path: Path, sha256: str) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise MissingFileError(f"{path} is not a file; see docs/turn-taking.md for how to get the turn model")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptFileError(f"{path} does not have the SHA-256 {sha256}; get the file again, or name its checksum")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptFileError(f"{path} is not readable as an ONNX model ({error})") from error
    inputs = {tensor.name: tensor.shape[1:] for tensor in session.get_inputs()}
    if inputs != {_INPUT: _INPUT_SHAPE} or len(session.get_outputs()) != 1:
        raise CorruptFileError(f"{path} is no turn model: it takes {inputs}, not {_INPUT} of {_INPUT_SHAPE}")
    return session

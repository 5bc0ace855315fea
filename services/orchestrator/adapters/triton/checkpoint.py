"""What the callers of the rooms must know of the checkpoint: tokenizers, sizes, defaults and voices, no weights."""

from dataclasses import dataclass
from pathlib import Path

from services.shared.paths import CHAT_FOLDER, TTS_FOLDER
from services.shared.prompt.chat import CallForm
from services.shared.prompt.speech.decoding import SpeechParams, speech_defaults
from services.shared.sampling import CHAT_PARAMS, SamplingParams, with_checkpoint_defaults
from services.shared.step1_config import Step1Config, read_step1_config
from services.shared.text import TextTokenizer, load_text_tokenizer
from services.shared.voices import VoiceRegistry


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Read once in a process; it never changes.

    Attributes:
        chat_tokenizer, chat_config, chat_params: of Step-Audio-Chat.
        speech_tokenizer, speech_config, speech_params: of Step-Audio-TTS-3B; the tokenizer is one of text.
        voices: the speakers of Step-Audio-TTS-3B.
        call_form: how Step-Audio-Chat is told of functions and calls them.
    """

    chat_tokenizer: TextTokenizer
    chat_config: Step1Config
    chat_params: SamplingParams
    speech_tokenizer: TextTokenizer
    speech_config: Step1Config
    speech_params: SpeechParams
    voices: VoiceRegistry
    call_form: CallForm = CallForm.JSON


def read_checkpoint(folder: Path, call_form: CallForm = CallForm.JSON) -> Checkpoint:
    """Read a folder of checkpoints; it takes a moment, so keep it off the event loop.

    Args:
        folder: holds Step-Audio-Chat and Step-Audio-TTS-3B; their weights are not opened.
        call_form: of the checkpoint, which does not say it itself.

    Raises:
        MissingFileError, CorruptFileError: a file is absent or damaged.
    """
    chat, speech = folder / CHAT_FOLDER, folder / TTS_FOLDER
    return Checkpoint(
        chat_tokenizer=load_text_tokenizer(chat),
        chat_config=read_step1_config(chat),
        chat_params=with_checkpoint_defaults(CHAT_PARAMS, chat),
        speech_tokenizer=load_text_tokenizer(speech),
        speech_config=read_step1_config(speech),
        speech_params=speech_defaults(speech),
        voices=VoiceRegistry.load(speech),
        call_form=call_form,
    )

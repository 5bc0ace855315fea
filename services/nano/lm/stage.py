"""Stages `chat_lm` and `tts_lm`: build the network, train it, write its folder in the public layout.

Decides: sizes and schedules. Refuses to know: what a sequence holds.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from services.nano.domain import build_domain
from services.nano.lm.chat import ChatExamples, spoken_texts
from services.nano.lm.codes import near_values, read_codebooks, starting_vectors
from services.nano.lm.network import TargetSoftmax
from services.nano.lm.speech import SpeechExamples, all_speech
from services.nano.lm.task import LmTask
from services.nano.pronunciation import Pronunciations, read_pronunciations, sound_vectors
from services.nano.standing import begun_from, eased
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.tokens.store import read_renditions
from services.nano.training.loop import Budget, Schedule, load_weights, train
from services.nano.training.recorded import read_clips
from services.shared.nn.step1 import Step1, Step1Config, load_step1
from services.shared.nn.step1.weights import WEIGHTS_FILE
from services.shared.paths import CHAT_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER
from services.shared.text import TextTokenizer, load_text_tokenizer

CHAT_TRAIN_FOLDER: Final = "train/chat_lm"
TTS_TRAIN_FOLDER: Final = "train/tts_lm"
CHAT_SCHEDULE: Final = Schedule(steps=20_000, learning_rate=2e-3, weight_decay=0.05, average=0.998, judge_every=500)
TTS_SCHEDULE: Final = Schedule(steps=15_000, learning_rate=2e-3, weight_decay=0.05, average=0.998, judge_every=500)
_CHAT_LAYERS, _TTS_LAYERS = 6, 6
_CHAT_BATCH, _TTS_BATCH = 24, 12
_EMBEDDING_SCALE: Final = 0.02
_SEED: Final = 20_261
_CONFIG_FILE: Final = "config.json"


def sizes(vocab_size: int, layers: int) -> Step1Config:
    """Sizes of both models; wider ones would not fit the checkpoint's 40 MB."""
    return Step1Config(
        hidden_size=192,
        intermediate_size=512,
        num_attention_heads=8,
        num_attention_groups=2,
        num_hidden_layers=layers,
        vocab_size=vocab_size,
        max_seq_len=4096,
        rms_norm_eps=1e-5,
        eos_ids=(3,),
    )


def run_chat(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Train the chat model; `tokens` has run. Returns whether the schedule is finished."""
    folder = work / CHECKPOINT_FOLDER / CHAT_FOLDER
    tokenizer, books = load_text_tokenizer(folder), read_codebooks(work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER)
    speech, sounds = spoken_texts(read_clips(work), read_renditions(work)), read_pronunciations(work)
    examples = ChatExamples(build_domain(), tokenizer, speech, near_values(books), sounds)
    softmax = TargetSoftmax(torch.from_numpy(examples.targets()), tokenizer.vocab_size)
    model = begin(sizes(tokenizer.vocab_size, _CHAT_LAYERS), tokenizer, books)
    begin_words(model, tokenizer, sounds)
    if standing := begun_from(work):
        model.load_state_dict(load_step1(standing / CHAT_FOLDER).state_dict())
    words, pieces = len(examples.words), tokenizer.audio_offset
    task = LmTask(model, examples, softmax, batch=_CHAT_BATCH, ctc_words=words, hint_pieces=pieces)
    return _train(task, work / CHAT_TRAIN_FOLDER, folder, eased(_of_length(CHAT_SCHEDULE, steps), work), budget)


def run_tts(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Train the speech model; `tokens` has run. Returns whether the schedule is finished."""
    folder = work / CHECKPOINT_FOLDER / TTS_FOLDER
    tokenizer, books = load_text_tokenizer(folder), read_codebooks(work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER)
    spoken, sounds = all_speech(read_clips(work), read_renditions(work)), read_pronunciations(work)
    examples = SpeechExamples(spoken, tokenizer, near_values(books), sounds)
    softmax = TargetSoftmax(torch.from_numpy(examples.targets()), tokenizer.vocab_size)
    model = begin(sizes(tokenizer.vocab_size, _TTS_LAYERS), tokenizer, books)
    begin_words(model, tokenizer, sounds)
    if standing := begun_from(work):
        model.load_state_dict(load_step1(standing / TTS_FOLDER).state_dict())
    task = LmTask(model, examples, softmax, batch=_TTS_BATCH, hint_pieces=tokenizer.audio_offset)
    return _train(task, work / TTS_TRAIN_FOLDER, folder, eased(_of_length(TTS_SCHEDULE, steps), work), budget)


@torch.no_grad()
def begin(config: Step1Config, tokenizer: TextTokenizer, books: tuple[torch.Tensor, torch.Tensor]) -> Step1:
    """A new network: small random weights, and rows of speech ids that say which codes are near."""
    torch.manual_seed(_SEED)
    model = Step1(config)
    depth = (2 * config.num_hidden_layers) ** -0.5
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            parameter.normal_(0.0, _EMBEDDING_SCALE * (depth if last else 1.0))
    vectors = starting_vectors(books, config.hidden_size) * _EMBEDDING_SCALE
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        table[tokenizer.audio_offset :][: len(vectors)] = vectors
    return model


@torch.no_grad()
def begin_words(model: Step1, tokenizer: TextTokenizer, sounds: Pronunciations) -> None:
    """Rows of words that say how they sound, so that what is learned of some words helps all that sound like them.

    A word that is read and one that is written begin as the same row: to repeat a word is to hand it on.
    """
    pieces = {token: tokenizer.decode([token]).strip().lower() for token in range(tokenizer.audio_offset)}
    words = {token: sounds[piece] for token, piece in pieces.items() if sounds.get(piece)}
    vectors = sound_vectors(list(words.values()), model.config.hidden_size)
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        table[list(words)] = vectors * _EMBEDDING_SCALE


def write_model(model: Step1, softmax: TargetSoftmax, folder: Path) -> None:
    """Write config.json and model.safetensors in half precision."""
    softmax.fill_unused(model.lm_head)
    config = model.config
    content = {
        "architectures": ["Step1ForCausalLM"],
        "model_type": "step1",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_attention_groups": config.num_attention_groups,
        "num_hidden_layers": config.num_hidden_layers,
        "max_seq_len": config.max_seq_len,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        "bos_token_id": 1,
        "eos_token_id": config.eos_ids[0],
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG_FILE).write_text(json.dumps(content, indent=1) + "\n")
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS_FILE)


def _train(task: LmTask, train_folder: Path, folder: Path, schedule: Schedule, budget: Budget) -> bool:
    finished = train(task, train_folder, schedule, budget)
    if finished:
        load_weights(task.model, train_folder)
        write_model(task.model, task.softmax, folder)
    return finished


def _of_length(schedule: Schedule, steps: int | None) -> Schedule:
    return schedule if steps is None else replace(schedule, steps=steps)

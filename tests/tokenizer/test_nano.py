"""The nano checkpoint hears its clips; ten minutes take little time and flat memory."""

import json
import resource
import time

import numpy as np
import pytest

from benchmarks.segmented_agreement import NANO_CLIPS, agreement, load_clips
from services.shared.audio.files import read_audio
from services.shared.codec.interleave import deinterleave
from services.tokenizer import SegmentPlan, SpeechTokenizer

pytestmark = pytest.mark.integration


def test_every_question_is_tokenized_to_its_length(nano_tokenizer: SpeechTokenizer) -> None:
    manifest = [json.loads(line) for line in (NANO_CLIPS.parent / "manifest.jsonl").read_text().splitlines()]
    assert len(manifest) == 25
    for entry in manifest:
        audio = read_audio(NANO_CLIPS.parent / entry["file"])
        tokens = nano_tokenizer.tokenize(audio.samples, audio.sample_rate_hz)
        assert len(tokens.interleaved) == pytest.approx(audio.duration_s * 41.67, abs=6)
        linguistic, semantic = deinterleave(tokens.interleaved)
        assert len(set(linguistic.tolist())) > 4
        assert linguistic.max() < 512  # of its centroids only the first 512 are in use
        assert (semantic // 1024 == np.arange(len(semantic)) % 3).all()  # its codes tell their place in the group


def test_the_segmented_mode_agrees_with_whole_on_spoken_questions(nano_tokenizer: SpeechTokenizer) -> None:
    clips = load_clips(NANO_CLIPS)
    assert agreement(nano_tokenizer.semantic, clips, SegmentPlan()) > 0.97
    assert agreement(nano_tokenizer.semantic, clips, SegmentPlan(480, 4800, 0)) < 0.9


def test_ten_minutes_take_flat_memory_and_a_fraction_of_their_length(nano_tokenizer: SpeechTokenizer) -> None:
    clips = np.concatenate(load_clips(NANO_CLIPS))
    minute = np.resize(clips, 60 * 16_000)
    nano_tokenizer.tokenize(minute, 16_000)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.process_time()
    tokens = nano_tokenizer.tokenize(np.resize(clips, 600 * 16_000), 16_000)
    assert time.process_time() - started_s < 60
    assert len(tokens.interleaved) == 25_000
    samples_mib = 600 * 16_000 * 4 / 2**20
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024 < 8 * samples_mib

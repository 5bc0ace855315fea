"""espeak-ng through its C library: text to IPA, and formant speech with the times of its phones.

Decides: how events become timed symbols. Refuses to know: Kokoro, classes of phones, which voices a plan asks for.
The library keeps its state in the process, so there is one `Espeak` a process.
Source: speak_lib.h of espeak-ng 1.51 (Debian package espeak-ng, used as a tool).
"""

import ctypes
import ctypes.util
from functools import cache
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from services.nano.alignment import TimedSpeech
from services.nano.phones import SILENCE, TIE
from services.shared.errors import MissingFileError, VoiceNotFoundError

_SYNCHRONOUS: Final = 2
_PHONEME_EVENTS_IN_IPA: Final = 3
_CHARS_UTF8: Final = 1
_IPA_WITH_TIE: Final = 0x02 | 0x80 | ord(TIE) << 8
_RATE, _PITCH = 1, 3
_PHONEME_EVENT, _LIST_END = 7, 0


class _EventId(ctypes.Union):
    _fields_: ClassVar = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The process's espeak-ng.

    Raises:
        MissingFileError: the library is not installed.
    """

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise MissingFileError("libespeak-ng is not installed; install the Debian package espeak-ng")
        self._lib = ctypes.CDLL(name)
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.sample_rate_hz: int = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IN_IPA)
        self._pcm: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)

    def ipa(self, text: str, voice: str) -> str:
        """IPA of one clause without punctuation, e.g. "nˈa^ɪs tə mˈiːt juː"; ties are written "^"."""
        self._choose(voice)
        rest = ctypes.c_char_p(text.encode())
        parts: list[str] = []
        while rest.value:
            parts.append(self._lib.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, _IPA_WITH_TIE).decode())
        return " ".join(part.strip() for part in parts)

    def speak(self, text: str, voice: str, *, words_per_minute: int, pitch: int) -> TimedSpeech:
        """Speak a text.

        Args:
            text: the sentence.
            voice: e.g. "gmw/en-US+f3": language file, and variant.
            words_per_minute: 80 .. 450.
            pitch: 0 .. 100.
        """
        self._choose(voice)
        self._lib.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        self._pcm, self._events = [], []
        data = text.encode()
        self._lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        samples = np.concatenate(self._pcm).astype(np.float32) / 32768.0
        starts = [min(sample, samples.size) for sample, _ in self._events]
        symbols = (SILENCE, *(symbol or SILENCE for _, symbol in self._events))
        return TimedSpeech(samples, self.sample_rate_hz, symbols, (*starts, samples.size))

    def _choose(self, voice: str) -> None:
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise VoiceNotFoundError(f"espeak-ng has no voice {voice}")

    def _collect(self, pcm: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]") -> int:
        if pcm and count > 0:
            self._pcm.append(np.ctypeslib.as_array(pcm, shape=(count,)).copy())
        position = 0
        while events[position].type != _LIST_END:
            event = events[position]
            if event.type == _PHONEME_EVENT:
                self._events.append((event.sample, event.id.string.decode(errors="ignore")))
            position += 1
        return 0


@cache
def espeak() -> Espeak:
    """The one instance of this process."""
    return Espeak()

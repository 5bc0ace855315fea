"""The public download's folder and file names, each written once.

<checkpoints>/
  Step-Audio-Tokenizer/   linguistic_tokenizer.npy  speech_tokenizer_v1.onnx  dengcunqin/<paraformer>/…
  Step-Audio-Chat/        config.json  *.safetensors  tokenizer.model  tokenizer_config.json
  Step-Audio-TTS-3B/      the same four, speakers/, CosyVoice-300M-25Hz/, CosyVoice-300M-25Hz-Music/
"""

from typing import Final

TOKENIZER_FOLDER: Final = "Step-Audio-Tokenizer"
CHAT_FOLDER: Final = "Step-Audio-Chat"
TTS_FOLDER: Final = "Step-Audio-TTS-3B"

PARAFORMER_FOLDER: Final = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
CENTROIDS_FILE: Final = "linguistic_tokenizer.npy"
SEMANTIC_ONNX_FILE: Final = "speech_tokenizer_v1.onnx"

SPEAKERS_FOLDER: Final = "speakers"
SPEAKERS_FILE: Final = "speakers_info.json"
VOCODER_FOLDER: Final = "CosyVoice-300M-25Hz"
MUSIC_VOCODER_FOLDER: Final = "CosyVoice-300M-25Hz-Music"

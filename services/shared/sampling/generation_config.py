"""A checkpoint's own defaults of sampling: the optional generation_config.json of the field's common layout.

What a caller asks for wins over the file, and the file over the released system's values. Only the keys that choose
among likely tokens are read: `do_sample`, `temperature`, `top_k`, `top_p`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from services.shared.errors import CorruptFileError, InvalidOptionError
from services.shared.files import read_json
from services.shared.sampling.params import SamplingParams

GENERATION_FILE: Final = "generation_config.json"


def with_checkpoint_defaults(params: SamplingParams, folder: str | Path) -> SamplingParams:
    """Return `params` as the checkpoint's generation_config.json changes them; unchanged where there is no such file.

    Raises:
        CorruptFileError: the file is no JSON object, or a value is of a wrong type or out of range.
    """
    path = Path(folder) / GENERATION_FILE
    if not path.is_file():
        return params
    content = read_json(path)
    if not isinstance(content, dict):
        raise CorruptFileError(f"{path} is no JSON object; download it again")
    sample = content.get("do_sample", True)
    temperature = content.get("temperature", params.temperature)
    top_k = content.get("top_k", params.top_k)
    top_p = content.get("top_p", params.top_p)
    if not isinstance(sample, bool) or type(top_k) is not int or {type(temperature), type(top_p)} - {int, float}:
        raise CorruptFileError(f"{path}: do_sample, temperature, top_k or top_p is of a wrong type; correct it")
    try:
        return replace(params, temperature=float(temperature) if sample else 0.0, top_k=top_k, top_p=float(top_p))
    except InvalidOptionError as error:
        raise CorruptFileError(f"{path}: {error}; correct it or download it again") from error

"""ONNX Runtime sessions that open files of a checkpoint with explicit threads and readable errors."""

from pathlib import Path
from typing import Any

import onnxruntime as ort

from services.shared.errors import CorruptFileError
from services.shared.files import require_file


def open_session(path: Path, *, threads: int = 1) -> Any:
    """Open an ONNX file on the CPU; `threads` is the size of its own pool.

    Returns:
        an `onnxruntime.InferenceSession` (untyped by its package).

    Raises:
        MissingFileError, CorruptFileError.
    """
    require_file(path.parent, path.name)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptFileError(f"{path} is no readable ONNX network ({error}); download it again") from error

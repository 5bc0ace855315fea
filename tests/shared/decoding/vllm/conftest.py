"""vLLM is imported here first, where it is installed: what its own imports warn of is not this suite's error."""

import importlib
import importlib.util
import warnings

if importlib.util.find_spec("vllm") is not None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("vllm.v1.engine.async_llm")
        importlib.import_module("vllm.v1.sample.logits_processor")

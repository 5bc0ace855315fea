"""Tests that need vLLM itself say `require_vllm()` before they import it; without it they are skipped."""

import importlib
import warnings

import pytest


def require_vllm() -> None:
    """Import vLLM, or skip the calling module. What vLLM's own imports warn of is not this suite's error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("vllm", reason="vLLM is not installed: it has an environment of its own")
        importlib.import_module("vllm.v1.engine.async_llm")
        importlib.import_module("vllm.v1.sample.logits_processor")

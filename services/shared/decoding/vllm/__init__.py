"""vLLM as the engine of a language model: `TokenStreams` on the GPUs.

    options.py     what a deployment decides, and whether the model can be cut that way    no vllm needed
    streams.py     callers before AsyncLLM: ids, deadlines, aborts                         no vllm needed
    looping.py     the thread that the engine's event loop has to itself                   no vllm needed
    stats.py       what vLLM counts, on its way to the room's metrics                      no vllm needed
    arguments.py   options and requests in vLLM's own words
    checkpoint.py  the public checkpoints without their custom code
    repetition.py  the repetition-aware rule as vLLM's logits processor
    repetition_slots.py  the same for vLLM's second model runner
    opening.py     all of it put together

The package imports vllm only when a room opens the engine; a room that runs on torch needs none of it.
"""

"""The public API as protocol buffers: its source, its rules and the Python code made from it.

    protos/stepaudio/v1/*.proto       the source; package stepaudio.v1, files named as callers in any language see them
    protos/buf.yaml                   rules of lint and of compatible change
    protos/gen/stepaudio/v1/          generated, committed: `from protos.gen.stepaudio.v1 import conversation_pb2`
    python -m protos                  generate, lint, breaking

protoc writes `from stepaudio.v1 import …` into what it generates, which needs a second import root. Here these imports
are rewritten to `protos.gen.stepaudio.v1`, so that one distribution with one root holds them, mypy finds the .pyi
beside each module, and the top-level name `stepaudio` is the client's. What is on the wire, reflection included, has
the names of the .proto files.
"""

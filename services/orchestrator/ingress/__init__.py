"""The public gRPC API: messages to events, outputs to messages, errors to statuses. It decides nothing else."""

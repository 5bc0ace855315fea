"""The outside behind the ports: Triton's rooms, Redis, voice activity."""

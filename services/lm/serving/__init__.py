"""The Triton classes of this room; they run only inside Triton's Python process."""

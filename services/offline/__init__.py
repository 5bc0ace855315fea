"""The offline pipeline: all rooms in one process, one request at a time. The only package that imports every room."""

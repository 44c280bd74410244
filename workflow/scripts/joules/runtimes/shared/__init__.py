"""What runtimes share.

What is true of nearly all, a worker process for a library, a client of an HTTP server, the log of
llama.cpp, the build of a binary. Standard library at import, for workers have no more.
"""

"""Serve an embedder and a reranker over HTTP, in the dialects of other servers.

One process, one event loop. A request goes through one module a stage:

    guard       ASGI middleware: host, key, media type, size and time of the body, request id, log line
    dialects    one module a dialect: its JSON becomes an `Embed` or a `Rerank`, and the answer its JSON again
    prompting   decides which prompt a request's texts follow
    service     limits, the scheduler, the answer
    metrics     Prometheus

`app` puts them together, `run` listens, loads, and ends. The engine never imports this package.
"""

"""Where the protocol meets a network: ASGI, WSGI and the client's HTTP senders.

Each module imports its own third parties, so that using one never needs another:
``asgi`` and ``wsgi`` need none, ``transport`` needs httpx only for ``httpx_sender``.
"""

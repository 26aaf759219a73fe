"""Which client libraries work with trillm: each in an environment of its own, against a running trillm.

``python -m tests.compatibility`` runs them all and writes ``docs/compatibility.md``. A client is one row in
:mod:`~tests.compatibility.clients` and one file in ``probes/``, which its own Python runs: see ``probes/checks.py``.
"""

"""The crash harness: agents of every kind, crashed at every point, compared.

A dry run counts the points of a kind and says what an uninterrupted job leaves. Then,
for each point, a job is crashed there once: by an exception, or by SIGKILL. It goes on
by its retry, or in another process, and what it left is compared with the dry run.

`./dev crash` runs all of it.
"""

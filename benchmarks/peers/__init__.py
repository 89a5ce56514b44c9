"""What a user would pick instead, trained on exactly the rows that noisefold's own validation let
through.

    .venv/bin/python -m benchmarks.peers.corpus trec sst2 # once: the validated rows, a Parquet file
    each .venv-peers/bin/python -m benchmarks.peers fasttext --dataset trec --seeds 0,1,2
    .venv/bin/python -m benchmarks.peers.table # figures of every prediction file there is

The peers live in an environment of their own (`benchmarks/requirements-peers.txt`); they import no
part of noisefold.
"""

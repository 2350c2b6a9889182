"""What only a GPU can show: `python -m benchmarks.gpu --minutes M --output DIR`.

Sections run in order of worth, each in its own process, and append a row per measurement to DIR/rows/SECTION.jsonl:
whatever is killed, what was measured stands, and the next run continues there.
"""

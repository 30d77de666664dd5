"""The native batch: chunks lie in it in order of their sequences, whatever order they come in."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.llama.memory_batch import TokenBatch
from inference.engine.model import Chunk

CAPACITY = 64

chunks = st.builds(
    Chunk,
    st.integers(0, 15),
    st.integers(0, 100),
    st.lists(st.integers(0, 999), min_size=1, max_size=4),
    wants_logits=st.booleans(),
)


@given(st.lists(chunks, min_size=1, max_size=16, unique_by=lambda chunk: chunk.sequence))
def test_every_chunk_is_found_at_its_row_and_sequences_ascend(given_chunks: list[Chunk]) -> None:
    batch = TokenBatch(CAPACITY)
    rows = batch.fill(given_chunks)
    native: Any = batch.native
    assert native.n_tokens == sum(len(chunk.tokens) for chunk in given_chunks)
    sequences = [native.seq_id[i][0] for i in range(native.n_tokens)]
    assert sequences == sorted(sequences)
    for chunk, last in zip(given_chunks, rows, strict=True):
        own = range(last + 1 - len(chunk.tokens), last + 1)
        assert [native.token[i] for i in own] == chunk.tokens
        assert [sequences[i] for i in own] == [chunk.sequence] * len(own)
        assert [native.pos[i] for i in own] == [chunk.start + k for k in range(len(own))]
        assert bool(native.logits[last]) == chunk.wants_logits

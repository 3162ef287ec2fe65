"""The text model behind mosec: an HTTP server in Rust that batches for a Python process."""

from __future__ import annotations

import sys

from mosec import Server, Worker  # type: ignore[import-not-found, unused-ignore]

from deploy.bench import text

# mosec reads the flags of its own; what is ours stands before them.
NUM_OWN_ARGUMENTS = 3


class Encoder(Worker):  # type: ignore[misc, unused-ignore]
    """Loads the model in the process that computes."""

    setup: str

    def __init__(self) -> None:
        self._model = text.load(self.setup)

    def deserialize(self, data: memoryview) -> bytes:
        """A request's body is the sentence."""
        return bytes(data)

    def serialize(self, data: bytes) -> bytes:
        """An answer's body is the embedding."""
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        """Sentences to embeddings."""
        return [row.tobytes() for row in text.encode(self._model, data)]


def serve(setup: str, max_batch: int, window_ms: int) -> None:
    """Serve until SIGTERM."""
    Encoder.setup = setup
    server = Server()
    # Forked, so that the process that computes knows its setup.
    server.append_worker(
        Encoder, num=1, max_batch_size=max_batch, max_wait_time=window_ms, start_method="fork"
    )
    server.run()


if __name__ == "__main__":
    own = sys.argv[1 : 1 + NUM_OWN_ARGUMENTS]
    sys.argv[1 : 1 + NUM_OWN_ARGUMENTS] = []
    serve(own[0], int(own[1]), int(own[2]))

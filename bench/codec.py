"""Which pairing of encoder and decoder the hot path uses: msgspec and orjson on the same chunk."""

import sys
from collections.abc import Callable

import msgspec
import orjson

from bench.common import interleaved, report
from processors.codec import decode, encode
from processors.events import Chunk

N = 50_000
CHUNK = Chunk("0192f3a0-7c1e-7abc-8def-0123456789ab", "demo", "5f0c7a9e1b2d4c3e8f7a6b5c4d3e2f10", 17, " слово")


def main() -> None:
    """Measure, and check that all agree on the bytes and the value."""
    raw = encode(CHUNK)

    def as_dict(c: Chunk) -> dict[str, object]:
        return {"type": "chunk", "id": c.id, "tenant": c.tenant, "run": c.run, "n": c.n, "text": c.text}

    if not (orjson.loads(raw) == msgspec.json.decode(raw) == as_dict(CHUNK) and decode("journal", raw) == CHUNK):
        sys.exit("the codecs disagree")

    def times(action: Callable[[], object]) -> Callable[[], int]:
        def case() -> int:
            for _ in range(N):
                action()
            return N

        return case

    encoders = {
        "msgspec struct": times(lambda: encode(CHUNK)),
        "orjson, dict built for it": times(lambda: orjson.dumps(as_dict(CHUNK))),
    }
    report("encode a chunk", interleaved(encoders), "msgspec struct")
    decoders = {
        "msgspec typed": times(lambda: decode("journal", raw)),
        "orjson, untyped": times(lambda: orjson.loads(raw)),
    }
    report("decode a chunk", interleaved(decoders), "msgspec typed")


if __name__ == "__main__":
    main()

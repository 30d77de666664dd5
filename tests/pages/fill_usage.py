"""Run as a module: writes a year of somebody's use into the database of the settings it has.

For a server in a process of its own. Always the same requests, some of them with names that try to
be more than text.
"""

import random
import sys
from datetime import timedelta
from typing import Final

import django

django.setup()

from django.utils import timezone  # noqa: E402 - apps must be loaded

from models_app import ledger  # noqa: E402 - same
from models_app.keys import create_key, revoke_key  # noqa: E402 - same
from models_app.ledger_journal import Begin, End, Figures  # noqa: E402 - same
from models_app.models import User  # noqa: E402 - same

REQUESTS: Final = 400
_LONG: Final = "<script>alert(1)</script>" + "W" * 300
_MODELS: Final = ("smollm2:135m", "qwen3:8b", "lab/summaries:latest", f"una/{_LONG}:latest")
_OUTCOMES: Final = ("done",) * 17 + ("left", "failed", "lost")


def main() -> None:
    """Write them for the user that is named."""
    owner = User.objects.get(username=sys.argv[1])
    notebook, _ = create_key(owner, "notebook")
    old, _ = create_key(owner, "the laptop before")
    revoke_key(old)
    keys = [(notebook.pk, notebook.name), (old.pk, old.name), (0, ""), (999_999, "of last year")]
    draw = random.Random(8)  # noqa: S311 - the same draws each time
    ledger.write([_request(owner, number, keys, draw) for number in range(REQUESTS)])


def _request(
    owner: User, number: int, keys: list[tuple[int, str]], draw: random.Random
) -> ledger.Ended:
    ago = timedelta(minutes=3) + timedelta(days=draw.random() ** 2.5 * 360)
    at_us = int((timezone.now() - ago).timestamp() * 1_000_000)
    key_id, key_name = draw.choices(keys, (6, 2, 3, 1))[0]
    outcome = draw.choice(_OUTCOMES)
    tokens_in, tokens_out = draw.randrange(20, 9000), draw.randrange(1, 900)
    queue_us, prefill_us = draw.randrange(2_000_000), tokens_in * 400
    decode_us = tokens_out * 30_000
    begin = Begin(
        request_id=f"fill-{owner.pk}-{number}",
        at_us=at_us,
        user_id=owner.pk,
        user_name=owner.username,
        key_id=key_id,
        key_name=key_name,
        credential="key" if key_id else "session",
        address="192.0.2.17",
        model_name=draw.choices(_MODELS, (6, 3, 2, 1))[0],
        model_digest="ab" * 32,
        dialect=draw.choice(("native", "openai", "anthropic")),
        kind=draw.choice(("chat", "chat", "chat", "generate", "embed")),
        priority="api",
        parameters={"temperature": 0.2, "num_ctx": 8192, "top_k": 20},
        seed=number if number % 3 else None,
    )
    figures = Figures(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_cached=tokens_in // 3,
        queue_us=queue_us,
        load_us=900_000 if number % 9 == 0 else 0,
        prefill_us=prefill_us,
        decode_us=decode_us,
        compute_us=prefill_us + decode_us,
    )
    took_us = queue_us + figures.load_us + prefill_us + decode_us + 12_000
    end = End(
        request_id=begin.request_id,
        at_us=at_us + took_us,
        outcome=outcome,
        error_code="out_of_memory" if outcome == "failed" else "",
        figures=figures,
        node="local",
    )
    return begin, end


if __name__ == "__main__":
    main()

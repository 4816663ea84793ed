from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

from hypha_auth.key_making import PrivateKey, Sealer, make_key
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.revocation import RevokedTokens
from hypha_common.tokens import TokenCodec
from hypha_common.verifier import TokenVerifier

__all__ = ["measure_tokens"]

_SECRET = "a secret of at least thirty-two bytes"  # of no cluster
_ROUNDS = 7


class _Signer:
    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    def key_for(self, expires_at: float) -> PrivateKey:
        return self._key


def measure_tokens(number: int) -> dict[str, float]:
    """Return microseconds of CPU time for each thing that is done with a token, the median of seven rounds."""
    sealer = Sealer(_SECRET)
    row = make_key(sealer)
    key = sealer.open(row)
    assert key is not None
    shared, ring = TokenCodec(_SECRET), TokenCodec(_SECRET)
    ring.signer = _Signer(key)
    ring.keys.ring.replace([row.public_key])
    principal = Principal(
        id="teal-windshield-00007438",
        parent="github|583231",
        roles=("user",),
        email="ada@example.org",
        scope=Scope({"ws-user-github|583231": Permission.READ_WRITE}, current_workspace="ws-user-github|583231"),
    )
    revoked = RevokedTokens()
    revoked.add((f"token-{index}", time.time() + 3600) for index in range(1000))
    verifier = TokenVerifier(ring, revoked)
    by_secret, by_ring = (codec.sign(principal, life_s=3600) for codec in (shared, ring))
    return {
        "sign_secret_us": _each_us(lambda: shared.sign(principal, life_s=3600), number),
        "sign_ring_us": _each_us(lambda: ring.sign(principal, life_s=3600), number),
        "verify_secret_us": _each_us(lambda: ring.verify(by_secret), number),
        "verify_ring_us": _each_us(lambda: ring.verify(by_ring), number),
        "verify_cached_us": _each_us(lambda: verifier.verify(by_ring), number),
        "judge_and_verify_cached_us": _each_us(lambda: verifier.judges(by_ring) and verifier.verify(by_ring), number),
    }


def _each_us(action: Callable[[], object], number: int) -> float:
    action()
    rounds = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(number):
            action()
        rounds.append((time.process_time() - began) / number * 1e6)
    return round(median(rounds), 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What signing and verifying tokens cost; no server is needed.")
    parser.add_argument("--number", type=int, default=500, help="operations of each round")
    json.dump({"benchmark": "tokens", **measure_tokens(parser.parse_args().number)}, sys.stdout, indent=2)
    sys.stdout.write("\n")

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import argon2
import pytest

from hypha_auth.accounts.errors import AccountError, NotVerified, TooManyAttempts, WrongPassword
from hypha_auth.accounts.throttle import Throttles
from hypha_auth.accounts.verification import VerificationLimits
from hypha_common.db import Database
from hypha_common.errors import Unavailable
from tests.fixtures.auth import auth_database, auth_settings, nats_url, postgres
from tests.unit.accounts_support import Bench, bench_of

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]

EMAIL = "ada@example.org"
PASSWORD = "correct horse"


@pytest.fixture
async def bench(auth_database: Database) -> AsyncIterator[Bench]:
    made = bench_of(auth_database)
    yield made
    made.accounts.close()


async def member(bench: Bench, email: str = EMAIL, password: str = PASSWORD) -> Any:
    """Somebody who has signed up and verified the address."""
    signed_up = await bench.accounts.sign_up(email, password, "Ada")
    code = signed_up.code or bench.mailbox.code()
    return await bench.accounts.verify_email(email, code)


async def refused(call: Any) -> str:
    with pytest.raises(AccountError) as caught:
        await call
    return caught.value.message


async def test_through(bench: Bench) -> None:
    """Sign up, read the code in a mail, verify, log in."""
    signed_up = await bench.accounts.sign_up(" Ada@Example.ORG ", PASSWORD, "  Ada   Lovelace ")
    assert (signed_up.email, signed_up.code) == (EMAIL, None)
    to, subject, text = bench.mailbox.mails[0]
    assert to == EMAIL
    assert subject.split()[0] in text
    assert "http://hub.example.org" in text
    with pytest.raises(NotVerified):
        await bench.accounts.log_in(EMAIL, PASSWORD)
    account = await bench.accounts.verify_email(EMAIL, bench.mailbox.code())
    assert (account.email, account.name, account.email_verified) == (EMAIL, "Ada Lovelace", True)
    assert account.user_id.startswith("local-")
    assert "ada" not in account.user_id
    assert account.roles == ("user",)
    logged_in = await bench.accounts.log_in("ADA@example.org", PASSWORD)
    assert logged_in == account
    assert [event for event, _ in bench.audit.events] == ["account_created"]


async def test_nothing_is_stored_as_it_is(bench: Bench, auth_database: Database) -> None:
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    row = dict(await auth_database.home.fetchrow("SELECT * FROM accounts") or {})
    assert row["password_hash"].startswith("$argon2id$")
    assert PASSWORD not in str(row)
    assert bench.mailbox.code() not in str(row)


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.org", "ada@", "a b@example.org", "a@b@c d", "ada@-x-", "x" * 300]
)
async def test_no_address(bench: Bench, email: str) -> None:
    assert await refused(bench.accounts.sign_up(email, PASSWORD)) == "Invalid email address"
    assert await refused(bench.accounts.resend_code(email)) == "Invalid email address"
    assert await refused(bench.accounts.log_in(email, PASSWORD)) == "Invalid email or password"


@pytest.mark.parametrize("email", ["a\r\nBcc: b@c.d@example.org", "a\x00@example.org", "\ud800@example.org", "<a>@b.c"])
async def test_hostile_addresses(bench: Bench, email: str) -> None:
    """No mail goes to more than one, and nothing reaches the database that it cannot hold."""
    assert await refused(bench.accounts.sign_up(email, PASSWORD)) == "Invalid email address"
    assert bench.mailbox.mails == []


async def test_odd_passwords(bench: Bench) -> None:
    assert await refused(bench.accounts.sign_up(EMAIL, "seven77")) == "Password must be at least 8 characters"
    for password in ("x" * 1025, "\ud800" * 8, "ä" * 600):
        assert (await refused(bench.accounts.sign_up(EMAIL, password))).startswith("Password must be text of at most")
    await member(bench, password="x" * 1024)
    await bench.accounts.log_in(EMAIL, "x" * 1024)
    for password in ("", "x" * 1025, "x" * 100_000, "\ud800"):
        assert await refused(bench.accounts.log_in(EMAIL, password)) == "Invalid email or password"


async def test_same_characters_same_password(bench: Bench) -> None:
    """One keyboard sends é as one character, another one as two."""
    await member(bench, password="caf\u00e9 noir")
    await bench.accounts.log_in(EMAIL, "cafe\u0301 noir")


async def test_names(bench: Bench) -> None:
    assert (await refused(bench.accounts.sign_up(EMAIL, PASSWORD, "x" * 101))).startswith("The name must be")
    assert (await refused(bench.accounts.sign_up(EMAIL, PASSWORD, "a\x00b"))).startswith("The name must be")
    await bench.accounts.sign_up(EMAIL, PASSWORD, " ")
    account = await bench.accounts.by_email(EMAIL)
    assert account is not None
    assert account.name == "ada"


async def test_taken(bench: Bench) -> None:
    await member(bench)
    assert await refused(bench.accounts.sign_up("ADA@example.org", PASSWORD)) == "Email already registered"


async def test_another_sign_up_cannot_slip_in(bench: Bench) -> None:
    """Whoever types the code verifies the password of the sign-up that it was sent for, not that of a later one."""
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    assert (await refused(bench.accounts.sign_up(EMAIL, "of somebody else"))).startswith("A code was sent")
    await bench.accounts.verify_email(EMAIL, bench.mailbox.code())
    await bench.accounts.log_in(EMAIL, PASSWORD)


async def test_sign_up_again(bench: Bench) -> None:
    """The same person may sign up twice, and gets another code."""
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    first = bench.mailbox.code()
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    assert len(bench.mailbox.mails) == 2
    if bench.mailbox.code() != first:
        assert (await refused(bench.accounts.verify_email(EMAIL, first))).startswith("Invalid or expired")
    await bench.accounts.verify_email(EMAIL, bench.mailbox.code())


async def test_abandoned_sign_up_gives_way(auth_database: Database) -> None:
    """An address that nobody has verified in time belongs to whoever signs up next."""
    bench = bench_of(auth_database, limits=VerificationLimits(code_life_s=0.05, resend_throttle_s=0))
    await bench.accounts.sign_up(EMAIL, "of a stranger")
    late = bench.mailbox.code()
    await asyncio.sleep(0.1)
    assert (await refused(bench.accounts.verify_email(EMAIL, late))).startswith("Invalid or expired")
    bench = bench_of(auth_database)
    await member(bench)
    await bench.accounts.log_in(EMAIL, PASSWORD)


async def test_wrong_codes(auth_database: Database) -> None:
    """After a few wrong codes the right one is no good any more; a new one is."""
    bench = bench_of(auth_database, limits=VerificationLimits(max_attempts=3, resend_throttle_s=0))
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    right = bench.mailbox.code()
    wrong = f"{(int(right) + 1) % 10**6:06d}"
    for code in (wrong, "", "\ud800"):
        assert await refused(bench.accounts.verify_email(EMAIL, code)) == "Invalid or expired verification code"
    assert await refused(bench.accounts.verify_email(EMAIL, right)) == "Invalid or expired verification code"
    await bench.accounts.resend_code(EMAIL)
    code = bench.mailbox.code()
    await bench.accounts.verify_email(EMAIL, f" {code} ")
    assert await refused(bench.accounts.verify_email(EMAIL, code)) == "Invalid or expired verification code"


async def test_codes_say_nothing_of_others(bench: Bench) -> None:
    """Asking for a code, or trying one, looks the same whether there is an account or not."""
    await member(bench)
    sent = len(bench.mailbox.mails)
    for email in (EMAIL, "nobody@example.org"):
        assert await bench.accounts.resend_code(email) is None
        assert await refused(bench.accounts.verify_email(email, "000000")) == "Invalid or expired verification code"
    assert len(bench.mailbox.mails) == sent


async def test_resend_is_throttled(auth_database: Database) -> None:
    bench = bench_of(auth_database, limits=VerificationLimits(resend_throttle_s=30))
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    for email, first in ((EMAIL, False), ("nobody@example.org", True)):
        if first:
            await bench.accounts.resend_code(email)
        message = await refused(bench.accounts.resend_code(email))
        assert message in ("Too many attempts, try again in 30 seconds", "Too many attempts, try again in 29 seconds")
    assert len(bench.mailbox.mails) == 1
    # Signing up once more sends nothing either, and the code from before stays good.
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    assert len(bench.mailbox.mails) == 1
    await bench.accounts.verify_email(EMAIL, bench.mailbox.code())


async def test_mail_fails(bench: Bench) -> None:
    """The person is told, and may try again at once."""
    bench.mailbox.refuses = Unavailable("no")
    assert "could not be sent" in await refused(bench.accounts.sign_up(EMAIL, PASSWORD))
    bench.mailbox.refuses = None
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    await bench.accounts.verify_email(EMAIL, bench.mailbox.code())


async def test_an_address_that_no_mail_has_reached_stands_for_nobody(auth_database: Database) -> None:
    """Who can be told a code by the page could sign up as anybody, and own what is shared with that address."""
    shown = bench_of(auth_database, mail=False)
    account = await member(shown)
    assert await shown.accounts.log_in(EMAIL, PASSWORD) == account
    assert not shown.accounts.identity(account).email_verified
    assert bench_of(auth_database, mail=False, private=True).accounts.identity(account).email_verified
    # Once there is mail, the person has to show it.
    mailing = bench_of(auth_database)
    assert not mailing.accounts.identity(account).email_verified
    with pytest.raises(NotVerified):
        await mailing.accounts.log_in(EMAIL, PASSWORD)
    await mailing.accounts.resend_code(EMAIL)
    proven = await mailing.accounts.verify_email(EMAIL, mailing.mailbox.code())
    assert mailing.accounts.identity(proven).email_verified
    assert await mailing.accounts.log_in(EMAIL, PASSWORD) == proven
    for bench in (shown, mailing):
        bench.accounts.close()


async def test_without_mail(auth_database: Database) -> None:
    """On a laptop the code is told, and whoever has forgotten it signs up anew."""
    bench = bench_of(auth_database, mail=False)
    first = await bench.accounts.sign_up(EMAIL, "forgotten already")
    again = await bench.accounts.sign_up(EMAIL, PASSWORD)
    assert first.code is not None
    assert again.code is not None
    assert (await bench.accounts.verify_email(EMAIL, again.code)).email_verified
    await bench.accounts.log_in(EMAIL, PASSWORD)
    assert "sends no mail" in await refused(bench.accounts.forgot_password(EMAIL))
    assert await bench.accounts.resend_code(EMAIL) is None


async def test_too_many_pending(auth_database: Database) -> None:
    bench = bench_of(auth_database, limits=VerificationLimits(max_pending=2, resend_throttle_s=0))
    for number in range(2):
        await bench.accounts.sign_up(f"a{number}@example.org", PASSWORD)
    assert (await refused(bench.accounts.sign_up(EMAIL, PASSWORD))).startswith("Too many accounts wait")
    await auth_database.home.execute("UPDATE accounts SET created_at = now() - interval '2 days'")
    await bench.accounts.sweep()
    await bench.accounts.sign_up(EMAIL, PASSWORD)


async def test_wrong_password_is_slowed_down(auth_database: Database) -> None:
    """The delay grows, holds on every replica, and holds also for the right password; then all is as before."""
    throttles = Throttles(account=replace(Throttles().account, free=2, first_s=0.2))
    here, there = (bench_of(auth_database, throttles=throttles) for _ in range(2))
    await member(here)
    for bench in (here, there):
        with pytest.raises(WrongPassword):
            await bench.accounts.log_in(EMAIL, "wrong password")
    for bench in (here, there):
        message = await refused(bench.accounts.log_in(EMAIL, PASSWORD))
        assert message == "Too many attempts, try again in 1 seconds"
    await asyncio.sleep(0.25)
    with pytest.raises(WrongPassword):
        await here.accounts.log_in(EMAIL, "wrong password")
    await asyncio.sleep(0.25)  # now it is 0.4 s
    with pytest.raises(TooManyAttempts):
        await here.accounts.log_in(EMAIL, PASSWORD)
    await asyncio.sleep(0.2)
    await there.accounts.log_in(EMAIL, PASSWORD)
    with pytest.raises(WrongPassword):
        await here.accounts.log_in(EMAIL, "wrong password")
    assert ("login_failed", (await here.accounts.log_in(EMAIL, PASSWORD)).user_id) in here.audit.events


async def test_a_thousand_guesses_at_once(auth_database: Database) -> None:
    """No more of them are tried than one after another would be."""
    bench = bench_of(auth_database, throttles=Throttles(account=replace(Throttles().account, free=5, first_s=60)))
    await member(bench)
    guesses = [bench.accounts.log_in(EMAIL, f"guess number {number}") for number in range(200)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(result, WrongPassword) for result in results) == 5
    assert sum(isinstance(result, TooManyAttempts) for result in results) == 195


async def test_addresses_are_slowed_down(auth_database: Database) -> None:
    """One address that tries many accounts waits; others, and those whose address nobody knows, do not."""
    throttles = Throttles(address=replace(Throttles().address, free=3, first_s=60))
    bench = bench_of(auth_database, throttles=throttles)
    await member(bench)
    for _ in range(10):  # logging in well costs nothing
        await bench.accounts.log_in(EMAIL, PASSWORD, address="10.0.0.1")
    for number in range(3):
        with pytest.raises(WrongPassword):
            await bench.accounts.log_in(f"a{number}@example.org", PASSWORD, address="10.0.0.1")
    with pytest.raises(TooManyAttempts):
        await bench.accounts.log_in(EMAIL, PASSWORD, address="10.0.0.1")
    await bench.accounts.log_in(EMAIL, PASSWORD, address="10.0.0.2")
    await bench.accounts.log_in(EMAIL, PASSWORD)


async def test_sign_ups_are_slowed_down(auth_database: Database) -> None:
    throttles = Throttles(
        sign_up=replace(Throttles().sign_up, free=2), sign_up_unknown=replace(Throttles().sign_up, free=1)
    )
    bench = bench_of(auth_database, throttles=throttles)
    for number in range(2):
        await bench.accounts.sign_up(f"a{number}@example.org", PASSWORD, address="10.0.0.1")
    assert (await refused(bench.accounts.sign_up(EMAIL, PASSWORD, address="10.0.0.1"))).startswith("Too many attempts")
    await bench.accounts.sign_up(EMAIL, PASSWORD, address="10.0.0.2")
    await bench.accounts.sign_up("b@example.org", PASSWORD)
    assert (await refused(bench.accounts.sign_up("c@example.org", PASSWORD))).startswith("Too many attempts")


async def test_codes_are_slowed_down(auth_database: Database) -> None:
    """New codes do not give new attempts without end."""
    throttles = Throttles(code=replace(Throttles().code, free=2, first_s=60))
    bench = bench_of(auth_database, throttles=throttles)
    await bench.accounts.sign_up(EMAIL, PASSWORD)
    for _ in range(2):
        assert (await refused(bench.accounts.verify_email(EMAIL, "12345"))).startswith("Invalid or expired")
        await bench.accounts.resend_code(EMAIL)
    assert (await refused(bench.accounts.verify_email(EMAIL, bench.mailbox.code()))).startswith("Too many attempts")


async def test_old_attempts_are_forgotten(auth_database: Database) -> None:
    throttles = Throttles(account=replace(Throttles().account, free=2, first_s=60))
    bench = bench_of(auth_database, throttles=throttles)
    for _ in range(2):
        with pytest.raises(WrongPassword):
            await bench.accounts.log_in(EMAIL, PASSWORD)
    past = "UPDATE throttles SET forgotten_at = now(), free_at = now() - interval '1 hour'"
    await auth_database.home.execute(past)
    with pytest.raises(WrongPassword):
        await bench.accounts.log_in(EMAIL, PASSWORD)
    with pytest.raises(WrongPassword):
        await bench.accounts.log_in(EMAIL, PASSWORD)
    await auth_database.home.execute(past)
    await bench.accounts.sweep()
    assert await auth_database.home.fetchval("SELECT count(*) FROM throttles") == 0


async def test_time_does_not_tell(auth_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no account is refused after the same work as somebody with a wrong password."""
    bench = bench_of(auth_database)
    await member(bench)
    checked: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hashed: str, password: bytes) -> bool:
        checked.append(hashed.rpartition("$")[0].rpartition("$")[0])  # kind, version and cost, without salt
        return verify(self, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    for email in (EMAIL, "nobody@example.org"):
        with pytest.raises(WrongPassword):
            await bench.accounts.log_in(email, "wrong password")
    assert len(checked) == 2
    assert checked[0] == checked[1]
    bench.accounts.close()


async def test_change_password(bench: Bench) -> None:
    account = await member(bench)
    changed = bench.accounts.change_password
    assert await refused(changed(account, "wrong password", "another one")) == "Current password is incorrect"
    assert await refused(changed(account, None, "another one")) == "Current password is incorrect"
    assert (await refused(changed(account, PASSWORD, "short"))).startswith("Password must be at least 8")
    await changed(account, PASSWORD, "another one")
    with pytest.raises(WrongPassword):
        await bench.accounts.log_in(EMAIL, PASSWORD)
    logged_in = await bench.accounts.log_in(EMAIL, "another one")
    assert logged_in.origin == account.origin
    assert bench.revoked == []
    after = await changed(logged_in, "another one", "a third one", everywhere=True)
    assert bench.revoked == [(account.origin, account.user_id)]
    assert (await bench.accounts.log_in(EMAIL, "a third one")).origin == after.origin != account.origin
    await changed(after, None, "set by root", trusted=True)
    await bench.accounts.log_in(EMAIL, "set by root")


async def test_forgotten_password(bench: Bench) -> None:
    """A code from a mail sets a new password, and ends what was logged in with the old one."""
    account = await member(bench)
    sent = len(bench.mailbox.mails)
    await bench.accounts.forgot_password("nobody@example.org")
    assert len(bench.mailbox.mails) == sent
    await bench.accounts.forgot_password(EMAIL)
    code = bench.mailbox.code()
    reset = bench.accounts.reset_password
    assert (await refused(reset(EMAIL, code, "short"))).startswith("Password must be")
    assert (await refused(reset("nobody@example.org", code, "a new password"))).startswith("Invalid or expired")
    await reset(EMAIL, code, "a new password")
    assert bench.revoked == [(account.origin, account.user_id)]
    await bench.accounts.log_in(EMAIL, "a new password")
    assert (await refused(reset(EMAIL, code, "once more please"))).startswith("Invalid or expired")


async def test_owner_of_the_address_wins(bench: Bench) -> None:
    """Somebody signed up with another one's address: its owner gets the account by a code, the other one nothing."""
    await bench.accounts.sign_up(EMAIL, "of a stranger")
    await bench.accounts.forgot_password(EMAIL)
    await bench.accounts.reset_password(EMAIL, bench.mailbox.code(), PASSWORD)
    assert (await bench.accounts.log_in(EMAIL, PASSWORD)).email_verified
    with pytest.raises(WrongPassword):
        await bench.accounts.log_in(EMAIL, "of a stranger")


async def test_hash_is_renewed(auth_database: Database) -> None:
    """When the parameters change, a login writes the hash anew."""
    weak, strong = bench_of(auth_database, memory_kib=32), bench_of(auth_database, memory_kib=64)
    account = await member(weak)
    await strong.accounts.log_in(EMAIL, PASSWORD)
    renewed = await strong.accounts.by_email(EMAIL)
    assert renewed is not None
    assert "m=32," in account.password_hash
    assert "m=64," in renewed.password_hash
    await strong.accounts.log_in(EMAIL, PASSWORD)


async def test_tickets(bench: Bench) -> None:
    """What a sign-up leaves in the browser logs in after the verification, but nobody else and not for ever."""
    signed_up = await bench.accounts.sign_up(EMAIL, PASSWORD)
    account = await bench.accounts.verify_email(EMAIL, bench.mailbox.code())
    holds = bench.accounts.holds_ticket
    assert holds(account, signed_up.ticket)
    assert not holds(replace(account, user_id="local-other"), signed_up.ticket)
    assert not holds(replace(account, password_hash="changed"), signed_up.ticket)
    until, _, signature = signed_up.ticket.partition(".")
    for forged in ("", ".", f"{int(until) + 1}.{signature}", f"1.{signature}", f"{until}.", "٣.x", f"{until}.\ud800"):
        assert not holds(account, forged)


async def test_same_moment(bench: Bench) -> None:
    """Of several sign-ups with one address at the same moment one is an account."""
    results = await asyncio.gather(
        *(bench.accounts.sign_up(EMAIL, f"password {number}") for number in range(8)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, AccountError) for result in results if isinstance(result, BaseException))

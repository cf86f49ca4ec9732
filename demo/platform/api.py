"""What the platform's API does, as functions over the database, the cache and the chain."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg

from demo.platform.escrow import ChainError, Escrow, Rpc
from demo.platform.store import Cache, Connection, Pool, Row, Unavailable, plain, without_credentials

PRICES_SECONDS, LIST_SECONDS = 60, 15
"""How long the cache keeps prices and lists; a single transaction is kept until it changes."""
_TRANSACTION = (
    "SELECT transaction_id, buyer_id, seller_id, amount_usd, created_at, funded_at, disputed_at, completed_at, "
    "refunded_at, cancelled_at, failed_at, chain_transaction_hash FROM transactions WHERE transaction_id = %s"
)
_KNOWN_SESSION = """
    SELECT session_id, user_id FROM sessions WHERE session_id = %s AND ended_at IS NULL
    AND (started_at > now() - interval '30 minutes' OR EXISTS (
        SELECT FROM page_views AS view
        WHERE view.session_id = sessions.session_id AND view.viewed_at > now() - interval '30 minutes'))
"""
_END_IDLE_SESSIONS = """
    UPDATE sessions SET ended_at = coalesce((
        SELECT max(viewed_at) FROM page_views AS view
        WHERE view.session_id = sessions.session_id AND view.viewed_at >= sessions.started_at), started_at)
    WHERE session_id IN (
        SELECT session_id FROM sessions AS idle
        WHERE ended_at IS NULL AND started_at BETWEEN now() - interval '2 days' AND now() - interval '30 minutes'
        AND NOT EXISTS (
            SELECT FROM page_views AS view
            WHERE view.session_id = idle.session_id AND view.viewed_at > now() - interval '30 minutes')
        LIMIT 20 FOR UPDATE SKIP LOCKED)
"""
_ENDS = ("completed_at", "refunded_at", "cancelled_at", "failed_at")


class Refused(Exception):
    """The request cannot be carried out; ``status`` is the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Api:
    """The platform's operations. Raises Refused, and Unavailable when the database or the chain is away."""

    pool: Pool
    cache: Cache
    chain_url: str | None = None
    _escrow: Escrow | None = None

    # ------------------------------------------------------------------------------------------------ visits
    def visit(self, session: int | None, path: str, address: str) -> int:
        """Record a page view and return its session: a new one when ``session`` is not known, has ended or was idle.

        A session in which nothing was looked at for 30 minutes ends with its last page view.
        """
        with self.pool.transaction() as connection:
            known = None
            if session is not None:
                known = connection.execute(_KNOWN_SESSION.encode(), (session,)).fetchone()
            if known is None:
                connection.execute(_END_IDLE_SESSIONS.encode())
                known = _one(
                    connection,
                    "INSERT INTO sessions (started_at, address) VALUES (now(), %s) RETURNING session_id, user_id",
                    address,
                )
            connection.execute(
                "INSERT INTO page_views (session_id, user_id, viewed_at, path) VALUES (%s, %s, now(), %s)",
                (known["session_id"], known["user_id"], path),
            )
        self.cache.count("page_views:total")
        return int(known["session_id"])

    def look(self) -> None:
        """Use the database as a page view does, without recording one."""
        with self.pool.transaction() as connection:
            connection.execute(_KNOWN_SESSION.encode(), (0,))

    def register(self, email: str, full_name: str) -> Row:
        """Register a user. Refused (409) when the address is taken."""
        try:
            with self.pool.transaction() as connection:
                user = _one(
                    connection,
                    """INSERT INTO users (email, full_name, registered_at) VALUES (%s, %s, now())
                       RETURNING user_id, registered_at""",
                    email,
                    full_name,
                )
                _audit(connection, f"user:{user['user_id']}", "user.registered", f"user:{user['user_id']}")
                return user
        except psycopg.errors.UniqueViolation:
            raise Refused(409, "this address is registered already") from None

    def verify(self, user: int) -> Row:
        """Mark a user as verified, once."""
        with self.pool.transaction() as connection:
            found = connection.execute(
                """UPDATE users SET verified_at = coalesce(verified_at, now()) WHERE user_id = %s
                   RETURNING user_id, verified_at""",
                (user,),
            ).fetchone()
            if found is None:
                raise Refused(404, f"there is no user {user}")
            return found

    def login(self, email: str, password: str, session: int | None, address: str) -> Row:
        """Log a user in; the demo's password is the word gold. Refused (401) otherwise; both are recorded."""
        with self.pool.transaction() as connection:
            user = connection.execute("SELECT user_id FROM users WHERE email = %s", (email,)).fetchone()
            succeeded = user is not None and password == "gold"  # noqa: S105 - users of the demo have nothing to lose
            self._event(connection, user["user_id"] if user else None, "login", succeeded, address)
            if succeeded and user and session is not None:
                connection.execute(
                    "UPDATE sessions SET user_id = %s WHERE session_id = %s AND ended_at IS NULL",
                    (user["user_id"], session),
                )
        if user is None or not succeeded:
            raise Refused(401, "name or password is wrong")
        self.cache.put(f"last_login:{user['user_id']}", address, None)
        return user

    def logout(self, session: int | None, address: str) -> None:
        """End a session."""
        with self.pool.transaction() as connection:
            found = connection.execute(
                "UPDATE sessions SET ended_at = now() WHERE session_id = %s AND ended_at IS NULL RETURNING user_id",
                (session,),
            ).fetchone()
            if found and found["user_id"]:
                self._event(connection, found["user_id"], "logout", True, address)

    @staticmethod
    def _event(connection: Connection, user: int | None, kind: str, succeeded: bool, address: str) -> None:
        connection.execute(
            """INSERT INTO authentication_events (user_id, occurred_at, kind, succeeded, address)
               VALUES (%s, now(), %s, %s, %s)""",
            (user, kind, succeeded, address),
        )

    # ------------------------------------------------------------------------------------------ transactions
    def prices(self) -> Row:
        """Return today's fees and the average value of a transaction."""
        if (found := self.cache.get("prices")) is None:
            with self.pool.transaction() as connection:
                row = _one(
                    connection,
                    """SELECT 1.5 AS escrow_fee_percent, 25 AS dispute_fee_minimum_usd,
                              round(coalesce(avg(amount_usd), 0), 2)::text AS average_transaction_usd
                       FROM transactions WHERE created_at > now() - interval '7 days'""",
                )
            found = plain(row)
            self.cache.put("prices", found, PRICES_SECONDS)
        return dict(found)

    def newest(self, page: int) -> list[Row]:
        """Return twenty transactions, the newest first."""
        key = f"transactions:{page}"
        if (found := self.cache.get(key)) is None:
            with self.pool.transaction() as connection:
                rows = connection.execute(
                    """SELECT transaction_id, amount_usd, created_at, funded_at, completed_at FROM transactions
                       ORDER BY created_at DESC, transaction_id DESC LIMIT 20 OFFSET %s""",
                    ((page - 1) * 20,),
                ).fetchall()
            found = plain(rows)
            self.cache.put(key, found, LIST_SECONDS)
        return list(found)

    def transaction(self, number: int) -> Row:
        """Return one transaction."""
        key = f"transaction:{number}"
        if (found := self.cache.get(key)) is None:
            with self.pool.transaction() as connection:
                row = connection.execute(_TRANSACTION, (number,)).fetchone()
            if row is None:
                raise Refused(404, f"there is no transaction {number}")
            found = plain(row)
            self.cache.put(key, found, None)
        return dict(found)

    def create(self, buyer: int, seller: int, amount_usd: Decimal) -> Row:
        """Create a transaction, not funded yet."""
        try:
            with self.pool.transaction() as connection:
                made = _one(
                    connection,
                    """INSERT INTO transactions (buyer_id, seller_id, amount_usd, created_at) VALUES (%s, %s, %s, now())
                       RETURNING transaction_id, created_at""",
                    buyer,
                    seller,
                    amount_usd,
                )
                _audit(connection, f"user:{buyer}", "transaction.created", f"transaction:{made['transaction_id']}")
                return made
        except (psycopg.errors.ForeignKeyViolation, psycopg.errors.CheckViolation):
            raise Refused(422, "buyer and seller must be two users, and the amount positive") from None

    def fund(self, number: int, paid_usd: Decimal | None) -> Row:
        """Make the buyer's deposit on the chain; one that the contract refuses makes the transaction fail."""
        with self.pool.transaction() as connection:
            found = self._open(connection, number)
            if found["funded_at"]:
                raise Refused(409, f"transaction {number} is funded already")
            paid = found["amount_usd"] if paid_usd is None else paid_usd
            transaction_hash, succeeded = None, paid == found["amount_usd"]
            if escrow := self._contract(connection):
                call = escrow.deposit(number, found["buyer_id"], found["seller_id"], int(paid * 100))
                transaction_hash, succeeded = self._send(escrow, call)
            state = "funded_at" if succeeded else "failed_at"
            return self._reached(connection, number, state, "chain_transaction_hash", transaction_hash)

    def release(self, number: int) -> Row:
        """Pay the seller and charge the escrow fee of 1.5 %."""
        with self.pool.transaction() as connection:
            found, transaction_hash = self._open(connection, number, funded=True), None
            if found["chain_transaction_hash"] and (escrow := self._contract(connection)):
                call = escrow.release(number, found["buyer_id"], disputed=found["disputed_at"] is not None)
                transaction_hash = self._carry_out(escrow, call)
            self._fee(connection, number, "escrow", _cents_down(found["amount_usd"] * Decimal("0.015")))
            return self._reached(connection, number, "completed_at", "settlement_chain_hash", transaction_hash)

    def dispute(self, number: int) -> Row:
        """Call for the arbiter and charge the dispute fee of 1 %, at least 25 dollars."""
        with self.pool.transaction() as connection:
            found, transaction_hash = self._open(connection, number, funded=True), None
            if found["disputed_at"]:
                raise Refused(409, f"transaction {number} is disputed already")
            if found["chain_transaction_hash"] and (escrow := self._contract(connection)):
                transaction_hash = self._carry_out(escrow, escrow.dispute(number, found["buyer_id"]))
            self._fee(connection, number, "dispute", _dispute_fee(found["amount_usd"]))
            return self._reached(connection, number, "disputed_at", "dispute_chain_hash", transaction_hash)

    def refund(self, number: int) -> Row:
        """Pay the buyer back after a dispute and give the dispute fee back."""
        with self.pool.transaction() as connection:
            found, transaction_hash = self._open(connection, number, funded=True), None
            if not found["disputed_at"]:
                raise Refused(409, f"transaction {number} is not disputed")
            if found["chain_transaction_hash"] and (escrow := self._contract(connection)):
                transaction_hash = self._carry_out(escrow, escrow.refund(number))
            self._fee(connection, number, "refund", -_dispute_fee(found["amount_usd"]))
            return self._reached(connection, number, "refunded_at", "settlement_chain_hash", transaction_hash)

    def cancel(self, number: int) -> Row:
        """Call a transaction off before it is funded."""
        with self.pool.transaction() as connection:
            if self._open(connection, number)["funded_at"]:
                raise Refused(409, f"transaction {number} is funded; it can be disputed, not cancelled")
            return self._reached(connection, number, "cancelled_at")

    # ----------------------------------------------------------------------------------------------- support
    def ticket(self, user: int, priority: str, subject: str) -> Row:
        """Open a support ticket."""
        return self._insert(
            """INSERT INTO support_tickets (user_id, priority, subject, created_at) VALUES (%s, %s, %s, now())
               RETURNING ticket_id""",
            user,
            priority,
            subject,
        )

    def rate(self, user: int, rating: int, remark: str) -> Row:
        """Take a rating."""
        return self._insert(
            "INSERT INTO feedback (user_id, given_at, rating, remark) VALUES (%s, now(), %s, %s) RETURNING feedback_id",
            user,
            rating,
            remark,
        )

    def _insert(self, statement: str, *values: Any) -> Row:
        try:
            with self.pool.transaction() as connection:
                return _one(connection, statement, *values)
        except psycopg.errors.IntegrityError as error:
            raise Refused(422, f"a value is not allowed: {error.diag.constraint_name}") from None

    # ----------------------------------------------------------------------------------------------- helpers
    @staticmethod
    def _open(connection: Connection, number: int, *, funded: bool = False) -> Row:
        """Return a transaction that has not ended, locked."""
        found = connection.execute(f"{_TRANSACTION} FOR UPDATE".encode(), (number,)).fetchone()
        if found is None:
            raise Refused(404, f"there is no transaction {number}")
        if any(found[end] for end in _ENDS):
            raise Refused(409, f"transaction {number} has ended")
        if funded and not found["funded_at"]:
            raise Refused(409, f"transaction {number} is not funded")
        return found

    def _reached(
        self, connection: Connection, number: int, state: str, column: str | None = None, value: str | None = None
    ) -> Row:
        from psycopg import sql

        more = sql.SQL(", {} = %(value)s").format(sql.Identifier(column)) if column else sql.SQL("")
        statement = sql.SQL("UPDATE transactions SET {} = now(){} WHERE transaction_id = %(number)s").format(
            sql.Identifier(state), more
        )
        connection.execute(statement, {"number": number, "value": value})
        _audit(connection, "system", f"transaction.{state.removesuffix('_at')}", f"transaction:{number}")
        self.cache.drop(f"transaction:{number}")
        return {"transaction_id": number, "state": state.removesuffix("_at"), "chain_transaction_hash": value}

    @staticmethod
    def _fee(connection: Connection, number: int, kind: str, amount: Decimal) -> None:
        connection.execute(
            "INSERT INTO fees (transaction_id, kind, charged_at, amount_usd) VALUES (%s, %s, now(), %s)",
            (number, kind, amount),
        )

    def _contract(self, connection: Connection) -> Escrow | None:
        """Return the contract deployed last; None when the platform runs without a chain."""
        if self.chain_url is None:
            return None
        found = connection.execute("SELECT address FROM escrow_contracts ORDER BY deployed_at DESC LIMIT 1").fetchone()
        if found is None:
            return None
        if self._escrow is None or self._escrow.address != found["address"]:
            try:
                self._escrow = Escrow(Rpc(self.chain_url, timeout_seconds=5), found["address"])
            except ChainError as error:
                raise Unavailable("the chain", without_credentials(self.chain_url), error) from None
        return self._escrow

    def _send(self, escrow: Escrow, call: Any) -> tuple[str, bool]:
        try:
            return escrow.send(call)
        except ChainError as error:
            raise Unavailable("the chain", without_credentials(self.chain_url or ""), error) from None

    def _carry_out(self, escrow: Escrow, call: Any) -> str:
        """Send a call that moves what was deposited and return its hash; what the contract refuses has not happened."""
        transaction_hash, succeeded = self._send(escrow, call)
        if not succeeded:
            raise Refused(409, f"the escrow contract refused it (chain transaction {transaction_hash})")
        return transaction_hash

    def close(self) -> None:
        """Close all connections."""
        self.pool.close()
        with suppress(AttributeError):
            self._escrow.rpc.close()  # type: ignore[union-attr]


def _one(connection: Connection, statement: str, *values: Any) -> Row:
    found = connection.execute(statement.encode(), values).fetchone()
    assert found is not None
    return found


def _audit(connection: Connection, actor: str, action: str, subject: str) -> None:
    connection.execute(
        "INSERT INTO audit_logs (created_at, actor, action, subject) VALUES (now(), %s, %s, %s)",
        (actor, action, subject),
    )


def _cents_down(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), rounding="ROUND_DOWN")


def _dispute_fee(amount: Decimal) -> Decimal:
    return max(_cents_down(amount / 100), Decimal(25))

"""The platform's pages: plain HTML without assets of other hosts."""

from __future__ import annotations

from html import escape

PAGES = {
    "/": ("Gold Escrow", "Your payment is safe until the gold is yours."),
    "/pricing": ("Pricing", "1.5 % of each completed transaction. Disputes cost 1 %, at least 25 dollars."),
    "/help": ("Help", "Write to our support team; urgent requests are answered within two hours."),
    "/login": ("Log in", "Welcome back."),
    "/register": ("Register", "Open an account; we verify it on the same day."),
    "/dashboard": ("Dashboard", "Your transactions at a glance."),
    "/transactions": ("Transactions", "Everything you bought and sold."),
    "/transactions/new": ("New transaction", "Name the seller and the price."),
    "/account": ("Account", "Your details and your verification."),
}
"""Path, title and text of every page."""
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}nav a{margin-right:1rem}"
)


def page(path: str) -> str:
    """Return the HTML of a page; a path that is not listed is the page of one transaction."""
    title, text = PAGES.get(path, (f"Transaction {path.rsplit('/', 1)[-1]}", "The state of this transaction."))
    links = "".join(f'<a href="{link}">{escape(name)}</a>' for link, (name, _) in PAGES.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} - Gold Escrow</title>'
        f"<style>{_STYLE}</style><nav>{links}</nav><h1>{escape(title)}</h1><p>{escape(text)}</p></html>"
    )

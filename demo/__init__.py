"""A small but real Gold Escrow Platform to operate, and the embedded servers it runs on."""

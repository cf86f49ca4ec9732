"""The platform to operate: its database, contract, web application, history, traffic and backups."""

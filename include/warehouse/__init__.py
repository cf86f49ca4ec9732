"""The operations warehouse: its migrations, and the only code that writes its tables."""

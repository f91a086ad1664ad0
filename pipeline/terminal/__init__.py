"""The terminal: flags, streams that break, and the only place that prints. See README.md here."""

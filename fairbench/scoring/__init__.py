"""Images to records, and records to metrics, now or years later."""

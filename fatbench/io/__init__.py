"""Files: atomic writes, safe reads of untrusted input, arrays, locks. No torch here."""

"""Records -> tables: comparisons over methods and seeds, one run at a time, or a DataFrame. No torch here."""

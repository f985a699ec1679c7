"""What a run found, for a reader: tables, text for the terminal, one page of HTML."""

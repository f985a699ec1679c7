"""Shows what a run found: tables, text for the terminal, one page of HTML."""

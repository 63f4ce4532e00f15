"""What a report on runs says: its tables, plots and sentences. `view` writes it as Markdown and HTML."""

"""How traces, data and progress are shown: in the terminal and as HTML pages."""

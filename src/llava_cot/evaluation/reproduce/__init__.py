"""The paper's claims put to the test: what is run, what is found, the report."""

"""What would be wrong to train on, and a page to look through data."""

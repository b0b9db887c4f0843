"""The contracts between components, and the machinery that every component shares."""

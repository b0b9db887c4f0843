"""What must outlive the agent: kept in SQLite, by one connection on one thread."""

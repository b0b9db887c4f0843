"""How busy this host is: shared by whoever must know how long to wait, and for nobody special."""
